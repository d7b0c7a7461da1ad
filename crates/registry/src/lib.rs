//! The embedded registry: a book of instances, and keys, that survive `kill -9`.
//!
//! **Purpose**: implement [`portolan_model::Registry`] and [`portolan_model::KeyValue`] on a local, durable store.
//! **Knows**: the order of things — decide, make durable, publish, wake watchers, answer.
//! **Must not know**: what a command means (crate `catalog`), how bytes become durable (crate `store`), any face.
//! **Start at**: [`build`], then [`RegistryTask`] (the one writer), then [`Embedded`] (what everybody else holds).
//!
//! There is one writer, so there is one order of all changes. It works in turns: it takes every command that waits,
//! decides them one after the other on a catalog of its own, makes all their events durable with one fsync, and only
//! then publishes them. Readers share the published catalog, which therefore never shows what a crash could undo.

mod config;
mod embedded;
mod hub;
mod ledger;
mod stored;
mod stored_key;
mod writer;

pub use config::{BuildError, Config, build};
pub use embedded::{Counts, Embedded};
pub use stored::StoredError;
pub use writer::RegistryTask;
