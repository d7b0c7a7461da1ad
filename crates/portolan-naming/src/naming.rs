//! The SDK: what a program does with a registry, whichever it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Filter, Guard, Instance, InstanceId, Interest, KeyValue, KeyValueError, Registration, Registry,
    RegistryError, ServiceName, Subscription, View,
};
use runtime::{Shutdown, ShutdownTrigger, StatusBoard, Tasks, Unfinished};

use tokio::runtime::Handle;

use crate::backend::Options;
use crate::uri::UriError;

/// How long a dropped [`Registered`] tries to deregister.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// Why a registry could not be opened. A registry that is merely away opens all the same, and is caught up with later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The URI, or one of its options, is malformed.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// No backend goes by this scheme, or it was not compiled in.
    #[error("no registry is called {scheme:?}; there are {known}")]
    Scheme {
        /// What the URI says.
        scheme: String,
        /// What there is, separated by commas.
        known: String,
    },
    /// The embedded registry could not be opened: its path is in use, or cannot be read.
    #[error("embedded registry: {why}")]
    Embedded {
        /// What is wrong with which path.
        why: String,
    },
    /// A registry needs a running tokio runtime.
    #[error("a registry is opened within a tokio runtime; use the blocking interface elsewhere")]
    NoRuntime,
}

/// A registry in use. Cheap to clone; the last clone to be dropped closes it.
#[derive(Clone)]
pub struct Naming(Arc<Inner>);

struct Inner {
    registry: Arc<dyn Registry>,
    keys: Option<Arc<dyn KeyValue>>,
    tasks: Tasks,
    trigger: ShutdownTrigger,
    board: StatusBoard,
    /// Where guards say farewell that are dropped outside of it.
    home: Option<Handle>,
}

impl Naming {
    /// Opens the registry that `uri` names and begins to connect to it.
    ///
    /// # Errors
    /// When the URI is malformed or names no registry, or outside a tokio runtime.
    pub fn open(uri: &str) -> Result<Self, OpenError> {
        Self::open_with(uri, Options::default())
    }

    /// The same with more to say, for example where to keep the last known table for a start without the registry.
    ///
    /// # Errors
    /// As for [`Naming::open`].
    pub fn open_with(uri: &str, options: Options) -> Result<Self, OpenError> {
        let home = Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        let board = StatusBoard::default();
        let (registry, driver) = crate::backend::build_with(uri, options, &board)?;
        let keys = Some(driver.key_value());
        let (trigger, shutdown) = Shutdown::new();
        let tasks = Tasks::new(board.clone());
        tasks.spawn("naming", driver.run(shutdown));
        Ok(Self(Arc::new(Inner { registry, keys, tasks, trigger, board, home: Some(home) })))
    }

    /// Uses a registry that somebody else drives, for example one embedded in this process.
    pub fn over(registry: Arc<dyn Registry>) -> Self {
        Self::over_both(registry, None)
    }

    /// The same with what keeps the keys beside it.
    pub fn over_both(registry: Arc<dyn Registry>, keys: Option<Arc<dyn KeyValue>>) -> Self {
        let (trigger, _) = Shutdown::new();
        let board = StatusBoard::default();
        let home = Handle::try_current().ok();
        let tasks = Tasks::new(board.clone());
        Self(Arc::new(Inner { registry, keys, tasks, trigger, board, home }))
    }

    /// Registers an instance and keeps it registered, through whatever happens to the registry, until the guard goes.
    ///
    /// # Errors
    /// See [`RegistryError`]; nothing is registered then.
    pub async fn register(&self, registration: Registration) -> Result<Registered, RegistryError> {
        let guard =
            Guard::OwnedBy { owner: registration.owner.clone(), incarnation: registration.incarnation };
        let id = registration.id.clone();
        self.0.registry.register(registration).await?;
        Ok(Registered { naming: self.clone(), id, guard, kept: false })
    }

    /// Removes an instance, whoever registered it.
    ///
    /// # Errors
    /// [`RegistryError::UnknownInstance`] when there is none; others when the registry is away.
    pub async fn deregister(&self, id: InstanceId) -> Result<(), RegistryError> {
        self.0.registry.deregister(id, Guard::Anyone).await.map(|_| ())
    }

    /// The instances of a service that may be sent new work and carry all of `tags`.
    ///
    /// # Errors
    /// When nothing was ever heard of the registry. One that has gone away since answers with what was known.
    pub async fn find<T: Into<String>>(
        &self,
        service: ServiceName,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Arc<Instance>>, RegistryError> {
        let tags = tags.into_iter().map(Into::into).collect::<BTreeSet<String>>();
        let view = self.0.registry.find(service, Filter { tags, ..Filter::usable() }).await?;
        Ok(view.instances)
    }

    /// The names of all services with instances.
    ///
    /// # Errors
    /// As for [`Naming::find`].
    pub async fn services(&self) -> Result<Vec<ServiceName>, RegistryError> {
        Ok(self.0.registry.list().await?.services.into_keys().collect())
    }

    /// Follows a service; dropping the watch ends it.
    pub fn subscribe(&self, service: ServiceName) -> Watch {
        let subscription = self.0.registry.subscribe(Interest::Service(service.clone()));
        Watch { service, subscription, view: View::default() }
    }

    /// The seam below, for whoever needs all of it.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.0.registry
    }

    /// Small values that several processes share, kept by the same cluster. Nothing is read of them before they are asked
    /// for.
    ///
    /// # Errors
    /// [`KeyValueError::Unsupported`] for a registry that was given without them.
    pub fn key_value(&self) -> Result<Arc<dyn KeyValue>, KeyValueError> {
        self.0.keys.clone().ok_or_else(|| KeyValueError::Unsupported("this registry".into()))
    }

