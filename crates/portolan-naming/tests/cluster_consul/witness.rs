//! What others see of our registrations, and we of theirs, in Consul's own words.

use std::time::Duration;

use portolan_model::{Guard, Health, Incarnation, Owner, Phase, RegistryError, Weight, Zone};
use serde_json::Value;
use testkit::cluster::consul::Consul;
use testkit::wait::until;

use crate::handle::{Handle, Watcher, name, open, said};

const LIMIT: Duration = Duration::from_secs(20);

fn entries(cluster: &Consul, path: &str) -> Vec<Value> {
    serde_json::from_str(&cluster.get(0, path).unwrap()).unwrap()
}

async fn instance(handle: &Handle, service: &str) -> portolan_model::Instance {
    let view = handle.registry.find(name(service), portolan_model::Filter::default()).await.unwrap();
    view.instances[0].as_ref().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_in_the_eyes_of_others() {
    let cluster = Consul::start(1);
    let handle = open(&format!("consul://{}", cluster.authority(0)));
    let passing = || entries(&cluster, "/v1/health/service/web?passing=1").len();
    let mut web = said("web", 80);
    web.tags = ["blue".to_owned(), "订单".to_owned()].into();
    web.meta = [("version".to_owned(), "1".to_owned()), ("a.b/c".to_owned(), "x".repeat(4096))].into();
    (web.weight, web.zone) = (Weight(0), Some(Zone::new("rack 1").unwrap()));
    handle.registry.register(web.clone()).await.unwrap();
    let entry = entries(&cluster, "/v1/health/service/web").remove(0);
    let service = &entry["Service"];
    assert_eq!((&service["Address"], &service["Port"]), (&"10.0.0.1".into(), &80.into()));
    assert_eq!(service["Tags"], serde_json::json!(["blue", "订单"]));
    assert_eq!(
        (&service["Meta"]["version"], &service["Meta"]["portolan-owner"]),
        (&"1".into(), &"test".into())
    );
    assert_eq!(passing(), 1);
    assert_eq!(instance(&handle, "web").await.registration, web, "and it is read as it was said");

    let ways_out: [(Health, bool); 4] = [
        (Health::Warning, false),
        (Health::Critical, false),
        (Health::Maintenance, false),
        (Health::Passing, true),
    ];
    for (health, drain) in ways_out {
        web.health = health;
        handle.registry.register(web.clone()).await.unwrap();
        if drain {
            handle.registry.drain(web.id.clone(), Guard::Anyone).await.unwrap();
        }
        assert_eq!(passing(), 0, "{health} {drain}");
        let seen = instance(&handle, "web").await;
        assert_eq!((seen.registration.health, seen.phase == Phase::Draining), (health, drain));
        web.health = Health::Passing;
        handle.registry.register(web.clone()).await.unwrap();
        assert_eq!(passing(), 1, "back from {health} {drain}");
    }
    handle.close().await;
    assert_eq!(entries(&cluster, "/v1/health/service/web").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn theirs_in_our_eyes() {
    let cluster = Consul::start(1);
    let handle = open(&format!("consul://{}", cluster.authority(0)));
    let watcher = Watcher::start(&handle);
    let plain = r#"{"Name":"plain","Port":81,"Tags":["t"],"Check":{"TTL":"1h","Status":"passing"}}"#;
    cluster.put(0, "/v1/agent/service/register", plain).unwrap();
    let is = |health, phase| {
        move |view: &portolan_model::View| {
            view.instances("plain").any(|i| i.registration.health == health && i.phase == phase)
        }
    };
    watcher.until(LIMIT, "seen", is(Health::Passing, Phase::Adult)).await;
    let seen = instance(&handle, "plain").await.registration;
    assert_eq!((seen.id.as_str(), seen.owner.as_str()), ("node-0/plain", "consul:node-0"));
    cluster.put(0, "/v1/agent/check/warn/service:plain", "").unwrap();
    watcher.until(LIMIT, "warned", is(Health::Warning, Phase::Adult)).await;
    cluster.put(0, "/v1/agent/check/pass/service:plain", "").unwrap();
    cluster.put(0, "/v1/agent/service/maintenance/plain?enable=true&reason=by+hand", "").unwrap();
    watcher.until(LIMIT, "maintained", is(Health::Maintenance, Phase::Adult)).await;
    cluster.put(0, "/v1/agent/service/maintenance/plain?enable=false", "").unwrap();
    watcher.until(LIMIT, "back", is(Health::Passing, Phase::Adult)).await;
    handle.registry.drain(seen.id.clone(), Guard::Anyone).await.unwrap();
    assert!(is(Health::Passing, Phase::Draining)(&watcher_view(&handle).await));
    handle.registry.deregister(seen.id, Guard::Anyone).await.unwrap();
    assert_eq!(entries(&cluster, "/v1/health/service/plain").len(), 0);
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_consul_follows_ours() {
    let cluster = Consul::start(1);
    let authority = cluster.authority(0);
    let handle = open(&format!("consul://{authority}"));
    crate::node::follows(&handle, authority.rsplit_once(':').unwrap().1.parse().unwrap()).await;
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_consul_works_on_keys() {
    let cluster = Consul::start(1);
    let port = cluster.authority(0).rsplit_once(':').unwrap().1.parse().unwrap();
    tokio::task::spawn_blocking(move || crate::node::works_on_keys(port)).await.unwrap();
}

async fn watcher_view(handle: &Handle) -> portolan_model::View {
    let mut view = portolan_model::View::default();
    view.apply(handle.registry.subscribe(portolan_model::Interest::All).next().await.unwrap());
    view
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_and_one_id() {
    let cluster = Consul::start(3);
    let first = open(&format!("consul://{},{}", cluster.authority(0), cluster.authority(1)));
    let second = open(&format!("consul://{},{}", cluster.authority(1), cluster.authority(0)));
    let old = said("web", 80);
    first.registry.register(old.clone()).await.unwrap();
    let watcher = Watcher::start(&second);
    watcher.until(LIMIT, "seen", |view| view.instances("web").count() == 1).await;

    // A drain by somebody else is taken over, and holds until the owner registers again.
    second.registry.drain(old.id.clone(), Guard::Anyone).await.unwrap();
    let back = first.registry.register(old.clone()).await.unwrap();
    assert!(back.0 > 0);
    watcher.until(LIMIT, "back", |view| view.instances("web").all(|i| i.phase == Phase::Adult)).await;

    // A newer life at another agent: one instance, and the old handle lets go of it.
    let mut new = old.clone();
    new.incarnation = Incarnation(2);
    second.registry.register(new.clone()).await.unwrap();
    let mine = |node: usize| cluster.get(node, "/v1/agent/services").unwrap().contains("host:web");
    until(LIMIT, "it has moved", async || !mine(0) && mine(1)).await;
    assert_eq!(entries(&cluster, "/v1/health/service/web").len(), 1);
    let late = Guard::OwnedBy { owner: old.owner.clone(), incarnation: Incarnation(1) };
    let refused = second.registry.deregister(old.id.clone(), late).await;
    assert_eq!(refused, Err(RegistryError::StaleIncarnation { id: old.id.clone() }));

    // Another owner.
    let theirs = portolan_model::Registration { owner: Owner::new("other").unwrap(), ..old.clone() };
    first.registry.register(theirs.clone()).await.unwrap();
    until(LIMIT, "it has moved back", async || !mine(1) && mine(0)).await;
    watcher.until(LIMIT, "taken over", |view| view.instances("web").all(|i| i.registration == theirs)).await;
    assert_eq!(watcher.emptied(), []);

    // Removed by the handle that does not hold it: the one that does has the say.
    second.registry.deregister(old.id.clone(), Guard::Anyone).await.unwrap();
    until(LIMIT, "it is back", async || {
        let found = entries(&cluster, "/v1/health/service/web");
        if found.len() == 1 { Ok(()) } else { Err(found) }
    })
    .await;
    first.close().await;
    second.close().await;
}
