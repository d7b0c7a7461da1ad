//! Connections to instances: made, kept and reused per core.

mod connection;
mod pool;

pub(crate) use connection::{Connection, SendError};
pub(crate) use pool::{Lease, Pool};
