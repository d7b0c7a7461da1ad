//! What an agent that was left holds still, and would bring back.
//!
//! An agent that is away remembers what was registered with it. When it is back it puts all of that into the catalog again,
//! whatever has become of it meanwhile: what is registered elsewhere now would be there twice, and what is registered no
//! more would be a ghost. So the agent is asked what it holds, and told to let go of it.

use std::collections::{BTreeSet, VecDeque};

use portolan_model::{Incarnation, InstanceId, Owner, Registration};
use tokio::time::Instant;

use super::super::config::Flavour;
use super::super::job::Goal;
use super::super::wanted::Call;
use super::calls::removal;
use super::{At, Desk, Home};

/// How many ids are remembered that were deregistered while an agent was away. An agent that nobody gives signs of life
/// for more than these lets go of the rest by itself.
const LIMIT: usize = 16_384;

/// A registration that an agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Held {
    pub(in super::super) id: InstanceId,
    pub(in super::super) owner: Owner,
    pub(in super::super) incarnation: Incarnation,
}

/// What was registered no more while an agent that may hold it was away.
#[derive(Debug)]
pub(super) struct Behind {
    owner: Owner,
    incarnation: Incarnation,
}

impl Behind {
    fn is(&self, held: &Held) -> bool {
        held.owner == self.owner && held.incarnation <= self.incarnation
    }
}

impl Desk {
    /// This handle keeps it registered no more. Agents that are away may hold it, and one that is back and was not told.
    pub(super) fn leave_behind(&mut self, said: &Registration) {
        let held = !self.left.is_empty() || self.strays.contains_key(&said.id);
        if held && self.behind.len() < LIMIT {
            let behind = Behind { owner: said.owner.clone(), incarnation: said.incarnation };
            self.behind.insert(said.id.clone(), behind);
        }
    }

    /// The home is left: it may hold what it was to let go of and has not yet.
    pub(super) fn leave_all_behind(&mut self, home: At) {
        if self.config.flavour == Flavour::Portolan {
            return;
        }
        self.left.insert(home);
        let fronts = self.jobs.values().filter_map(VecDeque::front);
        let leaving = fronts.filter(|job| matches!(job.goal, Goal::Deregister(_)));
        let leaving = leaving.filter_map(|job| job.begun.as_ref()?.before.as_ref());
        let leaving: Vec<_> = leaving.map(|before| before.registration.clone()).collect();
        leaving.iter().for_each(|said| self.leave_behind(said));
        for (id, orphan) in self.orphans.iter().take(LIMIT.saturating_sub(self.behind.len())) {
            let behind = Behind { owner: orphan.owner.clone(), incarnation: orphan.incarnation };
            self.behind.entry(id.clone()).or_insert(behind);
        }
    }

    /// An agent that was the home before is back, and holds these. It would bring them back into the catalog within a minute.
    pub(in super::super) fn back(&mut self, at: At, held: impl IntoIterator<Item = Held>) {
        self.away.remove(&at);
        self.left.remove(&at);
        for held in held {
            let behind = self.behind.get(&held.id).is_some_and(|behind| behind.is(&held));
            if behind || self.wanted.contains(&held.id) {
                self.soon(held.id.clone());
                self.strays.entry(held.id).or_default().insert(at);
            }
        }
        if self.left.is_empty() {
            self.behind.retain(|id, _| self.strays.contains_key(id));
        }
    }

    /// For an id that this handle keeps registered no more, and that an agent which is back holds.
    pub(super) fn calls_for_stray(&mut self, id: &InstanceId, home: &Home, now: Instant) -> Vec<(At, Call)> {
        let Some(at) = self.strays.get(id).and_then(BTreeSet::first).copied() else { return Vec::new() };
        if !self.behind.contains_key(id) {
            // It was registered again, and others hold it now.
            self.strays.remove(id);
            return Vec::new();
        }
        self.book.expect_gone(id, now);
        let rows = self.book.rows_of(id).filter(|row| self.agents.get(&row.node) == Some(&at));
        // Out of the catalog first: an agent that is just back is busy with itself.
        let mut calls: Vec<_> = rows.flat_map(|row| removal(row, home, None, true)).collect();
        calls.push((at, Call::Deregister { service_id: id.to_string() }));
        calls
    }

