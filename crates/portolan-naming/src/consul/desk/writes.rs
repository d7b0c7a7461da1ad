//! How a write begins, and how it ends: reached, refused, or too late.

use std::collections::VecDeque;

use portolan_model::{InstanceId, Phase, RegistryError, Revision, ServiceName};
use tokio::time::Instant;

use super::super::job::{Begun, Goal, Job, Proof};
use super::super::line::Trouble;
use super::super::wanted::{Call, Wanted};
use super::{At, CROWD_LIMIT, Desk, Done, Home, PROGRESS};

impl Desk {
    /// Begins, ends and replaces writes of an id until one is left that must wait.
    pub(super) fn write_on(&mut self, id: &InstanceId, now: Instant) {
        loop {
            let Some(job) = self.jobs.get_mut(id).and_then(VecDeque::front_mut) else { return };
            if job.begun.is_none() {
                let given_up =
                    job.reply.is_closed().then(|| RegistryError::Unavailable("nobody waits".into()));
                let refused = given_up.map_or_else(|| job.allowed(self.book.shown(id)), Err);
                if let Err(error) = refused {
                    self.finish(id, Err(error), now);
                    continue;
                }
                self.begin(id, now);
            }
            if self.is_reached(id) && self.is_proven(id) {
                let shown = self.book.shown(id).map(|instance| instance.modified);
                let gone = self.front(id).and_then(|job| job.begun.as_ref()?.gone);
                self.progress = Some(now);
                self.finish(id, Ok(shown.or(gone).unwrap_or(self.book.revision())), now);
            } else if self.front(id).is_some_and(|job| self.is_too_late(job, now)) {
                let home = self.home.as_ref();
                let why = match home {
                    None => "no agent answers".to_owned(),
                    Some(Home { foreign: Some(why), .. }) => why.clone(),
                    Some(_) => "the catalog did not show it in time".to_owned(),
                };
                self.give_up(id, RegistryError::Unavailable(why.into()), now);
            } else {
                return;
            }
        }
    }

    fn begin(&mut self, id: &InstanceId, now: Instant) {
        self.asked.remove(id);
        let orphaned = self.orphans.remove(id).is_some();
        let fresh = orphaned || (self.book.is_filled() && self.book.winner(id).is_none());
        let before = self.wanted.get(id).cloned();
        let held = before.as_ref().map(|wanted| wanted.registration.clone());
        let Some(job) = self.jobs.get_mut(id).and_then(VecDeque::front_mut) else { return };
        match &job.goal {
            Goal::Register(said) => {
                let (renewed, lost) = before.as_ref().map_or((None, false), |w| (w.renewed, w.lost));
                let registration = said.as_ref().clone();
                let fresh = Wanted { registration, draining: false, renewed, lost, seen: false };
                self.wanted.insert(id.clone(), fresh);
                self.behind.remove(id);
            }
            Goal::Drain(_) => {
                if let Some(wanted) = self.wanted.get_mut(id) {
                    wanted.draining = true;
                }
            }
            Goal::Deregister(_) => {
                self.wanted.remove(id);
                self.book.expect_gone(id, now);
            }
        }
        let left = held.filter(|_| matches!(job.goal, Goal::Deregister(_)));
        job.begun = Some(Begun { before, gone: None, proof: Proof::Needed, fresh, sent: orphaned });
        left.inspect(|said| self.leave_behind(said));
        if !self.is_reached(id) {
            self.prove(id, Proof::Given);
        }
    }

    /// These are asked for an id now.
    pub(super) fn sending(&mut self, id: &InstanceId, calls: &[(At, Call)]) {
        let job = self.jobs.get_mut(id).and_then(VecDeque::front_mut);
        if let Some(begun) = job.and_then(|job| job.begun.as_mut()) {
            begun.sent |= calls.iter().any(|(_, call)| matches!(call, Call::Register { .. }));
        }
    }

    /// Whether that a write is reached says something: see the module's head.
    fn is_proven(&self, id: &InstanceId) -> bool {
        let Some(job) = self.front(id) else { return false };
        match job.begun.as_ref().map(|begun| begun.proof) {
            Some(Proof::Given) => true,
            Some(Proof::At(index)) => {
                let service = self.service_of(id);
                service.and_then(|service| self.read_at(service)).is_some_and(|read| read >= index)
            }
            Some(Proof::Needed) | None => false,
        }
    }

    /// The service to ask about, if the write of `id` is reached for all that is known, which is to be proven.
    pub(super) fn must_prove(&self, id: &InstanceId) -> Option<ServiceName> {
        let begun = self.front(id)?.begun.as_ref()?;
        let service = self.service_of(id).filter(|_| begun.proof == Proof::Needed && self.is_reached(id))?;
        Some(service.clone())
    }

