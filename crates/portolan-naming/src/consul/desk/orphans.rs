//! Registrations that were sent and that nobody holds: they go again; pure.

use std::time::Duration;

use portolan_model::{Incarnation, InstanceId, Owner, Registration};
use tokio::time::Instant;

use super::super::config::Flavour;
use super::super::job::Begun;
use super::super::line::Trouble;
use super::super::row::Row;
use super::super::wanted::Call;
use super::{At, Desk, Done, Home};

/// How long one is looked for that the catalog does not show. What was sent has long arrived by then, or never will.
const LOOKED_FOR: Duration = Duration::from_secs(600);

/// What an agent may hold, although who asked for it was told that it failed, or did not wait for the answer.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) owner: Owner,
    pub(super) incarnation: Incarnation,
    until: Instant,
}

impl Orphan {
    fn is(&self, row: &Row) -> bool {
        let said = &row.registration;
        row.ours && said.owner == self.owner && said.incarnation <= self.incarnation
    }
}

impl Desk {
    /// This handle keeps it registered no longer, though an agent may have it.
    pub(super) fn orphan(&mut self, said: &Registration, now: Instant) {
        self.wanted.remove(&said.id);
        self.leave_behind(said);
        let until = now + LOOKED_FOR;
        let orphan = Orphan { owner: said.owner.clone(), incarnation: said.incarnation, until };
        self.orphans.insert(said.id.clone(), orphan);
    }

    /// A registration that nobody waits for any more, or that is told to have failed. What it has not brought about stays.
    pub(super) fn disown(&mut self, said: &Registration, begun: &Begun, now: Instant) {
        // An agent of Consul's lets go of what nobody renews, so that it is no loss to anybody.
        if begun.sent && (begun.fresh || self.config.flavour == Flavour::Consul) {
            self.orphan(said, now);
        } else {
            self.wanted.remove(&said.id);
        }
    }

    /// For an id that was disowned.
    pub(super) fn calls_for_orphan(&mut self, id: &InstanceId, home: &Home, now: Instant) -> Vec<(At, Call)> {
        let Some(orphan) = self.orphans.get(id) else { return Vec::new() };
        if orphan.until <= now {
            self.orphans.remove(id);
            return Vec::new();
        }
        self.agenda.at(id, orphan.until);
        let call = self.removal_of(id, orphan, home);
        if call.is_some() && self.book.winner(id).is_some_and(|row| orphan.is(row)) {
            self.book.expect_gone(id, now);
        }
        call.into_iter().collect()
    }

    /// How to remove an orphan, as far as it is where it can be removed.
    fn removal_of(&self, id: &InstanceId, orphan: &Orphan, home: &Home) -> Option<(At, Call)> {
        let shown = self.book.rows_of(id).find(|row| row.node == home.node);
        let asked = match shown {
            Some(row) => orphan.is(row),
            // An agent may hold what is not in the catalog yet. It is nobody else's: theirs would be shown.
            None => self.config.flavour == Flavour::Consul,
        };
        let deregister = (home.at, Call::Deregister { service_id: id.to_string() });
        (asked && home.foreign.is_none()).then_some(deregister)
    }

    /// The last calls for all orphans.
    pub(super) fn removals(&self, home: &Home) -> impl Iterator<Item = (InstanceId, (At, Call))> {
        let removal =
            |(id, orphan): (&InstanceId, &Orphan)| Some((id.clone(), self.removal_of(id, orphan, home)?));
        self.orphans.iter().filter_map(removal)
    }

    /// An act for an orphan has ended: it is forgotten once it is gone. Says whether that is all that was to be done.
    pub(super) fn orphan_asked(&mut self, id: &InstanceId, done: &Done) -> bool {
        let asked = |(_, call): &(At, Call)| matches!(call, Call::Deregister { .. });
        if !self.orphans.contains_key(id) || !done.act.calls.iter().all(asked) {
            return false;
        }
        let gone = match &done.failed {
            None => true,
            Some((_, _, trouble)) => is_over(trouble),
        };
        if gone {
            self.orphans.remove(id);
        }
        true
    }
}

/// Whether it is of no use to ask again: an agent does not know it (Consul up to 1.10 has 500 for that), or will not do it.
pub(super) fn is_over(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Refused { status: 400 | 401 | 403 | 404 | 405, .. } => true,
        Trouble::Refused { status: 500, text } => text.contains("nknown service"),
        Trouble::Refused { .. } | Trouble::Unreachable(_) | Trouble::Nonsense(_) => false,
    }
}
