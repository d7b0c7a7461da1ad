//! Tasks that are stopped together: a process ends stage by stage.

use std::future::Future;
use std::time::Duration;

use runtime::{Shutdown, ShutdownTrigger, StatusBoard, Tasks};

/// One stage.
pub(crate) struct Stage {
    tasks: Tasks,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
}

impl Stage {
    /// A stage without tasks.
    pub(crate) fn new(board: &StatusBoard) -> Self {
        let (trigger, shutdown) = Shutdown::new();
        Self { tasks: Tasks::new(board.clone()), trigger, shutdown }
    }

    /// Spawns a task that this stage's shutdown ends.
    pub(crate) fn spawn<F>(&self, name: impl Into<String>, task: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(name, task(self.shutdown.clone()));
    }

    /// Stops all tasks and waits for their end, up to `deadline`.
    pub(crate) async fn stop(&self, deadline: Duration) {
        self.trigger.trigger();
        if let Err(unfinished) = self.tasks.finish(deadline).await {
            tracing::warn!(tasks = unfinished.0.join(", "), "tasks did not end within their deadline");
        }
    }
}
