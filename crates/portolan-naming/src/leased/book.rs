//! What the store holds below the prefix, and what is shown of it; pure.
//!
//! Keys are folded into instances. What is shown differs from what is there in two ways: an instance whose key is gone
//! stays shown until the driver believes that it is gone ([`Book::believe`]), and one that was written again with the
//! same content (a new lease, a re-registration) stays as it was, so that nobody is woken by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use portolan_model::{Change, Instance, InstanceId, Revision};

use super::layout::{Kept, Layout, Part, Place};
use super::{Event, KeyValue, LeaseId, NO_LEASE};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Book {
    layout: Layout,
    places: BTreeMap<Place, Entry>,
    /// Where each id is; more than one only if two were written at once.
    ids: BTreeMap<InstanceId, BTreeSet<Place>>,
    shown: BTreeMap<InstanceId, Arc<Instance>>,
    revision: i64,
    /// The greatest revision told. A store that has lost its history begins to count anew; whoever watches must not see it.
    told: Revision,
}

#[derive(Debug, Default)]
struct Entry {
    main: Option<Stored>,
    extra: Option<Stored>,
    kept: Option<Kept>,
}

/// A key's value and what the store says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    value: Bytes,
    created: i64,
    pub(crate) modified: i64,
    pub(crate) lease: LeaseId,
}

/// An instance as it is in the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present<'a> {
    pub(crate) place: &'a Place,
    pub(crate) stored: &'a Stored,
    pub(crate) kept: &'a Kept,
}

/// What came of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What is shown differently now.
    pub(crate) changes: Vec<Change>,
    /// Instances that are in the store no more, and still shown.
    pub(crate) gone: Vec<Gone>,
    /// Ids that are in the store and that the step was about.
    pub(crate) seen: Vec<InstanceId>,
}

/// An instance that is in the store no more, and the lease it had (zero: none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) id: InstanceId,
    pub(crate) lease: LeaseId,
}

impl Book {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            places: BTreeMap::new(),
            ids: BTreeMap::new(),
            shown: BTreeMap::new(),
            revision: 0,
            told: Revision::default(),
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The newest revision folded.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// All that is shown.
    pub(crate) fn all(&self) -> Vec<Arc<Instance>> {
        self.shown.values().cloned().collect()
    }

    pub(crate) fn shown(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.shown.get(id)
    }

