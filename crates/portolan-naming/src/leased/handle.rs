//! What callers hold: writes go to the driver, reads are answered from the mirror.

use std::time::Duration;

use portolan_model::{
    Filter, Guard, InstanceId, Interest, Listing, Pending, Registration, Registry, RegistryError, Revision,
    ServiceName, ServiceView, Subscription,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Command, Order};
use crate::mirror::Mirror;

/// See the module's head.
pub(crate) struct Handle {
    /// What to call the store in messages.
    pub(crate) name: &'static str,
    pub(crate) mirror: Mirror,
    pub(crate) orders: mpsc::Sender<Order>,
    /// How long a write, or a read before anything is known, may take.
    pub(crate) patience: Duration,
}

impl Registry for Handle {
    fn register(&self, registration: Registration) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.write(Command::Register(registration)))
    }

    fn drain(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.write(Command::Drain(id, guard)))
    }

    fn deregister(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(self.write(Command::Deregister(id, guard)))
    }

    fn find(&self, service: ServiceName, filter: Filter) -> Pending<'_, Result<ServiceView, RegistryError>> {
        Box::pin(async move {
            self.filled().await?;
            Ok(self.mirror.find(&service, &filter))
        })
    }

    fn list(&self) -> Pending<'_, Result<Listing, RegistryError>> {
        Box::pin(async move {
            self.filled().await?;
            Ok(self.mirror.list())
        })
    }

    fn subscribe(&self, interest: Interest) -> Subscription {
        self.mirror.subscribe(interest)
    }
}

impl Handle {
    async fn write(&self, command: Command) -> Result<Revision, RegistryError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let order = Order { command, reply, tried: false };
            self.orders.send(order).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        };
        timeout(self.patience, asked).await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn filled(&self) -> Result<(), RegistryError> {
        if self.mirror.is_filled() {
            return Ok(());
        }
        timeout(self.patience, self.mirror.reached(Revision(0))).await.map_err(|_| self.late())
    }

    fn late(&self) -> RegistryError {
        RegistryError::Unavailable(format!("no answer from {} within {:?}", self.name, self.patience).into())
    }
}

fn stopped() -> RegistryError {
    RegistryError::Unavailable("the registry is shut down".into())
}
