//! The driver of every control loop: a step re-reads the world and mends what differs; it runs when nudged and once a
//! period. A nudge carries no data, so a lost one costs time, never correctness.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::shutdown::Shutdown;

/// Asks for a step soon. Many nudges before the next step make one step. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    /// Asks for a step soon.
    pub fn nudge(&self) {
        self.0.notify_one();
    }
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The world is as wished; the next step is due after a period.
    Done,
    /// Something is left to do; try again after a backoff.
    Again,
}

/// A loop around one idempotent step.
#[derive(Debug)]
pub struct Reconcile {
    /// The longest time between steps, also when nobody nudges.
    pub period: Duration,
    /// How soon to step again after [`Step::Again`].
    pub backoff: Backoff,
    /// Who asks for steps.
    pub nudge: Nudge,
}

impl Reconcile {
    /// Runs `step` at once, then on every nudge and period, until shutdown. A running step is finished, not cut off.
    pub async fn run<F, Fut>(mut self, shutdown: Shutdown, mut step: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Step>,
    {
        loop {
            let wait = match step().await {
                Step::Done => {
                    self.backoff.reset();
                    self.period
                }
                Step::Again => self.backoff.next(fastrand::u64(..)).min(self.period),
            };
            let due = Instant::now() + wait;
            tokio::select! {
                biased;
                () = shutdown.triggered() => return,
                () = self.nudge.0.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn steps_at_once_on_nudge_and_on_period() {
        let (trigger, shutdown) = Shutdown::new();
        let nudge = Nudge::default();
        let steps = Cell::new(0);
        let reconcile = Reconcile {
            period: Duration::from_secs(60),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(4)),
            nudge: nudge.clone(),
        };
        let started = Instant::now();
        let run = reconcile.run(shutdown, || {
            steps.set(steps.get() + 1);
            let (n, nudge, trigger) = (steps.get(), &nudge, &trigger);
            async move {
                match n {
                    1 => {
                        nudge.nudge();
                        nudge.nudge();
                    }
                    2 => {}                  // two nudges are one step; then the period passes
                    3 => return Step::Again, // then the backoff, at most 1 s
                    _ => trigger.trigger(),
                }
                Step::Done
            }
        });
        run.await;
        assert_eq!(steps.get(), 4);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(60_500) && took <= Duration::from_millis(61_010), "{took:?}");
    }
}
