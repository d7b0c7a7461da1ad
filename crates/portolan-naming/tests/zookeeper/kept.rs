//! A table on disk, and an ensemble that is away at start.

use testkit::cluster::zookeeper::ZooKeeper;

use crate::keeping::serves_its_last_table;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_ensemble_is_away_serves_its_last_table() {
    let ensemble = ZooKeeper::start(3);
    let uri = format!("zookeeper://{}/kept?timeout=300ms&session_timeout=8s", ensemble.authorities());
    serves_its_last_table(ensemble, &uri, "no connection").await;
}
