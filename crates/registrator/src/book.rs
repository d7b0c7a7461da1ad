//! What the registry holds, as far as this registrator is concerned: the fold of its subscription, and on top of it
//! the registrator's own writes until the subscription has told of them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_model::{Change, Incarnation, Instance, InstanceId, Owner, Phase, Registration, Revision};

/// What a registry holds, seen by one owner.
#[derive(Debug)]
pub struct Book {
    owner: Owner,
    revision: Option<Revision>,
    told: BTreeMap<InstanceId, Entry>,
    /// Written and durable, but not told yet.
    written: BTreeMap<InstanceId, (Revision, Option<Entry>)>,
    drained: BTreeSet<InstanceId>,
    contested: BTreeSet<InstanceId>,
    /// Which lives the registry held when it was read first, of what was not written since.
    found: BTreeMap<InstanceId, Incarnation>,
    /// What this run said last of each instance it registered.
    said: BTreeMap<InstanceId, Said>,
}

/// What was said of an instance.
#[derive(Debug)]
struct Said {
    registration: Registration,
    /// How often somebody under the same name said otherwise since.
    contradicted: u32,
}

/// How often a contradiction is answered with the same words before it is left alone.
const ANSWERS_LIMIT: u32 = 3;

/// What a registry holds under one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The owner's own.
    Mine(Mine),
    /// Somebody else's: never touched.
    Foreign(Owner),
}

/// An instance of this owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mine {
    /// What was said of it last.
    pub registration: Registration,
    /// It gets no new work.
    pub draining: bool,
}

