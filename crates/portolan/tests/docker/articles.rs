//! The articles' own scenarios: two services start, one is scaled, one is stopped, and the gateway follows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use consul_api::ServiceEntry;
use serde_json::Value;

use super::process::{self, Process, Up, until};
use super::rig::{PORT, Rig};

/// What is registered: for each service the ids and addresses of its instances.
type Book = BTreeMap<String, BTreeSet<(String, String)>>;

/// What there should be of these services and their containers.
fn expected(rig: &Rig, services: &[(&str, &[&str])]) -> Book {
    let row = |name: &&str| (rig.id(name, PORT), format!("127.0.0.1:{}", rig.published(name, PORT)));
    services.iter().map(|(service, names)| (rig.name(service), names.iter().map(row).collect())).collect()
}

fn read<T: serde::de::DeserializeOwned>(up: &Up, path: &str) -> T {
    let (status, said) = process::get(&format!("{}{path}", up.http), &[]);
    assert_eq!(status, 200, "{path}: {said}");
    serde_json::from_str(&said).unwrap()
}

/// What the registry shows once it holds exactly the instances of these containers, however it is asked.
#[track_caller]
fn check(rig: &Rig, up: &Up, services: &[(&str, &[&str])]) {
    let containers: Vec<&str> = services.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    rig.serves(up, &containers);
    let expect = expected(rig, services);

    let mut book = Book::new();
    for (id, found) in rig.registered(up) {
        book.entry(found.service).or_default().insert((id, format!("{}:{}", found.address, found.port)));
    }
    assert_eq!(book, expect);

    let catalog: BTreeMap<String, Value> = read(up, "/v1/catalog/services");
    let ours: BTreeSet<&String> = catalog.keys().filter(|name| name.starts_with(&rig.name(""))).collect();
    assert_eq!(ours, expect.keys().collect());

    for (service, rows) in &expect {
        let entries: Vec<ServiceEntry> = read(up, &format!("/v1/health/service/{service}?passing=1"));
        let found = entries.into_iter().map(|entry| entry.service);
        let found: BTreeSet<_> =
            found.map(|found| (found.id, format!("{}:{}", found.address, found.port))).collect();
        assert_eq!(&found, rows);
    }
}

fn headers(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Each of the three ways to name a service leads to it.
#[track_caller]
fn contracts(rig: &Rig, up: &Up, service: &str, says: &str) {
    let name = rig.name(service);
    let by_path = up.get(&format!("/{name}/user?id=7"));
    assert_eq!(by_path, (200, "It's user 7.\n".to_owned()));
    assert_eq!(up.get(&format!("/{name}/")), (200, says.to_owned()));

    let named = headers(&[("service_name", &name), ("api_name", "/user")]);
    let by_header = process::get(&format!("{}/services?id=8", up.gateway), &named);
    assert_eq!(by_header, (200, "It's user 8.\n".to_owned()));

    let host = headers(&[("host", &format!("{name}.localhost"))]);
    assert_eq!(process::get(&format!("{}/", up.gateway), &host), (200, says.to_owned()));
}

/// Which instance answers, as the articles find out: by its address.
fn who(up: &Up, service: &str) -> Option<String> {
    let (status, said) = up.get(&format!("/{service}/getRemoteIp"));
    let said: Value = serde_json::from_str(&said).ok()?;
    (status == 200).then(|| said["ip"].as_str().unwrap().to_owned())
}

fn status(up: &Up, service: &str) -> u16 {
    up.get(&format!("/{service}/")).0
}

#[track_caller]
fn answers(up: &Up, service: &str, expect: u16) {
    until(&format!("{service} answers {expect}"), || (status(up, service) == expect).then_some(()));
}

#[test]
fn services_start_scale_and_stop() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    let (one, two) = (rig.name("service_1"), rig.name("service_2"));
    check(&rig, &up, &[]);
    assert_eq!((status(&up, &one), status(&up, &two)), (404, 404));

    rig.run("one-1", &rig.sample("service_1"));
    check(&rig, &up, &[("service_1", &["one-1"])]);
    answers(&up, &one, 200);
    contracts(&rig, &up, "service_1", "This is Service 1.\n");
    assert_eq!(status(&up, &two), 404);

    rig.run("two-1", &rig.sample("service_2"));
    check(&rig, &up, &[("service_1", &["one-1"]), ("service_2", &["two-1"])]);
    answers(&up, &two, 200);
    contracts(&rig, &up, "service_2", "This is Service 2.\n");
    contracts(&rig, &up, "service_1", "This is Service 1.\n");

    rig.run("two-2", &rig.sample("service_2"));
    check(&rig, &up, &[("service_1", &["one-1"]), ("service_2", &["two-1", "two-2"])]);
    takes_turns(&up, &two);
    contracts(&rig, &up, "service_2", "This is Service 2.\n");

    rig.stop("one-1");
    check(&rig, &up, &[("service_2", &["two-1", "two-2"])]);
    answers(&up, &one, 503);
    takes_turns(&up, &two);

    rig.start("one-1");
    check(&rig, &up, &[("service_1", &["one-1"]), ("service_2", &["two-1", "two-2"])]);
    answers(&up, &one, 200);
    contracts(&rig, &up, "service_1", "This is Service 1.\n");
}