    /// The instance as it is in the store: the newest, should there be two.
    pub(crate) fn present(&self, id: &InstanceId) -> Option<Present<'_>> {
        let places = self.ids.get(id)?.iter();
        places.filter_map(|place| self.present_at(place)).max_by_key(|present| present.stored.modified)
    }

    /// All places where `id` is.
    pub(crate) fn places_of(&self, id: &InstanceId) -> impl Iterator<Item = &Place> {
        self.ids.get(id).into_iter().flatten()
    }

    /// What is stored at a place, readable or not.
    pub(crate) fn stored(&self, place: &Place) -> Option<&Stored> {
        self.places.get(place)?.main.as_ref()
    }

    /// Takes everything as read at `revision`.
    pub(crate) fn reset(&mut self, revision: i64, found: Vec<KeyValue>) -> Outcome {
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
    pub(crate) fn take(&mut self, revision: i64, events: Vec<Event>) -> Outcome {
        let mut places = BTreeSet::new();
        let mut before = BTreeMap::new();
        for event in events {
            let key = match &event {
                Event::Put(kv) => &kv.key,
                Event::Delete(key) => key,
            };
            let Some((place, part)) = self.layout.locate(key) else { continue };
            if let Some(Entry { main: Some(stored), kept: Some(kept), .. }) = self.places.get(&place) {
                before.insert(kept.registration.id.clone(), stored.lease);
            }
            match event {
                Event::Put(kv) => self.store(&kv),
                Event::Delete(_) => {
                    let entry = self.places.entry(place.clone()).or_default();
                    match part {
                        Part::Main => entry.main = None,
                        Part::Extra => entry.extra = None,
                    }
                }
            }
            places.insert(place);
        }
        self.revision = self.revision.max(revision);
        self.settle(places, before)
    }

    /// What has happened since, if `found` is everything that is there now.
    #[cfg(feature = "consul")]
    pub(crate) fn differences(&self, found: Vec<KeyValue>) -> Vec<Event> {
        let mut here = BTreeSet::new();
        let mut events = Vec::new();
        for kv in found {
            let Some((place, part)) = self.layout.locate(&kv.key) else { continue };
            let known = self.stored_part(&place, part);
            if known.is_none_or(|known| known.modified != kv.modified || known.lease != kv.lease) {
                events.push(Event::Put(kv));
            }
            here.insert((place, part));
        }
        for (place, entry) in &self.places {
            let parts = [(Part::Main, &entry.main), (Part::Extra, &entry.extra)];
            let gone = parts
                .into_iter()
                .filter(|(part, stored)| stored.is_some() && !here.contains(&(place.clone(), *part)));
            events.extend(gone.filter_map(|(part, _)| self.key_of(place, part)).map(Event::Delete));
        }
        events
    }

    /// The lease that a place's key hangs on as far as known.
    pub(crate) fn lease_of(&self, place: &Place, part: Part) -> LeaseId {
        self.stored_part(place, part).map_or(NO_LEASE, |stored| stored.lease)
    }

    fn stored_part(&self, place: &Place, part: Part) -> Option<&Stored> {
        let entry = self.places.get(place)?;
        match part {
            Part::Main => entry.main.as_ref(),
            Part::Extra => entry.extra.as_ref(),
        }
    }

    #[cfg(feature = "consul")]
    fn key_of(&self, place: &Place, part: Part) -> Option<Bytes> {
        self.layout.keys(place).into_iter().find(|(of, _)| *of == part).map(|(_, key)| key)
    }

    /// An instance that is in the store no more is shown no more.
    pub(crate) fn believe(&mut self, id: &InstanceId) -> Option<Change> {
        if self.present(id).is_some() {
            return None;
        }
        let instance = self.shown.remove(id)?;
        self.told = self.told.max(revision_of(self.revision));
        Some(removal(&instance, self.told))
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
            created: kv.created,
            modified: kv.modified,
            lease: kv.lease,
        };
        let entry = self.places.entry(place).or_default();
        match part {
            Part::Main => entry.main = Some(stored),
            Part::Extra => entry.extra = Some(stored),
        }
    }

    /// Reads `places` again and says what that changes. `before` are the instances that were in them, with their leases.
    fn settle(&mut self, places: BTreeSet<Place>, mut before: BTreeMap<InstanceId, LeaseId>) -> Outcome {
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
            // One that comes to light because a newer one is gone has changed now, whenever it was written.
            let revision = if fresh.modified > self.told {
                fresh.modified
            } else {
                self.told.max(revision_of(self.revision))
            };
            removals.extend(known.filter(|k| k.service() != fresh.service()).cloned());
            let created = known.map_or(fresh.created, |known| known.created);
            let instance = Arc::new(Instance { created, modified: revision, ..fresh });
            self.shown.insert(id, Arc::clone(&instance));
            outcome.changes.push(Change::Upsert { revision, instance });
        }
        outcome.changes.sort_by_key(Change::revision);
        // Last, so that no list is shorter in between than before and after.
        self.told = outcome.changes.last().map_or(self.told, Change::revision);
        let told = self.told;
        outcome.changes.extend(removals.iter().map(|known| removal(known, told)));
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

pub(crate) fn revision_of(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or_default())
}

fn removal(instance: &Instance, revision: Revision) -> Change {
    Change::Remove { revision, service: instance.service().clone(), id: instance.id().clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, value: &str, revision: i64, lease: LeaseId) -> KeyValue {
        KeyValue {
            key: key.to_owned().into(),
            created: revision,
            modified: revision,
            value: value.to_owned().into(),
            lease,
        }
    }

    fn put(key: &str, value: &str, revision: i64, lease: LeaseId) -> Event {
        Event::Put(kv(key, value, revision, lease))
    }

    fn deleted(key: &str) -> Event {
        Event::Delete(key.to_owned().into())
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
        check(vec![deleted("/p/web/a:1")], "?a:1:7");
        check(vec![deleted("/p/web/a:1"), deleted("/p/api/b:1")], "?a:1:7 ?b:1:7");
        // A move: first here, then gone there.
        check(
            vec![deleted("/p/web/a:1"), put("/p/new/a:1", "10.0.0.1:80", 6, 7)],
            "+new/a:1=10.0.0.1:80@6 -web/a:1@6",
        );
        // What becomes unreadable is gone, what never was readable never was.
        check(vec![put("/p/web/a:1", "rubbish", 6, 7)], "?a:1:7");
        check(vec![put("/p/web/x", "rubbish", 6, 7), deleted("/p/web/y")], "");
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
        assert_eq!(shown(&book.take(7, vec![deleted("/p/two/a:1")])), "+web/a:1=10.0.0.1:80@7 -two/a:1@7");
    }

    #[test]
    fn one_that_comes_back_unchanged_was_never_gone() {
        let mut book = book();
        let first = Arc::clone(book.shown(&InstanceId::new("a:1").unwrap()).unwrap());
        book.take(6, vec![deleted("/p/web/a:1")]);
        assert_eq!(shown(&book.take(7, vec![put("/p/web/a:1", "10.0.0.1:80", 7, 8)])), "");
        assert_eq!(book.shown(first.id()), Some(&first));
        assert_eq!(book.believe(first.id()), None, "it is there");
        book.take(8, vec![deleted("/p/web/a:1")]);
        assert!(book.believe(first.id()).is_some());
        assert_eq!(book.believe(first.id()), None, "once");
    }
}
