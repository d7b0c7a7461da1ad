//! How a watcher learns: `Reset`, then deltas. Whoever was away, or lags, gets a `Reset` again, and so ends in the same
//! state as one that never left.

use std::sync::Arc;

use crate::id::{InstanceId, Revision, ServiceName};
use crate::instance::Instance;
use crate::registry::Pending;

/// What a subscription is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Every service.
    All,
    /// One service, whether or not it exists yet.
    Service(ServiceName),
}

/// One step of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The whole truth, replacing all that was known.
    Reset {
        /// The revision of the newest change within the interest.
        revision: Revision,
        /// All instances within the interest.
        instances: Vec<Arc<Instance>>,
    },
    /// One instance is new or different.
    Upsert {
        /// The revision of this change.
        revision: Revision,
        /// The instance as it is now.
        instance: Arc<Instance>,
    },
    /// One instance is gone.
    Remove {
        /// The revision of this change.
        revision: Revision,
        /// The service it belonged to.
        service: ServiceName,
        /// Its id.
        id: InstanceId,
    },
}

impl Change {
    /// The revision this change brings the watcher to.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Reset { revision, .. } | Self::Upsert { revision, .. } | Self::Remove { revision, .. } => {
                *revision
            }
        }
    }
}

/// What a registry implements to feed a [`Subscription`].
pub trait ChangeSource: Send {
    /// The next change, waiting for it. `None` once the registry is shut down. Must be safe to drop while waiting:
    /// no change may be lost by it.
    fn next(&mut self) -> Pending<'_, Option<Change>>;
}

/// A running subscription; dropping it unsubscribes. The first change is a [`Change::Reset`].
pub struct Subscription(Box<dyn ChangeSource>);

impl Subscription {
    /// Wraps a registry's own source.
    pub fn new(source: impl ChangeSource + 'static) -> Self {
        Self(Box::new(source))
    }

    /// The next change, waiting for it. `None` once the registry is shut down. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change> {
        self.0.next().await
    }
}
