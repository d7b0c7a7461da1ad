//! What nobody asks for: what is held stays in the store, and nothing stays there that nobody holds.

use std::mem::take;
use std::time::Duration;

use portolan_model::InstanceId;

use super::super::decide::{restore, weight};
use super::{Call, Job, LATE, Lease, State};

impl State {
    pub(super) fn lease_lost(&mut self, now: Duration) {
        if let Some(lease) = self.lease() {
            tracing::warn!(lease, held = self.held.len(), "the lease is gone; registering again");
            self.lease = Lease::None;
            self.restore = Some(now);
        }
    }

    /// Looks at what is held from then on, if not before.
    pub(super) fn restore_from(&mut self, at: Duration) {
        self.restore = Some(self.restore.map_or(at, |known| known.min(at)));
    }

    pub(super) fn is_restoring(&self) -> bool {
        self.flying.values().any(|(job, _)| matches!(job, Job::Restore))
    }

    pub(super) fn plan_restoration(&mut self, calls: &mut Vec<Call>) {
        let Lease::Alive(lease) = self.lease else { return };
        self.restore = None;
        self.planned = self.book.revision();
        let missing = self
            .held
            .values()
            .filter(|(place, _)| self.book.stored(place).is_none_or(|stored| stored.lease != lease));
        let mut chunks = Vec::new();
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for (place, kept) in missing {
            let size = weight(&self.book.layout().write(kept));
            if !chunk.is_empty()
                && (chunk.len() >= self.traits.chunk || bytes + size > self.traits.chunk_bytes)
            {
                chunks.push(restore(&self.book, take(&mut chunk), lease));
                bytes = 0;
            }
            bytes += size;
            chunk.push((place, kept));
        }
        if !chunk.is_empty() {
            chunks.push(restore(&self.book, chunk, lease));
        }
        for txn in chunks {
            self.fly(Job::Restore, txn, calls);
        }
    }

    /// Deletes what is on our lease and is nobody's wish.
    pub(super) fn suspect(&mut self, now: Duration) {
        if self.suspects.is_empty() {
            return;
        }
        let ordered = self.ordered();
        let mut surplus = Vec::new();
        for (id, until) in take(&mut self.suspects) {
            if self.is_ours(&id) && !self.held.contains_key(&id) && !ordered.contains(&id) {
                surplus.push(id);
            } else if until > now {
                self.suspects.insert(id, until);
            }
        }
        for id in &surplus {
            tracing::info!(instance = %id, "a write that nobody waits for any more is undone");
            self.suspects.insert(id.clone(), now + LATE);
        }
        self.jobs.extend(surplus.chunks(self.traits.chunk).map(|chunk| Job::Erase(chunk.to_vec())));
    }

    pub(super) fn halve(&mut self, mut ids: Vec<InstanceId>) {
        if ids.len() > 1 {
            let half = ids.split_off(ids.len() / 2);
            self.jobs.extend([Job::Erase(ids), Job::Erase(half)]);
        } else {
            self.loose |= self.leaving;
        }
    }

    fn is_ours(&self, id: &InstanceId) -> bool {
        self.book.present(id).is_some_and(|present| self.own.contains(&present.stored.lease))
    }
}
