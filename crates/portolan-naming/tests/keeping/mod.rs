//! A table on disk, and a cluster that is away at start: the same for every kind of cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Change, Endpoint, Filter, Health, Incarnation, InstanceId, Interest, Owner, Protocol, Registration,
    Registry, RegistryError, ServiceName, View, Weight,
};
use portolan_naming::{Driver, Options, build_with};
use runtime::{Shutdown, ShutdownTrigger, StatusBoard};
use testkit::cluster::Cluster;
use testkit::wait::until;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take before it counts as never.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A handle with its driver at work, by a table on disk.
pub(crate) struct Keeping {
    pub(crate) handle: Arc<dyn Registry>,
    board: StatusBoard,
    trigger: ShutdownTrigger,
    driver: JoinHandle<()>,
}

impl Keeping {
    pub(crate) fn open(uri: &str, file: Option<&Path>) -> Self {
        let board = StatusBoard::default();
        let options = Options { keep: file.map(Path::to_owned) };
        let (handle, driver): (_, Driver) = build_with(uri, options, &board).unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let driver = tokio::spawn(driver.run(shutdown));
        Self { handle, board, trigger, driver }
    }

    /// Registers, again and again while the cluster is away.
    pub(crate) async fn register(&self, said: Registration) {
        until(LIMIT, "it is registered", async || self.handle.register(said.clone()).await).await;
    }

    /// Waits until the status of `part` has these words.
    pub(crate) async fn says(&self, part: &str, words: &str) {
        until(LIMIT, &format!("the status of the {part} says: {words}"), async || {
            let report = &self.board.snapshot()[part];
            let told = format!("{:?} {}", report.state, report.detail);
            if told.contains(words) { Ok(()) } else { Err(told) }
        })
        .await;
    }

    /// How many instances are known.
    pub(crate) async fn count(&self) -> usize {
        self.handle.list().await.map_or(0, |listing| listing.services.values().map(Vec::len).sum())
    }

    /// Waits until so many instances are known.
    pub(crate) async fn counts(&self, expect: usize) {
        until(LIMIT, &format!("{expect} instances are known"), async || {
            let count = self.count().await;
            if count == expect { Ok(()) } else { Err(count) }
        })
        .await;
    }

    /// Ends as a process does that is told to stop.
    pub(crate) async fn end(self) {
        self.trigger.trigger();
        timeout(LIMIT, self.driver).await.unwrap().unwrap();
    }
}

/// Everybody at a place of his own.
pub(crate) fn said(service: &str, n: u16) -> Registration {
    Registration {
        id: InstanceId::new(format!("{service}-{n}")).unwrap(),
        service: ServiceName::new(service).unwrap(),
        endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: 80 + n },
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

/// A process whose cluster is away serves its last table, says so, and catches up. `uri` has a short timeout; `away` is in
/// the status of a cluster that is away.
pub(crate) async fn serves_its_last_table(mut cluster: impl Cluster, uri: &str, away: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("table.json");
    let owner = Dying::registering(uri, (0..20).map(|n| said("web", n)).collect()).await;
    let first = Keeping::open(uri, Some(&file));
    first.register(said("db", 100)).await;
    first.counts(21).await;
    first.says("last known table", ": 21 instances").await;
    // What it takes along when it goes is in what it leaves behind.
    first.end().await;
    owner.die();
    cluster.kill_all();

    let second = Keeping::open(uri, Some(&file));
    assert_eq!(second.count().await, 21);
    let mut watcher = second.handle.subscribe(Interest::All);
    let mut view = View::default();
    view.apply(watcher.next().await.unwrap());
    assert_eq!(view.instances("web").count(), 20);
    second.says("registry", "not reached yet, serving what was known at 2").await;
    second.says("registry", away).await;
    // Nothing is written to a table on disk.
    let refused = second.handle.register(said("db", 100)).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable(_))), "{refused:?}");

    // It is back, with everything that had a lease: the owner's. What the first took along is doubted: it was the last.
    cluster.launch_all();
    second.says("registry", "Running").await;
    assert_eq!(second.count().await, 21);
    second.says("last known table", "1 instances from before").await;
    // What comes now is told as ever, and nothing before it: the tables were the same.
    second.register(said("new", 200)).await;
    let change = timeout(LIMIT, watcher.next()).await.unwrap().unwrap();
    assert!(
        matches!(&change, Change::Upsert { instance, .. } if instance.id().as_str() == "new-200"),
        "{change:?}"
    );
    // Nobody keeps the owner's lease alive: that is seen as ever.
    let web = async || {
        let view = second.handle.find(ServiceName::new("web").unwrap(), Filter::default()).await.unwrap();
        if view.instances.is_empty() { Ok(()) } else { Err(view.instances.len()) }
    };
    until(LIMIT, "the owner's are gone", web).await;
    second.end().await;
}

/// A process that registers and then dies without a word.
struct Dying(tokio::runtime::Runtime);

impl Dying {
    async fn registering(uri: &str, all: Vec<Registration>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let uri = uri.to_owned();
        let registered = runtime.spawn(async move {
            let keeping = Keeping::open(&uri, None);
            for said in all {
                while keeping.handle.register(said.clone()).await.is_err() {}
            }
            // Its end is not told to anybody.
            std::mem::forget(keeping.trigger);
        });
        timeout(LIMIT, registered).await.unwrap().unwrap();
        Self(runtime)
    }

    fn die(self) {
        self.0.shutdown_background();
    }
}
