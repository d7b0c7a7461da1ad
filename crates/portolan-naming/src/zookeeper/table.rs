//! What is known of the nodes, and what is shown of it; pure. The time is an argument.
//!
//! A node is a claim to be an instance. The same id may be claimed by several for a moment: when an endpoint changes, or
//! when two registrants mean the same instance. Shown is the claim that was written last.
//!
//! ZooKeeper does not say why a node is gone. We remove a node by writing it once more and deleting it in one
//! transaction, so that whoever watches sees two events where the end of a session makes one: a *farewell*, believed at
//! once. A node of ours that is gone without one went with its session; its owner may have been cut off for too long and
//! be about to register again, so the instance is kept for a grace time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Instance, InstanceId, Revision};

use super::layout::Said;
use crate::absence::Absences;

/// A node as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// `None` for a node that is no instance.
    pub(super) said: Option<Said>,
    pub(super) version: i32,
    /// Whose session it ends with; zero for one that stays.
    pub(super) session: i64,
    /// The transactions that created and last changed it.
    pub(super) created: u64,
    pub(super) modified: u64,
}

/// What a look at one path found.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    pub(super) path: String,
    pub(super) found: Found,
}

/// See [`Sighting`].
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// It is there.
    Here(Node),
    /// It is not.
    Gone {
        /// The newest transaction among its siblings or above: its own removal or a later one.
        at: u64,
        /// Whether it was removed on purpose, as far as events tell.
        farewell: bool,
    },
}

/// What this process is about to do with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// Nothing.
    None,
    /// Write it, perhaps elsewhere.
    Keep,
    /// Remove it.
    Remove,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Table {
    nodes: BTreeMap<String, Node>,
    claims: BTreeMap<InstanceId, BTreeSet<String>>,
    shown: BTreeMap<InstanceId, Arc<Instance>>,
    absences: Absences,
    grace: Duration,
    last: Revision,
    /// Our session.
    pub(super) session: i64,
}

impl Table {
    /// An instance is kept for `grace` when its session ended, for `reread_grace` when it is missing after an outage.
    pub(super) fn new(grace: Duration, reread_grace: Duration) -> Self {
        Self {
            nodes: BTreeMap::new(),
            claims: BTreeMap::new(),
            shown: BTreeMap::new(),
            absences: Absences::new(reread_grace),
            grace,
            last: Revision::default(),
            session: 0,
        }
    }

    /// Takes a complete reading, made when `newest` was the newest transaction seen.
    pub(super) fn reset(&mut self, nodes: Vec<(String, Node)>, newest: u64, now: Duration) -> Change {
        self.nodes = nodes.into_iter().collect();
        self.claims.clear();
        for (path, node) in &self.nodes {
            if let Some(said) = &node.said {
                self.claims.entry(said.registration.id.clone()).or_default().insert(path.clone());
            }
        }
        let found = self.claims.keys().filter_map(|id| {
            let (node, said) = self.winner(id).and_then(|(_, node)| Some((node, node.said.as_ref()?)))?;
            Some(match self.shown.get(id) {
                Some(known) if same(known, said) => Arc::clone(known),
                known => {
                    let created = known.map_or(Revision(node.created), |known| known.created);
                    Arc::new(instance(said, created, Revision(node.modified)))
                }
            })
        });
        let found = found.collect::<Vec<_>>();
        let instances = self.absences.after_reread(self.shown.values().cloned(), found, now);
        self.shown = instances.iter().map(|instance| (instance.id().clone(), Arc::clone(instance))).collect();
        let revision = self.next(newest);
        Change::Reset { revision, instances }
    }