    /// How the registry fares, for people.
    pub fn status(&self) -> StatusBoard {
        self.0.board.clone()
    }

    /// Closes the registry: what this handle registered for as long as it lives is removed.
    ///
    /// # Errors
    /// When it has not ended after `deadline`.
    pub async fn close(self, deadline: Duration) -> Result<(), Unfinished> {
        self.0.trigger.trigger();
        self.0.tasks.finish(deadline).await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.trigger.trigger();
    }
}

/// An instance that is registered for as long as this lives.
#[must_use = "dropping it deregisters the instance"]
pub struct Registered {
    naming: Naming,
    id: InstanceId,
    guard: Guard,
    kept: bool,
}

impl Registered {
    /// The instance's id.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Marks the instance as on its way out: it stays listed and gets no new work.
    ///
    /// # Errors
    /// When the registry is away, or somebody else has taken the id over.
    pub async fn drain(&self) -> Result<(), RegistryError> {
        self.naming.0.registry.drain(self.id.clone(), self.guard.clone()).await.map(|_| ())
    }

    /// Deregisters, and waits for it.
    ///
    /// # Errors
    /// When the registry is away. An instance that is gone already, or somebody else's by now, is no error.
    pub async fn deregister(mut self) -> Result<(), RegistryError> {
        self.kept = true;
        farewell(&self.naming, self.id.clone(), self.guard.clone()).await
    }

    /// Lets go without deregistering: the registry keeps the instance for as long as it would without us.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let Some(home) = self.naming.0.home.clone().or_else(|| Handle::try_current().ok()) else { return };
        let (naming, id, guard) = (self.naming.clone(), self.id.clone(), self.guard.clone());
        // The clone keeps the registry open until the farewell is said.
        let tasks = self.naming.0.tasks.clone();
        let _at_home = home.enter();
        tasks.spawn("farewell", async move {
            let said = tokio::time::timeout(FAREWELL, farewell(&naming, id.clone(), guard)).await;
            if !matches!(said, Ok(Ok(()))) {
                tracing::warn!(%id, "could not deregister an instance that was let go");
            }
        });
    }
}

async fn farewell(naming: &Naming, id: InstanceId, guard: Guard) -> Result<(), RegistryError> {
    match naming.0.registry.deregister(id, guard).await {
        Ok(_)
        | Err(
            RegistryError::UnknownInstance(_)
            | RegistryError::NotOwner { .. }
            | RegistryError::StaleIncarnation { .. },
        ) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A service, followed. It never ends with an error: while the registry is away, the last list stands.
pub struct Watch {
    service: ServiceName,
    subscription: Subscription,
    view: View,
}

impl Watch {
    /// All instances of the service: at once the first time, then after every change. `None` once the registry is
    /// closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<Arc<Instance>>> {
        loop {
            let change = self.subscription.next().await?;
            let first = matches!(change, portolan_model::Change::Reset { .. });
            let touched = self.view.apply(change);
            if first || !touched.is_empty() {
                return Some(self.view.instances(self.service.as_str()).cloned().collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ids, instance};
    use testkit::memory_registry::MemoryRegistry;

    fn naming() -> Naming {
        Naming::over(Arc::new(MemoryRegistry::default()))
    }

    fn web() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn registration(id: &str) -> Registration {
        let mut registration = instance("web", id, 0).registration.clone();
        registration.tags.insert("blue".into());
        registration
    }

    #[tokio::test]
    async fn the_nine_steps() {
        let naming = naming();
        assert!(naming.find(web(), [""; 0]).await.unwrap().is_empty());
        let mut watch = naming.subscribe(web());
        assert_eq!(ids(&watch.next().await.unwrap()), [""; 0]);
        let a = naming.register(registration("a")).await.unwrap();
        assert_eq!(ids(&watch.next().await.unwrap()), ["a"]);
        let b = naming.register(registration("b")).await.unwrap();
        assert_eq!(ids(&watch.next().await.unwrap()), ["a", "b"]);
        assert_eq!(ids(&naming.find(web(), ["blue"]).await.unwrap()), ["a", "b"]);
        assert_eq!(ids(&naming.find(web(), ["red"]).await.unwrap()), [""; 0]);
        assert_eq!(naming.services().await.unwrap(), [web()]);
        a.deregister().await.unwrap();
        assert_eq!(ids(&watch.next().await.unwrap()), ["b"]);
        b.drain().await.unwrap();
        assert_eq!(ids(&watch.next().await.unwrap()), ["b"], "a draining one stays listed");
        assert!(naming.find(web(), [""; 0]).await.unwrap().is_empty(), "and is not found for new work");
        drop(b);
        assert_eq!(ids(&watch.next().await.unwrap()), [""; 0], "the guard has deregistered it");
    }

    #[tokio::test]
    async fn what_is_kept_stays_and_what_is_taken_over_is_left_alone() {
        let naming = naming();
        naming.register(registration("a")).await.unwrap().keep();
        assert_eq!(naming.find(web(), [""; 0]).await.unwrap().len(), 1);
        let b = naming.register(registration("b")).await.unwrap();
        let mut other = registration("b");
        other.owner = portolan_model::Owner::new("somebody").unwrap();
        let theirs = naming.register(other).await.unwrap();
        b.deregister().await.unwrap();
        assert_eq!(naming.find(web(), [""; 0]).await.unwrap().len(), 2);
        theirs.keep();
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_said() {
        let said = |uri: &str| Naming::open(uri).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said("nonsense").contains("has no scheme"));
        assert!(said("nonsense://a").starts_with("no registry is called \"nonsense\"; there are "));
    }
}
