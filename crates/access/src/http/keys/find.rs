//! What a reader seeks, what is found of it, and waiting for another answer.

use std::sync::Arc;

use portolan_model::{Condition, Effect, Entry, Key, KeyChange, KeyListing, Operation, Prefix, Revision};

use super::super::Face;
use super::super::blocking::Seat;
use super::super::error::Error;
use super::super::query::{Asked, Consistency};
use super::index_of;

/// What is sought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sought {
    /// What has this name, which may be no key.
    One(String),
    All(Beginning),
}

/// What is found.
pub(super) struct Found {
    pub(super) index: u64,
    pub(super) entries: Vec<Arc<Entry>>,
}

/// All keys that begin with a text, wherever in a segment it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning(pub(super) String);

impl Sought {
    /// What there is.
    pub(super) async fn find(&self, face: &Face, consistency: Consistency) -> Result<Found, Error> {
        let name = match self {
            Self::One(name) => name,
            Self::All(beginning) => {
                let (revision, entries) = beginning.entries(face).await?;
                return Ok(Found { index: index_of(revision), entries });
            }
        };
        let Ok(key) = Key::new(name) else {
            // Nothing is there, and never was.
            let (revision, _) = Beginning(name.clone()).entries(face).await?;
            return Ok(Found { index: index_of(revision), entries: Vec::new() });
        };
        if consistency == Consistency::Consistent {
            refresh(face, [&key]).await?;
        }
        // Read before the entry: if that is absent then, it was absent at this revision or it is gone since.
        let revision = face.keys.list(Prefix::under(&key)).await?.revision;
        let entry = face.keys.get(key).await?;
        let index = index_of(entry.as_ref().map_or(revision, |entry| entry.revision));
        Ok(Found { index, entries: entry.into_iter().collect() })
    }

    /// Waits until the answer may be another than the one seen, or time is up.
    pub(super) async fn until_change(&self, face: &Face, asked: &Asked) -> Result<(), Error> {
        let Some(seat) = Seat::take(face, asked)? else { return Ok(()) };
        let mut watch = face.keys.watch(self.within());
        while let Some(change) = seat.wait(watch.next()).await {
            let now = match change {
                KeyChange::Reset(listing) => self.index(&listing),
                KeyChange::Upsert(entry) if self.includes(&entry.key) => index_of(entry.revision),
                KeyChange::Remove { key, revision } if self.includes(&key) => index_of(revision),
                KeyChange::Upsert(_) | KeyChange::Remove { .. } => continue,
            };
            // The first is what is; and who lagged is told everything again, of which nothing may be new.
            if now != seat.seen {
                return Ok(());
            }
        }
        Ok(())
    }

    fn index(&self, listing: &KeyListing) -> u64 {
        let one = match self {
            Self::One(name) => listing.entries.iter().find(|entry| entry.key.as_str() == name),
            Self::All(_) => None,
        };
        index_of(one.map_or(listing.revision, |entry| entry.revision))
    }

    fn includes(&self, key: &Key) -> bool {
        match self {
            Self::One(name) => key.as_str() == name,
            Self::All(beginning) => beginning.includes(key),
        }
    }

    fn within(&self) -> Prefix {
        match self {
            Self::One(name) => segments_of(name),
            Self::All(beginning) => segments_of(&beginning.0),
        }
    }
}

impl Beginning {
    /// What there is, as of one moment.
    pub(super) async fn entries(&self, face: &Face) -> Result<(Revision, Vec<Arc<Entry>>), Error> {
        let KeyListing { revision, mut entries } = face.keys.list(segments_of(&self.0)).await?;
        entries.retain(|entry| self.includes(&entry.key));
        Ok((revision, entries))
    }

    pub(super) fn includes(&self, key: &Key) -> bool {
        key.as_str().starts_with(&self.0)
    }

    /// The names of `entries`, which are in order, up to and with the first `separator` after the beginning; each once.
    pub(super) fn names<'e>(&self, entries: &'e [Arc<Entry>], separator: &str) -> Vec<&'e str> {
        let mut names: Vec<&str> = Vec::new();
        for entry in entries {
            let name = entry.key.as_str();
            let rest = name.get(self.0.len()..).unwrap_or_default();
            let found = if separator.is_empty() { None } else { rest.find(separator) };
            let end = found.map_or(name.len(), |at| self.0.len() + at + separator.len());
            let name = &name[..end];
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// The keys among which all are that begin with `text`.
fn segments_of(text: &str) -> Prefix {
    let parent = text.rsplit_once('/').and_then(|(parent, _)| Key::new(parent).ok());
    parent.map_or_else(Prefix::all, |parent| Prefix::under(&parent))
}

/// Has what is known of `keys` be as new as what the registry holds now: a check is judged by the registry, and reads
/// show what it was judged by.
pub(super) async fn refresh<'k>(face: &Face, keys: impl IntoIterator<Item = &'k Key>) -> Result<(), Error> {
    for key in keys {
        let check = Operation { key: key.clone(), condition: Condition::Always, effect: Effect::Check };
        face.keys.do_one(check).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_separators() {
        #[track_caller]
        fn check(beginning: &str, separator: &str, expect: &str) {
            let keys =
                ["a", "a/b", "a/b/c", "a/b/d", "ab", "ab/c", "b/c"].map(|name| Key::new(name).unwrap());
            let beginning = Beginning(beginning.to_owned());
            let known = keys.into_iter().filter(|key| beginning.includes(key));
            let entries: Vec<_> = known
                .map(|key| Arc::new(Entry { key, value: (*b"").into(), revision: Revision(1) }))
                .collect();
            assert_eq!(beginning.names(&entries, separator).join(" "), expect, "{beginning:?} {separator:?}");
        }
        check("", "", "a a/b a/b/c a/b/d ab ab/c b/c");
        check("", "/", "a a/ ab ab/ b/");
        check("a", "/", "a a/ ab ab/");
        check("a/", "/", "a/b a/b/");
        check("a/b", "/", "a/b a/b/");
        check("a/b/", "/", "a/b/c a/b/d");
        check("", "b/", "a a/b a/b/ ab ab/ b/");
        check("x", "/", "");
    }

    #[test]
    fn a_beginning_is_sought_among_whole_segments() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            assert_eq!(segments_of(text).as_str(), expect, "{text:?}");
        }
        check("", "");
        check("a", "");
        check("a/", "a/");
        check("a/b", "a/");
        check("a/b/c", "a/b/");
        check("/", "");
        check("a//b", "");
    }
}
