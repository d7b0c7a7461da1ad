//! Keys by HTTP, whichever cluster keeps them: two processes over one cluster, each with its HTTP API, are two handles to
//! the same keys, and pass the battery.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

#[path = "../process/mod.rs"]
mod process;

use portolan_model::KeyValue;
use portolan_naming::Naming;
use std::sync::Arc;
use tempfile::TempDir;
use testkit::cluster::consul::Consul;
use testkit::cluster::etcd::Etcd;
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::key_value_battery;

use process::Process;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_etcd() {
    let cluster = Etcd::start(1);
    pass(&format!("etcd://{}/keys", cluster.authorities())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_zookeeper() {
    let cluster = ZooKeeper::start(1);
    pass(&format!("zookeeper://{}/keys", cluster.authorities())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_consul() {
    let cluster = Consul::start(1);
    pass(&format!("consul://{}", cluster.authorities())).await;
}

async fn pass(registry: &str) {
    let (up, gateway) = (Role::start("up", registry), Role::start("gateway", registry));
    key_value_battery::run(up.keys(), gateway.keys()).await;
}

/// A process over the cluster, and a program that knows only its HTTP API.
struct Role {
    _process: Process,
    _directory: TempDir,
    naming: Naming,
}

impl Role {
    fn start(role: &str, registry: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let any = "127.0.0.1:0";
        let words = [role, "--registry", registry, "--data-dir", path, "--proxy", any, "--http", any];
        let quiet = ["--cores", "1", "--log", "error"];
        let docker: &[&str] = if role == "up" { &["--no-docker"] } else { &[] };
        let mut process = Process::start(&[&words[..], &quiet, docker].concat());
        let http = loop {
            if let Some((_, address)) = process.line().split_once("http         listening on http://") {
                break address.trim().to_owned();
            }
        };
        let naming = Naming::open(&format!("portolan://{http}")).unwrap();
        Self { _process: process, _directory: directory, naming }
    }

    fn keys(&self) -> Arc<dyn KeyValue> {
        self.naming.key_value().unwrap()
    }
}
