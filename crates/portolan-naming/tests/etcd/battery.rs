use std::sync::Arc;

use testkit::cluster::etcd::Etcd;
use testkit::registry_battery;

use crate::handle::Handle;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layout_passes_the_battery() {
    let cluster = Etcd::start(3);
    let at = cluster.authorities();
    for (n, path) in
        ["/json", "/registrator?layout=registrator", "/apps.local?layout=skydns"].into_iter().enumerate()
    {
        let handle = Handle::open(&format!("etcd://{at}{path}"));
        registry_battery::run(Arc::clone(&handle.registry)).await;
        handle.close().await;
        // Clean shutdown leaves nothing.
        assert!(cluster.keys("/").is_empty(), "after layout {n}");
    }
}