impl Book {
    /// The book of `owner`; nothing is known yet.
    pub fn new(owner: Owner) -> Self {
        Self {
            owner,
            revision: None,
            told: BTreeMap::new(),
            written: BTreeMap::new(),
            drained: BTreeSet::new(),
            contested: BTreeSet::new(),
            found: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    /// Whether the registry has told what it holds.
    pub fn is_read(&self) -> bool {
        self.revision.is_some()
    }

    /// What the registry holds under `id`.
    pub fn get(&self, id: &InstanceId) -> Option<&Entry> {
        match self.written.get(id) {
            Some((_, entry)) => entry.as_ref(),
            None => self.told.get(id),
        }
    }

    /// All instances of this owner, by id.
    pub fn mine(&self) -> impl Iterator<Item = (&InstanceId, &Mine)> {
        let ids: BTreeSet<&InstanceId> = self.told.keys().chain(self.written.keys()).collect();
        ids.into_iter().filter_map(|id| match self.get(id)? {
            Entry::Mine(mine) => Some((id, mine)),
            Entry::Foreign(_) => None,
        })
    }

    /// All instances that nobody owns, by id, with the owner they are shown with.
    pub fn nobodys(&self) -> impl Iterator<Item = (&InstanceId, &Owner)> {
        self.told.iter().filter_map(|(id, entry)| match entry {
            Entry::Foreign(owner) if owner.is_nobody() && !self.written.contains_key(id) => Some((id, owner)),
            Entry::Foreign(_) | Entry::Mine(_) => None,
        })
    }

    /// Whether this run registered `id`; else it is a leftover of the run before, and nothing keeps it alive.
    pub fn is_kept_alive(&self, id: &InstanceId) -> bool {
        self.said.contains_key(id)
    }

    /// Whether the life of `mine` was registered by this run, or before it.
    pub fn is_before_now(&self, mine: &Mine) -> bool {
        let Registration { id, incarnation, .. } = &mine.registration;
        let said = self.said.get(id).is_some_and(|said| said.registration.incarnation == *incarnation);
        said || self.found.get(id) == Some(incarnation)
    }

    /// Whether saying `wanted` once more is pointless: somebody under the same name says otherwise each time.
    pub fn is_contradicted(&self, wanted: &Registration) -> bool {
        let said = self.said.get(&wanted.id).filter(|said| says_the_same(&said.registration, wanted));
        said.is_some_and(|said| said.contradicted > ANSWERS_LIMIT)
    }

    /// Whether a drain of `id` is this registrator's, of this run or of one before it, and so its to end.
    pub fn drained_here(&self, id: &InstanceId) -> bool {
        self.drained.contains(id)
    }

    /// Takes one step of the subscription. Returns whether it tells something new that may call for an action.
    pub fn apply(&mut self, change: Change) -> bool {
        let revision = change.revision();
        match change {
            Change::Reset { instances, .. } => {
                self.reset(revision, &instances);
                true
            }
            Change::Upsert { instance, .. } => {
                let entry = self.entry(&instance);
                self.tell(revision, instance.id(), Some(entry))
            }
            Change::Remove { id, .. } => self.tell(revision, &id, None),
        }
    }

    /// Remembers that a drain of `id` is about to be asked for.
    pub fn will_drain(&mut self, id: InstanceId) {
        self.drained.insert(id);
    }

    /// Takes note of a write that is durable: what `id` holds since `revision`.
    pub fn wrote(&mut self, id: InstanceId, entry: Option<Entry>, revision: Revision) {
        if !matches!(&entry, Some(Entry::Mine(mine)) if mine.draining) {
            self.drained.remove(&id);
        }
        self.found.remove(&id);
        match &entry {
            Some(Entry::Mine(mine)) if !mine.draining => {
                let same = |said: &Said| says_the_same(&said.registration, &mine.registration);
                let before = self.said.remove(&id).filter(same);
                let contradicted = before.map_or(0, |said| said.contradicted);
                self.said.insert(id.clone(), Said { registration: mine.registration.clone(), contradicted });
            }
            Some(_) => {}
            None => _ = self.said.remove(&id),
        }
        if self.revision.is_none_or(|told| told < revision) {
            self.written.insert(id, (revision, entry));
        }
    }

    /// Remembers which ids are wanted here and held by others, so that their release is noticed.
    pub fn contest(&mut self, ids: BTreeSet<InstanceId>) {
        self.contested = ids;
    }

    fn reset(&mut self, revision: Revision, instances: &[Arc<Instance>]) {
        self.written.clear();
        self.told = instances.iter().map(|i| (i.id().clone(), self.entry(i))).collect();
        // Who drained before this run cannot be told any more; it was most likely the run before.
        if self.revision.replace(revision).is_none() {
            let draining = |(id, mine): (&InstanceId, &Mine)| mine.draining.then(|| id.clone());
            self.drained = self.mine().filter_map(draining).collect();
            self.found = self.mine().map(|(id, mine)| (id.clone(), mine.registration.incarnation)).collect();
        }
    }

    fn tell(&mut self, revision: Revision, id: &InstanceId, entry: Option<Entry>) -> bool {
        let before = self.get(id).cloned();
        match entry {
            Some(entry) => _ = self.told.insert(id.clone(), entry),
            None => _ = self.told.remove(id),
        }
        self.revision = Some(revision);
        self.written.retain(|_, (written, _)| *written > revision);
        self.compare(id);
        let after = self.get(id);
        let mine = |entry: Option<&Entry>| matches!(entry, Some(Entry::Mine(_)));
        before.as_ref() != after && (mine(before.as_ref()) || mine(after) || self.contested.contains(id))
    }

    /// Holds what was told of `id` against what was said of it.
    fn compare(&mut self, id: &InstanceId) {
        // While an own write is still to be told, what is told is older.
        let Some(said) = self.said.get_mut(id).filter(|_| !self.written.contains_key(id)) else { return };
        match self.told.get(id) {
            Some(Entry::Mine(mine)) if !says_the_same(&mine.registration, &said.registration) => {
                said.contradicted += 1;
            }
            Some(Entry::Mine(_)) => {}
            Some(Entry::Foreign(_)) | None => _ = self.said.remove(id),
        }
    }

    fn entry(&self, instance: &Instance) -> Entry {
        let owner = &instance.registration.owner;
        if *owner == self.owner {
            let draining = instance.phase == Phase::Draining;
            Entry::Mine(Mine { registration: instance.registration.clone(), draining })
        } else {
            Entry::Foreign(owner.clone())
        }
    }
}

/// Whether two agree on everything but the health: of that a registry with checks of its own may think differently.
fn says_the_same(a: &Registration, b: &Registration) -> bool {
    let Registration {
        id,
        service,
        endpoint,
        protocol,
        tags,
        meta,
        weight,
        zone,
        owner,
        incarnation,
        health: _,
    } = a;
    (id, service, endpoint, protocol) == (&b.id, &b.service, &b.endpoint, &b.protocol)
        && (tags, meta, weight, zone) == (&b.tags, &b.meta, &b.weight, &b.zone)
        && (owner, incarnation) == (&b.owner, &b.incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::registration;

    fn instance(id: &str, owner: &str, phase: Phase) -> Arc<Instance> {
        let registration = Registration { owner: Owner::new(owner).unwrap(), ..registration(id) };
        Arc::new(Instance { registration, phase, created: Revision(1), modified: Revision(1) })
    }

    fn upsert(revision: u64, instance: Arc<Instance>) -> Change {
        Change::Upsert { revision: Revision(revision), instance }
    }

    fn remove(revision: u64, id: &str) -> Change {
        let service = registration(id).service;
        Change::Remove { revision: Revision(revision), service, id: InstanceId::new(id).unwrap() }
    }

    fn reset(revision: u64, instances: Vec<Arc<Instance>>) -> Change {
        Change::Reset { revision: Revision(revision), instances }
    }

    fn mine(book: &Book) -> Vec<(&str, bool)> {
        book.mine().map(|(id, mine)| (id.as_str(), mine.draining)).collect()
    }

    #[test]
    fn own_writes_count_before_they_are_told_and_their_echo_is_no_news() {
        let mut book = Book::new(Owner::new("me").unwrap());
        assert!(!book.is_read());
        assert!(book.apply(reset(4, vec![instance("other", "you", Phase::Adult)])));
        assert!(mine(&book).is_empty());

        let id = InstanceId::new("a").unwrap();
        let mut entry = Mine { registration: registration("a"), draining: false };
        entry.registration.owner = Owner::new("me").unwrap();
        book.wrote(id.clone(), Some(Entry::Mine(entry)), Revision(6));
        assert_eq!(mine(&book), [("a", false)]);
        assert!(!book.apply(upsert(5, instance("other", "them", Phase::Adult))), "not ours");
        assert_eq!(mine(&book), [("a", false)]);
        assert!(!book.apply(upsert(6, instance("a", "me", Phase::Young))), "the echo");
        assert!(book.written.is_empty());

        assert!(book.apply(upsert(7, instance("a", "me", Phase::Draining))), "somebody drained it");
        assert!(!book.drained_here(&id));
        book.wrote(id, None, Revision(8));
        assert!(mine(&book).is_empty());
        assert!(!book.apply(remove(8, "a")), "the echo");
    }

    #[test]
    fn a_reset_beats_what_was_written() {
        let mut book = Book::new(Owner::new("me").unwrap());
        book.wrote(InstanceId::new("a").unwrap(), None, Revision(9));
        assert!(book.apply(reset(3, vec![instance("a", "me", Phase::Draining)])));
        assert_eq!(mine(&book), [("a", true)]);
        assert!(book.drained_here(&InstanceId::new("a").unwrap()), "most likely by the run before");
    }

    #[test]
    fn taken_and_released_ids_are_news() {
        let mut book = Book::new(Owner::new("me").unwrap());
        book.apply(reset(1, vec![instance("a", "me", Phase::Adult), instance("b", "you", Phase::Adult)]));
        assert!(book.apply(upsert(2, instance("a", "you", Phase::Young))), "taken");
        assert_eq!(
            book.get(&InstanceId::new("a").unwrap()),
            Some(&Entry::Foreign(Owner::new("you").unwrap()))
        );
        assert!(!book.apply(remove(3, "b")), "not wanted here");
        book.contest(BTreeSet::from([InstanceId::new("a").unwrap()]));
        assert!(book.apply(remove(4, "a")), "wanted here");
    }
}
