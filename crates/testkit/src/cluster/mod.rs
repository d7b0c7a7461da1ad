//! Real servers of the registries that Portolan runs over, on loopback, to be killed, stopped and restarted by tests.

#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that cannot start ends its test")]

pub mod consul;
pub mod etcd;
pub mod net;
pub mod process;
pub mod servers;
pub mod witness;
pub mod zookeeper;

pub use servers::{Cluster, Servers};
