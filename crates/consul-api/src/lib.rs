//! The serialized forms of the Consul HTTP API, for whoever serves it and for whoever calls it.
//!
//! **Purpose**: the JSON names, defaults and leniencies of Consul in one place, so that a face and an adapter cannot
//! drift apart.
//! **Knows**: which fields there are, how Consul spells them, what Go calls a duration.
//! **Must not know**: what any of it means to Portolan, HTTP, a clock, a registry.
//! **Start at**: [`ServiceRegistration`] (what is written), [`ServiceEntry`] (what is read).
//!
//! Forms that are read by others never hold a `null` where Consul has a list. Forms that others write accept `null` for
//! absent, names in any case and with underscores (`enable_tag_override`), and ignore fields that are not known.
//! Consul itself refuses unknown fields; Portolan does not, so that a newer client still registers.

mod agent;
mod change;
mod duration;
mod health;
mod key;
mod lenient;
mod register;
mod service;

pub use agent::{AgentConfig, AgentMember, AgentSelf};
pub use change::ChangeLine;
pub use duration::{DurationError, GoDuration};
pub use health::{CheckDefinition, CheckStatus, HealthCheck, Node, ServiceEntry};
pub use key::{Base64, KeyEntry, KeyOperation, KeyVerb, TxnAnswer, TxnError, TxnOperation, TxnResult};
pub use register::{CheckRegistration, CheckUpdate, ServiceRegistration};
pub use service::{AgentService, CatalogService, Particulars, TaggedAddress, Weights};

use std::collections::BTreeMap;

/// `GET /v1/agent/services`: services of the agent by id.
pub type AgentServices = BTreeMap<String, AgentService>;

/// `GET /v1/catalog/services`: the tags in use by service name.
pub type CatalogServices = BTreeMap<String, Vec<String>>;
