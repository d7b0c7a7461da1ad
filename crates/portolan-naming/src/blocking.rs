//! The same interface for programs without an async runtime: one thread in the background runs one.
//!
//! ```no_run
//! # use portolan_naming::blocking::{Error, Naming};
//! # use portolan_model::ServiceName;
//! fn main() -> Result<(), Error> {
//!     let naming = Naming::open("etcd://10.0.0.1:2379,10.0.0.2:2379/services")?;
//!     let mut watch = naming.subscribe(ServiceName::new("web").expect("a name"))?;
//!     while let Some(instances) = watch.next()? {
//!         println!("{} instances", instances.len());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Within an async runtime everything here fails with [`Error::WithinRuntime`], as it would stall that runtime; use
//! [`crate::Naming`] there. That holds for threads made by `spawn_blocking` too.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use portolan_model::{Instance, InstanceId, Registration, RegistryError, ServiceName};
use runtime::StatusBoard;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::backend::Options;
use crate::naming::{self, OpenError};

/// How long the background thread may take to end: longer than any backend's farewell.
const END: Duration = Duration::from_secs(10);

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The registry could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The registry did not do as told.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It would stall the runtime it was called in.
    #[error("the blocking interface was called within an async runtime; use portolan_naming::Naming there")]
    WithinRuntime,
    /// The system gives no thread, or no runtime for it.
    #[error("no background thread: {0}")]
    Thread(Arc<str>),
    /// Nothing has changed in the time given.
    #[error("nothing has changed in time")]
    TimedOut,
}

/// A registry in use. Cheap to clone; the last of its clones, guards and watches to be dropped closes it, and waits for
/// that.
#[derive(Clone)]
pub struct Naming {
    inner: naming::Naming,
    background: Arc<Background>,
}

/// See [`naming::Registered`].
#[must_use = "dropping it deregisters the instance"]
pub struct Registered {
    id: InstanceId,
    /// Taken when it is dropped.
    inner: Option<naming::Registered>,
    background: Arc<Background>,
}

/// See [`naming::Watch`].
pub struct Watch {
    inner: naming::Watch,
    background: Arc<Background>,
}

impl Naming {
    /// Opens the registry that `uri` names and begins to connect to it.
    ///
    /// # Errors
    /// As for [`naming::Naming::open`]; and within an async runtime.
    pub fn open(uri: &str) -> Result<Self, Error> {
        Self::open_with(uri, Options::default())
    }

    /// The same with more to say.
    ///
    /// # Errors
    /// As for [`Naming::open`].
    pub fn open_with(uri: &str, options: Options) -> Result<Self, Error> {
        if within_runtime() {
            return Err(Error::WithinRuntime);
        }
        let (told, begun) = mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        let uri = uri.to_owned();
        let begin = move || run(&uri, options, &told, ended);
        let thread = std::thread::Builder::new().name("portolan-naming".to_owned()).spawn(begin);
        let thread = thread.map_err(|error| Error::Thread(error.to_string().into()))?;
        let begun = begun.recv().map_err(|_| Error::Thread("it has ended at once".into()))?;
        let (inner, handle) = begun?;
        let background = Background { handle, end: Some(end), thread: Some(thread) };
        Ok(Self { inner, background: Arc::new(background) })
    }

    /// See [`naming::Naming::register`].
    ///
    /// # Errors
    /// See [`RegistryError`]; nothing is registered then.
    pub fn register(&self, registration: Registration) -> Result<Registered, Error> {
        let registered = self.background.wait(self.inner.register(registration))??;
        Ok(Registered {
            id: registered.id().clone(),
            inner: Some(registered),
            background: Arc::clone(&self.background),
        })
    }

    /// See [`naming::Naming::deregister`].
    ///
    /// # Errors
    /// [`RegistryError::UnknownInstance`] when there is none; others when the registry is away.
    pub fn deregister(&self, id: InstanceId) -> Result<(), Error> {
        Ok(self.background.wait(self.inner.deregister(id))??)
    }

    /// See [`naming::Naming::find`].
    ///
    /// # Errors
    /// When nothing was ever heard of the registry.
    pub fn find<T: Into<String>>(
        &self,
        service: ServiceName,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Arc<Instance>>, Error> {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        Ok(self.background.wait(self.inner.find(service, tags))??)
    }

    /// See [`naming::Naming::services`].
    ///
    /// # Errors
    /// As for [`Naming::find`].
    pub fn services(&self) -> Result<Vec<ServiceName>, Error> {
        Ok(self.background.wait(self.inner.services())??)
    }

    /// Follows a service; dropping the watch ends it.
    ///
    /// # Errors
    /// Within an async runtime only.
    pub fn subscribe(&self, service: ServiceName) -> Result<Watch, Error> {
        let inner = self.background.wait(async { self.inner.subscribe(service) })?;
        Ok(Watch { inner, background: Arc::clone(&self.background) })
    }

    /// How the registry fares, for people.
    pub fn status(&self) -> StatusBoard {
        self.inner.status()
    }
}

impl Registered {
    /// The instance's id.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// See [`naming::Registered::drain`].
    ///
    /// # Errors
    /// When the registry is away, or somebody else has taken the id over.
    pub fn drain(&self) -> Result<(), Error> {
        match &self.inner {
            Some(inner) => Ok(self.background.wait(inner.drain())??),
            None => Ok(()),
        }
    }