    /// Takes looks at some paths; what is shown differently now comes back, oldest first.
    pub(super) fn fold(
        &mut self,
        sightings: Vec<Sighting>,
        intent: impl Fn(&InstanceId) -> Intent,
        now: Duration,
    ) -> Vec<Change> {
        let mut touched: BTreeMap<InstanceId, (u64, bool)> = BTreeMap::new();
        for Sighting { path, found } in sightings {
            let before = self.nodes.remove(&path);
            if let Some(Node { said: Some(said), session, .. }) = &before {
                let id = said.registration.id.clone();
                let (at, on_purpose) = match &found {
                    // Whoever has the place now is another; nobody moved here without leaving there.
                    Found::Here(node) => {
                        let stays = node.said.as_ref().is_some_and(|now| now.registration.id == id);
                        (node.modified, !stays)
                    }
                    Found::Gone { at, farewell } => {
                        let others_way = !said.ours || *session == 0;
                        (*at, *farewell || others_way || self.was_taken(&id, *session, &intent))
                    }
                };
                self.disclaim(&id, &path);
                let entry = touched.entry(id).or_default();
                *entry = (entry.0.max(at), entry.1 || on_purpose);
            }
            if let Found::Here(node) = found {
                if let Some(said) = &node.said {
                    let id = said.registration.id.clone();
                    self.claims.entry(id.clone()).or_default().insert(path.clone());
                    let entry = touched.entry(id).or_default();
                    entry.0 = entry.0.max(node.modified);
                }
                self.nodes.insert(path, node);
            }
        }
        let mut touched: Vec<_> = touched.into_iter().collect();
        // One transaction may put an instance in another's place: what comes is shown first, so that no list is empty between.
        touched.sort_by_key(|(id, (at, _))| (*at, !self.claims.contains_key(id)));
        touched.into_iter().flat_map(|(id, (at, on_purpose))| self.show(&id, at, on_purpose, now)).collect()
    }

    /// Instances that were kept although their nodes are gone, and now are believed to be gone too.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Change> {
        let gone = self.absences.expired(now);
        gone.into_iter().filter_map(|instance| self.hide(instance.id(), 0)).collect()
    }

    /// Stops showing an instance without a node.
    pub(super) fn believe(&mut self, id: &InstanceId) -> Option<Change> {
        if self.claims.contains_key(id) { None } else { self.hide(id, 0) }
    }

    /// When to call [`Table::expire`] next.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.absences.next_expiry()
    }

    /// How many instances are shown although their nodes are gone.
    pub(super) fn doubted(&self) -> usize {
        self.absences.count()
    }

    /// How many instances are shown.
    pub(super) fn count(&self) -> usize {
        self.shown.len()
    }

    /// What is shown of an id.
    pub(super) fn shown(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.shown.get(id)
    }

    /// The node that counts for an id: the one written last.
    pub(super) fn winner(&self, id: &InstanceId) -> Option<(&str, &Node)> {
        self.claims(id).max_by_key(|(_, node)| node.modified)
    }

    /// All nodes that claim an id.
    pub(super) fn claims(&self, id: &InstanceId) -> impl Iterator<Item = (&str, &Node)> {
        let paths = self.claims.get(id).into_iter().flatten();
        paths.filter_map(|path| Some((path.as_str(), self.nodes.get(path)?)))
    }

    /// What is known to be at `path`.
    pub(super) fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Whether nothing is known to be at `path`.
    pub(super) fn is_free(&self, path: &str) -> bool {
        !self.nodes.contains_key(path)
    }

    /// Whether `path` is the only node known in its directory.
    pub(super) fn is_alone(&self, path: &str) -> bool {
        let directory = format!("{}/", super::layout::parent(path));
        let siblings =
            self.nodes.range(directory.clone()..).take_while(|(other, _)| other.starts_with(&directory));
        siblings.take(2).all(|(other, _)| other == path)
    }

    /// Ids claimed by nodes that end with our session.
    pub(super) fn of_our_session(&self) -> BTreeSet<InstanceId> {
        let ours = self.nodes.values().filter(|node| node.session == self.session);
        ours.filter_map(|node| Some(node.said.as_ref()?.registration.id.clone())).collect()
    }

    /// The newest revision.
    pub(super) fn last(&self) -> Revision {
        self.last
    }

    /// A node that would have ended with our session, which lives: somebody deleted it. Unless we are about to write it.
    fn was_taken(&self, id: &InstanceId, session: i64, intent: &impl Fn(&InstanceId) -> Intent) -> bool {
        match intent(id) {
            Intent::None => session == self.session,
            Intent::Keep => false,
            Intent::Remove => true,
        }
    }

    fn disclaim(&mut self, id: &InstanceId, path: &str) {
        if let Some(paths) = self.claims.get_mut(id) {
            paths.remove(path);
            if paths.is_empty() {
                self.claims.remove(id);
            }
        }
    }

    fn show(&mut self, id: &InstanceId, at: u64, on_purpose: bool, now: Duration) -> Vec<Change> {
        let known = self.shown.get(id).cloned();
        let Some(said) = self.winner(id).and_then(|(_, node)| node.said.clone()) else {
            match known {
                Some(_) if on_purpose => return self.hide(id, at).into_iter().collect(),
                Some(instance) if self.grace.is_zero() => {
                    return self.hide(instance.id(), at).into_iter().collect();
                }
                Some(instance) => self.absences.doubt(instance, now + self.grace),
                None => {}
            }
            return Vec::new();
        };
        self.absences.settled(id);
        let mut changes = Vec::new();
        if let Some(known) = &known {
            if same(known, &said) {
                return changes;
            }
            if *known.service() != said.registration.service {
                // One transaction, two changes: this one takes the number before, which nobody has.
                changes.extend(self.hide(id, at.saturating_sub(1)));
            }
        }
        let revision = self.next(at);
        let created = known.map_or(revision, |known| known.created);
        let instance = Arc::new(instance(&said, created, revision));
        self.shown.insert(id.clone(), Arc::clone(&instance));
        changes.push(Change::Upsert { revision, instance });
        changes
    }

    fn hide(&mut self, id: &InstanceId, at: u64) -> Option<Change> {
        self.absences.settled(id);
        let gone = self.shown.remove(id)?;
        let revision = self.next(at);
        Some(Change::Remove { revision, service: gone.service().clone(), id: id.clone() })
    }

    /// The revision of a change by transaction `at`. Reads may overtake each other's transactions, and some changes have
    /// none; revisions grow all the same.
    fn next(&mut self, at: u64) -> Revision {
        self.last = self.last.next().max(Revision(at));
        self.last
    }
}

