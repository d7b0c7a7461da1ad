//! A table on disk, and a cluster that is away at start.

use portolan_model::{Change, Interest, RegistryError, View};
use testkit::cluster::Cluster;
use testkit::cluster::consul::Consul;
use tokio::time::timeout;

use crate::keeping::{Keeping, LIMIT, said};

/// They are in the catalog themselves.
const SERVERS: usize = 3;

/// Not by the table of others: what an owner who is gone leaves with an agent stays for over a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_cluster_is_away_serves_its_last_table() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("table.json");
    let mut cluster = Consul::start(SERVERS);
    let uri = format!("consul://{}", cluster.authorities());
    let owner = Keeping::open(&uri, None);
    for n in 0..20 {
        owner.register(said("web", n)).await;
    }
    let first = Keeping::open(&uri, Some(&file));
    first.counts(20 + SERVERS).await;
    first.says("last known table", ": 23 instances").await;
    first.end().await;
    cluster.kill_all();

    let second = Keeping::open(&uri, Some(&file));
    assert_eq!(second.count().await, 20 + SERVERS);
    let mut watcher = second.handle.subscribe(Interest::All);
    let mut view = View::default();
    view.apply(watcher.next().await.unwrap());
    assert_eq!(view.instances("web").count(), 20);
    second.says("registry", "serving what was known at ").await;
    let refused = second.handle.register(said("db", 100)).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable(_))), "{refused:?}");

    cluster.launch_all();
    second.says("registry", "Running").await;
    second.says("last known table", "Running").await;
    assert_eq!(second.count().await, 20 + SERVERS);
    // What comes now is told as ever. Before it may be told that the owner's fare badly, until it is heard again; nobody goes.
    second.register(said("new", 200)).await;
    while view.instances("new").count() == 0 {
        let change = timeout(LIMIT, watcher.next()).await.unwrap().unwrap();
        assert!(matches!(change, Change::Upsert { .. }), "{change:?}");
        view.apply(change);
    }
    assert_eq!(view.instances("web").count(), 20);
    owner.says("registry", "Running").await;
    owner.end().await;
    second.counts(1 + SERVERS).await;
    second.end().await;
}
