//! What etcd holds below the prefix, and what is shown of it; pure.
//!
//! Keys are folded into instances. What is shown differs from what is there in two ways: an instance whose key is gone
//! stays shown until the driver believes that it is gone ([`Book::believe`]), and one that was written again with the
//! same content (a new lease, a re-registration) stays as it was, so that nobody is woken by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use portolan_model::{Change, Instance, InstanceId, Revision};

use super::layout::{Kept, Layout, Part, Place};
use super::proto::{Event, EventKind, KeyValue};

/// See the module's head.
#[derive(Debug)]
pub(super) struct Book {
    layout: Layout,
    places: BTreeMap<Place, Entry>,
    /// Where each id is; more than one only if two were written at once.
    ids: BTreeMap<InstanceId, BTreeSet<Place>>,
    shown: BTreeMap<InstanceId, Arc<Instance>>,
    revision: i64,
}

#[derive(Debug, Default)]
struct Entry {
    main: Option<Stored>,
    extra: Option<Stored>,
    kept: Option<Kept>,
}

/// A key's value and what etcd says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    value: Bytes,
    created: i64,
    pub(super) modified: i64,
    pub(super) lease: i64,
}

/// An instance as it is in etcd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present<'a> {
    pub(super) place: &'a Place,
    pub(super) stored: &'a Stored,
    pub(super) kept: &'a Kept,
}

/// What came of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What is shown differently now.
    pub(super) changes: Vec<Change>,
    /// Instances that are in etcd no more, and still shown.
    pub(super) gone: Vec<Gone>,
    /// Ids that are in etcd and that the step was about.
    pub(super) seen: Vec<InstanceId>,
}

/// An instance that is in etcd no more, and the lease it had (zero: none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) id: InstanceId,
    pub(super) lease: i64,
}

