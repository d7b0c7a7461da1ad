//! A handle with its driver, and how tests wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::{
    Endpoint, Filter, Health, Incarnation, InstanceId, KeyValue, Owner, Protocol, Registration, Registry,
    ServiceName, Weight,
};
use portolan_naming::etcd::{Config, build};
use runtime::{Shutdown, ShutdownTrigger, StatusBoard};
use tokio::task::JoinHandle;

/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Handle {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) keys: Arc<dyn KeyValue>,
    pub(crate) board: StatusBoard,
    trigger: ShutdownTrigger,
    driver: JoinHandle<()>,
}

impl Handle {
    pub(crate) fn open(uri: &str) -> Self {
        let config = Config::from_uri(uri.parse().unwrap()).unwrap();
        let board = StatusBoard::default();
        let (registry, driver) = build(config, &board);
        let keys = driver.key_value();
        let (trigger, shutdown) = Shutdown::new();
        let driver = tokio::spawn(driver.run(shutdown));
        Self { registry, keys, board, trigger, driver }
    }

    /// Ends as a process does that is told to.
    pub(crate) async fn close(self) {
        self.trigger.trigger();
        tokio::time::timeout(PATIENCE, self.driver).await.unwrap().unwrap();
    }

    /// Ends as a process does that is killed.
    pub(crate) async fn crash(self) {
        self.driver.abort();
        let _aborted = self.driver.await;
    }

    pub(crate) async fn register(&self, said: Registration) {
        self.registry.register(said).await.unwrap();
    }

    /// How many instances of `service` are known.
    pub(crate) async fn count(&self, service: &str) -> usize {
        let service = ServiceName::new(service).unwrap();
        self.registry.find(service, Filter::default()).await.map_or(0, |view| view.instances.len())
    }
}

pub(crate) fn said(service: &str, id: &str) -> Registration {
    Registration {
        id: InstanceId::new(id).unwrap(),
        service: ServiceName::new(service).unwrap(),
        endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: 80 },
        protocol: Protocol::Tcp,
        tags: ["v1".to_owned()].into(),
        meta: [].into(),
        weight: Weight(3),
        zone: None,
        owner: Owner::new("test").unwrap(),
        incarnation: Incarnation(1),
        health: Health::Passing,
    }
}

/// Waits for a condition. Returns how long it took.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) -> Duration {
    let begun = Instant::now();
    testkit::wait::until(PATIENCE, what, condition).await;
    begun.elapsed()
}
