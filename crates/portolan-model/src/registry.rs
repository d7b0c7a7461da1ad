//! The seam between the roles: whoever holds a book of instances implements [`Registry`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::change::{Interest, Subscription};
use crate::filter::Filter;
use crate::id::{Incarnation, InstanceId, Owner, Revision, ServiceName};
use crate::instance::{Instance, Limit, Registration};

/// A boxed future: the seam is used through `dyn Registry`.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A book of instances. Every write returns only once it is durable, with the revision at which the state asked for
/// holds; a write that changes nothing returns the revision as it was and wakes nobody.
pub trait Registry: Send + Sync + 'static {
    /// Makes `registration` the state of its id, whoever owned the id before; ends a drain of it.
    fn register(&self, registration: Registration) -> Pending<'_, Result<Revision, RegistryError>>;

    /// Marks an instance as on its way out: it stays listed, and gets no new work.
    fn drain(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>>;

    /// Removes an instance.
    fn deregister(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>>;

    /// The instances of one service that pass `filter`, by id. An unknown service is an empty view.
    fn find(&self, service: ServiceName, filter: Filter) -> Pending<'_, Result<ServiceView, RegistryError>>;

    /// Everything in the book.
    fn list(&self) -> Pending<'_, Result<Listing, RegistryError>>;

    /// Starts watching. It never ends with an error: sources reconnect and reset.
    fn subscribe(&self, interest: Interest) -> Subscription;
}

/// Under which condition a drain or removal holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Whoever owns it: an operator's word.
    Anyone,
    /// Only if `owner` owns it, and only lives of it up to `incarnation`: a late `die` of an old life must not remove
    /// the new one.
    OwnedBy {
        /// Who asks.
        owner: Owner,
        /// The newest life meant.
        incarnation: Incarnation,
    },
}

/// The instances of one service at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// The revision of the newest change to this service, also when a filter hides that instance. For a service
    /// without instances: of the newest removal of any service's last instance (Consul's "last extinction index").
    pub revision: Revision,
    /// The instances that passed the filter, by id.
    pub instances: Vec<Arc<Instance>>,
}

/// Everything in a book at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The revision of the newest change to anything.
    pub revision: Revision,
    /// Instances by service, by id. No service is empty.
    pub services: BTreeMap<ServiceName, Vec<Arc<Instance>>>,
}

/// Why a registry did not do as told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There is no such instance.
    #[error("unknown instance id {0:?}")]
    UnknownInstance(InstanceId),
    /// The instance belongs to somebody else; [`Guard::OwnedBy`] protects it.
    #[error("instance {id:?} belongs to {owner:?}")]
    NotOwner {
        /// The instance meant.
        id: InstanceId,
        /// Who owns it.
        owner: Owner,
    },
    /// A newer life of the same id is registered.
    #[error("instance {id:?} has a newer incarnation")]
    StaleIncarnation {
        /// The instance meant.
        id: InstanceId,
    },
    /// A registration passes a limit.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// The registry cannot be reached or cannot write; nothing was changed.
    #[error("registry unavailable: {0}")]
    Unavailable(Arc<str>),
}
