//! The roles apart, each in a process of its own, over one real cluster; the registrator as users of
//! gliderlabs/registrator start it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use testkit::cluster::consul::Consul;
use testkit::cluster::etcd::Etcd;
use testkit::cluster::zookeeper::ZooKeeper;

use super::process::{Process, command, get, until};
use super::rig::{NODE, PORT, Rig};

/// How soon after its start a registrator has made the registry what runs.
const RECONCILED: Duration = Duration::from_secs(2);

/// For how long instances outlive a registrator here, in seconds: longer than an engine that is busy takes to replace a
/// container.
const TTL: u64 = 6;

/// A gateway alone.
struct Gateway {
    _process: Process,
    proxy: String,
    http: String,
}

impl Gateway {
    fn start(uri: &str) -> Self {
        let any = "127.0.0.1:0";
        let (dir, words) = (tempfile::tempdir().unwrap(), ["gateway", "--registry", uri, "--log", "warn"]);
        let places = ["--proxy", any, "--http", any, "--cores", "1"];
        let data = ["--data-dir", dir.path().to_str().unwrap()];
        let mut process = Process::start(&[&words[..], &places, &data].concat());
        let after = |line: String| line.rsplit_once("listening on ").unwrap().1.to_owned();
        let head = [process.line(), process.line()];
        assert_eq!(head[1], "registrator  off", "{head:?}");
        let (http, proxy) = (after(process.line()), after(process.line()));
        Self { _process: process, proxy, http }
    }
}

fn registrator(rig: &Rig, dir: &tempfile::TempDir, uri: &str) -> Process {
    let ttl = TTL.to_string();
    let words = ["registrator", "-ip", "127.0.0.1", "-ttl", &ttl, "-ttl-refresh=1", "-resync", "3600", uri];
    let mut command = command(&words);
    command.env("DOCKER_HOST", rig.engine.uri()).env_remove("DOCKER_TLS_VERIFY");
    command.env("PORTOLAN_HTTP_NODE", NODE).env("PORTOLAN_LOG", "warn").env("PORTOLAN_DATA_DIR", dir.path());
    let mut process = Process::of(command);
    let lines = [process.line(), process.line(), process.line(), process.line()];
    assert!(lines[1].starts_with("registrator  following "), "{lines:?}");
    assert_eq!(lines[2..], ["http         off", "gateway      off"]);
    process
}

fn ids(rig: &Rig, gateway: &Gateway) -> BTreeSet<String> {
    rig.registered_at(&gateway.http).into_keys().collect()
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "a measurement, for whoever runs it by hand")]
fn check(uri: &str) {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let web = rig.name("web");
    let gateways = [Gateway::start(uri), Gateway::start(uri)];
    let first = registrator(&rig, &dir, uri);
    ["a", "b"].iter().for_each(|name| rig.run(name, &rig.sample("web")));
    let expect = |names: &[&str]| names.iter().map(|name| rig.id(name, PORT)).collect::<BTreeSet<_>>();
    let both = |names: &[&str]| {
        until("both gateways know what runs", || {
            gateways.iter().all(|gateway| ids(&rig, gateway) == expect(names)).then_some(())
        });
        for gateway in &gateways {
            let asked = || get(&format!("{}/{web}/", gateway.proxy), &[]).0;
            until("it answers", || (asked() == 200).then_some(()));
        }
    };
    both(&["a", "b"]);
    // Killed while a container goes and another comes; the next one takes over, and nothing lapses.
    first.kill();
    rig.remove("a");
    rig.run("c", &rig.sample("web"));
    let began = Instant::now();
    let second = registrator(&rig, &dir, uri);
    both(&["b", "c"]);
    let took = began.elapsed();
    println!("after kill -9: {took:?}");
    assert!(took < RECONCILED, "{took:?}");
    // Told to end, it leaves what runs, and so does the one before it: nothing lapses with either.
    second.signal("TERM");
    assert_eq!(second.end(), Some(0));
    let third = registrator(&rig, &dir, uri);
    let lapsed = Instant::now() + Duration::from_secs(TTL + 2);
    until("what the dead kept alive would be gone", || {
        assert_eq!(ids(&rig, &gateways[0]), expect(&["b", "c"]));
        (Instant::now() > lapsed).then_some(())
    });
    rig.stop("b");
    both(&["c"]);
    drop(third);
}

#[test]
fn over_etcd() {
    let etcd = Etcd::start(1);
    check(&format!("etcd://{}/services", etcd.authorities()));
}

#[test]
fn over_zookeeper() {
    let zookeeper = ZooKeeper::start(1);
    check(&format!("zookeeper://{}/services", zookeeper.authorities()));
}

#[test]
fn over_consul() {
    let consul = Consul::start(1);
    check(&format!("consul://{}", consul.authorities()));
}