    /// The catalog has answered how far it is with a service.
    pub(super) fn proven(&mut self, id: &InstanceId, service: &ServiceName, index: Option<u64>) {
        if self.service_of(id) == Some(service) {
            self.prove(id, Proof::At(index.unwrap_or_default()));
        }
    }

    /// An instance was read at `index`: what is known of it now is no older.
    pub(super) fn seen_at(&mut self, id: &InstanceId, index: u64) {
        let begun = self.front(id).and_then(|job| job.begun.as_ref());
        if begun.is_some_and(|begun| matches!(begun.proof, Proof::At(needed) if needed <= index)) {
            self.prove(id, Proof::Given);
        }
    }

    fn prove(&mut self, id: &InstanceId, proof: Proof) {
        let job = self.jobs.get_mut(id).and_then(VecDeque::front_mut);
        if let Some(begun) = job.and_then(|job| job.begun.as_mut()) {
            begun.proof = proof;
        }
    }

    pub(super) fn service_of(&self, id: &InstanceId) -> Option<&ServiceName> {
        let wanted = self.wanted.get(id).map(|wanted| &wanted.registration.service);
        wanted.or_else(|| self.book.shown(id).map(|shown| shown.service()))
    }

    fn is_reached(&self, id: &InstanceId) -> bool {
        let Some(job) = self.front(id) else { return false };
        let (winner, shown) = (self.book.winner(id), self.book.shown(id));
        match &job.goal {
            Goal::Register(_) => {
                self.wanted.get(id).is_some_and(|w| !w.lost && winner.is_some_and(|row| w.is_met_by(row)))
            }
            Goal::Drain(_) => shown.is_none_or(|shown| shown.phase == Phase::Draining),
            Goal::Deregister(_) => winner.is_none() && shown.is_none(),
        }
    }

    /// Writes of a crowd come to the catalog one by one. While they do, none is given up for having many before it.
    fn is_too_late(&self, job: &Job, now: Instant) -> bool {
        let crowded =
            self.progress.is_some_and(|last| now < last + PROGRESS) && now < job.deadline + CROWD_LIMIT;
        job.deadline <= now && !crowded
    }

    /// An instance is gone: that may be what a write waits for, and its revision the answer; which is given only after
    /// watchers were told.
    pub(super) fn removed(&mut self, id: &InstanceId, revision: Revision) {
        let job = self.jobs.get_mut(id).and_then(VecDeque::front_mut);
        if let Some(begun) = job.and_then(|job| job.begun.as_mut()) {
            begun.gone = Some(revision);
        }
        self.soon(id.clone());
    }

    fn finish(&mut self, id: &InstanceId, outcome: Result<Revision, RegistryError>, now: Instant) {
        self.book.expect_no_more(id);
        self.asked.remove(id);
        let Some(queue) = self.jobs.get_mut(id) else { return };
        let job = queue.pop_front();
        self.queued -= usize::from(job.is_some());
        if queue.is_empty() {
            self.jobs.remove(id);
        } else {
            self.agenda.now(id.clone(), true);
        }
        let Some(Job { goal, begun, reply, .. }) = job else { return };
        let done = outcome.is_ok();
        let heard = reply.send(outcome).is_ok();
        if let (Goal::Register(said), Some(begun)) = (&goal, &begun)
            && done
            && !heard
            && begun.before.is_none()
        {
            self.disown(said, begun, now);
        }
    }

    /// A write cannot be done: what it changed of our wishes is taken back.
    pub(super) fn give_up(&mut self, id: &InstanceId, error: RegistryError, now: Instant) {
        let Some(job) = self.jobs.get_mut(id).and_then(VecDeque::front_mut) else { return };
        if let Some(mut begun) = job.begun.take() {
            match (begun.before.take(), &job.goal) {
                (Some(before), _) => {
                    self.behind.remove(id);
                    self.wanted.insert(id.clone(), before);
                }
                (None, Goal::Register(said)) => {
                    let said = said.clone();
                    self.disown(&said, &begun, now);
                }
                (None, Goal::Drain(_) | Goal::Deregister(_)) => {}
            }
        }
        self.finish(id, Err(error), now);
    }

    /// A refusal for good ends the write; what may pass is tried again until its deadline.
    pub(super) fn refused(&mut self, id: &InstanceId, done: &Done, now: Instant) {
        let Some((_, _, Trouble::Refused { status, text })) = &done.failed else { return };
        let error = match status {
            409 => RegistryError::StaleIncarnation { id: id.clone() },
            400 | 401 | 403 | 405 | 413 => {
                RegistryError::Unavailable(format!("refused with {status}: {text}").into())
            }
            _ => return,
        };
        self.give_up(id, error, now);
    }
}
