//! What is known of a registry's keys, and who watches it: the part that every [`KeyValue`](crate::KeyValue) shares.
//!
//! Whoever keeps the keys feeds it: [`KeyBook::reset`] after a full read, [`KeyBook::apply`] for the changes of one
//! transaction. Everybody else reads it.
//!
//! A watcher is *behind* (it is told the whole truth when it asks) or *following* (it has a bounded queue). It falls
//! behind when its queue would grow too long. A reset of a book that knows something reaches followers as the
//! difference, so that nobody sees keys go and come again only because the registry was read anew.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::id::Revision;
use crate::key::{Key, Prefix};
use crate::key_value::{After, Entry, KeyLimit, KeyListing, Step};

/// How many changes may wait for one watcher, and how many bytes of values.
const QUEUE_LIMIT: usize = 4096;
const QUEUE_BYTES: usize = 16 << 20;

/// One step of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// The whole truth, replacing all that was known.
    Reset(KeyListing),
    /// A value is new or different.
    Upsert(Arc<Entry>),
    /// A value is gone.
    Remove {
        /// Whose.
        key: Key,
        /// When, in the registry's history.
        revision: Revision,
    },
}

impl KeyChange {
    /// The revision this change brings the watcher to.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Reset(KeyListing { revision, .. }) | Self::Remove { revision, .. } => *revision,
            Self::Upsert(entry) => entry.revision,
        }
    }

    /// Does to `view` what it says.
    pub fn apply_to(self, view: &mut BTreeMap<Key, Arc<Entry>>) {
        match self {
            Self::Reset(listing) => {
                *view = listing.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
            }
            Self::Upsert(entry) => drop(view.insert(entry.key.clone(), entry)),
            Self::Remove { key, .. } => drop(view.remove(&key)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Upsert(entry) => entry.value.len(),
            Self::Reset(_) | Self::Remove { .. } => 0,
        }
    }

    fn key(&self) -> Option<&Key> {
        match self {
            Self::Reset(_) => None,
            Self::Upsert(entry) => Some(&entry.key),
            Self::Remove { key, .. } => Some(key),
        }
    }
}

/// See the module's head. Cheap to clone; clones share the book.
#[derive(Debug, Clone, Default)]
pub struct KeyBook(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    entries: BTreeMap<Key, Arc<Entry>>,
    /// Of all values.
    bytes: usize,
    /// `None` until something is known.
    revision: Option<Revision>,
    ended: bool,
    next: u64,
    watchers: BTreeMap<u64, Watcher>,
}

#[derive(Debug, Default)]
struct Watcher {
    prefix: Prefix,
    following: bool,
    queue: VecDeque<KeyChange>,
    /// Of the values in the queue.
    bytes: usize,
    waker: Option<Waker>,
}

impl KeyBook {
    /// Takes the whole truth as of `revision`.
    pub fn reset(&self, revision: Revision, entries: Vec<Arc<Entry>>) {
        self.apply([KeyChange::Reset(KeyListing { revision, entries })]);
    }

    /// Takes the changes of one transaction, or of several in order; readers see all of them or none.
    pub fn apply(&self, changes: impl IntoIterator<Item = KeyChange>) {
        self.change(|book, wakers| changes.into_iter().for_each(|change| book.take(change, wakers)));
    }

    /// No change up to `revision` is missing, although the newest is older.
    pub fn advance(&self, revision: Revision) {
        let mut book = self.lock();
        book.revision = book.revision.max(Some(revision));
    }

    /// Ends all watches: there will be no change any more.
    pub fn end(&self) {
        self.change(|book, wakers| {
            book.ended = true;
            wakers.extend(book.watchers.values_mut().filter_map(|watcher| watcher.waker.take()));
        });
    }

    /// Whether anything was ever known.
    pub fn is_filled(&self) -> bool {
        self.lock().revision.is_some()
    }

