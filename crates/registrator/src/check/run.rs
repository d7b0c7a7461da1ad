//! Keeps checks running: one loop per check, all in one task, a bounded number asking at a time.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use portolan_model::{Health, InstanceId, Reports};
use runtime::{Nudge, Shutdown};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::judge::{Judge, Rhythm, Silence};
use super::letterbox::Letterbox;
use super::probe::{Finding, Prober, Running};
use super::spec::Probe;
use super::{Check, Verdict, Verdicts};
use crate::source::{ContainerSource, SourceError};

/// How many checks ask at the same time. The others wait their turn; their verdicts stand meanwhile.
const ASKING_LIMIT: usize = 128;

type Wanted = Arc<BTreeMap<InstanceId, Check>>;

/// What the reconciling side holds: it says which checks run, and reads what they say.
pub(crate) struct Checks {
    wanted: watch::Sender<Wanted>,
    verdicts: Arc<Mutex<Verdicts>>,
    letterbox: Arc<Letterbox>,
}

/// What runs them.
pub(crate) struct Runner {
    wanted: watch::Receiver<Wanted>,
    verdicts: Arc<Mutex<Verdicts>>,
    letterbox: Arc<Letterbox>,
    prober: Prober,
    asking: Semaphore,
    nudge: Nudge,
    epoch: Instant,
}

/// Nothing runs yet. `nudge` is given whenever a verdict changes.
pub(crate) fn build(source: Arc<dyn ContainerSource>, nudge: Nudge) -> (Checks, Runner) {
    let (sender, wanted) = watch::channel(Wanted::default());
    let verdicts = Arc::<Mutex<Verdicts>>::default();
    let letterbox = Arc::<Letterbox>::default();
    let runner = Runner {
        wanted,
        verdicts: Arc::clone(&verdicts),
        letterbox: Arc::clone(&letterbox),
        prober: Prober::new(source),
        asking: Semaphore::new(ASKING_LIMIT),
        nudge,
        epoch: Instant::now(),
    };
    (Checks { wanted: sender, verdicts, letterbox }, runner)
}

impl Checks {
    /// Where instances report to.
    pub(crate) fn reports(&self) -> Arc<dyn Reports> {
        Arc::clone(&self.letterbox) as Arc<dyn Reports>
    }

    /// Lets exactly `checks` run. From here on, so before anybody sees the instances, they and the `idle` can report.
    pub(crate) fn want(&self, checks: BTreeMap<InstanceId, Check>, idle: &BTreeSet<InstanceId>) {
        self.letterbox.serve(&checks, idle);
        self.wanted.send_if_modified(|wanted| {
            let differs = **wanted != checks;
            if differs {
                *wanted = Arc::new(checks);
            }
            differs
        });
    }

