//! A table on disk, and a cluster that is away at start.

use portolan_model::{Interest, View};
use testkit::cluster::Cluster;
use testkit::cluster::etcd::Etcd;

use crate::keeping::{Keeping, LIMIT, said, serves_its_last_table};

fn uri(cluster: &Etcd) -> String {
    format!("etcd://{}/kept?timeout=300ms&ttl=5s", cluster.authorities())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_cluster_is_away_serves_its_last_table() {
    let cluster = Etcd::start(3);
    let uri = uri(&cluster);
    serves_its_last_table(cluster, &uri, "Degraded etcd is away").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_comes_back_without_its_memory_empties_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("table.json");
    let mut cluster = Etcd::start(1);
    let uri = uri(&cluster);
    let first = Keeping::open(&uri, Some(&file));
    for n in 0..20 {
        first.register(said("web", n)).await;
    }
    first.says("last known table", ": 20 instances").await;
    first.end().await;
    cluster.kill(0);
    cluster.forget(0);
    let second = Keeping::open(&uri, Some(&file));
    let mut watcher = second.handle.subscribe(Interest::All);
    let mut view = View::default();
    view.apply(watcher.next().await.unwrap());
    assert_eq!(view.instances("web").count(), 20);
    cluster.launch_all();
    second.says("registry", "Running").await;
    assert_eq!(second.count().await, 20);
    // They register again, here; whoever watches is not told of what is as it was.
    for n in 0..20 {
        second.register(said("web", n)).await;
    }
    second.says("last known table", "Running").await;
    second.register(said("web", 50)).await;
    while view.instances("web").count() != 21 {
        let change = tokio::time::timeout(LIMIT, watcher.next()).await.unwrap().unwrap();
        view.apply(change);
        assert!(view.instances("web").count() >= 20);
    }
    second.end().await;
}
