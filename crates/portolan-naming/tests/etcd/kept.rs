//! A table on disk, and a cluster that is away at start.

use std::path::Path;
use std::sync::Arc;

use portolan_model::{Interest, Registration, RegistryError, View};
use portolan_naming::{Driver, Options, build_with};
use runtime::{Shutdown, ShutdownTrigger, StatusBoard};
use testkit::cluster::Cluster;
use testkit::cluster::etcd::Etcd;
use tokio::task::JoinHandle;

use crate::handle::{self, Handle, PATIENCE, until};

/// Everybody at a place of his own.
fn said(service: &str, n: u16) -> Registration {
    let mut said = handle::said(service, &format!("{service}-{n}"));
    said.endpoint.port += n;
    said
}

struct Keeping {
    handle: Arc<dyn portolan_model::Registry>,
    board: StatusBoard,
    trigger: ShutdownTrigger,
    driver: JoinHandle<()>,
}

impl Keeping {
    fn open(cluster: &Etcd, file: &Path) -> Self {
        let uri = format!("etcd://{}/kept?timeout=300ms&ttl=5s", cluster.authorities());
        let board = StatusBoard::default();
        let options = Options { keep: Some(file.to_owned()) };
        let (handle, driver): (_, Driver) = build_with(&uri, options, &board).unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let driver = tokio::spawn(driver.run(shutdown));
        Self { handle, board, trigger, driver }
    }

    fn says(&self, part: &str) -> String {
        let report = &self.board.snapshot()[part];
        format!("{:?} {}", report.state, report.detail)
    }

    async fn count(&self) -> usize {
        self.handle.list().await.map_or(0, |listing| listing.services.values().map(Vec::len).sum())
    }

    async fn end(self) {
        self.trigger.trigger();
        tokio::time::timeout(PATIENCE, self.driver).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_cluster_is_away_serves_its_last_table() {
    let mut cluster = Etcd::start(3);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("table.json");
    let owner = Handle::open(&format!("etcd://{}/kept?ttl=5s", cluster.authorities()));
    for n in 0..20 {
        owner.register(said("web", n)).await;
    }
    let first = Keeping::open(&cluster, &file);
    first.handle.register(said("db", 100)).await.unwrap();
    until("all are seen", async || first.count().await == 21).await;
    until("all are kept", async || first.says("last known table").contains(": 21 instances")).await;
    // What it takes along when it goes is in what it leaves behind.
    first.end().await;
    owner.crash().await;
    (0..3).for_each(|n| cluster.kill(n));

    let second = Keeping::open(&cluster, &file);
    assert_eq!(second.count().await, 21);
    let mut watcher = second.handle.subscribe(Interest::All);
    let mut view = View::default();
    view.apply(watcher.next().await.unwrap());
    assert_eq!(view.instances("web").count(), 20);
    let meanwhile = "not reached yet, serving what was known at 2";
    until("it is said", async || second.says("registry").contains(meanwhile)).await;
    assert!(second.says("registry").starts_with("Degraded etcd is away"), "{}", second.says("registry"));
    // Nothing is written to a table on disk.
    let refused = second.handle.register(said("db", 100)).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable(_))), "{refused:?}");

    // It is back, with everything that had a lease: the owner's. What the first took along is doubted: it was the last.
    (0..3).for_each(|n| cluster.launch(n));
    cluster.leader();
    until("it is reached", async || second.says("registry").starts_with("Running")).await;
    assert_eq!(second.count().await, 21);
    assert!(second.says("last known table").contains("1 instances from before"));
    // What comes now is told as ever, and nothing before it: the tables were the same.
    second.handle.register(said("new", 200)).await.unwrap();
    let change = tokio::time::timeout(PATIENCE, watcher.next()).await.unwrap().unwrap();
    assert!(
        matches!(&change, portolan_model::Change::Upsert { instance, .. } if instance.id().as_str() == "new-200"),
        "{change:?}"
    );
    // Nobody keeps the owner's lease alive: that is seen as ever.
    until("the owner's are gone", async || second.handle.list().await.unwrap().services.len() == 2).await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_comes_back_without_its_memory_empties_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("table.json");
    let mut cluster = Etcd::start(1);
    let first = Keeping::open(&cluster, &file);
    for n in 0..20 {
        first.handle.register(said("web", n)).await.unwrap();
    }
    until("all are kept", async || first.says("last known table").contains(": 20 instances")).await;
    first.end().await;
    cluster.kill(0);
    cluster.forget(0);
    let second = Keeping::open(&cluster, &file);
    let mut watcher = second.handle.subscribe(Interest::All);
    let mut view = View::default();
    view.apply(watcher.next().await.unwrap());
    assert_eq!(view.instances("web").count(), 20);
    cluster.launch(0);
    cluster.leader();
    until("it is reached", async || second.says("registry").starts_with("Running")).await;
    assert_eq!(second.count().await, 20);
    // They register again, here; whoever watches is not told of what is as it was.
    for n in 0..20 {
        second.handle.register(said("web", n)).await.unwrap();
    }
    until("nothing is doubted", async || second.says("last known table").starts_with("Running")).await;
    second.handle.register(said("web", 50)).await.unwrap();
    while view.instances("web").count() != 21 {
        let change = tokio::time::timeout(PATIENCE, watcher.next()).await.unwrap().unwrap();
        view.apply(change);
        assert!(view.instances("web").count() >= 20);
    }
    second.end().await;
}
