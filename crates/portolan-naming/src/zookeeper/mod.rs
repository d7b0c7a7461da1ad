//! A registry in ZooKeeper.
//!
//! Instances are ephemeral nodes ([`Config`] says where and in which layout). One [`Driver`] owns the connection: it watches
//! everything below the base path, keeps a mirror of it, and does the writes. What was registered through the handle is
//! held: after a lost session it is registered again, once; on shutdown it is removed.
//!
//! | what happens | what is seen |
//! |---|---|
//! | an instance is deregistered, by whomever | it goes at once |
//! | its owner's session ends | it goes after `grace`, unless it is registered again by then |
//! | ZooKeeper is away, or our session has ended | nothing changes; writes wait up to `timeout` |
//! | ZooKeeper is back | the difference; what is missing now goes after `reread_grace`, unless it is registered again |
//!
//! Revisions are transaction ids of ZooKeeper, moved forward where two changes would have the same. Where to start:
//! `driver.rs` (from one connection to the next), `session.rs` (the loop), `silence.rs` (when a server is left), `table.rs`
//! (what nodes mean), `plan.rs` (what to write).

mod acl;
mod config;
mod connection;
mod driver;
mod jobs;
mod key_cut;
mod key_value;
mod layout;
mod plan;
mod session;
mod silence;
mod table;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Filter, Guard, InstanceId, Interest, Listing, Pending, Registration, Registry, RegistryError, Revision,
    ServiceName, ServiceView, Subscription,
};
use runtime::StatusBoard;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

pub use config::Config;
pub(crate) use config::SCHEMES;
pub use driver::Driver;

use crate::mirror::Mirror;
use jobs::Job;
use plan::Wish;

/// Writes that wait for the driver; who comes when it is full waits before it.
const QUEUE_LIMIT: usize = 1024;

/// A registry that connects to ZooKeeper once its driver runs. The driver reports as `registry` on `board`.
pub fn build(config: Config, board: &StatusBoard) -> (Arc<dyn Registry>, Driver) {
    build_over(config, Mirror::default(), board)
}

/// The same, with a mirror that may know something already.
pub(crate) fn build_over(config: Config, mirror: Mirror, board: &StatusBoard) -> (Arc<dyn Registry>, Driver) {
    let (sender, commands) = mpsc::channel(QUEUE_LIMIT);
    let handle = Handle { mirror: mirror.clone(), commands: sender, patience: config.timeout };
    (Arc::new(handle), Driver::new(config, mirror, commands, board))
}

/// What is asked.
struct Handle {
    mirror: Mirror,
    commands: mpsc::Sender<Job>,
    patience: Duration,
}

impl Handle {
    async fn write(&self, wish: Wish) -> Result<Revision, RegistryError> {
        let deadline = Instant::now() + self.patience;
        let (reply, mut answer) = oneshot::channel();
        let slow = || unavailable("zookeeper does not answer in time");
        let sent = timeout_at(deadline, self.commands.send(Job::new(wish, Some(reply)))).await;
        sent.map_err(|_| slow())?.map_err(|_| unavailable("the registry is closed"))?;
        match timeout_at(deadline, &mut answer).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(unavailable("the registry is closed"))),
            Err(_) => {
                // From here on the driver knows that nobody waits; what it has answered before counts.
                answer.close();
                answer.try_recv().unwrap_or_else(|_| Err(slow()))
            }
        }
    }

    async fn filled(&self) -> Result<(), RegistryError> {
        if self.mirror.is_filled() {
            return Ok(());
        }
        let filled = timeout(self.patience, self.mirror.reached(Revision::default())).await;
        filled.map_err(|_| unavailable("zookeeper was not read yet"))
    }
}

impl Registry for Handle {
    fn register(&self, registration: Registration) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(async {
            registration.check_limits()?;
            self.write(Wish::Register(registration)).await
        })
    }

    fn drain(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.write(Wish::Drain(id, guard)))
    }

    fn deregister(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.write(Wish::Deregister(id, guard)))
    }

    fn find(&self, service: ServiceName, filter: Filter) -> Pending<'_, Result<ServiceView, RegistryError>> {
        Box::pin(async move {
            self.filled().await?;
            Ok(self.mirror.find(&service, &filter))
        })
    }

    fn list(&self) -> Pending<'_, Result<Listing, RegistryError>> {
        Box::pin(async {
            self.filled().await?;
            Ok(self.mirror.list())
        })
    }

    fn subscribe(&self, interest: Interest) -> Subscription {
        self.mirror.subscribe(interest)
    }
}

fn unavailable(why: &str) -> RegistryError {
    RegistryError::Unavailable(why.into())
}
