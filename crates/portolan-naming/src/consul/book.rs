//! What the catalog holds, as read service by service, and what of it is shown.
//!
//! Pure: rows come in, changes come out; the time is an argument.
//!
//! - **One id, one instance.** The catalog may hold an id on several nodes: one whose driver moved to another agent, say.
//!   The row to show is that of a node that lives, of the newest life, in the best health, registered last.
//! - **Revisions only grow.** Services are read one by one and so out of order; each change gets the index that Consul
//!   gave it, or the next one after the last, whichever is greater. Watchers in different processes may therefore see
//!   slightly different numbers, each in a row that only grows.
//! - **What vanishes may come back.** After a cluster lost its memory (its index went back), and when the last instances
//!   of a service vanish while they are well (an agent restarted without its data), they stay for a while: their owners
//!   register them again. Not so when this handle removed them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Instance, InstanceId, Revision, ServiceName};
use tokio::time::Instant;

use super::row::Row;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Book {
    rows: BTreeMap<InstanceId, BTreeMap<String, Row>>,
    services: BTreeMap<ServiceName, BTreeSet<(InstanceId, String)>>,
    shown: BTreeMap<InstanceId, Arc<Instance>>,
    last: Revision,
    /// Whether all services were read once; until then nobody has seen a revision.
    filled: bool,
    /// How long the last instances of a service stay when they vanish.
    grace: Duration,
    /// Until when nothing that vanishes is believed gone.
    doubt: Option<Instant>,
    vanished: BTreeMap<InstanceId, Instant>,
    /// What this handle removes: that it vanishes is no surprise.
    leaving: BTreeSet<InstanceId>,
}

impl Book {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            rows: BTreeMap::new(),
            services: BTreeMap::new(),
            shown: BTreeMap::new(),
            last: Revision::default(),
            filled: false,
            grace,
            doubt: None,
            vanished: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Takes all rows of one service; tells what is different, oldest change first.
    pub(super) fn take(&mut self, service: &ServiceName, fresh: Vec<Row>, now: Instant) -> Vec<Change> {
        let before = self.services.remove(service).unwrap_or_default();
        let mut touched: BTreeSet<_> = before.iter().map(|(id, _)| id.clone()).collect();
        let mut here = BTreeSet::new();
        for row in fresh {
            let key = (row.id().clone(), row.node.clone());
            let nodes = self.rows.entry(key.0.clone()).or_default();
            if let Some(known) = nodes.get(&key.1).filter(|known| known.service() != service) {
                // An id is in one service per node; the other answer is older or newer than this one.
                if known.modified > row.modified {
                    continue;
                }
                if let Some(keys) = self.services.get_mut(known.service()) {
                    keys.remove(&key);
                }
            }
            nodes.insert(key.1.clone(), row);
            touched.insert(key.0.clone());
            here.insert(key);
        }
        for (id, node) in before.difference(&here) {
            let Some(nodes) = self.rows.get_mut(id) else { continue };
            if nodes.get(node).is_some_and(|row| row.service() == service) {
                nodes.remove(node);
            }
            if nodes.is_empty() {
                self.rows.remove(id);
            }
        }
        if !here.is_empty() {
            self.services.insert(service.clone(), here);
        }
        self.settle(touched, now)
    }

    /// The services that have rows.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// The rows of an id, by node.
    pub(super) fn rows_of(&self, id: &InstanceId) -> impl Iterator<Item = &Row> {
        self.rows.get(id).into_iter().flat_map(BTreeMap::values)
    }

    /// The row of an id that is shown.
    pub(super) fn winner(&self, id: &InstanceId) -> Option<&Row> {
        self.rows_of(id).max_by(|a, b| preference(a, b))
    }

    /// What is shown of an id.
    pub(super) fn shown(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.shown.get(id)
    }

    /// The revision of the newest change.
    pub(super) fn revision(&self) -> Revision {
        self.last
    }

    /// Everything that is shown.
    pub(super) fn all(&self) -> Vec<Arc<Instance>> {
        self.shown.values().cloned().collect()
    }

    /// All services were read, at `index` or later. From now on each change has a revision of its own.
    pub(super) fn fill(&mut self, index: u64) {
        self.filled = true;
        self.last = self.last.max(Revision(index));
    }

    /// Whether all services were read once.
    pub(super) fn is_filled(&self) -> bool {
        self.filled
    }

    /// This handle removes an id. If it has vanished already, it is due now.
    pub(super) fn expect_gone(&mut self, id: &InstanceId, now: Instant) {
        self.leaving.insert(id.clone());
        if let Some(until) = self.vanished.get_mut(id) {
            *until = now;
        }
    }

    /// This handle no longer removes an id.
    pub(super) fn expect_no_more(&mut self, id: &InstanceId) {
        self.leaving.remove(id);
    }

    /// Nothing that vanishes is believed gone until then: the cluster has lost its memory.
    pub(super) fn doubt_until(&mut self, until: Instant) {
        self.doubt = Some(until);
    }

