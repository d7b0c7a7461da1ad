//! Every long-running task has a name, is seen on the status board, and ends within a deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::status::{Reporter, State, StatusBoard};

/// Spawns named tasks and waits for their end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    board: StatusBoard,
    running: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// Names of the tasks that had not ended when the deadline passed.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfinished(pub Vec<String>);

impl Tasks {
    /// Tasks that show on `board`.
    pub fn new(board: StatusBoard) -> Self {
        Self { tracker: TaskTracker::new(), board, running: Arc::default() }
    }

    /// Spawns `task` on the current runtime. A panic in it is logged and shown, and ends nothing else.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let name = name.into();
        let reporter = self.board.reporter(format!("task {name}"));
        reporter.say(State::Running, "");
        let entry = Entry::new(name.clone(), Arc::clone(&self.running));
        self.tracker.spawn(async move {
            let _entry = entry;
            conclude(&reporter, &name, CatchUnwind(Box::pin(task)).await);
        });
    }

    /// Waits for all tasks to end; the caller has triggered shutdown.
    ///
    /// # Errors
    /// Names the tasks that still run when `deadline` has passed.
    pub async fn finish(&self, deadline: Duration) -> Result<(), Unfinished> {
        self.tracker.close();
        match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                Err(Unfinished(running.keys().cloned().collect()))
            }
        }
    }
}

fn conclude(reporter: &Reporter, name: &str, outcome: Result<(), String>) {
    match outcome {
        Ok(()) => {
            reporter.say(State::Stopped, "");
        }
        Err(panic) => {
            tracing::error!(task = name, panic, "task panicked");
            reporter.say(State::Failed, panic);
        }
    }
}

/// Counts a task as running for as long as it lives; several may share a name.
struct Entry {
    name: String,
    running: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Entry {
    fn new(name: String, running: Arc<Mutex<BTreeMap<String, usize>>>) -> Self {
        *running.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default() += 1;
        Self { name, running }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.name);
            }
        }
    }
}

/// Turns a panic of the inner future into its message.
struct CatchUnwind(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Future for CatchUnwind {
    type Output = Result<(), String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(panic) => Poll::Ready(Err(message(&*panic))),
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_only_its_task_and_is_seen() {
        let board = StatusBoard::default();
        let tasks = Tasks::new(board.clone());
        tasks.spawn("good", async {});
        tasks.spawn("bad", async { panic!("out of luck") });
        assert_eq!(tasks.finish(Duration::from_secs(1)).await, Ok(()));
        let reports = board.snapshot();
        assert_eq!(reports["task good"].state, State::Stopped);
        assert_eq!(
            (reports["task bad"].state, reports["task bad"].detail.as_str()),
            (State::Failed, "out of luck")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_end_is_named() {
        let tasks = Tasks::new(StatusBoard::default());
        tasks.spawn("deaf", std::future::pending());
        let unfinished = tasks.finish(Duration::from_secs(1)).await;
        assert_eq!(unfinished, Err(Unfinished(vec!["deaf".into()])));
    }
}
