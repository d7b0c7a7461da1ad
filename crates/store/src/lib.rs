//! Durable bytes with revisions on one embedded engine.
//!
//! **Purpose**: keep an ordered keyspace of bytes and a revision that only grows, through any crash.
//! **Knows**: redb, files, locks, the format version of the directory.
//! **Must not know**: services, instances, or what any key or value means.
//! **Start at**: [`Store`] (open, commit, load), [`Batch`] (what one commit changes).

mod batch;
mod directory;
mod error;
mod store;

pub use batch::Batch;
pub use error::{OpenError, StoreError};
pub use store::{Loaded, Store};