fn same(known: &Instance, said: &Said) -> bool {
    known.registration == said.registration && known.phase == said.phase
}

fn instance(said: &Said, created: Revision, modified: Revision) -> Instance {
    Instance { registration: said.registration.clone(), phase: said.phase, created, modified }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::instance as of;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const OURS: i64 = 1;

    fn table() -> Table {
        let mut table = Table::new(S(3), S(30));
        table.session = OURS;
        table
    }

    fn node(service: &str, id: &str, session: i64, modified: u64) -> Node {
        let registration = of(service, id, 0).registration.clone();
        let said = Said { registration, phase: portolan_model::Phase::Adult, ours: true };
        Node { said: Some(said), version: 0, session, created: modified, modified }
    }

    fn here(path: &str, node: Node) -> Sighting {
        Sighting { path: path.to_owned(), found: Found::Here(node) }
    }

    fn gone(path: &str, at: u64, farewell: bool) -> Sighting {
        Sighting { path: path.to_owned(), found: Found::Gone { at, farewell } }
    }

    fn told(changes: &[Change]) -> String {
        let line = |change: &Change| match change {
            Change::Reset { revision, instances } => format!("={revision}:{}", instances.len()),
            Change::Upsert { revision, instance } => format!("+{revision}:{}", instance.id()),
            Change::Remove { revision, id, .. } => format!("-{revision}:{id}"),
        };
        changes.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nodes_come_change_and_go() {
        #[track_caller]
        fn check(table: &mut Table, intent: Intent, sightings: Vec<Sighting>, expect: &str) {
            assert_eq!(told(&table.fold(sightings, |_| intent, S(0))), expect);
        }
        let mut table = table();
        let table = &mut table;
        check(table, Intent::None, vec![here("/w/1", node("w", "a", 7, 5))], "+5:a");
        check(table, Intent::None, vec![here("/w/1", node("w", "a", 7, 5))], "");
        check(table, Intent::None, vec![here("/w/1", node("w", "a", 8, 6))], "");
        // Read late, and yet a step forward.
        check(table, Intent::None, vec![here("/w/2", node("w", "b", 7, 4))], "+6:b");
        // It moves: the new place counts, whichever is seen first.
        check(table, Intent::None, vec![gone("/w/2", 9, false)], "");
        assert_eq!(table.doubted(), 1);
        check(table, Intent::None, vec![here("/x/2", node("x", "b", 7, 9))], "-8:b +9:b");
        assert_eq!(table.doubted(), 0);
        // On purpose, by its events; by others' way; by somebody else, in our session; by us.
        check(table, Intent::None, vec![gone("/x/2", 10, true)], "-10:b");
        check(table, Intent::None, vec![here("/w/2", node("w", "x", 7, 10))], "+11:x");
        check(table, Intent::None, vec![here("/w/2", node("w", "c", 0, 11))], "+12:c -13:x");
        check(table, Intent::None, vec![gone("/w/2", 14, false)], "-14:c");
        check(table, Intent::None, vec![here("/w/4", node("w", "d", OURS, 15))], "+15:d");
        check(table, Intent::None, vec![gone("/w/4", 16, false)], "-16:d");
        check(table, Intent::None, vec![here("/w/5", node("w", "e", OURS, 17))], "+17:e");
        check(table, Intent::Keep, vec![gone("/w/5", 18, false)], "");
        check(table, Intent::Remove, vec![here("/w/5", node("w", "e", OURS, 17))], "");
        check(table, Intent::Remove, vec![gone("/w/5", 18, false)], "-18:e");
    }

    #[test]
    fn a_session_that_ends_leaves_its_instances_for_a_while() {
        let mut table = table();
        table.fold(
            vec![here("/w/1", node("w", "a", 7, 5)), here("/w/2", node("w", "b", 7, 6))],
            |_| Intent::None,
            S(0),
        );
        let both = vec![gone("/w/1", 8, false), gone("/w/2", 8, false)];
        assert_eq!(told(&table.fold(both, |_| Intent::None, S(10))), "");
        assert_eq!((table.doubted(), table.next_expiry()), (2, Some(S(13))));
        // One comes back as it was, in another session: nobody noticed.
        assert_eq!(told(&table.fold(vec![here("/w/1", node("w", "a", 9, 9))], |_| Intent::None, S(11))), "");
        assert_eq!(told(&table.expire(S(12))), "");
        assert_eq!(told(&table.expire(S(13))), "-7:b");
        assert_eq!((table.doubted(), table.count()), (0, 1));
    }

    #[test]
    fn a_reading_after_an_outage_is_not_believed_in_what_is_missing() {
        let mut table = table();
        let all = |ids: &[&str]| {
            let node = |id: &&str| (format!("/w/{id}"), node("w", id, 7, 5));
            ids.iter().map(node).collect::<Vec<_>>()
        };
        assert_eq!(told(&[table.reset(all(&["a", "b"]), 5, S(0))]), "=5:2");
        assert_eq!(told(&[table.reset(all(&["a"]), 9, S(1))]), "=9:2");
        assert_eq!(table.doubted(), 1);
        let believed: Vec<_> = table.believe(&id("b")).into_iter().collect();
        assert_eq!(told(&believed), "-10:b");
        assert_eq!(told(&[table.reset(all(&[]), 11, S(2))]), "=11:1");
        assert_eq!(told(&table.expire(S(32))), "-12:a");
    }

    #[test]
    fn of_two_claims_the_later_counts() {
        let mut table = table();
        let both = vec![here("/w/2", node("w", "a", 7, 6)), here("/w/1", node("w", "a", OURS, 5))];
        table.fold(both, |_| Intent::None, S(0));
        assert_eq!(table.winner(&id("a")).map(|(path, _)| path), Some("/w/2"));
        assert_eq!(table.claims(&id("a")).count(), 2);
        assert_eq!(table.of_our_session().len(), 1);
        assert!(!table.is_alone("/w/1") && !table.is_free("/w/1") && table.is_free("/w/3"));
        assert_eq!(told(&table.fold(vec![gone("/w/2", 7, true)], |_| Intent::None, S(0))), "");
        assert!(table.is_alone("/w/1"));
    }

    #[test]
    fn what_replaces_an_instance_is_shown_before_it_goes() {
        let mut table = table();
        table.fold(vec![here("/w/1", node("w", "a", 7, 5))], |_| Intent::None, S(0));
        let changes = table.fold(vec![here("/w/1", node("w", "b", OURS, 6))], |_| Intent::None, S(0));
        assert_eq!(told(&changes), "+6:b -7:a");
    }

    fn id(text: &str) -> InstanceId {
        InstanceId::new(text).unwrap()
    }
}
