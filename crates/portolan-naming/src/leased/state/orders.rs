//! What becomes of callers' wishes.

use std::collections::BTreeSet;
use std::time::Duration;

use portolan_model::{InstanceId, Phase, Registration, RegistryError, Revision};

use super::super::NO_LEASE;
use super::super::book::revision_of;
use super::super::decide::{Command, Decision, decide};
use super::super::layout::Kept;
use super::{Call, Job, LATE, Lease, Order, State};

impl State {
    pub(super) fn try_order(&mut self, order: Order, now: Duration, calls: &mut Vec<Call>) {
        if order.reply.is_closed() {
            if let (true, Command::Register(said)) = (order.tried, order.command) {
                self.suspects.insert(said.id, now + LATE);
            }
            return;
        }
        let lease = match (&order.command, self.lease) {
            (Command::Register(_), Lease::None | Lease::Granting | Lease::Unconfirmed(_)) => {
                self.wants_lease = true;
                return self.parked.push(order);
            }
            (Command::Drain(..) | Command::Deregister(..), _) => NO_LEASE,
            (Command::Register(_), Lease::Alive(lease)) => lease,
        };
        // What is there now is not to stay: it is looked at again once that is done.
        if self.is_erasing(order.command.id()) {
            return self.parked.push(order);
        }
        match decide(&self.book, &order.command, lease, order.tried) {
            // It was registered here, and is to be again in a moment.
            Decision::Refused(RegistryError::UnknownInstance(id)) if self.held.contains_key(&id) => {
                match order.command {
                    Command::Deregister(..) => {
                        self.held.remove(&id);
                        self.suspects.insert(id, now + LATE);
                        self.was_done(order, revision_of(self.book.revision()));
                    }
                    Command::Register(_) | Command::Drain(..) => self.parked.push(order),
                }
            }
            Decision::Done(revision) => self.was_done(order, revision),
            Decision::Refused(error) => {
                let _given_up = order.reply.send(Err(error));
            }
            Decision::Write(txn) => self.fly(Job::Order(order), txn, calls),
            Decision::Later => self.parked.push(order),
            Decision::Forget => {
                let id = order.command.id().clone();
                if self.held.remove(&id).is_some() {
                    // It may be on its way back just now.
                    self.suspects.insert(id.clone(), now + LATE);
                }
                self.believe(&id);
                self.was_done(order, revision_of(self.book.revision()));
            }
        }
    }

    fn was_done(&mut self, order: Order, revision: Revision) {
        if let Command::Register(said) = &order.command {
            self.hold(said);
        }
        let _given_up = order.reply.send(Ok(revision));
    }

    pub(super) fn done(&mut self, order: Order, revision: i64, now: Duration) {
        match &order.command {
            Command::Register(said) if order.reply.is_closed() && !self.held.contains_key(&said.id) => {
                self.suspects.insert(said.id.clone(), now + LATE);
            }
            Command::Register(said) => {
                self.hold(said);
                if self.book.revision() >= revision {
                    self.review(&said.id, now);
                }
            }
            Command::Deregister(id, _) => {
                self.held.remove(id);
                self.suspects.remove(id);
            }
            Command::Drain(..) => {}
        }
        if self.book.revision() >= revision {
            let _given_up = order.reply.send(Ok(revision_of(revision)));
        } else {
            self.unseen.push((revision, order));
        }
    }

    pub(super) fn refuse(&self, order: Order, why: &str) {
        let refused = RegistryError::Unavailable(format!("{} refuses: {why}", self.traits.name).into());
        let _given_up = order.reply.send(Err(refused));
    }

    fn hold(&mut self, said: &Registration) {
        if self.leaving {
            self.loose = true;
            return;
        }
        self.suspects.remove(&said.id);
        let kept = Kept { registration: said.clone(), phase: Phase::Adult };
        if let Ok(place) = self.book.layout().place(said) {
            self.held.insert(said.id.clone(), (place, kept));
        }
    }

    /// Whether what is in the store under this id is being deleted as nobody's wish.
    fn is_erasing(&self, id: &InstanceId) -> bool {
        let jobs = self.flying.values().map(|(job, _)| job).chain(&self.jobs);
        jobs.into_iter().any(|job| matches!(job, Job::Erase(erased) if erased.contains(id)))
    }

    /// Those that we deregister just now.
    pub(super) fn leaving(&self) -> BTreeSet<InstanceId> {
        let flying = self.flying.values().filter_map(|(job, _)| match job {
            Job::Order(order) => Some(order),
            Job::Restore | Job::Erase(_) => None,
        });
        let orders = flying.chain(self.unseen.iter().map(|(_, order)| order));
        let ids = orders.filter_map(|order| match &order.command {
            Command::Deregister(id, _) => Some(id.clone()),
            Command::Register(_) | Command::Drain(..) => None,
        });
        ids.collect()
    }

    /// Ids that something is about to be done with.
    pub(super) fn ordered(&self) -> BTreeSet<InstanceId> {
        let mut ids: BTreeSet<_> = self.parked.iter().map(|order| order.command.id().clone()).collect();
        for job in self.flying.values().map(|(job, _)| job).chain(&self.jobs) {
            match job {
                Job::Order(order) => {
                    ids.insert(order.command.id().clone());
                }
                Job::Erase(erased) => ids.extend(erased.iter().cloned()),
                Job::Restore => {}
            }
        }
        ids
    }
}
