//! Instances in the key-value store: `consulkv://`.

use std::time::Duration;

use portolan_model::{Guard, View};
use serde_json::Value;
use testkit::cluster::Cluster;
use testkit::cluster::consul::Consul;
use testkit::wait::until;
use tokio::time::Instant;

use crate::handle::{Handle, Watcher, counts, name, open, said};

const LIMIT: Duration = Duration::from_secs(60);

fn all(view: &View) -> bool {
    counts(view) == (200, 200)
}

/// The keys of the tests' instances, and the sessions they hang on.
fn keys(cluster: &Consul, server: usize) -> Option<(usize, Vec<String>)> {
    let entries: Vec<Value> = serde_json::from_str(&cluster.get(server, "/v1/kv/svc/many?recurse")?).ok()?;
    let mut sessions: Vec<_> =
        entries.iter().map(|e| e["Session"].as_str().unwrap_or("").to_owned()).collect();
    sessions.sort();
    sessions.dedup();
    Some((entries.len(), sessions))
}

/// Two hundred instances, and a watcher who reads another server than their owner.
struct Stage {
    cluster: Consul,
    owner: Handle,
    other: Handle,
    watcher: Watcher,
}

impl Stage {
    async fn set() -> Self {
        let cluster = Consul::start(3);
        let at = |n: usize| cluster.authority(n);
        let owner = open(&format!("consulkv://{},{},{}/svc?ttl=10s", at(0), at(1), at(2)));
        let other = open(&format!("consulkv://{},{},{}/svc", at(1), at(2), at(0)));
        owner.register_many(200, 4).await;
        let watcher = Watcher::start(&other);
        watcher.until(LIMIT, "all are seen", all).await;
        Self { cluster, owner, other, watcher }
    }

    /// Waits until the store has each instance once, on one living session, and the watcher sees them; nobody saw less.
    async fn recovered(&self, what: &str, server: usize) {
        let begun = Instant::now();
        let whole = async || match keys(&self.cluster, server) {
            Some((200, sessions)) if sessions.len() == 1 && !sessions[0].is_empty() => Ok(()),
            found => Err(found),
        };
        until(LIMIT, what, whole).await;
        let stored = begun.elapsed();
        self.watcher.until(LIMIT, what, all).await;
        println!("consulkv, {what}: all stored after {stored:?}, seen after {:?}", begun.elapsed());
        assert_eq!(self.watcher.emptied(), []);
        // What it has forgotten it would not register again the next time.
        let held = async || {
            let told = self.owner.status().detail;
            let holds = |count: u16| told.ends_with(&format!(" {count} instances registered here"));
            if holds(200) || holds(201) { Ok(()) } else { Err(told) }
        };
        until(LIMIT, what, held).await;
    }

    async fn close(self) {
        drop(self.watcher);
        self.owner.close().await;
        assert_eq!(keys(&self.cluster, 1), None, "a clean shutdown leaves nothing");
        self.other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_promises_of_a_registry() {
    let cluster = Consul::start(3);
    let handle = open(&format!("consulkv://{}/some/path", cluster.authorities()));
    testkit::registry_battery::run(std::sync::Arc::clone(&handle.registry)).await;
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_ended_by_force() {
    let stage = Stage::set().await;
    let (_, sessions) = keys(&stage.cluster, 0).unwrap();
    stage.cluster.put(0, &format!("/v1/session/destroy/{}", sessions[0]), "").unwrap();
    stage.recovered("session destroyed", 0).await;
    assert_ne!(keys(&stage.cluster, 0).unwrap().1, sessions);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_crashes() {
    let Stage { cluster, owner, other, watcher } = Stage::set().await;
    let (_, sessions) = keys(&cluster, 0).unwrap();
    owner.crash();
    // Its successor comes before its session has ended, and adopts what it left.
    let successor = open(&format!("consulkv://{}/svc", cluster.authority(0)));
    successor.register_many(200, 4).await;
    cluster.put(0, &format!("/v1/session/destroy/{}", sessions[0]), "").unwrap();
    let stage = Stage { cluster, owner: successor, other, watcher };
    stage.recovered("owner replaced", 0).await;
    // Nobody comes: Consul ends the session when nobody renews it, here at once.
    let Stage { cluster, owner, other, watcher } = stage;
    let (_, sessions) = keys(&cluster, 0).unwrap();
    owner.crash();
    cluster.put(0, &format!("/v1/session/destroy/{}", sessions[0]), "").unwrap();
    watcher.until(LIMIT, "all are gone", |view| counts(view).1 == 0).await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_and_a_cluster_that_restarts() {
    let mut stage = Stage::set().await;
    let leader = stage.cluster.leader();
    stage.cluster.kill(leader);
    let next = stage.cluster.leader();
    stage.recovered("leader killed", next).await;
    stage.owner.registry.register(said("fresh", 1)).await.unwrap();
    stage.watcher.until(LIMIT, "new ones are seen", |view| view.instances("fresh").count() == 1).await;
    stage.cluster.launch(leader);
    stage.cluster.restart_all();
    stage.recovered("cluster restarted", 0).await;
    stage.cluster.kill_all();
    (0..3).for_each(|n| stage.cluster.forget_everything(n));
    stage.cluster.launch_all();
    stage.recovered("cluster born again", 0).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_keys_and_ours_in_others_eyes() {
    let cluster = Consul::start(1);
    let handle = open(&format!("consulkv://{}/svc", cluster.authority(0)));
    let watcher = Watcher::start(&handle);
    // As gliderlabs/registrator writes it.
    cluster.put(0, "/v1/kv/svc/web/host:c1:80", "10.0.0.7:80").unwrap();
    let theirs = |view: &View| view.instances("web").any(|i| i.endpoint().to_string() == "10.0.0.7:80");
    watcher.until(LIMIT, "theirs is seen", theirs).await;
    cluster.put(0, "/v1/kv/svc/web/nonsense", "no endpoint").unwrap();
    let mut ours = said("web", 81);
    ours.tags = ["blue".to_owned()].into();
    handle.registry.register(ours.clone()).await.unwrap();
    assert_eq!(cluster.get(0, "/v1/kv/svc/web/host:web:81?raw").as_deref(), Some("10.0.0.1:81"));
    let found = handle.registry.find(name("web"), portolan_model::Filter::default()).await.unwrap();
    assert_eq!(found.instances.len(), 2);
    assert!(found.instances.iter().any(|instance| instance.registration == ours));

    let id =
        found.instances.iter().find(|i| i.registration.owner.as_str() == "unknown").unwrap().id().clone();
    handle.registry.drain(id.clone(), Guard::Anyone).await.unwrap();
    handle.registry.deregister(id, Guard::Anyone).await.unwrap();
    assert_eq!(cluster.get(0, "/v1/kv/svc/web/host:c1:80"), None);
    handle.close().await;
    assert_eq!(cluster.get(0, "/v1/kv/svc/web/host:web:81"), None);
    assert_eq!(
        cluster.get(0, "/v1/kv/svc/?keys").unwrap().matches("svc/").count(),
        1,
        "what is not ours stays"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_cluster_is_away_serves_its_last_table() {
    let cluster = Consul::start(3);
    let uri = format!("consulkv://{}/kept?timeout=300ms&ttl=10s", cluster.authorities());
    crate::keeping::serves_its_last_table(cluster, &uri, "Degraded Consul is away").await;
}
