//! From the results of a check over time to a verdict. Pure: the time is an argument.

use std::time::Duration;

use portolan_model::Health;

use super::spec::Spec;

/// How soon an instance that did not pass at its first run is asked again; each further wait is twice as long.
const EAGER: Duration = Duration::from_millis(250);

/// What the results of one check amount to. `now` is the time since any fixed moment.
#[derive(Debug, Clone)]
pub struct Judge {
    passing_after: u32,
    critical_after: u32,
    deregister_after: Option<Duration>,
    health: Option<Health>,
    passes: u32,
    failures: u32,
    critical_since: Option<Duration>,
}

impl Judge {
    /// Nothing is known yet.
    pub fn new(spec: &Spec) -> Self {
        Self {
            passing_after: spec.passing_after,
            critical_after: spec.critical_after,
            deregister_after: spec.deregister_after,
            health: None,
            passes: 0,
            failures: 0,
            critical_since: None,
        }
    }

    /// Takes the result of a run that ended at `now`. A warning is a pass: such an instance works.
    pub fn take(&mut self, result: Health, now: Duration) {
        let settled = if result.takes_traffic() {
            (self.passes, self.failures) = (self.passes.saturating_add(1), 0);
            self.passes >= self.passing_after
        } else {
            (self.passes, self.failures) = (0, self.failures.saturating_add(1));
            self.failures >= self.critical_after
        };
        if settled {
            self.health = Some(result);
            self.critical_since = (!result.takes_traffic()).then(|| self.critical_since.unwrap_or(now));
        }
    }

    /// How the instance fares; `None` as long as the results say neither.
    pub fn health(&self) -> Option<Health> {
        self.health
    }

    /// When it is to be registered no more, unless a result says otherwise before.
    pub fn expires_at(&self) -> Option<Duration> {
        Some(self.critical_since?.saturating_add(self.deregister_after?))
    }
}

/// When silence begins to count against whoever reports by itself: each report holds for a time.
#[derive(Debug, Clone)]
pub struct Silence {
    ttl: Duration,
    counts_at: Option<Duration>,
}

impl Silence {
    /// Whoever begins at `now` has as long for the first report.
    pub fn new(ttl: Duration, now: Duration) -> Self {
        Self { ttl, counts_at: Some(now.saturating_add(ttl)) }
    }

    /// There was a report.
    pub fn broken(&mut self, now: Duration) {
        *self = Self::new(self.ttl, now);
    }

    /// When it is to count; `None` when it has, and lasts.
    pub fn counts_at(&self) -> Option<Duration> {
        self.counts_at
    }

    /// Whether it counts from now on. That is said once.
    pub fn counts(&mut self, now: Duration) -> bool {
        self.counts_at.take_if(|at| *at <= now).is_some()
    }
}

/// When a check runs. A new instance is asked at once, and soon again until it passes for the first time; then its runs
/// keep a distance of one interval, at a moment of it that is its own, so that checks that began together spread out.
#[derive(Debug, Clone)]
pub struct Rhythm {
    interval: Duration,
    offset: Duration,
    eager: Option<Duration>,
    due: Duration,
}

impl Rhythm {
    /// `seed` decides the moment.
    pub fn new(interval: Duration, seed: u64) -> Self {
        // A part of 1024, and never nothing: two runs in one moment would be of no use.
        let part = u32::try_from(seed % 1024).unwrap_or(0) + 1;
        Self { interval, offset: interval / 1024 * part, eager: Some(EAGER), due: Duration::ZERO }
    }

    /// When to run next, after a run that ended at `now`.
    pub fn after(&mut self, result: Health, now: Duration) -> Duration {
        self.due = match self.eager {
            Some(wait) if !result.takes_traffic() && wait < self.interval => {
                self.eager = Some(wait * 2);
                now + wait
            }
            Some(_) => {
                self.eager = None;
                now + self.offset
            }
            None => {
                let late = now.saturating_sub(self.due).as_nanos() / self.interval.as_nanos().max(1);
                let missed = u32::try_from(late).unwrap_or(u32::MAX - 1);
                self.due.saturating_add(self.interval.saturating_mul(missed + 1))
            }
        };
        self.due
    }
}
