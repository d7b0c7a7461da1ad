//! What everybody but the writer holds: the published catalog, the way to the writer, the way to the watchers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use catalog::{Catalog, Command, Event, evolve};
use portolan_model::{
    Change, Filter, Guard, InstanceId, Interest, Listing, Pending, Registration, Registry, RegistryError,
    Revision, ServiceName, ServiceView, Subscription,
};
use tokio::sync::{mpsc, oneshot};

use crate::hub::{Hub, Watcher};

/// How many commands may wait for the writer; whoever comes then waits to enter.
const QUEUE_LIMIT: usize = 1024;

/// The embedded registry, for everybody who asks it or tells it something.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

/// Numbers about a registry, for operators and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// How many batches were made durable since the start: at most one for each write, far fewer under load.
    pub commits: u64,
    /// How many instances the book holds.
    pub instances: usize,
    /// How many subscriptions are open.
    pub subscriptions: usize,
}

/// A command, and where its outcome goes. Whoever asked may have gone: the command is done all the same.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Revision, RegistryError>>,
}

impl Embedded {
    pub(crate) fn new(shared: Arc<Shared>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, waiting) = mpsc::channel(QUEUE_LIMIT);
        (Self { shared, requests }, waiting)
    }

    /// Numbers as of now.
    pub fn counts(&self) -> Counts {
        Counts {
            commits: self.shared.commits.load(Ordering::Relaxed),
            instances: self.shared.read(Catalog::len),
            subscriptions: self.shared.hub.len(),
        }
    }

    async fn tell(&self, command: Command) -> Result<Revision, RegistryError> {
        let (answer, outcome) = oneshot::channel();
        let gone = || RegistryError::Unavailable("the registry is shut down".into());
        self.requests.send(Request { command, answer }).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

impl Registry for Embedded {
    fn register(&self, registration: Registration) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.tell(Command::Register(registration)))
    }

    fn drain(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.tell(Command::Drain { id, guard }))
    }

    fn deregister(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.tell(Command::Deregister { id, guard }))
    }

    fn find(&self, service: ServiceName, filter: Filter) -> Pending<'_, Result<ServiceView, RegistryError>> {
        Box::pin(async move { Ok(self.shared.read(|catalog| catalog.find(&service, &filter))) })
    }

    fn list(&self) -> Pending<'_, Result<Listing, RegistryError>> {
        Box::pin(async { Ok(self.shared.read(Catalog::list)) })
    }

    fn subscribe(&self, interest: Interest) -> Subscription {
        Subscription::new(Watcher::new(Arc::clone(&self.shared), interest))
    }
}

/// What the writer shows and everybody sees.
#[derive(Debug)]
pub(crate) struct Shared {
    published: RwLock<Catalog>,
    pub(crate) hub: Hub,
    commits: AtomicU64,
}

impl Shared {
    pub(crate) fn new(catalog: Catalog) -> Self {
        Self { published: RwLock::new(catalog), hub: Hub::default(), commits: AtomicU64::new(0) }
    }

    /// Asks the published catalog; the answer must not take long, because a publication waits for it.
    pub(crate) fn read<T>(&self, ask: impl FnOnce(&Catalog) -> T) -> T {
        ask(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The whole truth within `interest`, and the revision up to which it includes every change.
    pub(crate) fn reset(&self, interest: &Interest) -> (Revision, Change) {
        self.read(|catalog| (catalog.revision(), catalog.reset(interest)))
    }

    /// Shows what one durable batch changed, then tells the watchers.
    pub(crate) fn publish(&self, events: &[Event]) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        {
            let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
            events.iter().for_each(|event| evolve(&mut published, event));
        }
        self.hub.publish(events);
    }

    /// Shows another catalog, read anew from the disk; every watcher starts over.
    pub(crate) fn replace(&self, catalog: Catalog) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = catalog;
        self.hub.reset();
    }
}