    /// An agent has let go of an id.
    pub(super) fn let_go(&mut self, id: &InstanceId, at: At) {
        let Some(holders) = self.strays.get_mut(id) else { return };
        holders.remove(&at);
        if !holders.is_empty() {
            return;
        }
        self.strays.remove(id);
        if self.behind.contains_key(id) {
            self.book.expect_no_more(id);
        }
        if self.left.is_empty() {
            self.behind.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portolan_model::{Guard, Incarnation};

    use super::super::tests::{Stage, held, registered, row, said};
    use super::*;

    /// Of this life, or of a later one.
    fn of_life(later: u64) -> Held {
        Held { incarnation: Incarnation(said().incarnation.0 + later), ..held(said().id) }
    }

    /// Registered at `n`, which is left for `m`, and deregistered there.
    fn left_and_deregistered() -> Stage {
        let mut stage = registered();
        stage.desk.unsettle();
        stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
        assert_eq!(stage.asks(), "1:register");
        stage.read(6, vec![row("m", false, 6)]);
        assert_eq!(stage.asks(), "");
        let mut reply = stage.write(Goal::Deregister(Guard::Anyone));
        assert_eq!(stage.asks(), "1:deregister");
        stage.read(7, vec![]);
        assert_eq!(stage.asks(), "");
        assert!(reply.try_recv().unwrap().is_ok());
        stage
    }

    #[test]
    fn what_was_deregistered_while_an_agent_was_away_goes_there_as_well() {
        let mut stage = left_and_deregistered();
        stage.desk.back(0, [of_life(0)]);
        stage.read(8, vec![row("n", false, 8)]);
        assert_eq!(stage.asks(), "1:forget 0:deregister");
        stage.read(9, vec![]);
        stage.now += Duration::from_secs(5);
        assert_eq!(stage.asks(), "", "once is enough");
        assert!(stage.desk.behind.is_empty() && stage.desk.strays.is_empty());
    }

    #[test]
    fn each_agent_that_was_left_is_told() {
        let mut stage = registered();
        stage.desk.met(2, "o".to_owned());
        for (at, node) in [(1, "m"), (2, "o")] {
            stage.desk.unsettle();
            stage.desk.settle(Home { at, node: node.to_owned(), foreign: None });
            assert_eq!(stage.asks(), format!("{at}:register"));
            stage.read(6, vec![row(node, false, 6)]);
            assert_eq!(stage.asks(), "");
        }
        let mut reply = stage.write(Goal::Deregister(Guard::Anyone));
        assert_eq!(stage.asks(), "2:deregister");
        // This one is left as well, and may not have heard it.
        stage.desk.unsettle();
        stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
        stage.read(7, vec![]);
        stage.desk.back(1, [of_life(0)]);
        stage.desk.back(0, [of_life(0)]);
        assert_eq!(stage.asks(), "0:deregister");
        assert!(reply.try_recv().unwrap().is_ok());
        assert_eq!([stage.asks(), stage.asks()], ["1:deregister", ""]);
        stage.desk.back(2, [of_life(0)]);
        assert_eq!([stage.asks(), stage.asks()], ["2:deregister", ""]);
        assert!(stage.desk.behind.is_empty() && stage.desk.strays.is_empty());
    }

    #[test]
    fn what_others_registered_meanwhile_is_theirs() {
        let mut stage = left_and_deregistered();
        stage.desk.back(0, [of_life(1)]);
        stage.read(8, vec![row("n", false, 8)]);
        assert_eq!(stage.asks(), "", "a later life");
        assert!(stage.desk.behind.is_empty(), "nobody is away any more");
    }

    #[test]
    fn what_is_registered_again_is_not_behind() {
        let mut stage = left_and_deregistered();
        let mut reply = stage.write(Goal::Register(Box::new(said())));
        assert_eq!(stage.asks(), "1:register");
        stage.read(8, vec![row("m", false, 8)]);
        assert_eq!(stage.asks(), "");
        assert!(reply.try_recv().unwrap().is_ok());
        stage.desk.back(0, [of_life(0)]);
        assert_eq!(stage.asks(), "0:deregister", "it is here, and not to be there");
    }
}
