//! What the driver knows and has to do: orders of callers, what is held, the lease, doubts. No I/O: it says which calls
//! to make, and is told the answers.
//!
//! What was registered through this handle is *held*: it hangs on the handle's one lease, and is written again under a new
//! one should that be lost. It is held no more once somebody deregisters it, deletes its key while the lease lives, or
//! registers its id elsewhere. Conversely nothing stays on the lease that is not held: what a caller was not told of, because
//! he gave up before the answer, and what a stalled server writes long after it was written elsewhere and removed again
//! (the suspects).
//!
//! Here is what a driver tells and asks. What becomes of callers' wishes is in `orders`, what nobody asks for in `upkeep`.

mod orders;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::take;
use std::time::Duration;

use portolan_model::{InstanceId, RegistryError, Revision};
use tokio::sync::oneshot;

use super::book::{Book, Outcome, revision_of};
use super::decide::{Command, erase};
use super::doubt::Doubts;
use super::layout::{Kept, Place};
use super::{Event, Failed, KeyValue, LeaseId, NO_LEASE, Traits, Transaction};
use crate::mirror::Mirror;

/// How many orders are in hand; more wait with their callers.
pub(crate) const IN_HAND: usize = 1024;
/// How long after a lost answer a write may still come true: servers give up their own requests after some seconds and an
/// election.
const LATE: Duration = Duration::from_secs(30);
/// How long until a lease that was refused is asked for again.
const GRANT_AGAIN: Duration = Duration::from_secs(1);
/// How long until a restoration is tried again that was refused, or that compared with what nobody has heard of yet.
const RESTORE_AGAIN: Duration = Duration::from_secs(1);
/// How many leases of our own are remembered.
const OWN_LEASES: usize = 64;

/// A caller's command.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Revision, RegistryError>>,
    /// A transaction for it was sent whose answer was lost.
    pub(crate) tried: bool,
}

/// A call to make.
#[derive(Debug)]
pub(crate) enum Call {
    /// A transaction, by number.
    Write(u64, Transaction),
    /// Get a lease.
    Grant,
    /// Is this lease alive?
    Ask(LeaseId),
}

#[derive(Debug)]
enum Job {
    Order(Order),
    Restore,
    Erase(Vec<InstanceId>),
}

/// The one lease that everything held hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    None,
    Granting,
    /// From before the connection; nobody has said yet that it is alive.
    Unconfirmed(LeaseId),
    Alive(LeaseId),
}

/// See the module's head. `now` is the time since any fixed moment.
#[derive(Debug)]
pub(crate) struct State {
    traits: Traits,
    mirror: Mirror,
    book: Book,
    doubts: Doubts,
    held: BTreeMap<InstanceId, (Place, Kept)>,
    lease: Lease,
    /// Leases that are or were ours, oldest first.
    own: VecDeque<LeaseId>,
    wants_lease: bool,
    /// From when on a lease may be asked for.
    grant_from: Duration,
    /// Everything is to go: nothing is begun or held any more.
    leaving: bool,
    /// Something may come true on the lease after all.
    loose: bool,
    /// Something held may be missing in the store; look from then on.
    restore: Option<Duration>,
    /// A restoration did not find what it compared with: what comes next may say why.
    overtaken: bool,
    /// The revision that was known when a restoration was planned last.
    planned: i64,
    jobs: VecDeque<Job>,
    /// Orders to look at again when something has changed.
    parked: Vec<Order>,
    /// Each with the lease there was when it was sent.
    flying: BTreeMap<u64, (Job, Option<LeaseId>)>,
    next: u64,
    /// Done, to be answered once they are seen.
    unseen: Vec<(i64, Order)>,
    /// Ids that may be on our lease without being held, and until when.
    suspects: BTreeMap<InstanceId, Duration>,
}

