//! Writes on their way, by the instance they are about: those of one instance one after the other, all others at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use portolan_model::{InstanceId, RegistryError, Revision};
use tokio::sync::oneshot;

use super::plan::Wish;
use super::table::Intent;

/// Where a caller waits. It is closed when the caller has given up, or has reached its deadline.
pub(super) type Reply = oneshot::Sender<Result<Revision, RegistryError>>;

/// One write.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) wish: Wish,
    /// `None` for what we wish ourselves.
    pub(super) reply: Option<Reply>,
    pub(super) stage: Stage,
    /// How often a plan turned out to be out of date.
    pub(super) conflicts: u32,
    /// What became of it so far.
    pub(super) past: Past,
    /// The newest change of the instance since the job began.
    pub(super) told: Option<Revision>,
}

/// What became of a job so far, as far as its next plan depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// An attempt may have succeeded without our knowing.
    pub(super) tried: bool,
    /// What is known of its nodes is no older than the job.
    pub(super) asked: bool,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be planned.
    Ready,
    /// Its transaction is under way.
    Writing,
    /// Its transaction is done; these paths are to be looked at before the answer.
    Settling(BTreeSet<String>),
    /// Its plan was out of date, or may have been; these paths are to be looked at before the next.
    Looking(BTreeSet<String>),
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    by_id: BTreeMap<InstanceId, VecDeque<Job>>,
    count: usize,
}

impl Job {
    pub(super) fn new(wish: Wish, reply: Option<Reply>) -> Self {
        Self { wish, reply, stage: Stage::Ready, conflicts: 0, past: Past::default(), told: None }
    }

    /// Whether nobody waits any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

impl Jobs {
    pub(super) fn push(&mut self, job: Job) {
        self.by_id.entry(job.wish.id().clone()).or_default().push_back(job);
        self.count += 1;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// All instances with jobs.
    pub(super) fn ids(&self) -> Vec<InstanceId> {
        self.by_id.keys().cloned().collect()
    }

    /// The job of an instance whose turn it is.
    pub(super) fn front(&mut self, id: &InstanceId) -> Option<&mut Job> {
        self.by_id.get_mut(id)?.front_mut()
    }

    /// Takes that job out.
    pub(super) fn finish(&mut self, id: &InstanceId) -> Option<Job> {
        let queue = self.by_id.get_mut(id)?;
        let job = queue.pop_front();
        if queue.is_empty() {
            self.by_id.remove(id);
        }
        self.count -= usize::from(job.is_some());
        job
    }

    /// What is about to happen to an instance.
    pub(super) fn intent(&self, id: &InstanceId) -> Intent {
        self.by_id.get(id).and_then(VecDeque::front).map_or(Intent::None, |job| job.wish.intent())
    }

    /// A change of an instance was shown.
    pub(super) fn told(&mut self, id: &InstanceId, revision: Revision) {
        if let Some(job) = self.front(id) {
            job.told = Some(revision);
        }
    }

    /// Transactions under way have failed with their connection: plan again when there is one.
    pub(super) fn restart(&mut self) {
        for job in self.by_id.values_mut().filter_map(VecDeque::front_mut) {
            job.past.tried |= job.stage != Stage::Ready;
            job.stage = Stage::Ready;
        }
    }
}

impl Stage {
    /// Whether the paths it waits for are not among `awaited`.
    pub(super) fn is_over(&self, mut is_awaited: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::Ready => true,
            Self::Writing => false,
            Self::Settling(paths) | Self::Looking(paths) => !paths.iter().any(|path| is_awaited(path)),
        }
    }
}