    /// When something that is kept may be due.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.vanished.values().min().copied()
    }

    /// How many are shown although they have vanished.
    pub(super) fn kept(&self) -> usize {
        self.vanished.len()
    }

    /// Lets go of what has been kept long enough.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let due: Vec<_> =
            self.vanished.iter().filter(|(_, until)| **until <= now).map(|(id, _)| id.clone()).collect();
        due.into_iter().filter_map(|id| self.remove(&id)).collect()
    }

    /// Shows for `touched` what the rows say now.
    fn settle(&mut self, touched: BTreeSet<InstanceId>, now: Instant) -> Vec<Change> {
        let (mut fresh, mut gone): (Vec<Row>, Vec<InstanceId>) = (Vec::new(), Vec::new());
        for id in touched {
            match self.winner(&id) {
                Some(row) => fresh.push(row.clone()),
                None => gone.push(id),
            }
        }
        fresh.sort_by_key(|row| row.modified);
        let mut changes: Vec<_> = fresh.into_iter().flat_map(|row| self.show(row)).collect();
        for id in gone {
            let kept = self.shown.get(&id).and_then(|instance| self.keep_until(instance, now));
            match kept {
                Some(until) => {
                    self.vanished.entry(id).or_insert(until);
                }
                None => changes.extend(self.remove(&id)),
            }
        }
        changes
    }

    /// Until when to show an instance that has vanished; `None` believes it.
    fn keep_until(&self, instance: &Instance, now: Instant) -> Option<Instant> {
        if self.leaving.contains(instance.id()) {
            return None;
        }
        let of_doubt = self.doubt.filter(|until| *until > now);
        let last_ones = !self.services.contains_key(instance.service()) && instance.takes_new_work();
        let of_grace = last_ones.then_some(now + self.grace).filter(|until| *until > now);
        of_doubt.max(of_grace)
    }

    fn show(&mut self, row: Row) -> Vec<Change> {
        let id = row.id().clone();
        self.vanished.remove(&id);
        let before = self.shown.get(&id).cloned();
        let same = |known: &Arc<Instance>| known.registration == row.registration && known.phase == row.phase;
        if before.as_ref().is_some_and(same) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        // An instance that changes its service leaves the old one.
        if before.as_ref().is_some_and(|known| known.service() != row.service()) {
            changes.extend(self.remove(&id));
        }
        let revision = self.next(row.modified);
        let first = if self.filled { revision } else { Revision(row.created) };
        let created = before.map_or(first, |known| known.created);
        let Row { registration, phase, .. } = row;
        let instance = Arc::new(Instance { registration, phase, created, modified: revision });
        self.shown.insert(id, Arc::clone(&instance));
        changes.push(Change::Upsert { revision, instance });
        changes
    }

    fn remove(&mut self, id: &InstanceId) -> Option<Change> {
        self.vanished.remove(id);
        let instance = self.shown.remove(id)?;
        let revision = self.next(0);
        Some(Change::Remove { revision, service: instance.service().clone(), id: id.clone() })
    }

    fn next(&mut self, index: u64) -> Revision {
        if !self.filled {
            self.last = self.last.max(Revision(index));
            return Revision(index);
        }
        self.last = self.last.next().max(Revision(index));
        self.last
    }
}

