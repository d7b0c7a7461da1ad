//! What we write in the eyes of programs with other people's libraries, and what they write in ours.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use portolan_model::{Endpoint, Filter, Guard, Registration, ServiceName};
use testkit::cluster::witness::Witness;
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::upstream::{Behaviour, Upstream};
use testkit::wait::until_blocking;
use testkit::wire::Client;

use super::support::{Dying, Opened, PATIENCE, Seen, instance};

fn at(service: &str, n: u16, upstream: &Upstream) -> Registration {
    let mut said = instance(service, n);
    let address = upstream.address();
    said.endpoint = Endpoint { host: address.ip().to_string().parse().unwrap(), port: address.port() };
    said
}

/// The Node.js gateway of those who have ZooKeeper and gliderlabs/registrator: it lists the names of nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_by_node_zookeeper_client() {
    let ensemble = ZooKeeper::start(3);
    let opened = Opened::over(&ensemble, "/services", "");
    let mut upstreams = Vec::new();
    for body in ["0", "1", "2", "3"] {
        upstreams.push(Upstream::start(Behaviour::Answer(body)).await.unwrap());
    }
    let register = async |service: &str, n: u16| {
        opened.registry.register(at(service, n, &upstreams[usize::from(n)])).await.unwrap();
    };
    register("web", 0).await;
    register("web", 1).await;
    let authorities = ensemble.authorities();
    let environment = [("ZOOKEEPER", authorities.as_str()), ("ROOT", "/services")];
    let mut gateway = Witness::node("node-gateway", "gateway.js", &environment);
    let port = gateway.until("it listens", |line| line.strip_prefix("listening on ")?.parse::<u16>().ok());
    let learned = |gateway: &mut Witness, service: &str, numbers: &[usize]| {
        let addresses = numbers.iter().map(|n| upstreams[*n].address().to_string());
        let mut names: Vec<_> = addresses.collect();
        names.sort();
        let wanted = format!("/services/{service}: {}", names.join(" "));
        gateway.until(&wanted, |line| (line == wanted).then_some(()));
    };
    learned(&mut gateway, "web", &[0, 1]);
    assert_eq!(answers(port, "web").await, ["0", "1"]);

    register("web", 2).await;
    learned(&mut gateway, "web", &[0, 1, 2]);
    assert_eq!(answers(port, "web").await, ["0", "1", "2"]);
    opened.registry.deregister(instance("web", 0).id, Guard::Anyone).await.unwrap();
    learned(&mut gateway, "web", &[1, 2]);
    assert_eq!(answers(port, "web").await, ["1", "2"]);

    // One is killed, with whoever registered it.
    let uri = format!("zookeeper://{authorities}/services?session_timeout=2s");
    let dying = Dying::registering(uri, vec![at("web", 3, &upstreams[3])]).await;
    learned(&mut gateway, "web", &[1, 2, 3]);
    assert_eq!(answers(port, "web").await, ["1", "2", "3"]);
    dying.die();
    learned(&mut gateway, "web", &[1, 2]);
    assert_eq!(answers(port, "web").await, ["1", "2"]);

    // A service comes, goes with its node, and comes again.
    for n in [0, 3] {
        register("orders", n).await;
        learned(&mut gateway, "orders", &[usize::from(n)]);
        assert_eq!(answers(port, "orders").await, [n.to_string()]);
        opened.registry.deregister(instance("orders", n).id, Guard::Anyone).await.unwrap();
        gateway.until("it is gone", |line| line.contains("NO_NODE").then_some(()));
    }
    opened.close().await;
}

/// Who answers for a service; its gateway takes turns.
async fn answers(port: u16, service: &str) -> Vec<String> {
    let mut bodies = BTreeSet::new();
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
    for _ in 0..8 {
        let headers = format!("service_name: {service}\r\napi_name: /\r\n");
        let answer = client.get("/services", &headers).await.unwrap();
        assert!(answer.start.starts_with("HTTP/1.1 200"), "{answer:?}");
        bodies.insert(String::from_utf8(answer.body).unwrap());
    }
    bodies.into_iter().collect()
}

/// Curator's own service discovery, in Java.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_curator() {
    let ensemble = ZooKeeper::start(3);
    let opened = Opened::over(&ensemble, "/discovery", "layout=curator");
    let seen = Seen::by(&opened.registry).await;
    opened.registry.register(instance("web", 1)).await.unwrap();
    let libraries = [
        "curator-x-discovery",
        "curator-framework",
        "curator-recipes",
        "curator-client",
        "zookeeper",
        "zookeeper-jute",
        "guava",
        "jackson-databind",
        "slf4j-nop",
    ];
    let arguments = [&ensemble.authorities(), "/discovery"];
    let mut curator = Witness::java("curator", "Witness.java", &libraries, &arguments);
    curator.until("it is ready", |line| (line == "ready").then_some(()));
    assert_eq!(curator.ask("names"), "web");
    assert_eq!(curator.ask("list web"), "host:web-1:80=10.0.0.1:10001/DYNAMIC/true/[blue]");
    assert_eq!(curator.ask("pick web"), "{host:web-1:80=10001}");

    // It follows, by the watches of its cache.
    opened.registry.register(instance("web", 2)).await.unwrap();
    picks(&mut curator, "{host:web-1:80=10001, host:web-2:80=10002}");
    opened.registry.deregister(instance("web", 1).id, Guard::Anyone).await.unwrap();
    picks(&mut curator, "{host:web-2:80=10002}");

    assert_eq!(curator.ask("register web 8f1e 10.0.0.9 80"), "done");
    seen.until("theirs is seen", |ids| ids.iter().any(|id| id.as_str() == "web/8f1e")).await;
    let found = opened.registry.find(ServiceName::new("web").unwrap(), Filter::default()).await.unwrap();
    let theirs = &found.instances.iter().find(|one| one.id().as_str() == "web/8f1e").unwrap().registration;
    assert_eq!((theirs.endpoint.to_string().as_str(), theirs.owner.as_str()), ("10.0.0.9:80", "unknown"));
    assert_eq!(
        curator.ask("list web"),
        "8f1e=10.0.0.9:80/DYNAMIC/true/null host:web-2:80=10.0.0.1:10002/DYNAMIC/true/[blue]"
    );
    assert_eq!(curator.ask("unregister web 8f1e"), "done");
    seen.until("theirs is gone", |ids| ids.len() == 1).await;
    opened.close().await;
    assert_eq!(curator.ask("list web"), "");
}

/// Waits until a discovery picks from just these.
fn picks(curator: &mut Witness, expect: &str) {
    until_blocking(PATIENCE, expect, || {
        let told = curator.ask("pick web");
        if told == expect { Ok(()) } else { Err(told) }
    });
}
