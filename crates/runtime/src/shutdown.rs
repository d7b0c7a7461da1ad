//! One signal for the whole process: stop taking new work, finish what runs.

use tokio_util::sync::CancellationToken;

/// Told when the process is to end. Cheap to clone; every long-running task races it.
#[derive(Debug, Clone)]
pub struct Shutdown(CancellationToken);

/// Ends everything that holds the matching [`Shutdown`].
#[derive(Debug)]
pub struct ShutdownTrigger(CancellationToken);

impl Shutdown {
    /// A trigger and what it triggers.
    pub fn new() -> (ShutdownTrigger, Self) {
        let token = CancellationToken::new();
        (ShutdownTrigger(token.clone()), Self(token))
    }

    /// Waits until the process is to end. Cancel-safe.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// Whether the process is to end.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl ShutdownTrigger {
    /// Says it, once and for all.
    pub fn trigger(&self) {
        self.0.cancel();
    }
}