impl Book {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, places: BTreeMap::new(), ids: BTreeMap::new(), shown: BTreeMap::new(), revision: 0 }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The newest revision folded.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// All that is shown.
    pub(super) fn all(&self) -> Vec<Arc<Instance>> {
        self.shown.values().cloned().collect()
    }

    pub(super) fn shown(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.shown.get(id)
    }

    /// The instance as it is in etcd: the newest, should there be two.
    pub(super) fn present(&self, id: &InstanceId) -> Option<Present<'_>> {
        let places = self.ids.get(id)?.iter();
        places.filter_map(|place| self.present_at(place)).max_by_key(|present| present.stored.modified)
    }

    /// All places where `id` is.
    pub(super) fn places_of(&self, id: &InstanceId) -> impl Iterator<Item = &Place> {
        self.ids.get(id).into_iter().flatten()
    }

    /// What is stored at a place, readable or not.
    pub(super) fn stored(&self, place: &Place) -> Option<&Stored> {
        self.places.get(place)?.main.as_ref()
    }

    /// Takes everything as read at `revision`.
    pub(super) fn reset(&mut self, revision: i64, found: Vec<KeyValue>) -> Outcome {
        let mut before = BTreeMap::new();
        for (place, entry) in std::mem::take(&mut self.places) {
            if let (Some(kept), Some(stored)) = (entry.kept, entry.main) {
                before.insert(kept.registration.id, stored.lease);
            }
            self.places.insert(place, Entry::default());
        }
        for kv in found {
            self.store(&kv);
        }
        let places = self.places.keys().cloned().collect();
        self.revision = revision;
        self.settle(places, before)
    }

    /// Takes all events of one revision.
    pub(super) fn take(&mut self, revision: i64, events: Vec<Event>) -> Outcome {
        let mut places = BTreeSet::new();
        let mut before = BTreeMap::new();
        for event in events {
            let deleted = event.r#type == i32::from(EventKind::Delete);
            let Some(kv) = event.kv else { continue };
            let Some((place, part)) = self.layout.locate(&kv.key) else { continue };
            if let Some(Entry { main: Some(stored), kept: Some(kept), .. }) = self.places.get(&place) {
                before.insert(kept.registration.id.clone(), stored.lease);
            }
            if deleted {
                let entry = self.places.entry(place.clone()).or_default();
                match part {
                    Part::Main => entry.main = None,
                    Part::Extra => entry.extra = None,
                }
            } else {
                self.store(&kv);
            }
            places.insert(place);
        }
        self.revision = self.revision.max(revision);
        self.settle(places, before)
    }

    /// An instance that is in etcd no more is shown no more.
    pub(super) fn believe(&mut self, id: &InstanceId) -> Option<Change> {
        if self.present(id).is_some() {
            return None;
        }
        let instance = self.shown.remove(id)?;
        Some(removal(&instance, revision_of(self.revision)))
    }

    fn present_at(&self, place: &Place) -> Option<Present<'_>> {
        let (place, entry) = self.places.get_key_value(place)?;
        Some(Present { place, stored: entry.main.as_ref()?, kept: entry.kept.as_ref()? })
    }

    fn store(&mut self, kv: &KeyValue) {
        let Some((place, part)) = self.layout.locate(&kv.key) else { return };
        let stored = Stored {
            // A copy: a slice would keep the whole message alive.
            value: Bytes::copy_from_slice(&kv.value),
            created: kv.create_revision,
            modified: kv.mod_revision,
            lease: kv.lease,
        };
        let entry = self.places.entry(place).or_default();
        match part {
            Part::Main => entry.main = Some(stored),
            Part::Extra => entry.extra = Some(stored),
        }
    }

    /// Reads `places` again and says what that changes. `before` are the instances that were in them, with their leases.
    fn settle(&mut self, places: BTreeSet<Place>, mut before: BTreeMap<InstanceId, i64>) -> Outcome {
        let mut touched: BTreeSet<InstanceId> = before.keys().cloned().collect();
        for place in places {
            touched.extend(self.reread(place));
        }
        // Places of before that hold another id now.
        for id in &touched {
            let gone = |place: &Place| {
                self.places.get(place).and_then(|e| e.kept.as_ref()).is_none_or(|k| k.registration.id != *id)
            };
            if let Some(places) = self.ids.get_mut(id) {
                places.retain(|place| !gone(place));
                if places.is_empty() {
                    self.ids.remove(id);
                }
            }
        }
        let mut outcome = Outcome::default();
        let mut removals = Vec::new();
        for id in touched {
            let Some(fresh) = self.instance(&id) else {
                if let (Some(lease), true) = (before.remove(&id), self.shown.contains_key(&id)) {
                    outcome.gone.push(Gone { id, lease });
                }
                continue;
            };
            outcome.seen.push(id.clone());
            let known = self.shown.get(&id);
            if known.is_some_and(|k| k.registration == fresh.registration && k.phase == fresh.phase) {
                continue;
            }
            let revision = fresh.modified;
            removals.extend(known.filter(|k| k.service() != fresh.service()).map(|k| removal(k, revision)));
            let created = known.map_or(fresh.created, |known| known.created);
            let instance = Arc::new(Instance { created, ..fresh });
            self.shown.insert(id, Arc::clone(&instance));
            outcome.changes.push(Change::Upsert { revision, instance });
        }
        // Last, so that no list is shorter in between than before and after.
        outcome.changes.extend(removals);
        outcome
    }

    /// Reads one place again. Returns the id that is there now.
    fn reread(&mut self, place: Place) -> Option<InstanceId> {
        let entry = self.places.get_mut(&place)?;
        let extra = entry.extra.as_ref().map(|extra| &extra.value[..]);
        entry.kept = entry.main.as_ref().and_then(|main| self.layout.read(&place, &main.value, extra));
        let id = entry.kept.as_ref().map(|kept| kept.registration.id.clone());
        if entry.main.is_none() && entry.extra.is_none() {
            self.places.remove(&place);
        }
        if let Some(id) = &id {
            self.ids.entry(id.clone()).or_default().insert(place);
        }
        id
    }

    fn instance(&self, id: &InstanceId) -> Option<Instance> {
        let Present { place: _, stored, kept } = self.present(id)?;
        Some(Instance {
            registration: kept.registration.clone(),
            phase: kept.phase,
            created: revision_of(stored.created),
            modified: revision_of(stored.modified),
        })
    }
}

pub(super) fn revision_of(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or_default())
}

