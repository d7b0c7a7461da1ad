//! The registry is gone for a minute, all of its servers at once, and no request fails: one process registers, another
//! is the gateway, over each kind of cluster.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

#[path = "../docker/load.rs"]
#[allow(dead_code, reason = "shared with the tests on a container engine, which need more of it")]
mod load;
#[path = "../process/mod.rs"]
mod process;

use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::cluster::Cluster;
use testkit::cluster::consul::Consul;
use testkit::cluster::etcd::Etcd;
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::wait::until_blocking;

use load::{Load, Method};
use process::{Process, until};

/// How long no server of the registry runs.
const OUTAGE: Duration = Duration::from_secs(60);

/// Instances that take the load.
const NAMES: [&str; 3] = ["a", "b", "c"];

#[test]
fn no_request_fails_while_the_registry_is_gone() {
    // At once: a registry that is gone costs nothing, and a minute is long.
    thread::scope(|scope| {
        scope.spawn(|| {
            let etcd = Etcd::start(3);
            outage("etcd", &format!("etcd://{}/outage", etcd.authorities()), etcd);
        });
        scope.spawn(|| {
            let zookeeper = ZooKeeper::start(3);
            outage("zookeeper", &format!("zookeeper://{}/outage", zookeeper.authorities()), zookeeper);
        });
        scope.spawn(|| {
            let consul = Consul::start(3);
            outage("consul", &format!("consul://{}", consul.authorities()), consul);
        });
    });
}

/// Who cannot know what there is does not say that it is not there.
#[test]
fn a_gateway_that_has_never_read_its_registry_says_so() {
    let mut etcd = Etcd::start(1);
    etcd.kill_all();
    let gateway = Role::start(&format!("etcd://{}/unread", etcd.authorities()));
    let told = |path: &str| process::get(&format!("{}{path}", gateway.proxy), &[]);
    let unread = told("/web/");
    assert!(unread.0 == 503 && unread.1.contains("registry_unread"), "{unread:?}");
    etcd.launch_all();
    until("it is read", || (told("/web/").0 == 404).then_some(()));
    let _sample = gateway.add("a");
    until("the service is known", || (told("/web/").0 == 200).then_some(()));
    assert!(told("/nope/").1.contains("unknown_service"));
}

#[allow(clippy::print_stderr, reason = "what was measured is worth keeping")]
fn outage(kind: &str, uri: &str, mut servers: impl Cluster) {
    let (writer, gateway) = (Role::start(uri), Role::start(uri));
    let samples: Vec<_> = NAMES.iter().map(|name| writer.add(name)).collect();
    until("the gateway knows the service", || {
        (process::get(&format!("{}/web/", gateway.proxy), &[]).0 == 200).then_some(())
    });
    let load = Load::start(&gateway.proxy, "web");
    NAMES.iter().for_each(|name| load.is_answered_by(name));

    servers.kill_all();
    let begun = Instant::now();
    let degraded = || gateway.status("registry").filter(|status| status == "degraded");
    until("the status says that the registry is away", degraded);
    until_blocking(2 * OUTAGE, "it was away for long enough", || begun.elapsed() >= OUTAGE);
    assert!(degraded().is_some());
    servers.launch_all();
    let back = Instant::now();
    let late = until("it can be written to again", || writer.try_add("late"));
    let wrote = back.elapsed();
    load.is_answered_by("late");
    let routed = back.elapsed();
    NAMES.iter().for_each(|name| load.is_answered_by(name));
    let account = load.end();
    eprintln!("{kind}: {account}; written again {wrote:?} after it served, routed to after {routed:?}");

    assert!(account.rate() > 450.0, "{kind}: {account}");
    for method in [Method::Get, Method::Post] {
        assert!(account.failures(method).is_empty(), "{kind}: {account}");
    }
    drop((samples, late));
}

/// `portolan up` over a cluster.
struct Role {
    _process: Process,
    _directory: TempDir,
    proxy: String,
    http: String,
}

impl Role {
    fn start(uri: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let any = "127.0.0.1:0";
        let words =
            ["up", "--registry", uri, "--no-docker", "--data-dir", path, "--proxy", any, "--http", any];
        let mut process = Process::start(&[&words[..], &["--cores", "1", "--log", "error"]].concat());
        let mut after = |word: &str| loop {
            if let Some((_, rest)) = process.line().split_once(word) {
                return rest.to_owned();
            }
        };
        let http = after("http         listening on ");
        let proxy = after("gateway      listening on ");
        Self { _process: process, _directory: directory, proxy, http }
    }

    /// One more instance.
    fn add(&self, name: &str) -> Process {
        until("it is registered", || self.try_add(name))
    }

    fn try_add(&self, name: &str) -> Option<Process> {
        let mut sample =
            Process::start(&["sample", "--listen", "127.0.0.1:0", "--name", "web", "--instance", name]);
        let port = sample.line().rsplit_once(':').unwrap().1.to_owned();
        let words = ["register", "web", "--address", "127.0.0.1", "--port", &port, "--id", name];
        let registered = process::run(&[&words[..], &["--http-addr", &self.http]].concat());
        registered.status.success().then_some(sample)
    }

    fn status(&self, part: &str) -> Option<String> {
        let (_, told) = process::get(&format!("{}/v1/portolan/status", self.http), &[]);
        let told: serde_json::Value = serde_json::from_str(&told).ok()?;
        Some(told.get("parts")?.get(part)?.get("state")?.as_str()?.to_owned())
    }
}