/// Two instances answer in strict turn, whatever connection the requests come on.
#[track_caller]
fn takes_turns(up: &Up, service: &str) {
    until("two answer", || {
        let (a, b) = (who(up, service)?, who(up, service)?);
        (a != b).then_some(())
    });
    let order: Vec<String> = (0..20).map(|_| who(up, service).unwrap()).collect();
    let expect: Vec<&String> = order[..2].iter().cycle().take(20).collect();
    assert_ne!(order[0], order[1]);
    assert_eq!(order.iter().collect::<Vec<_>>(), expect);
}

/// A request that the instance has begun to answer, and that ends when its client says so.
struct Upload(TcpStream);

impl Upload {
    fn begin(up: &Up, service: &str) -> Self {
        let mut stream = TcpStream::connect(up.gateway.strip_prefix("http://").unwrap()).unwrap();
        let head = format!("POST /{service}/echo/body HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n");
        stream.write_all(format!("{head}content-length: 10\r\n\r\nfirst").as_bytes()).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\nfirst") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        Self(stream)
    }

    /// The rest of the answer.
    fn end(mut self) -> String {
        self.0.write_all(b", end").unwrap();
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }
}

#[test]
fn a_stop_drains_and_everybody_can_see_it() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    let name = rig.name("service_1");
    let mut watch = Process::start(&["watch", &name, "--http-addr", &up.http]);
    let line = |change: &str, state: &str| {
        let address = format!("127.0.0.1:{}", rig.published("one", PORT));
        format!("{change} {}  {address}{state}", rig.id("one", PORT))
    };
    let explain = || up.ask(&["explain", "--path", &format!("/{name}/")]);

    rig.run("one", &rig.sample("service_1"));
    assert_eq!(watch.line(), line("+", "  passing  adult"));
    answers(&up, &name, 200);
    assert!(explain().contains("1 of 1 instances can take it"), "{}", explain());

    // The container cannot end before this request has.
    let upload = Upload::begin(&up, &name);
    let (draining, gone) = (line("~", "  passing  draining"), line("-", ""));
    thread::scope(|scope| {
        let stop = scope.spawn(|| rig.stop("one"));
        assert_eq!(watch.line(), draining);
        let told = until("it is explained", || Some(explain()).filter(|told| told.contains("0 of 1")));
        assert!(told.contains("draining: finishes what it has, gets nothing new"), "{told}");
        assert_eq!(status(&up, &name), 503);
        assert_eq!(upload.end(), ", end");
        stop.join().unwrap();
    });
    assert_eq!(watch.line(), gone);
    until("it is explained", || explain().contains("0 of 0").then_some(()));

    rig.start("one");
    assert_eq!(watch.line(), line("+", "  passing  adult"));
    answers(&up, &name, 200);
    assert!(explain().contains("1 of 1 instances can take it"), "{}", explain());
}
