//! Consul's agent API, and our own face, which speaks the same protocol.
//!
//! **Registrations** go to one agent, the *home*: the first of the servers given that answers. Agents keep their
//! registrations to themselves, so when the home is gone for good, everything is registered with the next one and
//! removed at the old one; when it comes back without its memory, everything is registered again. Each registration has
//! a check that lives by our signs of life (`ttl`), so that a crash of this process shows: critical after `ttl`, removed
//! after `deregister_after`. On a clean shutdown it is deregistered. With a `portolan://` there are neither checks nor an
//! end: a registration lasts until somebody deregisters it.
//!
//! **Reading** is by blocking queries (`watch`), of a Portolan by one answer that tells each change (`changes`); and
//! answers come from what was read last: a cluster that is away changes nothing of it.
//!
//! **Guards** are best effort: they are compared with what was read last, for an agent has no compare-and-set. Who has
//! registered an id through a running handle has the say: if somebody else removes it, it comes back; if somebody else
//! *registers* it, with another owner or a newer life, this handle lets go of it.
//!
//! Consul's *key-value store* keeps instances in quite another way: [`kv`].
//!
//! `config` and `reach` say what can be said in a URI, `form` and `row` how an instance looks in Consul, `book` what is known, `wanted`
//! and `desk` what to ask of whom; `line`, `flow` and `tls` are the connections, `watch`, `follower`, `cursor`, `pace`, `changes` and `leader` the
//! reading,
//! `driver` the loop, `errands` its tasks and `contact` how its home fares.

mod book;
mod changes;
mod config;
mod contact;
mod cursor;
mod desk;
mod driver;
mod errands;
mod flow;
mod follower;
mod forgetting;
mod form;
mod job;
mod key_value;
pub mod kv;
mod leader;
mod line;
mod pace;
mod reach;
mod row;
mod tls;
mod wanted;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Filter, Guard, InstanceId, Interest, Listing, Pending, Registration, Registry, RegistryError, Revision,
    ServiceName, ServiceView, Subscription,
};
use runtime::StatusBoard;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

pub use config::{Config, SCHEMES};
pub use driver::Driver;

use crate::mirror::Mirror;
use job::{Goal, Job};

/// How long a write may take, and how long a first answer.
const DEADLINE: Duration = Duration::from_secs(9);
/// What Consul says to whose token does not suffice.
const DENIED: &str = "Permission denied";
/// How many writes may wait to be taken up by the driver.
const QUEUE: usize = 1024;

/// A handle and what drives it; nothing is connected to before [`Driver::run`].
pub fn build(config: Config, board: &StatusBoard) -> (Arc<dyn Registry>, Driver) {
    build_over(config, Mirror::default(), board)
}

/// The same, with a mirror that may know something already.
pub(crate) fn build_over(config: Config, mirror: Mirror, board: &StatusBoard) -> (Arc<dyn Registry>, Driver) {
    let (commands, taken) = mpsc::channel(QUEUE);
    let handle = Handle { config: config.clone(), mirror: mirror.clone(), commands };
    (Arc::new(handle), Driver::new(config, mirror, taken, board.reporter("registry")))
}

struct Handle {
    config: Config,
    mirror: Mirror,
    commands: mpsc::Sender<Job>,
}

impl Handle {
    async fn write(&self, id: InstanceId, goal: Goal) -> Result<Revision, RegistryError> {
        let unavailable = |why: &str| RegistryError::Unavailable(why.into());
        self.read().await?;
        let deadline = Instant::now() + DEADLINE;
        let (job, answer) = Job::new(id, goal, deadline);
        let sent = timeout(DEADLINE, self.commands.send(job)).await;
        sent.map_err(|_| unavailable("too many writes wait"))?
            .map_err(|_| unavailable("the registry's driver has ended"))?;
        answer.await.map_err(|_| unavailable("the registry's driver has ended"))?
    }

    /// Waits until something is known.
    async fn known(&self) -> Result<(), RegistryError> {
        if self.mirror.is_filled() { Ok(()) } else { self.read().await }
    }

    /// Waits until the catalog was read once.
    async fn read(&self) -> Result<(), RegistryError> {
        let why = || RegistryError::Unavailable("its catalog could not be read yet".into());
        if self.mirror.is_read() {
            return Ok(());
        }
        timeout(DEADLINE, self.mirror.reached(Revision::default())).await.map_err(|_| why())
    }
}

impl Registry for Handle {
    fn register(&self, registration: Registration) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(async move {
            registration.check_limits()?;
            form::body(&self.config, &registration)?;
            self.write(registration.id.clone(), Goal::Register(Box::new(registration))).await
        })
    }

    fn drain(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.write(id, Goal::Drain(guard)))
    }

    fn deregister(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.write(id, Goal::Deregister(guard)))
    }

    fn find(&self, service: ServiceName, filter: Filter) -> Pending<'_, Result<ServiceView, RegistryError>> {
        Box::pin(async move {
            self.known().await?;
            Ok(self.mirror.find(&service, &filter))
        })
    }

    fn list(&self) -> Pending<'_, Result<Listing, RegistryError>> {
        Box::pin(async move {
            self.known().await?;
            Ok(self.mirror.list())
        })
    }

    fn subscribe(&self, interest: Interest) -> Subscription {
        self.mirror.subscribe(interest)
    }
}
