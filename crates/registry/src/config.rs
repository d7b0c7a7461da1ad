//! From settings to a running registry.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::StatusBoard;

use crate::embedded::{Embedded, Shared};
use crate::ledger::{self, Opened};
use crate::stored::StoredError;
use crate::writer::RegistryTask;

/// What an embedded registry needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the book is kept; made if it is not there.
    pub data_dir: PathBuf,
    /// How long a new life stays young; zero means it is adult at once.
    pub warm_up: Duration,
}

/// Why a registry could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The directory cannot be opened.
    #[error(transparent)]
    Open(#[from] store::OpenError),
    /// The directory is open, but cannot be read.
    #[error("cannot read the book: {0}")]
    Read(#[from] store::StoreError),
    /// An entry is not what this program writes.
    #[error("cannot read the book: {0}")]
    Entry(#[from] StoredError),
}

/// Opens the book and reads it. Blocks on the disk; nothing is written until the task runs.
///
/// # Errors
/// If the directory cannot be opened, is open elsewhere, or holds what this program does not understand.
pub fn build(config: Config, status: &StatusBoard) -> Result<(Arc<Embedded>, RegistryTask), BuildError> {
    let reporter = status.reporter("registry");
    let Opened { store, catalog, keys } = ledger::open(&config)?;
    tracing::info!(
        dir = %config.data_dir.display(),
        instances = catalog.len(),
        keys = keys.entries.len(),
        revision = catalog.revision().0,
        "registry opened"
    );
    let shared = Arc::new(Shared::new(catalog, keys));
    let (embedded, requests) = Embedded::new(Arc::clone(&shared));
    Ok((Arc::new(embedded), RegistryTask::new(config, shared, requests, store, reporter)))
}
