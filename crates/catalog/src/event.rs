//! What happened, as facts that rebuild the state.

use std::sync::Arc;

use portolan_model::{Change, Instance, InstanceId, Revision, ServiceName};

use crate::millis::Millis;
use crate::state::Catalog;

/// One fact. Each has a revision of its own, greater than that of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An instance is new or different.
    Put {
        /// The instance as it is now; `modified` is the revision of this event.
        instance: Arc<Instance>,
        /// When this life of it was registered first.
        since: Millis,
    },
    /// An instance is gone.
    Removed {
        /// The service it belonged to.
        service: ServiceName,
        /// Its id.
        id: InstanceId,
        /// The revision of this event.
        revision: Revision,
    },
}

impl Event {
    /// The revision of this event.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { instance, .. } => instance.modified,
            Self::Removed { revision, .. } => *revision,
        }
    }

    /// The service it is about.
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Put { instance, .. } => instance.service(),
            Self::Removed { service, .. } => service,
        }
    }

    /// The instance it is about.
    pub fn id(&self) -> &InstanceId {
        match self {
            Self::Put { instance, .. } => instance.id(),
            Self::Removed { id, .. } => id,
        }
    }

    /// The same fact as a watcher learns it.
    pub fn change(&self) -> Change {
        match self {
            Self::Put { instance, .. } => {
                Change::Upsert { revision: instance.modified, instance: Arc::clone(instance) }
            }
            Self::Removed { service, id, revision } => {
                Change::Remove { revision: *revision, service: service.clone(), id: id.clone() }
            }
        }
    }
}

/// Applies one fact.
pub fn evolve(catalog: &mut Catalog, event: &Event) {
    match event {
        Event::Put { instance, since } => catalog.put(Arc::clone(instance), *since),
        Event::Removed { service, id, revision } => catalog.remove(service, id, *revision),
    }
}
