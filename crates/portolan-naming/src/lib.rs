//! Naming over any registry: one interface, whichever cluster keeps the book.
//!
//! **Purpose**: open a registry by its URI and use it through the `Registry` seam; keep what was registered registered,
//! and what was known known, whatever the cluster goes through.
//! **Knows**: registry URIs, and per backend its protocol, its layouts and its way to lose a session.
//! **Must not know**: who uses it: the registrator, the gateway, a face, or somebody else's program.
//! **Start at**: [`Naming`] (what a program uses), [`uri`] (what a URI says), `mirror` (what is known of the book, and who watches it), then a backend.

#[cfg(any(feature = "zookeeper", feature = "consul", feature = "etcd", test))]
mod absence;
mod backend;
pub mod blocking;
#[cfg(feature = "consul")]
pub mod consul;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(test)]
mod fixture;
#[cfg(any(feature = "zookeeper", feature = "consul", feature = "etcd"))]
mod keep;
#[cfg(any(feature = "zookeeper", feature = "consul", feature = "etcd", test))]
#[cfg_attr(
    not(any(feature = "zookeeper", feature = "consul", feature = "etcd")),
    expect(dead_code, reason = "without a backend only tests use it")
)]
mod mirror;
mod naming;
pub mod selector;
pub mod uri;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

pub use backend::{Driver, Options, build, build_with};
pub use naming::{Naming, OpenError, Registered, Watch};
