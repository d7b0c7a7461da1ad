//! A registry that is driven, and somebody who watches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portolan_model::{
    Endpoint, Health, Incarnation, InstanceId, Interest, KeyValue, Owner, Protocol, Registration, Registry,
    RegistryError, Revision, ServiceName, View, Weight,
};
use portolan_naming::zookeeper::{Config, build};
use runtime::{Shutdown, ShutdownTrigger, StatusBoard, Tasks};
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::wait::until;
use tokio::sync::Notify;

/// How long anything may take before it counts as never.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// A registry with its driver at work.
pub(super) struct Opened {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) keys: Arc<dyn KeyValue>,
    board: StatusBoard,
    tasks: Tasks,
    trigger: ShutdownTrigger,
}

impl Opened {
    pub(super) fn over(ensemble: &ZooKeeper, base: &str, options: &str) -> Self {
        Self::at(&format!("zookeeper://{}{base}?{options}", ensemble.authorities()))
    }

    pub(super) fn at(uri: &str) -> Self {
        let config = Config::from_uri(uri.parse().unwrap()).unwrap();
        let board = StatusBoard::default();
        let (registry, driver) = build(config, &board);
        let keys = driver.key_value();
        let (trigger, shutdown) = Shutdown::new();
        let tasks = Tasks::new(board.clone());
        tasks.spawn("registry driver", driver.run(shutdown));
        Self { registry, keys, board, tasks, trigger }
    }

    /// Ends as a process does that is told to stop.
    pub(super) async fn close(self) {
        self.trigger.trigger();
        self.tasks.finish(Duration::from_secs(10)).await.unwrap();
    }

    pub(super) fn report(&self) -> String {
        let report = &self.board.snapshot()["registry"];
        format!("{:?} {}", report.state, report.detail)
    }

    /// Waits until the status is as wanted.
    pub(super) async fn until_report(&self, wanted: &str) {
        until(PATIENCE, wanted, async || {
            let told = self.report();
            if told.contains(wanted) { Ok(()) } else { Err(told) }
        })
        .await;
    }
}

/// A process that registers and then dies without a word.
pub(super) struct Dying(tokio::runtime::Runtime);

impl Dying {
    pub(super) async fn registering(uri: String, all: Vec<Registration>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registered = runtime.spawn(async move {
            let opened = Opened::at(&uri);
            for said in all {
                settle(opened.registry.as_ref(), said).await;
            }
            // Its end is not told to anybody.
            std::mem::forget(opened.trigger);
        });
        registered.await.unwrap();
        Self(runtime)
    }

    pub(super) fn die(self) {
        self.0.shutdown_background();
    }
}

/// What a subscriber to everything has seen.
#[derive(Clone)]
pub(super) struct Seen(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ids: BTreeSet<InstanceId>,
    /// The fewest instances of each service that had any, since [`Seen::forget`].
    fewest: BTreeMap<ServiceName, usize>,
    changes: usize,
}

impl Seen {
    /// Watches `registry`; returns when the first value is seen.
    pub(super) async fn by(registry: &Arc<dyn Registry>) -> Self {
        let mut subscription = registry.subscribe(Interest::All);
        let seen = Self(Arc::default());
        let mut view = View::default();
        view.apply(tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap());
        seen.take(&view);
        let watcher = seen.clone();
        tokio::spawn(async move {
            while let Some(change) = subscription.next().await {
                view.apply(change);
                watcher.take(&view);
            }
        });
        seen
    }

    /// Waits until `wanted` holds.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&BTreeSet<InstanceId>) -> bool) {
        let waited = async {
            loop {
                let changed = self.0.changed.notified();
                if wanted(&self.ids()) {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        waited.unwrap_or_else(|_| panic!("never: {what}; there are {} instances", self.ids().len()));
    }

    pub(super) fn ids(&self) -> BTreeSet<InstanceId> {
        self.0.state.lock().unwrap().ids.clone()
    }

    /// Starts counting anew.
    pub(super) fn forget(&self) {
        let mut state = self.0.state.lock().unwrap();
        state.fewest.clear();
        state.changes = 0;
    }

    /// The fewest instances that any service had since, and how many changes there were.
    pub(super) fn fewest(&self) -> (Option<usize>, usize) {
        let state = self.0.state.lock().unwrap();
        (state.fewest.values().min().copied(), state.changes)
    }

    /// The same of one service.
    pub(super) fn fewest_of(&self, service: &str) -> Option<usize> {
        self.0.state.lock().unwrap().fewest.get(service).copied()
    }

    fn take(&self, view: &View) {
        let mut state = self.0.state.lock().unwrap();
        let counts: BTreeMap<_, _> = view
            .services()
            .map(|service| (service.clone(), view.instances(service.as_str()).count()))
            .collect();
        let known: Vec<_> = state.fewest.keys().chain(counts.keys()).cloned().collect();
        for service in known {
            let count = counts.get(&service).copied().unwrap_or_default();
            let fewest = state.fewest.entry(service).or_insert(count);
            *fewest = count.min(*fewest);
        }
        state.ids =
            view.services().flat_map(|s| view.instances(s.as_str())).map(|i| i.id().clone()).collect();
        state.changes += 1;
        drop(state);
        self.0.changed.notify_waiters();
    }
}

pub(super) fn instance(service: &str, n: u16) -> Registration {
    Registration {
        id: InstanceId::new(format!("host:{service}-{n}:80")).unwrap(),
        service: ServiceName::new(service).unwrap(),
        endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: 10_000 + n },
        protocol: Protocol::Tcp,
        tags: ["blue".to_owned()].into(),
        meta: [("region".to_owned(), "cn".to_owned())].into(),
        weight: Weight::default(),
        zone: None,
        owner: Owner::new("host").unwrap(),
        incarnation: Incarnation(7),
        health: Health::Passing,
    }
}

/// Registers, again and again while the registry is away.
pub(super) async fn settle(registry: &dyn Registry, said: Registration) -> Revision {
    let tried = async {
        loop {
            match registry.register(said.clone()).await {
                Ok(revision) => return revision,
                Err(RegistryError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("registered in time")
}
