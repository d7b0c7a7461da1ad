//! What an agent that was left holds still, and would bring back.
//!
//! An agent that is away remembers what was registered with it. When it is back it puts all of that into the catalog again,
//! whatever has become of it meanwhile: what is registered elsewhere now would be there twice, and what is registered no
//! more would be a ghost. So the agent is asked what it holds, and told to let go of it.

use std::collections::VecDeque;

use portolan_model::{Incarnation, InstanceId, Owner, Registration};
use tokio::time::Instant;

use super::super::config::Flavour;
use super::super::job::Goal;
use super::super::line::Trouble;
use super::super::wanted::Call;
use super::{At, Desk, Done};

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
        let held = !self.left.is_empty() || self.strays.contains(&said.id);
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
        self.left.insert(home, self.wanted.ids().cloned().collect());
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

    /// Remembers which registrations got no answer.
    pub(super) fn note_answers(&mut self, done: &Done) {
        if self.config.flavour == Flavour::Portolan {
            return;
        }
        let id = &done.act.id;
        match &done.failed {
            Some((at, Call::Register { .. }, Trouble::Unreachable(_))) => {
                let unanswered = self.unanswered.entry(*at).or_default();
                if unanswered.len() < LIMIT {
                    unanswered.insert(id.clone());
                }
            }
            Some(_) => {}
            None => {
                for (at, call) in &done.act.calls {
                    if matches!(call, Call::Register { .. })
                        && let Some(unanswered) = self.unanswered.get_mut(at)
                    {
                        unanswered.remove(id);
                    }
                }
            }
        }
    }

    /// An agent that was the home before lives. Unless it has lost its memory it brings back what was registered with it then.
    pub(in super::super) fn alive(&mut self, at: At, now: Instant) {
        self.strays.alive(at);
        if self.is_home(at) {
            return;
        }
        for id in self.left.get(&at).into_iter().flatten().filter(|id| self.wanted.contains(id)) {
            self.strays.found(id, at, now);
        }
    }

    /// An agent that was the home before is back, and holds these. It would bring them back into the catalog within a minute.
    pub(in super::super) fn back(&mut self, at: At, held: impl IntoIterator<Item = Held>, now: Instant) {
        self.away.remove(&at);
        self.left.remove(&at);
        let held: Vec<_> = held.into_iter().collect();
        for held in &held {
            let behind = self.behind.get(&held.id).is_some_and(|behind| behind.is(held));
            if behind || (self.wanted.contains(&held.id) && !self.is_home(at)) {
                self.strays.found(&held.id, at, now);
                self.soon(held.id.clone());
            }
        }
        // What it has not come to yet it does not say that it holds; it comes to it before it is told to let go.
        let unanswered = self.unanswered.remove(&at).unwrap_or_default();
        for id in &unanswered {
            let behind = self.behind.contains_key(id) && held.iter().all(|held| held.id != *id);
            if (behind || self.wanted.contains(id)) && !self.is_home(at) {
                self.strays.found(id, at, now);
                self.soon(id.clone());
            }
        }
        let holds = held.into_iter().map(|held| held.id).chain(unanswered).collect();
        self.strays.only(at, &holds, now);
        if self.left.is_empty() {
            self.behind.retain(|id, _| self.strays.contains(id));
        }
    }

    fn is_home(&self, at: At) -> bool {
        self.home.as_ref().is_some_and(|home| home.at == at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portolan_model::{Guard, Incarnation};

    use super::super::Home;
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
        stage.desk.alive(0, stage.now);
        assert_eq!(stage.asks(), "", "it may hold a later life");
        stage.desk.back(0, [of_life(0)], stage.now);
        stage.read(8, vec![row("n", false, 8)]);
        assert_eq!(stage.asks(), "0:let-go");
        assert_eq!(stage.asks(), "1:forget");
        stage.read(9, vec![]);
        stage.now += Duration::from_secs(5);
        assert_eq!(stage.asks(), "", "once is enough");
        assert!(stage.desk.behind.is_empty() && stage.desk.strays.ids().next().is_none());
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
        stage.desk.back(1, [of_life(0)], stage.now);
        stage.desk.back(0, [of_life(0)], stage.now);
        assert_eq!([stage.asks(), stage.asks()], ["0:let-go 1:let-go", ""]);
        assert!(reply.try_recv().unwrap().is_ok());
        stage.desk.back(2, [of_life(0)], stage.now);
        assert_eq!([stage.asks(), stage.asks()], ["2:let-go", ""]);
        stage.now += Duration::from_secs(5);
        assert_eq!(stage.asks(), "");
        assert!(stage.desk.behind.is_empty() && stage.desk.strays.ids().next().is_none());
    }

    /// The home on `n` is gone, and `m` is the home until `n` is again: it was asked to register, and left.
    fn asked_and_left(stage: &mut Stage, answer: Option<&Trouble>) {
        let home = |at, node: &str| Home { at, node: node.to_owned(), foreign: None };
        stage.desk.unsettle();
        stage.read(6, vec![]);
        stage.desk.settle(home(1, "m"));
        assert_eq!(stage.asks_for(|| answer.cloned()), "1:register");
        stage.desk.unsettle();
        stage.desk.settle(home(0, "n"));
    }

    #[test]
    fn what_an_agent_has_not_come_to_yet_it_is_told_to_let_go_of() {
        let given_up = Trouble::Unreachable("given up".to_owned());
        for (answer, told) in [(Some(&given_up), "1:let-go"), (None, "")] {
            let mut stage = registered();
            asked_and_left(&mut stage, answer);
            stage.desk.alive(1, stage.now);
            stage.desk.back(1, [], stage.now);
            assert_eq!(stage.asks(), "0:register");
            stage.read(8, vec![row("n", false, 8)]);
            assert_eq!([stage.asks(), stage.asks()], [told, ""], "{answer:?}");
        }
    }

    #[test]
    fn what_was_deregistered_before_an_agent_came_to_it_is_no_ghost() {
        for (others, told) in [(None, "1:let-go"), (Some(of_life(1)), "")] {
            let mut stage = registered();
            asked_and_left(&mut stage, Some(&Trouble::Unreachable("given up".to_owned())));
            assert_eq!(stage.asks(), "0:register");
            stage.read(8, vec![row("n", false, 8)]);
            assert_eq!(stage.asks(), "");
            let mut reply = stage.write(Goal::Deregister(Guard::Anyone));
            assert_eq!(stage.asks(), "0:deregister");
            stage.read(9, vec![]);
            assert_eq!(stage.asks(), "");
            assert!(reply.try_recv().unwrap().is_ok());
            stage.desk.alive(1, stage.now);
            stage.desk.back(1, others, stage.now);
            assert_eq!([stage.asks(), stage.asks()], [told, ""]);
            stage.now += Duration::from_secs(5);
            assert_eq!(stage.asks(), "", "once is enough");
        }
    }

    #[test]
    fn what_others_registered_meanwhile_is_theirs() {
        let mut stage = left_and_deregistered();
        stage.desk.back(0, [of_life(1)], stage.now);
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
        stage.desk.back(0, [of_life(0)], stage.now);
        assert_eq!(stage.asks(), "0:let-go", "it is here, and not to be there");
    }
}