/// Greater is better to show.
fn preference(a: &Row, b: &Row) -> Ordering {
    let lives = if a.registration.owner == b.registration.owner {
        a.registration.incarnation.cmp(&b.registration.incarnation)
    } else {
        // Lives are each owner's own to count.
        Ordering::Equal
    };
    let healthier = b.registration.health.cmp(&a.registration.health);
    a.reachable.cmp(&b.reachable).then(lives).then(healthier).then(a.created.cmp(&b.created))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use portolan_model::{Health, Incarnation, Owner, Phase};

    fn row(service: &str, id: &str, node: &str, modified: u64) -> Row {
        let instance = fixture::instance(service, id, modified);
        Row {
            node: node.to_owned(),
            service_id: id.to_owned(),
            registration: instance.registration.clone(),
            phase: Phase::Adult,
            ours: true,
            alive: None,
            word: None,
            marks: Default::default(),
            reachable: true,
            created: modified,
            modified,
        }
    }

    fn name(service: &str) -> ServiceName {
        ServiceName::new(service).unwrap()
    }

    fn take(book: &mut Book, service: &str, rows: Vec<Row>) -> Vec<String> {
        told(book.take(&name(service), rows, Instant::now()))
    }

    fn told(changes: Vec<Change>) -> Vec<String> {
        let told = changes.into_iter().map(|change| match change {
            Change::Upsert { revision, instance } => {
                format!("{revision}+{}:{}", instance.service(), instance.id())
            }
            Change::Remove { revision, service, id } => format!("{revision}-{service}:{id}"),
            Change::Reset { .. } => unreachable!("a book tells only differences"),
        });
        told.collect()
    }

    #[test]
    fn differences_in_order_and_with_growing_revisions() {
        let mut book = Book::new(Duration::ZERO);
        book.fill(3);
        let rows = || vec![row("web", "b", "n", 7), row("web", "a", "n", 9)];
        assert_eq!(take(&mut book, "web", rows()), ["7+web:b", "9+web:a"]);
        assert!(take(&mut book, "web", rows()).is_empty(), "the same again tells nothing");
        assert_eq!(take(&mut book, "api", vec![row("api", "c", "n", 5)]), ["10+api:c"], "read late");
        assert_eq!(take(&mut book, "web", vec![row("web", "a", "n", 9)]), ["11-web:b"]);
        assert_eq!(take(&mut book, "web", vec![]), ["12-web:a"]);
        assert_eq!(book.services().collect::<Vec<_>>(), [&name("api")]);
    }

    #[test]
    fn the_first_read_has_the_indexes_of_consul() {
        let mut book = Book::new(Duration::ZERO);
        take(&mut book, "web", vec![Row { modified: 9, ..row("web", "a", "n", 7) }]);
        take(&mut book, "api", vec![row("api", "c", "n", 5)]);
        book.fill(12);
        let known: Vec<_> = book.all().iter().map(|i| (i.created.0, i.modified.0)).collect();
        assert_eq!((known, book.revision()), (vec![(7, 9), (5, 5)], Revision(12)));
    }

    #[test]
    fn an_id_moves_between_services_once() {
        let mut book = Book::new(Duration::ZERO);
        take(&mut book, "from", vec![row("from", "a", "n", 1)]);
        book.fill(1);
        assert_eq!(take(&mut book, "to", vec![row("to", "a", "n", 5)]), ["2-from:a", "5+to:a"]);
        assert!(
            take(&mut book, "from", vec![row("from", "a", "n", 1)]).is_empty(),
            "an answer that comes late"
        );
        assert!(take(&mut book, "from", vec![]).is_empty());
        assert_eq!(book.all().len(), 1);
    }

    #[test]
    fn one_id_on_two_nodes_is_one_instance() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Row, &mut Row), expect: &str) {
            let (mut old, mut new) = (row("web", "a", "old", 1), row("web", "a", "new", 5));
            change(&mut old, &mut new);
            let mut book = Book::new(Duration::ZERO);
            book.take(&name("web"), vec![old, new], Instant::now());
            assert_eq!(
                (book.winner(book.all()[0].id()).unwrap().node.as_str(), book.all().len()),
                (expect, 1)
            );
        }
        check(|_, _| {}, "new");
        check(|_, new| new.reachable = false, "old");
        check(|_, new| new.registration.health = Health::Critical, "old");
        check(|old, _| old.registration.incarnation = Incarnation(9), "old");
        check(
            |old, _| {
                old.registration.incarnation = Incarnation(9);
                old.registration.owner = Owner::new("other").unwrap();
            },
            "new",
        );
    }

    #[test]
    fn the_last_ones_that_vanish_while_well_are_kept_for_a_while() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let mut book = Book::new(s(2));
        take(&mut book, "web", vec![row("web", "a", "n", 1), row("web", "b", "n", 2)]);
        book.fill(2);
        assert_eq!(take(&mut book, "web", vec![row("web", "b", "n", 2)]), ["3-web:a"], "not the last one");
        assert!(book.take(&name("web"), vec![], now).is_empty());
        assert_eq!((book.kept(), book.next_expiry()), (1, Some(now + s(2))));
        assert!(take(&mut book, "web", vec![row("web", "b", "n", 9)]).is_empty(), "it came back as it was");
        assert_eq!(book.kept(), 0);
        assert!(book.take(&name("web"), vec![], now).is_empty());
        assert!(book.expire(now + s(1)).is_empty());
        assert_eq!(told(book.expire(now + s(2))), ["4-web:b"]);
    }

    #[test]
    fn what_is_expected_to_vanish_is_believed() {
        let mut book = Book::new(Duration::from_secs(2));
        take(&mut book, "web", vec![row("web", "a", "n", 1)]);
        book.fill(1);
        book.expect_gone(fixture::instance("web", "a", 1).id(), Instant::now());
        assert_eq!(take(&mut book, "web", vec![]), ["2-web:a"], "this handle removed it");
        let critical = |mut row: Row| {
            row.registration.health = Health::Critical;
            row
        };
        take(&mut book, "api", vec![critical(row("api", "b", "n", 3))]);
        assert_eq!(take(&mut book, "api", vec![]), ["4-api:b"], "nobody would have used it");
    }

    #[test]
    fn after_a_loss_of_memory_all_are_kept() {
        let now = Instant::now();
        let mut book = Book::new(Duration::ZERO);
        take(&mut book, "web", vec![row("web", "a", "n", 100), row("web", "b", "n", 101)]);
        book.fill(101);
        book.doubt_until(now + Duration::from_secs(15));
        assert!(book.take(&name("web"), vec![row("web", "b", "n", 3)], now).is_empty());
        assert_eq!(book.kept(), 1);
        assert_eq!(told(book.expire(now + Duration::from_secs(15))), ["102-web:a"]);
    }
}
