//! What to ask for an id, of which agent.

use std::time::Duration;

use portolan_model::{InstanceId, Phase, RegistryError};
use tokio::time::Instant;

use super::super::config::Flavour;
use super::super::form::Marks;
use super::super::job::Goal;
use super::super::line::Trouble;
use super::super::row::Row;
use super::super::wanted::{ASK_AGAIN, Call, Need};
use super::{Act, Asked, At, Desk, Home};

impl Desk {
    /// For an id that this handle keeps registered.
    pub(super) fn calls_for_wanted(&mut self, id: &InstanceId, home: &Home, now: Instant) -> Vec<(At, Call)> {
        let (rows, shown): (Vec<_>, _) = (self.book.rows_of(id).collect(), self.book.winner(id));
        let Some(wanted) = self.wanted.get_mut(id) else { return Vec::new() };
        if home.foreign.is_some() {
            return Vec::new();
        }
        let met = shown.is_some_and(|row| wanted.is_met_by(row));
        wanted.seen |= met;
        // Somebody else drained it: that holds until it is registered again.
        let settled = wanted.seen && !self.jobs.contains_key(id);
        wanted.draining |=
            settled && shown.is_some_and(|row| row.node == home.node && row.phase == Phase::Draining);
        match wanted.need(&self.config, &home.node, &rows, shown, now) {
            Need::Calls(calls) => calls.into_iter().map(|call| (home.at, call)).collect(),
            // What is forgotten here must be asked of the agent, too.
            Need::LetGo if self.holding => Vec::new(),
            Need::LetGo => {
                let mine = rows.iter().filter(|row| {
                    row.node == home.node && row.ours && row.registration.owner == wanted.registration.owner
                });
                let mine = mine.filter(|row| row.registration.incarnation <= wanted.registration.incarnation);
                let (left, said) = (mine.count() > 0, wanted.registration.clone());
                tracing::info!(%id, "registered by somebody else now: let go");
                self.wanted.remove(id);
                self.leave_behind(&said);
                if left {
                    self.orphan(&said, now);
                }
                self.calls_for_unwanted(id, home, now)
            }
            Need::NothingUntil(due) => {
                if let Some(due) = due {
                    self.agenda.at(id, due);
                }
                self.calls_for_copies(id, home, now)
            }
        }
    }

    /// What to ask for an id that is not ours to keep: only what a write wants.
    pub(super) fn calls_for_unwanted(
        &mut self,
        id: &InstanceId,
        home: &Home,
        now: Instant,
    ) -> Vec<(At, Call)> {
        let Some(job) = self.front(id).filter(|job| job.begun.is_some()) else {
            let stray = self.calls_for_stray(id, home, now);
            return if stray.is_empty() { self.calls_for_orphan(id, home, now) } else { stray };
        };
        let again = self.asked.contains_key(id);
        match &job.goal {
            Goal::Register(_) => Vec::new(),
            Goal::Deregister(_) if self.config.flavour == Flavour::Portolan => {
                vec![(home.at, Call::Deregister { service_id: id.to_string() })]
            }
            Goal::Deregister(_) => {
                let rows = self.book.rows_of(id);
                rows.flat_map(|row| removal(row, home, self.agent_of(row), again)).collect()
            }
            Goal::Drain(_) if self.config.flavour == Flavour::Portolan => {
                vec![(home.at, Call::Drain { id: id.to_string() })]
            }
            Goal::Drain(_) => {
                let Some(row) = self.book.winner(id) else { return Vec::new() };
                let marks = Marks { draining: true, ..row.marks };
                let Some(at) = self.agents.get(&row.node).copied() else {
                    let why = format!(
                        "it is registered with the agent of {:?}, which is not among the servers given",
                        row.node
                    );
                    self.give_up(id, RegistryError::Unavailable(why.into()), now);
                    return Vec::new();
                };
                vec![(at, Call::Mark { service_id: row.service_id.clone(), marks })]
            }
        }
    }

    /// The agent that has a row, if it is known and answers, as far as known.
    pub(super) fn agent_of(&self, row: &Row) -> Option<At> {
        self.agents.get(&row.node).copied().filter(|at| row.reachable && !self.away.contains(at))
    }

    /// Asks the same again only after a while.
    pub(super) fn paced(&mut self, id: &InstanceId, calls: Vec<(At, Call)>, now: Instant) -> Option<Act> {
        if calls.is_empty() {
            self.asked.remove(id);
            return None;
        }
        let times = match self.asked.get(id) {
            Some(asked) if asked.calls == calls => {
                // Whatever it is told, an agent tries again all that it has not brought to the catalog yet: in a crowd
                // it need not hear it from everybody.
                let crowd = Duration::from_millis(20) * u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
                let again = asked.when + ASK_AGAIN * asked.times.min(8) + crowd;
                if again > now {
                    self.agenda.at(id, again);
                    return None;
                }
                asked.times + 1
            }
            Some(_) | None => 1,
        };
        self.sending(id, &calls);
        self.asked.insert(id.clone(), Asked { calls: calls.clone(), when: now, times });
        self.agenda.at(id, now + ASK_AGAIN);
        Some(Act { id: id.clone(), calls })
    }
}

/// How to remove a row: by its agent, where that is known; and out of the catalog, if that was not enough or cannot be
/// had. An agent that lives and was not told puts it back into the catalog within a minute. One that hangs must not hold
/// up the catalog, which comes first therefore.
pub(super) fn removal(row: &Row, home: &Home, agent: Option<At>, thoroughly: bool) -> Vec<(At, Call)> {
    let deregister = agent.map(|at| (at, Call::Deregister { service_id: row.service_id.clone() }));
    let forget = Call::Forget {
        node: row.node.clone(),
        service: row.service().clone(),
        service_id: row.service_id.clone(),
        created: row.created,
    };
    let forget = (thoroughly || deregister.is_none()).then_some((home.at, forget));
    forget.into_iter().chain(deregister).collect()
}

/// Whether an agent says that it does not know the check or the instance. Consul up to 1.10 has 500 for that.
pub(super) fn is_unknown(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Refused { status: 404, .. } => true,
        Trouble::Refused { status: 500, text } => {
            text.contains("does not have associated TTL") || text.contains("nknown check")
        }
        Trouble::Refused { .. } | Trouble::Unreachable(_) | Trouble::Nonsense(_) => false,
    }
}
