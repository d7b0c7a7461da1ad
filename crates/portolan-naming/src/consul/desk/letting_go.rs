//! Agents that hold what they should not any more are told to let go of it.
//!
//! An agent that was left and is back brings all that it remembers into the catalog, and holds up meanwhile whoever asks it
//! for something. Soon afterwards it compares the catalog with its memory, and brings in once more what is missing. So it is
//! told of everything at once as soon as it lives, aside from what else is asked for an id; and what it has put into the
//! catalog is taken out once it answers, for until then that only makes both take longer; but at once where the cluster holds
//! its node to have failed, as it may not answer for long then.

use portolan_model::{Health, InstanceId};
use tokio::time::Instant;

use super::super::line::Trouble;
use super::super::row::Row;
use super::super::wanted::Call;
use super::calls::removal;
use super::orphans::is_over;
use super::{At, Desk, Home};

impl Desk {
    /// Which agents are to be told of what now, beside what [`Desk::acts`] says.
    pub(in super::super) fn letting_go(&mut self) -> Vec<(InstanceId, At)> {
        let mut told = Vec::new();
        while let Some((id, at)) = self.strays.next() {
            if self.may_let_go(&id, at) {
                self.strays.begin(&id, at);
                told.push((id, at));
            }
        }
        told
    }

    /// An agent that was told has answered.
    pub(in super::super) fn has_let_go(
        &mut self,
        id: &InstanceId,
        at: At,
        trouble: Option<&Trouble>,
        now: Instant,
    ) {
        let ids = self.strays.end(id, at, trouble.is_none_or(is_over), now);
        self.all_soon(ids);
    }

    /// Looks at what agents hold of an id that they should not.
    pub(super) fn look_after_strays(&mut self, id: &InstanceId, now: Instant) {
        if !self.strays.contains(id) {
            return;
        }
        let behind = self.behind.contains_key(id);
        if !behind && !self.wanted.contains(id) {
            // It was registered again, and others hold it now.
            self.strays.abandon(id);
        }
        let (book, agents) = (&self.book, &self.agents);
        self.strays.settle(id, |at| book.rows_of(id).any(|row| agents.get(&row.node) == Some(&at)), now);
        self.strays.again(id, now);
        if let Some(due) = self.strays.due(id) {
            self.agenda.at(id, due);
        }
        if behind && !self.strays.contains(id) {
            self.book.expect_no_more(id);
            if self.left.is_empty() {
                self.behind.remove(id);
            }
        }
    }

    /// Whether an agent may be told of an id: not before it is where it should be, if anywhere.
    fn may_let_go(&self, id: &InstanceId, at: At) -> bool {
        match self.wanted.contains(id) {
            true => self.home.as_ref().is_some_and(|home| home.at != at && self.is_at(home, id)),
            false => self.behind.contains_key(id),
        }
    }

    /// Whether an id is at home. It need not be what is shown: what an agent brings back is younger.
    fn is_at(&self, home: &Home, id: &InstanceId) -> bool {
        let heard = self.book.winner(id).is_some_and(|row| row.reachable);
        let lives = |row: &Row| row.alive == Some(Health::Passing) && (row.reachable || !heard);
        self.book.rows_of(id).any(|row| row.node == home.node && lives(row))
    }

    /// How what other agents have of an id that is kept registered is removed.
    pub(super) fn calls_for_copies(&mut self, id: &InstanceId, home: &Home, now: Instant) -> Vec<(At, Call)> {
        let mut calls = Vec::new();
        if !self.is_at(home, id) {
            return calls;
        }
        for row in self.book.rows_of(id).filter(|row| row.node != home.node) {
            let answers = self.agent_of(row);
            if row.service_id != id.as_str() {
                calls.extend(removal(row, home, answers, true));
                continue;
            }
            if let Some(at) = answers {
                self.strays.found(id, at, now);
            }
            let agent = self.agents.get(&row.node);
            match agent.and_then(|at| self.strays.forgets_from(id, *at)).filter(|_| row.reachable) {
                Some(later) if later > now => self.agenda.at(id, later),
                Some(_) | None => calls.extend(removal(row, home, None, true)),
            }
        }
        calls
    }

    /// For an id that this handle keeps registered no more, and that an agent which is back holds.
    pub(super) fn calls_for_stray(&mut self, id: &InstanceId, home: &Home, now: Instant) -> Vec<(At, Call)> {
        if !self.behind.contains_key(id) || !self.strays.contains(id) {
            return Vec::new();
        }
        self.book.expect_gone(id, now);
        let mut calls = Vec::new();
        for row in self.book.rows_of(id) {
            let agent = self.agents.get(&row.node);
            match agent.and_then(|at| self.strays.forgets_from(id, *at)) {
                Some(later) if later > now && row.reachable => self.agenda.at(id, later),
                Some(_) => calls.extend(removal(row, home, None, true)),
                None => {}
            }
        }
        calls
    }
}
