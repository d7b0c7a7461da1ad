//! What every registry promises.

use testkit::cluster::consul::Consul;

use crate::handle::open;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_promises_of_a_registry() {
    let cluster = Consul::start(3);
    let handle = open(&format!("consul://{}", cluster.authorities()));
    testkit::registry_battery::run(std::sync::Arc::clone(&handle.registry)).await;
    handle.close().await;
}