    /// No change up to here is missing.
    pub fn revision(&self) -> Revision {
        self.lock().revision.unwrap_or_default()
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.lock().watchers.len()
    }

    /// Whether there is room for what `steps` would add.
    ///
    /// # Errors
    /// [`KeyLimit::Keys`] or [`KeyLimit::Total`].
    pub fn check_room(&self, steps: &[Step]) -> Result<(), KeyLimit> {
        let (mut keys, mut bytes) = (0, 0);
        for step in steps {
            let before = step.before.as_ref().map_or(0, |entry| entry.value.len());
            if let After::Value(value) = &step.after {
                keys += usize::from(step.before.is_none());
                bytes += value.len().saturating_sub(before);
            }
        }
        let book = self.lock();
        if keys > 0 && book.entries.len() + keys > KeyLimit::KEYS {
            return Err(KeyLimit::Keys);
        }
        if bytes > 0 && book.bytes + bytes > KeyLimit::BYTES {
            return Err(KeyLimit::Total);
        }
        Ok(())
    }

    /// What is known to be kept under `key`.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.lock().entries.get(key).cloned()
    }

    /// Everything known that `prefix` is about.
    pub fn list(&self, prefix: &Prefix) -> KeyListing {
        self.lock().list(prefix)
    }

    /// Starts watching. The first change is a reset, as soon as anything is known.
    pub fn watch(&self, prefix: Prefix) -> KeySubscription {
        let mut book = self.lock();
        let number = book.next;
        book.next += 1;
        book.watchers.insert(number, Watcher { prefix, ..Watcher::default() });
        KeySubscription { book: self.clone(), number }
    }

    /// Watchers are woken once nothing is locked.
    fn change(&self, change: impl FnOnce(&mut Book, &mut Vec<Waker>)) {
        let mut wakers = Vec::new();
        change(&mut self.lock(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn list(&self, prefix: &Prefix) -> KeyListing {
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let entries = self.entries.range::<str, _>(from).take_while(|(key, _)| prefix.includes(key));
        let entries = entries.map(|(_, entry)| Arc::clone(entry)).collect();
        KeyListing { revision: self.revision.unwrap_or_default(), entries }
    }

    /// Folds one change, and tells those concerned if it changed anything.
    fn take(&mut self, change: KeyChange, wakers: &mut Vec<Waker>) {
        let revision = change.revision();
        let (before, after) = match &change {
            KeyChange::Upsert(entry) => {
                (self.entries.insert(entry.key.clone(), Arc::clone(entry)), Some(entry))
            }
            KeyChange::Remove { key, .. } => (self.entries.remove(key), None),
            KeyChange::Reset(_) => (None, None),
        };
        if let KeyChange::Reset(listing) = change {
            return self.reset(listing, wakers);
        }
        self.bytes = self.bytes + change.bytes() - before.as_ref().map_or(0, |entry| entry.value.len());
        self.revision = self.revision.max(Some(revision));
        let Some(key) = change.key().filter(|_| before.as_ref() != after) else { return };
        for watcher in self.watchers.values_mut().filter(|watcher| watcher.prefix.includes(key)) {
            watcher.offer(&change);
            wakers.extend(watcher.waker.take());
        }
    }

    fn reset(&mut self, KeyListing { revision, entries }: KeyListing, wakers: &mut Vec<Waker>) {
        let fresh: BTreeMap<Key, Arc<Entry>> =
            entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let gone = self.entries.keys().filter(|key| !fresh.contains_key(*key));
        let mut changes: Vec<_> = gone.map(|key| KeyChange::Remove { key: key.clone(), revision }).collect();
        let news = fresh.into_values().filter(|entry| self.entries.get(&entry.key) != Some(entry));
        changes.extend(news.map(KeyChange::Upsert));
        changes.sort_by_key(KeyChange::revision);
        changes.into_iter().for_each(|change| self.take(change, wakers));
        // A cluster that was restored from a copy is at an older revision than was known.
        if self.revision.replace(revision).is_none() {
            wakers.extend(self.watchers.values_mut().filter_map(|watcher| watcher.waker.take()));
        }
    }

    fn next(&mut self, number: u64, context: &Context<'_>) -> Poll<Option<KeyChange>> {
        let (known, ended) = (self.revision.is_some(), self.ended);
        let Some(watcher) = self.watchers.get_mut(&number) else { return Poll::Ready(None) };
        if let Some(change) = watcher.queue.pop_front() {
            watcher.bytes -= change.bytes();
            return Poll::Ready(Some(change));
        }
        if ended {
            return Poll::Ready(None);
        }
        if watcher.following || !known {
            watcher.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        watcher.following = true;
        let prefix = watcher.prefix.clone();
        Poll::Ready(Some(KeyChange::Reset(self.list(&prefix))))
    }
}

impl Watcher {
    fn offer(&mut self, change: &KeyChange) {
        let bytes = self.bytes + change.bytes();
        if self.following && self.queue.len() < QUEUE_LIMIT && bytes <= QUEUE_BYTES {
            self.queue.push_back(change.clone());
            self.bytes = bytes;
        } else {
            (self.following, self.queue, self.bytes) = (false, VecDeque::new(), 0);
        }
    }
}

/// A running watch; dropping it ends it. The first change is a [`KeyChange::Reset`].
#[derive(Debug)]
pub struct KeySubscription {
    book: KeyBook,
    number: u64,
}

impl KeySubscription {
    /// The next change, waiting for it. `None` once the registry is shut down. Cancel-safe.
    pub async fn next(&mut self) -> Option<KeyChange> {
        poll_fn(|context| self.book.lock().next(self.number, context)).await
    }
}

impl Drop for KeySubscription {
    fn drop(&mut self) {
        self.book.lock().watchers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn entry(name: &str, value: &str, at: u64) -> Arc<Entry> {
        Arc::new(Entry { key: key(name), value: value.as_bytes().into(), revision: Revision(at) })
    }

    fn upsert(name: &str, value: &str, at: u64) -> KeyChange {
        KeyChange::Upsert(entry(name, value, at))
    }

    fn remove(name: &str, at: u64) -> KeyChange {
        KeyChange::Remove { key: key(name), revision: Revision(at) }
    }

    /// One line for each change that waits.
    fn told(watch: &mut KeySubscription) -> Vec<String> {
        let mut lines = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(change) = pin!(watch.next()).poll(&mut context) {
            lines.push(match change {
                None => "end".to_owned(),
                Some(KeyChange::Reset(KeyListing { revision, entries })) => {
                    let all: Vec<_> = entries.iter().map(|e| format!("{}@{}", e.key, e.revision)).collect();
                    format!("reset {revision} {}", all.join(" "))
                }
                Some(KeyChange::Upsert(entry)) => format!("put {} {}", entry.revision, entry.key),
                Some(KeyChange::Remove { key, revision }) => format!("remove {revision} {key}"),
            });
            if lines.last().is_some_and(|line| line == "end") {
                break;
            }
        }
        lines
    }

    #[test]
    fn watchers_are_reset_and_then_follow() {
        let book = KeyBook::default();
        let (mut all, mut a) = (book.watch(Prefix::all()), book.watch(Prefix::under(&key("a"))));
        assert!(told(&mut all).is_empty(), "nothing is known yet");
        book.reset(Revision(5), vec![entry("a/1", "x", 3), entry("ab/1", "x", 4)]);
        assert_eq!(told(&mut all), ["reset 5 a/1@3 ab/1@4"]);
        assert_eq!(told(&mut a), ["reset 5 a/1@3"]);
        book.apply([upsert("a/2", "y", 6), upsert("b/2", "y", 6)]);
        book.apply([upsert("a/2", "y", 6), remove("none", 7), remove("a/1", 7)]);
        assert_eq!(told(&mut all), ["put 6 a/2", "put 6 b/2", "remove 7 a/1"]);
        assert_eq!(told(&mut a), ["put 6 a/2", "remove 7 a/1"]);
        assert_eq!((book.len(), book.revision()), (3, Revision(7)));
        book.advance(Revision(9));
        assert_eq!((book.revision(), told(&mut all)), (Revision(9), vec![]));
        book.apply([upsert("a/3", "z", 10)]);
        book.end();
        assert_eq!(told(&mut a), ["put 10 a/3", "end"], "what was told before the end is heard");
    }

    #[test]
    fn reading_anew_tells_only_the_difference() {
        let book = KeyBook::default();
        book.reset(Revision(5), vec![entry("a", "x", 3), entry("b", "x", 4), entry("c", "x", 5)]);
        let mut all = book.watch(Prefix::all());
        told(&mut all);
        let read = || vec![entry("d", "x", 8), entry("b", "x", 4), entry("c", "y", 7)];
        book.reset(Revision(9), read());
        assert_eq!(told(&mut all), ["put 7 c", "put 8 d", "remove 9 a"]);
        book.reset(Revision(9), read());
        assert!(told(&mut all).is_empty(), "an equal book wakes nobody");
        book.reset(Revision(2), vec![entry("b", "x", 1)]);
        assert_eq!(told(&mut all), ["put 1 b", "remove 2 c", "remove 2 d"]);
        assert_eq!(book.revision(), Revision(2), "restored from a copy");
    }

    #[test]
    fn a_laggard_is_reset() {
        let book = KeyBook::default();
        book.reset(Revision(1), vec![]);
        let mut all = book.watch(Prefix::all());
        told(&mut all);
        for n in 0..=QUEUE_LIMIT as u64 {
            book.apply([upsert("a", &n.to_string(), 2 + n)]);
        }
        let newest = 2 + QUEUE_LIMIT;
        assert_eq!(told(&mut all), [format!("reset {newest} a@{newest}")]);
        let large = "x".repeat(QUEUE_BYTES / 4);
        (0..4).for_each(|n| book.apply([upsert(&format!("b{n}"), &large, 5000 + n)]));
        assert_eq!(told(&mut all), ["put 5000 b0", "put 5001 b1", "put 5002 b2", "put 5003 b3"]);
        (0..5).for_each(|n| book.apply([upsert("b", &large, 6000 + n)]));
        assert_eq!(told(&mut all).len(), 1, "too many bytes wait");
    }

    #[test]
    fn there_is_room_for_so_much() {
        let book = KeyBook::default();
        let step = |before: Option<usize>, after: usize| {
            let before = before.map(|bytes| entry("k", &"x".repeat(bytes), 1));
            [Step { key: key("k"), before, after: After::Value(vec![0; after].into()) }]
        };
        let large = "x".repeat(KeyLimit::BYTES / 4);
        book.reset(Revision(1), (0..4).map(|n| entry(&n.to_string(), &large, 1)).collect());
        assert_eq!(book.check_room(&step(None, 1)), Err(KeyLimit::Total));
        assert_eq!(book.check_room(&step(Some(7), 7)), Ok(()), "it adds nothing");
        book.apply([remove("3", 2)]);
        assert_eq!(book.check_room(&step(None, 1)), Ok(()));
        book.reset(Revision(3), (0..KeyLimit::KEYS).map(|n| entry(&n.to_string(), "", 1)).collect());
        assert_eq!(book.check_room(&step(None, 1)), Err(KeyLimit::Keys));
        assert_eq!(book.check_room(&step(Some(1), 9)), Ok(()));
    }

    #[test]
    fn a_view_is_folded_from_changes() {
        let mut view = BTreeMap::new();
        for change in [upsert("z", "x", 1), remove("z", 2), upsert("a", "x", 3)] {
            change.apply_to(&mut view);
        }
        assert_eq!(view.into_values().collect::<Vec<_>>(), [entry("a", "x", 3)]);
    }
}
