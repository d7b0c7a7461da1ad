//! What everybody but the writer holds: the published catalog and keys, the way to the writer, the way to the watchers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use catalog::{Catalog, Command, Event, evolve};
use portolan_model::{
    Batch, Change, Entry, Filter, Guard, InstanceId, Interest, Key, KeyBook, KeyChange, KeyListing,
    KeySubscription, KeyValue, KeyValueError, Listing, Pending, Prefix, Registration, Registry,
    RegistryError, Revision, ServiceName, ServiceView, Subscription,
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
    /// How many keys it holds.
    pub keys: usize,
    /// How many subscriptions are open.
    pub subscriptions: usize,
}

/// What is to be done, and where its outcome goes. Whoever asked may have gone: it is done all the same.
pub(crate) enum Request {
    Instances(Command, oneshot::Sender<Result<Revision, RegistryError>>),
    Keys(Batch, oneshot::Sender<Result<Revision, KeyValueError>>),
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
            keys: self.shared.keys.len(),
            subscriptions: self.shared.hub.len(),
        }
    }

    async fn tell(&self, command: Command) -> Result<Revision, RegistryError> {
        let (answer, outcome) = oneshot::channel();
        let gone = || RegistryError::Unavailable("the registry is shut down".into());
        self.requests.send(Request::Instances(command, answer)).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }

    async fn tell_keys(&self, batch: Batch) -> Result<Revision, KeyValueError> {
        let (answer, outcome) = oneshot::channel();
        let gone = || Arc::from("the registry is shut down");
        let sent = self.requests.send(Request::Keys(batch, answer)).await;
        sent.map_err(|_| KeyValueError::Unavailable(gone()))?;
        outcome.await.map_err(|_| KeyValueError::Uncertain(gone()))?
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

impl KeyValue for Embedded {
    fn get(&self, key: Key) -> Pending<'_, Result<Option<Arc<Entry>>, KeyValueError>> {
        Box::pin(async move { Ok(self.shared.keys.get(&key)) })
    }

    fn list(&self, prefix: Prefix) -> Pending<'_, Result<KeyListing, KeyValueError>> {
        Box::pin(async move { Ok(self.shared.keys.list(&prefix)) })
    }

    fn commit(&self, batch: Batch) -> Pending<'_, Result<Revision, KeyValueError>> {
        Box::pin(self.tell_keys(batch))
    }

    fn watch(&self, prefix: Prefix) -> KeySubscription {
        self.shared.keys.watch(prefix)
    }
}

/// What the writer shows and everybody sees.
#[derive(Debug)]
pub(crate) struct Shared {
    published: RwLock<Catalog>,
    pub(crate) keys: KeyBook,
    pub(crate) hub: Hub,
    commits: AtomicU64,
}

impl Shared {
    pub(crate) fn new(catalog: Catalog, keys: KeyListing) -> Self {
        let book = KeyBook::default();
        book.apply([KeyChange::Reset(keys)]);
        let (hub, commits) = (Hub::default(), AtomicU64::new(0));
        Self { published: RwLock::new(catalog), keys: book, hub, commits }
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
    pub(crate) fn publish(&self, events: &[Event], changes: Vec<KeyChange>) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        {
            let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
            events.iter().for_each(|event| evolve(&mut published, event));
        }
        self.hub.publish(events);
        self.keys.apply(changes);
    }

    /// Shows what was read anew from the disk; every watcher of instances starts over.
    pub(crate) fn replace(&self, catalog: Catalog, keys: KeyListing) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = catalog;
        self.hub.reset();
        self.keys.apply([KeyChange::Reset(keys)]);
    }

    /// Nothing will ever be published again.
    pub(crate) fn end(&self) {
        self.hub.end();
        self.keys.end();
    }
}
