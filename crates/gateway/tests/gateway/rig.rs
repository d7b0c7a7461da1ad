//! A running gateway over the simplest registry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed precondition ends the test")]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway::{Config, Handle, Limits, Question, Timeouts};
use portolan_model::{
    Endpoint, Guard, Health, Host, Incarnation, InstanceId, Owner, Protocol, Registration, Registry,
    ServiceName, Weight,
};
use routing::BrokenRoute;
use runtime::{Shutdown, ShutdownTrigger, StatusBoard};
use testkit::memory_registry::MemoryRegistry;
use testkit::ports::free_ports;
use testkit::upstream::{Behaviour, Upstream};
use testkit::wire::{Client, Message};
use tokio::task::JoinHandle;

pub(crate) struct Rig {
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) handle: Handle,
    pub(crate) trigger: ShutdownTrigger,
    pub(crate) running: JoinHandle<()>,
}

/// One core, short timeouts: tests wait for conditions, and for timeouts only where a timeout is what is tested.
pub(crate) fn config() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        cores: 1,
        routing: routing::Config { domain: Some("svc.test".into()), ..routing::Config::default() },
        timeouts: Timeouts { response: Duration::from_secs(10), ..Timeouts::default() },
        limits: Limits::default(),
        trusted_proxies: Vec::new(),
    }
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let registry = Arc::new(MemoryRegistry::default());
        let (trigger, shutdown) = Shutdown::new();
        let seam: Arc<dyn Registry> = registry.clone();
        let (handle, gateway) = gateway::build(config, seam, &StatusBoard::default()).unwrap();
        let running = tokio::spawn(gateway.run(shutdown));
        Self { registry, handle, trigger, running }
    }

    /// Starts an instance and waits until the gateway knows it.
    pub(crate) async fn instance(&self, service: &str, id: &str, behaviour: Behaviour) -> Upstream {
        let upstream = Upstream::start(behaviour).await.unwrap();
        self.register(service, id, upstream.address()).await;
        upstream
    }

    /// Registers an endpoint and waits until the gateway knows it.
    pub(crate) async fn register(&self, service: &str, id: &str, address: SocketAddr) {
        self.registry.register(registration(service, id, address)).await.unwrap();
        self.until(service, |ids| ids.iter().any(|known| known == id)).await;
    }

    pub(crate) async fn drain(&self, id: &str) {
        self.registry.drain(InstanceId::new(id).unwrap(), Guard::Anyone).await.unwrap();
    }

    pub(crate) async fn deregister(&self, service: &str, id: &str) {
        self.registry.deregister(InstanceId::new(id).unwrap(), Guard::Anyone).await.unwrap();
        self.until(service, |ids| ids.iter().all(|known| known != id)).await;
    }

    /// Waits until the gateway's view of a service's instances satisfies `condition`.
    pub(crate) async fn until(&self, service: &str, condition: impl Fn(&[String]) -> bool) {
        self.until_told(service, |told| {
            condition(&told.instances.iter().map(|i| i.id.clone()).collect::<Vec<_>>())
        })
        .await;
    }

    pub(crate) async fn until_told(&self, service: &str, condition: impl Fn(&routing::Explanation) -> bool) {
        let question = Question { path: format!("/{service}"), ..Question::default() };
        within(async {
            while !condition(&self.handle.explain(&question)) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until the gateway's broken routes satisfy `condition`.
    pub(crate) async fn until_broken(&self, condition: impl Fn(&[BrokenRoute]) -> bool) {
        within(async {
            while !condition(&self.handle.broken_routes()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.handle.local_addr()).await.unwrap()
    }

    /// `GET path` on a new connection.
    pub(crate) async fn get(&self, path: &str, headers: &str) -> Message {
        within(async { self.client().await.get(path, headers).await.unwrap() }).await
    }

    /// Ends the gateway and waits for it.
    pub(crate) async fn stop(self) {
        self.trigger.trigger();
        within(self.running).await.unwrap();
    }
}

/// Far more than anything takes; a test that hangs says where.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let limited = tokio::time::timeout(Duration::from_secs(20), future);
        limited.await.unwrap_or_else(|_| panic!("waited in vain at {place}"))
    }
}

pub(crate) fn registration(service: &str, id: &str, address: SocketAddr) -> Registration {
    Registration {
        id: InstanceId::new(id).unwrap(),
        service: ServiceName::new(service).unwrap(),
        endpoint: Endpoint { host: Host::Ip(address.ip()), port: address.port() },
        protocol: Protocol::Tcp,
        tags: [].into(),
        meta: [].into(),
        weight: Weight::default(),
        zone: None,
        owner: Owner::new("test").unwrap(),
        incarnation: Incarnation(1),
        health: Health::Passing,
    }
}

/// A loopback address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_ports(1)[0]).into()
}
