//! What is read: rows come in, watchers are told what is different, and ids that it may concern are looked at.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use portolan_model::{Change, InstanceId, ServiceName};
use tokio::time::Instant;

use super::super::changes::Delta;
use super::super::job::Proof;
use super::super::row::Row;
use super::Desk;

impl Desk {
    /// Takes all rows of one service as read at `index`; gives what watchers are to be told.
    pub(in super::super) fn take(
        &mut self,
        service: &ServiceName,
        rows: Vec<Arc<Row>>,
        index: u64,
        now: Instant,
    ) -> Vec<Change> {
        self.read_at.insert(service.clone(), index);
        self.judge_home(&rows, now);
        // Also ids of which nothing changed to see: a write or an act may have waited for just these rows.
        let waits = |id: &InstanceId| self.jobs.contains_key(id) || self.asked.contains_key(id);
        let read = rows.iter().filter(|row| waits(row.id()) || !self.book.has(row));
        let read: Vec<_> = read.map(|row| row.id().clone()).filter(|id| self.is_of_concern(id)).collect();
        self.all_soon(read);
        let changes = self.book.take(service, rows, now);
        self.note(&changes);
        let unseen = self.wanted.of_service(service).filter(|id| self.book.winner(id).is_none());
        let unseen = unseen.cloned().collect();
        self.all_soon(unseen);
        changes
    }

    /// Takes all rows of these instances in a service as read at `index`; gives what watchers are to be told.
    pub(in super::super) fn take_of(
        &mut self,
        service: &ServiceName,
        ids: &BTreeSet<InstanceId>,
        rows: Vec<Arc<Row>>,
        index: u64,
        now: Instant,
    ) -> Vec<Change> {
        self.read_in_part_at.insert(service.clone(), index);
        self.judge_home(&rows, now);
        for id in ids {
            self.seen_at(id, index);
            self.soon(id.clone());
        }
        let changes = self.book.take_of(service, ids, rows, now);
        self.note(&changes);
        changes
    }

    /// Takes what has changed at `index`, after all that was before it; gives what watchers are to be told.
    pub(in super::super) fn take_one(&mut self, delta: Delta, index: u64, now: Instant) -> Vec<Change> {
        self.read_through(index);
        if self.is_of_concern(delta.id()) {
            self.soon(delta.id().clone());
        }
        let changes = self.book.take_one(delta, now);
        self.note(&changes);
        changes
    }

    fn note(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Remove { id, revision, .. } => self.removed(id, *revision),
                Change::Upsert { instance, .. } if self.is_of_concern(instance.id()) => {
                    self.soon(instance.id().clone());
                }
                Change::Upsert { .. } | Change::Reset { .. } => {}
            }
        }
    }

    /// Nothing of any service is missing up to `index`.
    pub(in super::super) fn read_through(&mut self, index: u64) {
        self.read_through = Some(index);
    }

    /// The index at which a service was read last.
    pub(in super::super) fn read_at(&self, service: &ServiceName) -> Option<u64> {
        self.read_at.get(service).copied().max(self.read_through)
    }

    /// The index at which anything of a service was read last.
    pub(in super::super) fn newest(&self, service: &ServiceName) -> Option<u64> {
        self.read_at(service).max(self.read_in_part_at.get(service).copied())
    }

    /// Only these services are read from now on.
    pub(in super::super) fn follow_only(&mut self, services: &BTreeSet<ServiceName>) {
        self.read_at.retain(|service, _| services.contains(service));
        self.read_in_part_at.retain(|service, _| services.contains(service));
    }

    /// Somebody else is read from now on, or the same anew.
    pub(in super::super) fn read_anew(&mut self) {
        self.read_at.clear();
        self.read_in_part_at.clear();
        self.read_through = None;
    }

    /// The history that indexes belonged to is over: what was to be seen in it never will be.
    pub(in super::super) fn history_is_over(&mut self) {
        for job in self.jobs.values_mut().filter_map(VecDeque::front_mut) {
            if let Some(begun) = &mut job.begun
                && matches!(begun.proof, Proof::At(_))
            {
                begun.proof = Proof::Needed;
            }
        }
        self.all_soon(self.jobs.keys().cloned().collect());
    }

    /// Lets go of what was kept although it had vanished; gives what watchers are to be told.
    pub(in super::super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let changes = self.book.expire(now);
        for change in &changes {
            if let Change::Remove { id, revision, .. } = change {
                self.removed(id, *revision);
            }
        }
        changes
    }
}
