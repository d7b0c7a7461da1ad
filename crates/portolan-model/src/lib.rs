//! The nouns of Portolan and the seams between its roles.
//!
//! **Purpose**: one vocabulary — services, instances, changes — that the registry, the registrator and the gateway
//! share without naming each other.
//! **Knows**: what an instance is, what may be said of it, how a watcher learns of changes.
//! **Must not know**: any transport, engine, clock, async runtime or log.
//! **Start at**: [`Registration`] (what an owner says), [`Instance`] (what a registry holds), [`Registry`] (the seam);
//! [`KeyValue`] is the seam for small values that several processes share, [`Reports`] the one to whoever runs checks.

mod change;
mod filter;
mod id;
mod instance;
mod key;
mod key_book;
mod key_value;
pub mod origin_meta;
mod registry;
mod report;
pub mod route_meta;
mod view;

pub use change::{Change, ChangeSource, Interest, Subscription};
pub use filter::Filter;
pub use id::{IdError, Incarnation, InstanceId, Owner, Revision, ServiceName, Zone};
pub use instance::{
    Endpoint, EndpointError, Health, Host, Instance, Limit, Phase, Protocol, Registration, Weight,
};
pub use key::{Key, KeyError, Prefix};
pub use key_book::{KeyBook, KeyChange, KeySubscription};
pub use key_value::{
    After, Batch, Condition, Effect, Entry, KeyLimit, KeyListing, KeyValue, KeyValueError, Operation, Step,
};
pub use registry::{Guard, Listing, Pending, Registry, RegistryError, ServiceView};
pub use report::{Report, Reported, Reports};
pub use view::View;
