//! What can go wrong with bytes on a disk, told so that an operator knows what to do.

use std::io;
use std::path::PathBuf;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has the directory open.
    #[error("data directory {} is in use by another process{}", dir.display(), Holder(*holder))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, if it said.
        holder: Option<u32>,
    },
    /// A newer program wrote the directory.
    #[error(
        "data directory {} has format {found}, but this program knows formats up to {known}: use a newer program, \
         or another directory",
        dir.display()
    )]
    FutureFormat {
        /// The directory.
        dir: PathBuf,
        /// The format it is in.
        found: u64,
        /// The newest format this program knows.
        known: u64,
    },
    /// A file or directory cannot be made, read or locked.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not whole: restore it, or start with another directory.
    #[error("cannot open {}: the file is damaged; restore it from a copy, or use another data directory", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The engine refuses the file.
    #[error("cannot open {}: {source}", path.display())]
    Engine {
        /// The file.
        path: PathBuf,
        /// What the engine says.
        source: Box<redb::Error>,
    },
}

/// Why a read or commit failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A commit tried to take the revision back; nothing was written.
    #[error("revision {asked} does not follow the stored revision {stored}")]
    RevisionBack {
        /// The revision of the batch.
        asked: u64,
        /// The revision the store is at.
        stored: u64,
    },
    /// The engine failed. Whether a commit reached the disk is unknown, and this `Store` takes no more of them: drop
    /// it, open a new one, and load what is there.
    #[error("store: {0}")]
    Engine(#[source] Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Engine(Box::new(error.into()))
    }
}

/// The half sentence that names who holds a directory.
struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, " (pid {pid})"),
            None => Ok(()),
        }
    }
}
