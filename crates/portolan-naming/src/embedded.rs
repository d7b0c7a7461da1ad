//! A registry within this process: `embedded:/path` is durable there, `embedded:` is thrown away at the end.
//!
//! For programs that are all of a system, and for tests without a cluster. One process has a path open at a time, by one
//! handle; others reach it by `portolan://` if a face serves it. Instances are adult at once. What is registered stays
//! until somebody deregisters it; in a durable one, over restarts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{KeyValue, Registry};
use registry::RegistryTask;
use runtime::{Shutdown, StatusBoard};
use tempfile::TempDir;

use crate::naming::OpenError;
use crate::uri::{RegistryUri, UriError};

/// What drives it.
pub(crate) struct Driver {
    task: RegistryTask,
    keys: Arc<dyn KeyValue>,
    /// Removed with its content when the driver has ended.
    throw_away: Option<TempDir>,
}

/// Where it is.
pub(crate) enum Place {
    Nowhere,
    At(PathBuf),
}

impl Place {
    /// Understands `uri`.
    pub(crate) fn from_uri(uri: &RegistryUri) -> Result<Self, UriError> {
        if let Some(server) = uri.servers.first() {
            return Err(UriError::Server(server.to_string()));
        }
        uri.no_more_options(&[])?;
        Ok(if uri.path.is_empty() { Self::Nowhere } else { Self::At(PathBuf::from(&uri.path)) })
    }
}

/// Opens the registry. Blocks on the disk.
pub(crate) fn build(place: Place, board: &StatusBoard) -> Result<(Arc<dyn Registry>, Driver), OpenError> {
    let refused = |why: String| OpenError::Embedded { why };
    let (data_dir, throw_away) = match place {
        Place::Nowhere => {
            let directory = tempfile::tempdir().map_err(|e| refused(format!("no directory for it: {e}")))?;
            (directory.path().to_owned(), Some(directory))
        }
        Place::At(path) => (path, None),
    };
    let config = registry::Config { data_dir, warm_up: Duration::ZERO };
    let (registry, task) = registry::build(config, board).map_err(|e| refused(e.to_string()))?;
    let keys = Arc::clone(&registry) as _;
    Ok((registry, Driver { task, keys, throw_away }))
}

impl Driver {
    /// The keys of the same store.
    pub(crate) fn key_value(&self) -> Arc<dyn KeyValue> {
        Arc::clone(&self.keys)
    }

    /// Runs until shutdown.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let Self { task, keys, throw_away } = self;
        // Whoever else has the registry keeps it open, not we.
        drop(keys);
        task.run(shutdown).await;
        drop(throw_away);
    }
}