impl State {
    pub(crate) fn new(traits: Traits, mirror: Mirror, book: Book, doubts: Doubts) -> Self {
        Self {
            traits,
            mirror,
            book,
            doubts,
            held: BTreeMap::new(),
            lease: Lease::None,
            own: VecDeque::new(),
            wants_lease: false,
            grant_from: Duration::ZERO,
            leaving: false,
            loose: false,
            restore: None,
            overtaken: false,
            planned: 0,
            jobs: VecDeque::new(),
            parked: Vec::new(),
            flying: BTreeMap::new(),
            next: 0,
            unseen: Vec::new(),
            suspects: BTreeMap::new(),
        }
    }

    /// Whether another order may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.jobs.len() + self.parked.len() + self.flying.len() + self.unseen.len() < IN_HAND
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.jobs.push_back(Job::Order(order));
    }

    /// How many are shown although their lease is gone.
    pub(crate) fn doubted(&self) -> usize {
        self.doubts.kept()
    }

    /// How many are held.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes everything as read at `revision`.
    pub(crate) fn reset(&mut self, revision: i64, found: Vec<KeyValue>, now: Duration) {
        // A revision before one that was seen: another history. Nothing that it lacks was deleted in it.
        let another_history = revision < self.book.revision();
        let outcome = self.book.reset(revision, found);
        self.doubts.renew(now);
        if self.mirror.is_read() {
            self.fold(outcome, another_history, now);
        } else {
            self.mirror.reset(revision_of(revision), self.book.all());
        }
        for (revision, order) in take(&mut self.unseen) {
            let _given_up = order.reply.send(Ok(revision_of(revision)));
        }
        self.restore = Some(now);
    }

    /// Takes everything as read at `revision` by whoever has read before: what is different has happened meanwhile.
    #[cfg(feature = "consul")]
    pub(crate) fn reread(&mut self, revision: i64, found: Vec<KeyValue>, now: Duration) {
        let events = self.book.differences(found);
        self.take(revision, events, now);
    }

    /// Takes events as they were watched: all of one revision.
    pub(crate) fn take(&mut self, revision: i64, events: Vec<Event>, now: Duration) {
        let outcome = self.book.take(revision, events);
        self.fold(outcome, false, now);
        if take(&mut self.overtaken) {
            self.restore_from(now);
        }
        let revision = self.book.revision();
        let (seen, unseen) = take(&mut self.unseen).into_iter().partition(|(at, _)| *at <= revision);
        self.unseen = unseen;
        let seen: Vec<(i64, Order)> = seen;
        for (revision, order) in seen {
            let _given_up = order.reply.send(Ok(revision_of(revision)));
        }
        self.unpark();
    }

    /// The connection is gone, and with it every answer that was due.
    pub(crate) fn disconnected(&mut self) {
        self.doubts.all_unanswered();
        self.lease = match self.lease {
            Lease::None | Lease::Granting => Lease::None,
            Lease::Unconfirmed(id) | Lease::Alive(id) => Lease::Unconfirmed(id),
        };
        for (job, _) in take(&mut self.flying).into_values() {
            self.again(job, true);
        }
        // They are durable, whenever they will be seen.
        for (revision, order) in take(&mut self.unseen) {
            let _given_up = order.reply.send(Ok(revision_of(revision)));
        }
    }

    /// The lease to keep alive.
    pub(crate) fn lease(&self) -> Option<LeaseId> {
        match self.lease {
            Lease::None | Lease::Granting => None,
            Lease::Unconfirmed(id) | Lease::Alive(id) => Some(id),
        }
    }

    pub(crate) fn granted(&mut self, id: LeaseId, now: Duration) {
        self.lease = Lease::Alive(id);
        self.own.push_back(id);
        if self.own.len() > OWN_LEASES {
            self.own.pop_front();
        }
        self.restore = Some(now);
        self.unpark();
    }

    pub(crate) fn not_granted(&mut self) {
        self.lease = Lease::None;
    }

    /// The store refuses a lease. Whoever waits for one hears why, and it is asked for again after a while.
    pub(crate) fn lease_refused(&mut self, why: &str, now: Duration) {
        tracing::warn!(store = self.traits.name, why, "refuses a lease to register under");
        self.lease = Lease::None;
        self.wants_lease = false;
        self.grant_from = now + GRANT_AGAIN;
        for order in take(&mut self.parked) {
            match &order.command {
                Command::Register(said) => {
                    if order.tried {
                        self.suspects.insert(said.id.clone(), now + LATE);
                    }
                    self.refuse(order, why);
                }
                Command::Drain(..) | Command::Deregister(..) => self.parked.push(order),
            }
        }
    }

    /// Whether the lease `id` is alive, as it was to be kept alive.
    pub(crate) fn kept_alive(&mut self, id: LeaseId, alive: bool, now: Duration) {
        if self.lease() != Some(id) {
            return;
        }
        if !alive {
            self.lease_lost(now);
        } else if self.lease != Lease::Alive(id) {
            self.lease = Lease::Alive(id);
            self.unpark();
        }
    }

    /// Whether a lease that others' instances, or ours, hung on is alive.
    pub(crate) fn asked(&mut self, lease: LeaseId, alive: bool, now: Duration) {
        for id in self.doubts.answered(lease, alive, now) {
            if self.held.remove(&id).is_some() {
                tracing::info!(instance = %id, "what was held here has been deleted by somebody");
            }
            self.believe(&id);
        }
        if !alive && self.lease() == Some(lease) {
            self.lease_lost(now);
        }
    }

    /// The question about `lease` was not answered in time.
    pub(crate) fn not_told(&mut self, lease: LeaseId) {
        self.doubts.unanswered(lease);
    }

    /// The answer to a transaction: whether it held, and its revision. An error means that the connection is of no use.
    pub(crate) fn written(
        &mut self,
        number: u64,
        answer: Result<(bool, i64), Failed>,
        now: Duration,
    ) -> Result<(), Failed> {
        let Some((job, lease)) = self.flying.remove(&number) else { return Ok(()) };
        match (job, answer) {
            (Job::Order(order), Ok((true, revision))) => self.done(order, revision, now),
            // Somebody was quicker: decide again when more is known.
            (job @ Job::Order(_), Ok((false, _))) => self.again(job, false),
            (Job::Restore, Ok((true, _))) | (Job::Erase(_), Ok((true, _))) => {}
            (Job::Restore, Ok((false, _))) if self.book.revision() > self.planned => self.restore_from(now),
            (Job::Restore, Ok((false, _))) => {
                self.overtaken = true;
                self.restore_from(now + RESTORE_AGAIN);
            }
            (Job::Erase(ids), Ok((false, _))) => self.halve(ids),
            (job, Err(Failed::UnknownLease)) => {
                match &job {
                    // It may be about the one before.
                    Job::Order(Order { command: Command::Register(_), .. }) | Job::Restore
                        if lease == self.lease() =>
                    {
                        self.lease_lost(now);
                    }
                    Job::Order(_) | Job::Restore | Job::Erase(_) => {}
                }
                self.again(job, false);
            }
            (Job::Order(order), Err(Failed::Refused(why))) => self.refuse(order, &why),
            (Job::Restore, Err(Failed::Refused(why))) => {
                tracing::warn!(store = self.traits.name, why, "refuses to take back what was registered");
                self.restore_from(now + RESTORE_AGAIN);
            }
            (Job::Erase(_), Err(Failed::Refused(_))) => {}
            // Perhaps it came true: that will be seen before it is decided again.
            (job, Err(Failed::Late)) => self.again(job, true),
            (job, Err(broken @ Failed::Broken(_))) => {
                self.again(job, true);
                return Err(broken);
            }
        }
        Ok(())
    }

    /// Time passes. Call it a few times a second.
    pub(crate) fn tick(&mut self, now: Duration) {
        for id in self.doubts.expired(now) {
            if self.held.contains_key(&id) {
                // It is up to us to bring it back.
                self.restore.get_or_insert(now);
            } else {
                tracing::info!(instance = %id, "its lease ended and it did not return");
                self.believe(&id);
            }
        }
        self.unpark();
        self.suspect(now);
    }

    /// Everything held is to go. What is under way is seen to its end and not tried again; should it come true late, it
    /// goes with the lease, which is the driver's to end.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
        self.wants_lease = false;
        self.jobs.clear();
        self.parked.clear();
        self.restore = None;
        let held: Vec<_> = take(&mut self.held).into_keys().collect();
        self.jobs.extend(held.chunks(self.traits.chunk).map(|chunk| Job::Erase(chunk.to_vec())));
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.flying.is_empty()
    }

    /// Whether nothing is on the lease, and nothing can come to be there any more. While that is so, the lease is better left
    /// to end by itself: others ask whether it is alive to learn that what is gone was removed on purpose.
    pub(crate) fn leaves_nothing(&self) -> bool {
        !self.loose
            && self.is_idle()
            && self.parked.is_empty()
            && self.held.is_empty()
            && self.suspects.is_empty()
    }

    /// The calls to make now.
    pub(crate) fn calls(&mut self, now: Duration) -> Vec<Call> {
        let mut calls: Vec<Call> = self.doubts.ask().into_iter().map(Call::Ask).collect();
        if self.restore.is_some_and(|from| from <= now) && !self.is_restoring() {
            self.plan_restoration(&mut calls);
        }
        while self.flying.len() < self.traits.at_once
            && let Some(job) = self.jobs.pop_front()
        {
            match job {
                Job::Order(order) => self.try_order(order, now, &mut calls),
                // It will be planned anew.
                Job::Restore => self.restore = Some(now),
                Job::Erase(ids) => {
                    let txn = erase(&self.book, &ids);
                    if !txn.writes.is_empty() {
                        self.fly(Job::Erase(ids), txn, &mut calls);
                    }
                }
            }
        }
        let wants_lease = self.wants_lease || !self.held.is_empty();
        if self.lease == Lease::None && wants_lease && self.grant_from <= now {
            self.lease = Lease::Granting;
            calls.push(Call::Grant);
        }
        calls
    }

    fn fold(&mut self, outcome: Outcome, another_history: bool, now: Duration) {
        outcome.changes.into_iter().for_each(|change| self.mirror.apply(change));
        for id in outcome.seen {
            self.doubts.settled(&id);
            self.review(&id, now);
        }
        let leaving = if outcome.gone.is_empty() { BTreeSet::new() } else { self.leaving() };
        for gone in outcome.gone {
            if leaving.contains(&gone.id) || gone.lease == NO_LEASE && !another_history {
                self.believe(&gone.id);
            } else {
                self.doubts.raise(gone);
            }
        }
    }

    /// What is held follows what is in the store: somebody may have drained it, or taken it over.
    fn review(&mut self, id: &InstanceId, now: Duration) {
        let Some(present) = self.book.present(id) else { return };
        let Some(held) = self.held.get_mut(id) else {
            if self.own.contains(&present.stored.lease) {
                self.suspects.insert(id.clone(), now + LATE);
            }
            return;
        };
        if !self.own.contains(&present.stored.lease) {
            tracing::info!(instance = %id, "what was held here is registered by somebody else now");
            self.held.remove(id);
            return;
        }
        if Lease::Alive(present.stored.lease) != self.lease {
            self.restore.get_or_insert(now);
        }
        *held = (present.place.clone(), present.kept.clone());
    }

    fn believe(&mut self, id: &InstanceId) {
        self.doubts.settled(id);
        if let Some(change) = self.book.believe(id) {
            self.mirror.apply(change);
        }
    }

    fn fly(&mut self, job: Job, txn: Transaction, calls: &mut Vec<Call>) {
        let number = self.next;
        self.next += 1;
        self.flying.insert(number, (job, self.lease()));
        calls.push(Call::Write(number, txn));
    }

    fn again(&mut self, job: Job, tried: bool) {
        match job {
            // Its caller hears that the registry is shut down.
            Job::Order(_) | Job::Restore if self.leaving => self.loose = true,
            Job::Order(order) => self.parked.push(Order { tried: order.tried || tried, ..order }),
            Job::Restore => self.restore = Some(Duration::ZERO),
            job @ Job::Erase(_) => self.jobs.push_back(job),
        }
    }

    fn unpark(&mut self) {
        self.jobs.extend(take(&mut self.parked).into_iter().map(Job::Order));
    }
}

#[cfg(test)]
mod tests;