    /// What they say.
    pub(crate) fn verdicts(&self) -> MutexGuard<'_, Verdicts> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// Runs until shutdown.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.triggered() => {}
            () = self.keep_all(self.wanted.clone()) => {}
        }
    }

    /// Returns when nobody wants checks any more.
    async fn keep_all(&self, mut news: watch::Receiver<Wanted>) {
        let mut running: BTreeMap<InstanceId, (Check, AbortHandle)> = BTreeMap::new();
        let mut loops = FuturesUnordered::new();
        loop {
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                Some(_) = loops.next() => continue,
            }
            let wanted = Arc::clone(&news.borrow_and_update());
            running.retain(|id, (check, handle)| {
                let stays = wanted.get(id) == Some(check);
                if !stays {
                    handle.abort();
                    self.verdicts().remove(id);
                }
                stays
            });
            for (id, check) in wanted.iter() {
                if running.contains_key(id) {
                    continue;
                }
                let (handle, registration) = AbortHandle::new_pair();
                running.insert(id.clone(), (check.clone(), handle));
                loops.push(Abortable::new(self.keep(id.clone(), check.clone()), registration));
            }
        }
    }

    /// Runs one check for ever.
    async fn keep(&self, id: InstanceId, check: Check) {
        match check.spec.probe {
            Probe::Reports { ttl } => self.listen(id, check, ttl).await,
            Probe::Http { .. } | Probe::Tcp | Probe::Grpc { .. } | Probe::Command { .. } => {
                self.keep_asking(id, check).await;
            }
        }
    }

    /// Judges by what an instance reports, and by its silence.
    async fn listen(&self, id: InstanceId, check: Check, ttl: Duration) {
        // Another check has taken its place; this one is about to be ended.
        let Some(mut reports) = self.letterbox.open(&id, &check) else { return };
        let mut judge = Judge::new(&check.spec);
        let mut silence = Silence::new(ttl, self.epoch.elapsed());
        let mut finding: Option<Finding> = None;
        loop {
            let now = self.epoch.elapsed();
            let expiry = judge.expires_at().filter(|at| *at > now);
            let due = expiry.into_iter().chain(silence.counts_at()).min();
            let reported = tokio::select! {
                biased;
                changed = reports.changed() => match changed {
                    Ok(()) => reports.borrow_and_update().clone(),
                    Err(_) => return,
                },
                () = at(due.map(|due| self.epoch + due)) => None,
            };
            let now = self.epoch.elapsed();
            if let Some(report) = reported {
                silence.broken(now);
                judge.take(report.health, now);
                finding = Some(report);
            } else if silence.counts(now) {
                judge.take(Health::Critical, now);
                finding = Some(Finding::new(Health::Critical, &format!("no report within {ttl:?}")));
            }
            if let Some(finding) = &finding {
                self.rule(&id, &check, &judge, finding, now);
            }
        }
    }

    async fn keep_asking(&self, id: InstanceId, check: Check) {
        let mut judge = Judge::new(&check.spec);
        let mut rhythm = Rhythm::new(check.spec.interval, seed(&id));
        let mut running: Running<'_> = None;
        let mut finding: Option<Finding> = None;
        loop {
            match self.ask(&check, &mut running).await {
                Ok(found) => {
                    judge.take(found.health, self.epoch.elapsed());
                    finding = Some(found);
                }
                // Containers outlive their engine: the last verdict stands.
                Err(error) => tracing::debug!(%id, %error, "the engine does not run a check"),
            }
            let now = self.epoch.elapsed();
            // Without a result it is asked again as if that had been a bad one.
            let due = rhythm.after(finding.as_ref().map_or(Health::Critical, |found| found.health), now);
            if let Some(finding) = &finding {
                self.rule(&id, &check, &judge, finding, now);
                if let Some(expiry) = judge.expires_at().filter(|at| *at > now && *at <= due) {
                    sleep_until(self.epoch + expiry).await;
                    self.rule(&id, &check, &judge, finding, expiry);
                }
            }
            sleep_until(self.epoch + due).await;
        }
    }

    async fn ask<'r>(&'r self, check: &Check, running: &mut Running<'r>) -> Result<Finding, SourceError> {
        // Never closed: then there is nothing to wait for either.
        let _turn = self.asking.acquire().await.ok();
        self.prober.run(check, running).await
    }

    /// Publishes the verdict, and tells if that changes what is desired.
    fn rule(&self, id: &InstanceId, check: &Check, judge: &Judge, finding: &Finding, now: Duration) {
        let Some(health) = judge.health() else { return };
        let expired = judge.expires_at().is_some_and(|at| at <= now);
        let verdict = Verdict { check: check.clone(), health, expired, finding: finding.text.clone() };
        let before = self.verdicts().insert(id.clone(), verdict);
        let before = before.as_ref().map(|verdict| (verdict.health, verdict.expired));
        if before == Some((health, expired)) {
            return;
        }
        let because = finding.text.as_str();
        match health {
            Health::Passing => tracing::info!(%id, because, "a check passes"),
            Health::Warning | Health::Critical | Health::Maintenance => {
                tracing::warn!(%id, %health, expired, because, "a check does not pass");
            }
        }
        self.nudge.nudge();
    }

    fn verdicts(&self) -> MutexGuard<'_, Verdicts> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The same for the same instance in every run, and different for others.
fn seed(id: &InstanceId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.as_str().hash(&mut hasher);
    hasher.finish()
}