fn removal(instance: &Instance, revision: Revision) -> Change {
    Change::Remove { revision, service: instance.service().clone(), id: instance.id().clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, value: &str, revision: i64, lease: i64) -> KeyValue {
        KeyValue {
            key: key.to_owned().into(),
            create_revision: revision,
            mod_revision: revision,
            value: value.to_owned().into(),
            lease,
        }
    }

    fn put(key: &str, value: &str, revision: i64, lease: i64) -> Event {
        Event { r#type: EventKind::Put.into(), kv: Some(kv(key, value, revision, lease)) }
    }

    fn deleted(key: &str, revision: i64) -> Event {
        Event { r#type: EventKind::Delete.into(), kv: Some(kv(key, "", revision, 0)) }
    }

    fn shown(outcome: &Outcome) -> String {
        let changes = outcome.changes.iter().map(|change| match change {
            Change::Upsert { revision, instance } => {
                format!("+{}/{}={}@{revision}", instance.service(), instance.id(), instance.endpoint())
            }
            Change::Remove { revision, service, id } => format!("-{service}/{id}@{revision}"),
            Change::Reset { .. } => "reset".to_owned(),
        });
        let gone = outcome.gone.iter().map(|gone| format!("?{}:{}", gone.id, gone.lease));
        changes.chain(gone).collect::<Vec<_>>().join(" ")
    }

    fn book() -> Book {
        let mut book = Book::new(Layout::registrator("/p"));
        let found = vec![kv("/p/web/a:1", "10.0.0.1:80", 3, 7), kv("/p/api/b:1", "10.0.0.2:80", 4, 7)];
        let outcome = book.reset(5, found);
        assert_eq!(shown(&outcome), "+web/a:1=10.0.0.1:80@3 +api/b:1=10.0.0.2:80@4");
        book
    }

    #[test]
    fn steps() {
        #[track_caller]
        fn check(events: Vec<Event>, expect: &str) {
            assert_eq!(shown(&book().take(6, events)), expect);
        }
        check(vec![put("/p/web/a:1", "10.0.0.9:80", 6, 7)], "+web/a:1=10.0.0.9:80@6");
        // A new lease for the same content is no news.
        check(vec![put("/p/web/a:1", "10.0.0.1:80", 6, 8)], "");
        check(vec![deleted("/p/web/a:1", 6)], "?a:1:7");
        check(vec![deleted("/p/web/a:1", 6), deleted("/p/api/b:1", 6)], "?a:1:7 ?b:1:7");
        // A move: first here, then gone there.
        check(
            vec![deleted("/p/web/a:1", 6), put("/p/new/a:1", "10.0.0.1:80", 6, 7)],
            "+new/a:1=10.0.0.1:80@6 -web/a:1@6",
        );
        // What becomes unreadable is gone, what never was readable never was.
        check(vec![put("/p/web/a:1", "rubbish", 6, 7)], "?a:1:7");
        check(vec![put("/p/web/x", "rubbish", 6, 7), deleted("/p/web/y", 6)], "");
        check(vec![put("/elsewhere/x", "10.0.0.1:80", 6, 7)], "");
    }

    #[test]
    fn rereads() {
        #[track_caller]
        fn check(found: Vec<KeyValue>, expect: &str) {
            assert_eq!(shown(&book().reset(9, found)), expect);
        }
        let a = || kv("/p/web/a:1", "10.0.0.1:80", 3, 7);
        check(vec![a(), kv("/p/api/b:1", "10.0.0.2:80", 4, 7)], "");
        check(vec![a()], "?b:1:7");
        check(vec![], "?a:1:7 ?b:1:7");
        check(vec![a(), kv("/p/new/b:1", "10.0.0.2:80", 8, 7)], "+new/b:1=10.0.0.2:80@8 -api/b:1@8");
    }

    #[test]
    fn an_id_in_two_places_is_where_it_was_written_last() {
        let mut book = book();
        assert_eq!(
            shown(&book.take(6, vec![put("/p/two/a:1", "10.0.0.3:80", 6, 8)])),
            "+two/a:1=10.0.0.3:80@6 -web/a:1@6"
        );
        assert_eq!(shown(&book.take(7, vec![deleted("/p/two/a:1", 7)])), "+web/a:1=10.0.0.1:80@3 -two/a:1@3");
    }

    #[test]
    fn one_that_comes_back_unchanged_was_never_gone() {
        let mut book = book();
        let first = Arc::clone(book.shown(&InstanceId::new("a:1").unwrap()).unwrap());
        book.take(6, vec![deleted("/p/web/a:1", 6)]);
        assert_eq!(shown(&book.take(7, vec![put("/p/web/a:1", "10.0.0.1:80", 7, 8)])), "");
        assert_eq!(book.shown(first.id()), Some(&first));
        assert_eq!(book.believe(first.id()), None, "it is there");
        book.take(8, vec![deleted("/p/web/a:1", 8)]);
        assert!(book.believe(first.id()).is_some());
        assert_eq!(book.believe(first.id()), None, "once");
    }
}
