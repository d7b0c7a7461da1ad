//! What the tests share: a driven handle, registrations, a watcher that objects to empty lists.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Change, Endpoint, Health, Incarnation, InstanceId, Interest, KeyValue, Owner, Phase, Protocol,
    Registration, Registry, ServiceName, View, Weight,
};
use runtime::{Report, Shutdown, ShutdownTrigger, StatusBoard};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A handle with its driver at work.
pub(crate) struct Handle {
    pub(crate) registry: Arc<dyn Registry>,
    keys: Arc<dyn KeyValue>,
    pub(crate) board: StatusBoard,
    trigger: ShutdownTrigger,
    driver: JoinHandle<()>,
}

pub(crate) fn open(uri: &str) -> Handle {
    let board = StatusBoard::default();
    let (registry, driver) = portolan_naming::build(uri, &board).unwrap();
    let keys = driver.key_value();
    let (trigger, shutdown) = Shutdown::new();
    Handle { registry, keys, board, trigger, driver: tokio::spawn(driver.run(shutdown)) }
}

impl Handle {
    pub(crate) fn keys(&self) -> Arc<dyn KeyValue> {
        Arc::clone(&self.keys)
    }

    /// As on a clean shutdown.
    pub(crate) async fn close(self) {
        self.trigger.trigger();
        self.driver.await.unwrap();
    }

    /// As when the process is killed.
    pub(crate) fn crash(self) {
        self.driver.abort();
    }

    pub(crate) fn status(&self) -> Report {
        self.board.snapshot().remove("registry").unwrap()
    }

    /// Registers `count` instances over `services` services, all at once.
    pub(crate) async fn register_many(&self, count: u16, services: u16) {
        let writes = (0..count).map(|n| {
            let registry = Arc::clone(&self.registry);
            tokio::spawn(async move { registry.register(said(&format!("many-{}", n % services), n)).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap().unwrap();
        }
    }
}

pub(crate) fn said(service: &str, n: u16) -> Registration {
    Registration {
        id: InstanceId::new(format!("host:{service}:{n}")).unwrap(),
        service: name(service),
        endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: n },
        protocol: Protocol::Tcp,
        tags: [].into(),
        meta: BTreeMap::new(),
        weight: Weight::default(),
        zone: None,
        owner: Owner::new("test").unwrap(),
        incarnation: Incarnation(1),
        health: Health::Passing,
    }
}

pub(crate) fn name(service: &str) -> ServiceName {
    ServiceName::new(service).unwrap()
}

/// Everything there is, followed from the first word on.
pub(crate) struct Watcher {
    view: Arc<std::sync::Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) view: View,
    /// Services that had instances once and were seen without.
    pub(crate) emptied: Vec<ServiceName>,
    changed: Option<Instant>,
}

impl Watcher {
    pub(crate) fn start(handle: &Handle) -> Self {
        let mut changes = handle.registry.subscribe(Interest::All);
        let view = Arc::new(std::sync::Mutex::new(Seen::default()));
        let shared = Arc::clone(&view);
        let task = tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                let mut seen = shared.lock().unwrap();
                let revision = seen.view.revision();
                assert!(change.revision() >= revision, "revisions grow: {revision}, then {change:?}");
                if let Change::Reset { .. } = change {
                    assert_eq!(seen.view.services().count(), 0, "one reset, at the beginning");
                }
                for service in seen.view.apply(change) {
                    if seen.view.instances(service.as_str()).next().is_none() {
                        seen.emptied.push(service);
                    }
                }
                seen.changed = Some(Instant::now());
            }
        });
        Self { view, task }
    }

    /// Waits until what is seen is as `wanted` says; gives the time it took.
    pub(crate) async fn until(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&View) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        testkit::wait::until(limit, what, async || {
            assert!(!self.task.is_finished(), "the watcher has ended");
            let view = &self.view.lock().unwrap().view;
            if wanted(view) { Ok(()) } else { Err(summary(view)) }
        })
        .await;
        begun.elapsed()
    }

    /// Whether what is seen now is as `wanted` says.
    pub(crate) fn sees(&self, wanted: impl Fn(&View) -> bool) -> bool {
        wanted(&self.view.lock().unwrap().view)
    }

    pub(crate) fn emptied(&self) -> Vec<ServiceName> {
        self.view.lock().unwrap().emptied.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How many instances of the tests' services take work, and how many there are at all.
pub(crate) fn counts(view: &View) -> (usize, usize) {
    let many = view.services().filter(|service| service.as_str().starts_with("many-"));
    let instances: Vec<_> = many.flat_map(|service| view.instances(service.as_str())).collect();
    (instances.iter().filter(|i| i.takes_new_work() && i.phase == Phase::Adult).count(), instances.len())
}

fn summary(view: &View) -> BTreeMap<String, usize> {
    view.services().map(|service| (service.to_string(), view.instances(service.as_str()).count())).collect()
}
