//! What every shell needs to live and die well.
//!
//! **Purpose**: shutdown, named tracked tasks, the reconcile driver, backoff, the status board.
//! **Knows**: time, the async runtime, how a task ends.
//! **Must not know**: what any task is for.
//! **Start at**: [`Tasks`] (spawn and end), [`Reconcile`] (the loop that re-reads the world), [`StatusBoard`].

mod backoff;
mod reconcile;
mod shutdown;
mod status;
mod tasks;

pub use backoff::Backoff;
pub use reconcile::{Nudge, Reconcile, Step};
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use status::{Report, Reporter, State, StatusBoard};
pub use tasks::{Tasks, Unfinished};
