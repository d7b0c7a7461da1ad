//! The HTTP face over real sockets, on a registry in memory.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod blocking;
mod changes;
mod client;
mod keys;
mod limits;
mod reports;
mod shapes;
mod writing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::http::{Config, Limits, build};
use axum::Router;
use axum::routing::get;
use portolan_model::{KeyValue, Registry, Reports};
use runtime::{Shutdown, ShutdownTrigger, State, StatusBoard};
use testkit::memory_key_value::MemoryKeyValue;
use testkit::memory_registry::MemoryRegistry;
use tokio::task::JoinHandle;

use client::{Answer, exchange};

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running face.
struct Running {
    address: SocketAddr,
    registry: MemoryRegistry,
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
}

impl Running {
    fn start() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let registry = MemoryRegistry::default();
        Self::over(limits, Arc::new(registry.clone()), registry)
    }

    fn over(limits: Limits, served: Arc<dyn Registry>, registry: MemoryRegistry) -> Self {
        Self::over_both(limits, served, Arc::new(MemoryKeyValue::default()), registry)
    }

    fn reporting_to(reports: Option<Arc<dyn Reports>>) -> Self {
        let registry = MemoryRegistry::default();
        let (served, keys) = (Arc::new(registry.clone()), Arc::new(MemoryKeyValue::default()));
        Self::of(Limits::default(), served, keys, registry, reports)
    }

    fn over_both(
        limits: Limits,
        served: Arc<dyn Registry>,
        keys: Arc<dyn KeyValue>,
        registry: MemoryRegistry,
    ) -> Self {
        Self::of(limits, served, keys, registry, None)
    }

    fn of(
        limits: Limits,
        served: Arc<dyn Registry>,
        keys: Arc<dyn KeyValue>,
        registry: MemoryRegistry,
        reports: Option<Arc<dyn Reports>>,
    ) -> Self {
        let board = StatusBoard::default();
        board.reporter("registrator").say(State::Degraded, "no engine");
        let panics = || async {
            if true {
                panic!("out of luck")
            }
        };
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            node: "n1".into(),
            node_address: "127.0.0.1".parse().unwrap(),
            datacenter: "dc1".into(),
            extra: Router::new()
                .route("/v1/extra", get(|| async { "extra" }))
                .route("/v1/panic", get(panics)),
            limits,
            reports,
        };
        let (handle, server) = build(config, served, keys, board).unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let task = tokio::spawn(server.run(shutdown));
        Self { address: handle.local_addr(), registry, trigger, task }
    }

    async fn get(&self, target: &str) -> Answer {
        exchange(self.address, "GET", target, "").await
    }

    async fn put(&self, target: &str, body: &str) -> Answer {
        exchange(self.address, "PUT", target, body).await
    }

    async fn delete(&self, target: &str) -> Answer {
        exchange(self.address, "DELETE", target, "").await
    }

    async fn register(&self, body: &str) {
        let answer = self.put("/v1/agent/service/register", body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{body}");
    }

    /// Asks in the background.
    fn ask(&self, target: &str) -> JoinHandle<Answer> {
        let (address, target) = (self.address, target.to_owned());
        tokio::spawn(async move { exchange(address, "GET", &target, "").await })
    }

    /// Waits until `count` queries are blocked.
    async fn until_waiting(&self, count: usize) {
        until(|| self.registry.subscriptions() == count).await;
    }
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, met).await.expect("the condition holds in time");
}