    /// Deregisters, and waits for it.
    ///
    /// # Errors
    /// When the registry is away. An instance that is gone already, or somebody else's by now, is no error.
    pub fn deregister(mut self) -> Result<(), Error> {
        match self.inner.take() {
            Some(inner) => Ok(self.background.wait(inner.deregister())??),
            None => Ok(()),
        }
    }

    /// Lets go without deregistering.
    pub fn keep(mut self) {
        if let Some(inner) = self.inner.take() {
            inner.keep();
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        // Within a runtime nobody may wait here: the guard's own farewell goes on in the background.
        let waited =
            self.background.wait(async { tokio::time::timeout(naming::FAREWELL, inner.deregister()).await });
        match waited {
            Err(_) | Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(_)) | Err(_)) => {
                tracing::warn!(id = %self.id, "could not deregister an instance that was let go");
            }
        }
    }
}

impl Watch {
    /// All instances of the service: at once the first time, then after every change. `None` once the registry is closed.
    ///
    /// # Errors
    /// Within an async runtime only: while the registry is away, the last list stands.
    #[expect(
        clippy::should_implement_trait,
        reason = "its outcome is not an item: it may fail, and the last list stands"
    )]
    pub fn next(&mut self) -> Result<Option<Vec<Arc<Instance>>>, Error> {
        self.background.wait(self.inner.next())
    }

    /// The same, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and nothing is lost by it; or within an async runtime.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Vec<Arc<Instance>>>, Error> {
        let next = async { tokio::time::timeout(timeout, self.inner.next()).await };
        self.background.wait(next)?.map_err(|_| Error::TimedOut)
    }
}

/// The thread that runs the runtime.
struct Background {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    fn wait<T>(&self, what: impl Future<Output = T>) -> Result<T, Error> {
        if within_runtime() { Err(Error::WithinRuntime) } else { Ok(self.handle.block_on(what)) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.end.take());
        // Somebody else's runtime is not to be stalled; the thread ends by itself.
        if !within_runtime()
            && let Some(thread) = self.thread.take()
        {
            let _panicked = thread.join();
        }
    }
}

fn within_runtime() -> bool {
    Handle::try_current().is_ok()
}

type Begun = Result<(naming::Naming, Handle), Error>;

fn run(uri: &str, options: Options, told: &mpsc::SyncSender<Begun>, ended: oneshot::Receiver<()>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _nobody_waits = told.send(Err(Error::Thread(error.to_string().into())));
            return;
        }
    };
    runtime.block_on(async {
        let naming = match naming::Naming::open_with(uri, options) {
            Ok(naming) => naming,
            Err(error) => {
                let _nobody_waits = told.send(Err(error.into()));
                return;
            }
        };
        let handle = Handle::current();
        if told.send(Ok((naming.clone(), handle))).is_err() {
            return;
        }
        let _dropped = ended.await;
        if let Err(unfinished) = naming.close(END).await {
            tracing::warn!(tasks = unfinished.0.join(", "), "the registry did not close in time");
        }
    });
}

#[cfg(test)]
#[cfg(feature = "embedded")]
mod tests {
    use super::*;
    use crate::fixture::{ids, instance};

    fn web() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn registration(id: &str) -> Registration {
        instance("web", id, 0).registration.clone()
    }

    #[test]
    fn a_plain_program_uses_it() {
        let directory = tempfile::tempdir().unwrap();
        let uri = format!("embedded:{}", directory.path().display());
        let naming = Naming::open(&uri).unwrap();
        let mut watch = naming.subscribe(web()).unwrap();
        assert_eq!(ids(&watch.next().unwrap().unwrap()), [""; 0]);
        assert_eq!(watch.next_timeout(Duration::from_millis(1)), Err(Error::TimedOut));
        let (a, b) =
            (naming.register(registration("a")).unwrap(), naming.register(registration("b")).unwrap());
        assert_eq!(ids(&watch.next().unwrap().unwrap()), ["a"]);
        assert_eq!(ids(&watch.next_timeout(Duration::from_secs(60)).unwrap().unwrap()), ["a", "b"]);
        assert_eq!(naming.services().unwrap(), [web()]);
        a.drain().unwrap();
        assert_eq!(ids(&naming.find(web(), [""; 0]).unwrap()), ["b"]);
        a.deregister().unwrap();
        assert!(naming.deregister(InstanceId::new("a").unwrap()).is_err());
        drop(b);
        assert_eq!(naming.find(web(), [""; 0]).unwrap(), [], "dropping a guard waits until it is gone");
        naming.register(registration("c")).unwrap().keep();
        drop((naming, watch));
        // The last one to be dropped has waited for the end: the path is free again, and what was kept is there.
        assert_eq!(ids(&Naming::open(&uri).unwrap().find(web(), [""; 0]).unwrap()), ["c"]);
    }

    #[test]
    fn it_refuses_to_stall_a_runtime() {
        let naming = Naming::open("embedded:").unwrap();
        let registered = naming.register(registration("a")).unwrap();
        let mut watch = naming.subscribe(web()).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            assert_eq!(Naming::open("embedded:").err(), Some(Error::WithinRuntime));
            assert_eq!(naming.find(web(), [""; 0]), Err(Error::WithinRuntime));
            assert_eq!(watch.next(), Err(Error::WithinRuntime));
            drop(registered);
        });
        while !naming.find(web(), [""; 0]).unwrap().is_empty() {
            let _changed = watch.next_timeout(Duration::from_secs(1));
        }
    }

    #[test]
    fn what_cannot_be_opened_is_said() {
        let said = |uri: &str| Naming::open(uri).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said("nonsense").contains("has no scheme"));
        assert!(said("nonsense://a").starts_with("no registry is called"));
    }
}
