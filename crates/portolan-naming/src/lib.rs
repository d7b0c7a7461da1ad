//! Naming over any registry: one interface, whichever cluster keeps the book.
//!
//! **Purpose**: open a registry by its URI and use it through the seams `Registry` and `KeyValue`; keep what was registered registered,
//! and what was known known, whatever the cluster goes through.
//! **Knows**: registry URIs, and per backend its protocol, its layouts and its way to lose a session.
//! **Must not know**: who uses it: the registrator, the gateway, a face, or somebody else's program.
//! **Start at**: [`Naming`] (what a program uses), [`uri`] (what a URI says), `mirror` (what is known of the book, and who watches it), `keys` (the same for keys), then a backend.
//!
//! # Quick start
//!
//! ```no_run
//! use portolan_model::{Registration, ServiceName};
//! use portolan_naming::Naming;
//! use portolan_naming::selector::{Preference, Selector, Strategy};
//!
//! # async fn program(registration: Registration) -> Result<(), Box<dyn std::error::Error>> {
//! let naming = Naming::open("etcd://10.0.0.1:2379,10.0.0.2:2379/services")?; // feature `etcd`
//! let registered = naming.register(registration).await?; // renewed until it is dropped
//!
//! let selector = Selector::new(Strategy::LeastRequests, Preference::default());
//! let found = naming.find(ServiceName::new("web")?, ["blue"]).await?;
//! if let Some(pick) = selector.pick(&found, "") {
//!     println!("ask {}", pick.instance.endpoint());
//! }
//!
//! let mut watch = naming.subscribe(ServiceName::new("web")?); // dropping it unsubscribes
//! while let Some(instances) = watch.next().await {
//!     println!("{} instances", instances.len()); // at once, then after every change
//! }
//! registered.deregister().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | URI | feature | |
//! |---|---|---|
//! | `embedded:`, `embedded:/path` | `embedded` | in this process; thrown away, or durable |
//! | `portolan://host:8500` | `consul` | a `portolan up` or `portolan gateway` |
//! | `consul://…`, `consul-tls://…`, `consul-unix://…` | `consul` | agents |
//! | `consulkv://…/path`, `consulkv-tls://…`, `consulkv-unix:///socket:/path` | `consul` | agents, in their key-value store |
//! | `etcd://…`, `etcd-tls://…` | `etcd` | members, v3 |
//! | `zookeeper://…`, `zookeeper-tls://…` | `zookeeper` | servers |
//!
//! Several addresses, separated by commas, are servers of one cluster. [`blocking`] is the same for programs without an
//! async runtime. The crate's `examples` are a web service and long TCP connections.
//!
//! # Errors
//!
//! A registry that is away is no error where something is known: `find` and `services` answer with it, a [`Watch`] stands
//! still, and what was registered is registered again.
//!
//! | error | when | what to do |
//! |---|---|---|
//! | [`OpenError::Uri`] | the URI or one of its options is malformed | mend the URI; the text says where |
//! | [`OpenError::Scheme`] | no such backend in this build | enable its feature |
//! | [`OpenError::Embedded`] | the path is in use, or cannot be read | close the other handle; the text names it |
//! | [`OpenError::NoRuntime`] | opened outside tokio | use [`blocking`] |
//! | [`RegistryError::Unavailable`](portolan_model::RegistryError::Unavailable) | a write that nobody confirmed in time, or a question before anything was known | try again; a registration may be repeated |
//! | [`RegistryError::UnknownInstance`](portolan_model::RegistryError::UnknownInstance) | drain or deregister of who is not there | nothing |
//! | [`RegistryError::NotOwner`](portolan_model::RegistryError::NotOwner) | a guard's drain after somebody else took the id | let go of the guard |
//! | [`RegistryError::StaleIncarnation`](portolan_model::RegistryError::StaleIncarnation) | an older life than the one registered | register with a greater incarnation |
//! | [`RegistryError::Limit`](portolan_model::RegistryError::Limit) | too many tags or attributes, or too long | say less |
//! | [`KeyValueError`](portolan_model::KeyValueError) | [`Naming::key_value`]: a condition does not hold, a limit, no answer, or one that was lost | its variants say whether anything was changed |
//! | [`blocking::Error`] | all of these; and a call within a runtime, no thread, nothing new in time | |

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
#[cfg(any(feature = "zookeeper", feature = "consul", feature = "etcd"))]
mod keys;
#[cfg(any(feature = "consul", feature = "etcd"))]
#[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "some layouts are etcd's alone"))]
mod leased;
#[cfg(any(feature = "zookeeper", feature = "consul", feature = "etcd", test))]
#[cfg_attr(
    not(any(feature = "zookeeper", feature = "consul", feature = "etcd")),
    expect(dead_code, reason = "without a backend only tests use it")
)]
mod mirror;
mod naming;
pub mod selector;
#[cfg(any(feature = "zookeeper", feature = "consul"))]
mod turns;
pub mod uri;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

pub use backend::{Driver, Options, build, build_with, check};
pub use naming::{Naming, OpenError, Registered, Watch};
