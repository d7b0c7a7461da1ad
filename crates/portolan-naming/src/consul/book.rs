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
//!   register them again. Not so when this handle removed them. Longer still are those kept whose node was out of reach:
//!   Consul removes a *server* that it has not heard of for some seconds, with all that its agent registered, and it is
//!   the agent that is gone then, not they.
//! - **Silence may be nobody's who is silent.** When the last usable instances of a service are critical only because no
//!   sign of life came (Consul restarts with such checks critical), they stay as they were for a while: either the signs
//!   come again, or nobody is left to send a request to anyway.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Instance, InstanceId, Phase, Revision, ServiceName};
use tokio::time::Instant;

use super::changes::Delta;
use super::row::Row;

/// How long the last usable instances of a service are shown as they were when they are only silent: longer than any
/// driver waits before it tries a server again. Not so where what vanishes is believed at once.
const SILENCE: Duration = Duration::from_secs(5);

/// How long the last instances of a service stay when they vanish while their node is out of reach: their owner has to
/// find another agent first.
const OUT_OF_REACH: Duration = Duration::from_secs(15);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Book {
    rows: BTreeMap<InstanceId, BTreeMap<String, Arc<Row>>>,
    services: BTreeMap<ServiceName, BTreeSet<(InstanceId, String)>>,
    shown: BTreeMap<InstanceId, Arc<Instance>>,
    /// Those shown whose node is out of reach.
    unreached: BTreeSet<InstanceId>,
    last: Revision,
    /// Whether all services were read once; until then nobody has seen a revision.
    filled: bool,
    /// How long the last instances of a service stay when they vanish.
    grace: Duration,
    /// Until when nothing that vanishes is believed gone.
    doubt: Option<Instant>,
    /// What is shown although it has vanished or is silent, and until when.
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
            unreached: BTreeSet::new(),
            last: Revision::default(),
            filled: false,
            grace,
            doubt: None,
            vanished: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Takes all rows of one service; tells what is different, oldest change first. A row that is here already costs little.
    pub(super) fn take(&mut self, service: &ServiceName, fresh: Vec<Arc<Row>>, now: Instant) -> Vec<Change> {
        let before = self.services.remove(service).unwrap_or_default();
        self.replace(service, &before, fresh, now)
    }

    /// Takes all rows of these instances in one service; tells what is different, oldest change first.
    pub(super) fn take_of(
        &mut self,
        service: &ServiceName,
        ids: &BTreeSet<InstanceId>,
        fresh: Vec<Arc<Row>>,
        now: Instant,
    ) -> Vec<Change> {
        let Some(all) = self.services.get_mut(service) else { return self.take(service, fresh, now) };
        let before = all.extract_if(.., |(id, _)| ids.contains(id)).collect();
        if all.is_empty() {
            self.services.remove(service);
        }
        self.replace(service, &before, fresh, now)
    }

    /// Takes rows instead of those that were there before.
    fn replace(
        &mut self,
        service: &ServiceName,
        before: &BTreeSet<(InstanceId, String)>,
        fresh: Vec<Arc<Row>>,
        now: Instant,
    ) -> Vec<Change> {
        let (mut touched, mut here) = (BTreeSet::new(), BTreeSet::new());
        for row in fresh {
            let key = (row.id().clone(), row.node.clone());
            if self.has(&row) {
                here.insert(key);
                continue;
            }
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
            touched.insert(id.clone());
            let Some(nodes) = self.rows.get_mut(id) else { continue };
            if nodes.get(node).is_some_and(|row| row.service() == service) {
                nodes.remove(node);
            }
            if nodes.is_empty() {
                self.rows.remove(id);
            }
        }
        if !here.is_empty() {
            self.services.entry(service.clone()).or_default().append(&mut here);
        }
        self.settle(touched, now)
    }

    /// Whether this very row is here.
    pub(super) fn has(&self, row: &Arc<Row>) -> bool {
        let known = self.rows.get(row.id()).and_then(|nodes| nodes.get(&row.node));
        known.is_some_and(|known| Arc::ptr_eq(known, row))
    }

    /// Takes one row, or its end, of a book without nodes; tells what is different.
    pub(super) fn take_one(&mut self, delta: Delta, now: Instant) -> Vec<Change> {
        let id = delta.id().clone();
        // An instance may be in another service by the time it is gone from this one.
        let replaced = |row: &Arc<Row>| match &delta {
            Delta::Upsert(_) => true,
            Delta::Remove { service, .. } => row.service() == service,
        };
        let known = self.rows.remove(&id).unwrap_or_default().into_values();
        let (replaced, mut nodes): (Vec<_>, Vec<_>) = known.partition(replaced);
        for row in replaced {
            if let Some(keys) = self.services.get_mut(row.service()) {
                keys.remove(&(id.clone(), row.node.clone()));
                if keys.is_empty() {
                    self.services.remove(row.service());
                }
            }
        }
        if let Delta::Upsert(row) = delta {
            let keys = self.services.entry(row.service().clone()).or_default();
            keys.insert((id.clone(), row.node.clone()));
            nodes.push(Arc::new(row));
        }
        if !nodes.is_empty() {
            let by_node = nodes.into_iter().map(|row| (row.node.clone(), row)).collect();
            self.rows.insert(id.clone(), by_node);
        }
        self.settle([id].into(), now)
    }

    /// The services that have rows.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// The rows of an id, by node.
    pub(super) fn rows_of(&self, id: &InstanceId) -> impl Iterator<Item = &Row> {
        self.rows.get(id).into_iter().flat_map(BTreeMap::values).map(Arc::as_ref)
    }

    /// Whether a node is known, and alive as the catalog has it.
    pub(super) fn holds_alive(&self, node: &str) -> bool {
        let row = self.rows.values().find_map(|nodes| nodes.get(node));
        row.is_some_and(|row| row.reachable)
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

    /// How many are shown although they have vanished or are silent.
    pub(super) fn kept(&self) -> usize {
        self.vanished.len()
    }

    /// Lets go of what has been kept long enough.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let due: Vec<_> =
            self.vanished.iter().filter(|(_, until)| **until <= now).map(|(id, _)| id.clone()).collect();
        let mut changes = Vec::new();
        for id in due {
            match self.winner(&id).cloned() {
                Some(silent) => changes.extend(self.show(silent)),
                None => changes.extend(self.remove(&id)),
            }
        }
        changes
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
        let mut changes = Vec::new();
        let mut usable = BTreeMap::new();
        for mut row in fresh {
            let kept = match row.is_silent() {
                true => self.keep_silent(&row, &mut usable, now),
                false => None,
            };
            if kept.is_some() {
                row.registration.health = row.unheard;
            }
            let id = row.id().clone();
            changes.extend(self.show(row));
            self.vanished.extend(kept.map(|until| (id, until)));
        }
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
        let grace = match (self.unreached.contains(instance.id()), instance.takes_new_work()) {
            (true, _) if !self.grace.is_zero() => self.grace.max(OUT_OF_REACH),
            (_, true) => self.grace,
            (_, false) => Duration::ZERO,
        };
        let last_ones = !self.services.contains_key(instance.service());
        let of_grace = last_ones.then_some(now + grace).filter(|until| *until > now);
        of_doubt.max(of_grace)
    }

    /// Until when to show a silent instance as it was; `None` believes the silence. `usable` remembers for this settling
    /// which services have an instance that is heard of.
    fn keep_silent(
        &self,
        row: &Row,
        usable: &mut BTreeMap<ServiceName, bool>,
        now: Instant,
    ) -> Option<Instant> {
        if let Some(until) = self.vanished.get(row.id()) {
            return Some(*until).filter(|until| *until > now);
        }
        if self.grace.is_zero() || !self.shown.get(row.id())?.takes_new_work() {
            return None;
        }
        let of_doubt = self.doubt.filter(|until| *until > now);
        let others = *usable.entry(row.service().clone()).or_insert_with(|| self.has_usable(row.service()));
        of_doubt.max((!others).then_some(now + SILENCE))
    }

    fn has_usable(&self, service: &ServiceName) -> bool {
        let keys = self.services.get(service).into_iter().flatten();
        let mut rows = keys.filter_map(|(id, _)| self.winner(id));
        rows.any(|row| row.registration.health.takes_traffic() && row.phase != Phase::Draining)
    }

    fn show(&mut self, row: Row) -> Vec<Change> {
        let id = row.id().clone();
        self.vanished.remove(&id);
        if row.reachable {
            self.unreached.remove(&id);
        } else {
            self.unreached.insert(id.clone());
        }
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
        self.unreached.remove(id);
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
