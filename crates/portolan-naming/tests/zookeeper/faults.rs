//! Servers that die, stop and come back; sessions that end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use portolan_model::{Guard, Incarnation, InstanceId};
use testkit::cluster::Cluster;
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::wait::until;
use zookeeper_client::Client;

use super::support::{Dying, Opened, PATIENCE, Seen, instance, settle};

const SERVICES: u16 = 20;
const INSTANCES: u16 = 200;

/// Far longer than a session may be silent.
const STOPPED: Duration = Duration::from_secs(30);

/// How long servers are parted from one another: longer than a session may be silent.
const PARTED: Duration = Duration::from_secs(6);

/// How long it may take beside other tests until everything is right, from when a quorum answers. It is to take half of
/// that.
const RIGHT: Duration = Duration::from_secs(4);

/// How long a server may take to say whether it has a quorum, before it is asked again.
const ASKED: Duration = Duration::from_millis(200);

/// When a quorum answers: a new session is one's to agree on.
async fn quorum(authorities: String) -> Instant {
    let ask = || Client::connector().with_connection_timeout(ASKED).with_fail_eagerly();
    let asking = authorities.split(',').map(str::to_owned).map(|server| {
        Box::pin(until(PATIENCE, "a session", async move || ask().connect(&server).await.is_ok()))
    });
    select_all(asking).await;
    Instant::now()
}

/// Two registrants with 200 instances, and three who watch: each of them and a bystander.
struct Scene {
    ensemble: ZooKeeper,
    registrants: [Opened; 2],
    bystander: Opened,
    watchers: Vec<Seen>,
    expected: BTreeSet<InstanceId>,
    probes: u16,
}

impl Scene {
    async fn set() -> Self {
        Self::over(ZooKeeper::start(3)).await
    }

    async fn over(ensemble: ZooKeeper) -> Self {
        let open = || Opened::over(&ensemble, "/services", "session_timeout=4s&reread_grace=10s");
        let (registrants, bystander) = ([open(), open()], open());
        let mut expected = BTreeSet::new();
        for n in 0..INSTANCES {
            let said = instance(&format!("service-{}", n % SERVICES), n);
            expected.insert(said.id.clone());
            // Each service's instances are all of one registrant: what it loses, the service loses.
            settle(registrants[usize::from(n % 2)].registry.as_ref(), said).await;
        }
        let mut watchers = Vec::new();
        for opened in registrants.iter().chain([&bystander]) {
            let seen = Seen::by(&opened.registry).await;
            seen.until("all are seen", |ids| *ids == expected).await;
            watchers.push(seen);
        }
        Self { ensemble, registrants, bystander, watchers, expected, probes: 0 }
    }

    /// After a fault: writes work, everybody sees everything, nobody ever saw less, and it is so in ZooKeeper.
    #[expect(clippy::print_stdout, reason = "how long it took is what is measured here")]
    async fn mended(&mut self, what: &str, begun: Instant) {
        let quorum = tokio::spawn(quorum(self.ensemble.authorities()));
        self.probes += 1;
        let probe = instance("probe", 1000 + self.probes);
        settle(self.registrants[0].registry.as_ref(), probe.clone()).await;
        let written = Instant::now();
        self.expected.insert(probe.id);
        let expected = &self.expected;
        for seen in &self.watchers {
            seen.until("everything is there", |ids| ids == expected).await;
        }
        let seen = Instant::now();
        let quorum = quorum.await.unwrap();
        let [written, took] = [written, seen].map(|at| at.saturating_duration_since(quorum).as_secs_f64());
        let quorum = quorum.saturating_duration_since(begun).as_secs_f64();
        let mut changes = Vec::new();
        for seen in &self.watchers {
            let (fewest, count) = seen.fewest();
            assert_ne!(fewest, Some(0), "{what}: a service was seen without instances");
            changes.push(count);
        }
        for opened in self.registrants.iter().chain([&self.bystander]) {
            opened.until_report("Running").await;
        }
        self.exactly_expected_nodes().await;
        for seen in &self.watchers {
            assert_eq!(seen.ids(), self.expected, "{what}");
            seen.forget();
        }
        println!(
            "{what}: quorum after {quorum:.2}; {written:.2} later written, seen by all {took:.2}; changes seen {changes:?}"
        );
        assert!(took < RIGHT.as_secs_f64(), "{what}: right {took} s after there was a quorum");
    }

    /// An instance comes and goes, for all who watch.
    async fn comes_and_goes(&self) {
        let said = instance("passing", 2000);
        settle(self.registrants[0].registry.as_ref(), said.clone()).await;
        for seen in &self.watchers {
            seen.until("it has come", |ids| ids.contains(&said.id)).await;
        }
        self.registrants[0].registry.deregister(said.id.clone(), Guard::Anyone).await.unwrap();
        for seen in &self.watchers {
            seen.until("it has gone", |ids| !ids.contains(&said.id)).await;
            assert!(self.expected.iter().all(|id| seen.ids().contains(id)), "all others stay");
            // A service that came and went is no service that was lost.
            seen.forget();
        }
    }

    /// Every instance has exactly one node, and that belongs to a session of now.
    async fn exactly_expected_nodes(&self) {
        until(PATIENCE, "a node for each instance", async || {
            let count = self.nodes().await.len();
            if count == self.expected.len() { Ok(()) } else { Err(count) }
        })
        .await;
        let sessions: BTreeSet<_> = self.nodes().await.into_iter().collect();
        assert_eq!(sessions.len(), self.registrants.len(), "each registrant has one session");
    }

    /// The session of each node.
    async fn nodes(&self) -> Vec<i64> {
        let client = Client::connect(&self.ensemble.authorities()).await.unwrap();
        client.sync("/services").await.unwrap();
        let mut sessions = Vec::new();
        for service in client.list_children("/services").await.unwrap() {
            for name in client.list_children(&format!("/services/{service}")).await.unwrap() {
                let stat = client.check_stat(&format!("/services/{service}/{name}")).await.unwrap();
                sessions.extend(stat.map(|stat| stat.ephemeral_owner));
            }
        }
        sessions
    }

    /// The session that holds the first instance.
    async fn session(&self) -> Option<i64> {
        let client = Client::connect(&self.ensemble.authorities()).await.unwrap();
        let node = client.check_stat("/services/service-0/10.0.0.1:10000").await.unwrap();
        node.map(|node| node.ephemeral_owner)
    }

    async fn end(self) {
        let Self { registrants: [a, b], bystander, watchers, .. } = self;
        a.close().await;
        b.close().await;
        watchers[2].until("what was registered is gone", |ids| ids.is_empty()).await;
        bystander.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_die_and_come_back() {
    let mut scene = Scene::set().await;

    let leader = scene.ensemble.leader();
    let follower = (0..3).find(|n| *n != leader).unwrap();
    let begun = Instant::now();
    scene.ensemble.kill(follower);
    scene.mended("a follower is killed", begun).await;
    scene.ensemble.launch(follower);
    scene.ensemble.serving();

    let leader = scene.ensemble.leader();
    let begun = Instant::now();
    scene.ensemble.kill(leader);
    scene.mended("the leader is killed", begun).await;
    scene.ensemble.launch(leader);
    scene.ensemble.serving();

    // The one that has our connection.
    let session = scene.session().await.expect("the first instance");
    let ours = scene.ensemble.server_of(session).expect("a server that has our connection");
    let begun = Instant::now();
    scene.ensemble.stop(ours);
    scene.mended("our server is stopped", begun).await;
    let mut paces = tokio::time::interval(Duration::from_millis(250));
    while begun.elapsed() < STOPPED {
        paces.tick().await;
        scene.comes_and_goes().await;
    }
    scene.ensemble.cont(ours);
    scene.ensemble.serving();
    scene.mended("it goes on", Instant::now()).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ensemble_restarts() {
    let mut scene = Scene::set().await;
    scene.ensemble.restart_all();
    scene.mended("the ensemble is restarted", Instant::now()).await;

    scene.ensemble.kill_all();
    for opened in &scene.registrants {
        opened.until_report("no connection").await;
        assert_eq!(opened.registry.list().await.unwrap().services.len(), usize::from(SERVICES) + 1);
    }
    scene.ensemble.launch_all();
    scene.mended("the ensemble was away", Instant::now()).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_cut_off() {
    let mut scene = Scene::over(ZooKeeper::start_apart(3)).await;

    // The one that has our connection, for everybody.
    let session = scene.session().await.expect("the first instance");
    let ours = scene.ensemble.server_of(session).expect("a server that has our connection");
    let leads = scene.ensemble.leader() == ours;
    let begun = Instant::now();
    scene.ensemble.net().cut(ours);
    // Without a leader there is no quorum, for as long as the others take to miss it: 4 s, as they are set up here.
    let what = if leads { "our server, the leader, is cut off" } else { "our server is cut off" };
    scene.mended(what, begun).await;
    scene.ensemble.net().mend(ours);
    scene.ensemble.serving();

    let leader = scene.ensemble.leader();
    let begun = Instant::now();
    scene.ensemble.net().cut(leader);
    scene.mended("the leader is cut off", begun).await;
    scene.ensemble.net().mend(leader);
    scene.ensemble.serving();

    // The one that has our connection, from the others, while we reach it.
    let session = scene.session().await.expect("the first instance");
    let ours = scene.ensemble.server_of(session).expect("a server that has our connection");
    let begun = Instant::now();
    scene.ensemble.net().part(ours, true);
    scene.mended("our server is parted from the others", begun).await;
    scene.ensemble.net().part(ours, false);
    scene.ensemble.serving();

    // All from one another, while we reach each.
    scene.ensemble.net().part_all(true);
    let begun = Instant::now();
    until(PATIENCE, "parted for long enough", async || begun.elapsed() >= PARTED).await;
    scene.ensemble.net().part_all(false);
    scene.ensemble.serving();
    scene.mended("all servers were parted, from the moment all serve", Instant::now()).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_session_ends_by_force() {
    let mut scene = Scene::set().await;
    for _ in 0..3 {
        let session = scene.session().await.expect("the first instance");
        let begun = Instant::now();
        scene.ensemble.expire(session);
        let replaced = async || scene.session().await.is_some_and(|now| now != session);
        until(PATIENCE, "another session", replaced).await;
        scene.mended("our session is ended", begun).await;
    }
    scene.end().await;
}

/// A process that dies without a word takes its instances with it: when its session has ended, and the grace time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registrant_that_dies_is_noticed() {
    let ensemble = ZooKeeper::start(3);
    let bystander = Opened::over(&ensemble, "/s", "grace=500ms");
    let seen = Seen::by(&bystander.registry).await;
    let uri = format!("zookeeper://{}/s?session_timeout=2s", ensemble.authorities());
    let dying = Dying::registering(uri, vec![instance("web", 1)]).await;
    seen.until("it is seen", |ids| ids.len() == 1).await;
    let begun = Instant::now();
    dying.die();
    bystander.until_report("1 of 1 instances are missing").await;
    seen.until("it is gone", BTreeSet::is_empty).await;
    println!("a registrant dies -> gone: {:?} (session 2 s, grace 0.5 s)", begun.elapsed());
    bystander.until_report("Running").await;
    bystander.close().await;
}

/// What a process left behind is the next one's as soon as that registers it, and does not go with the first's session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_dead_left_is_adopted() {
    let ensemble = ZooKeeper::start(3);
    let bystander = Opened::over(&ensemble, "/s", "grace=0s");
    let seen = Seen::by(&bystander.registry).await;
    let all: Vec<_> = (0..50).map(|n| instance("web", n)).collect();
    let mut before = all.clone();
    before.push(instance("left", 99));
    let uri = format!("zookeeper://{}/s?session_timeout=3s", ensemble.authorities());
    let dying = Dying::registering(uri, before).await;
    seen.until("all are seen", |ids| ids.len() == 51).await;
    seen.forget();
    dying.die();
    let next = [Opened::over(&ensemble, "/s", ""), Opened::over(&ensemble, "/s", "")];
    for (n, mut said) in all.into_iter().enumerate() {
        said.incarnation = Incarnation(8);
        next[n % 2].registry.register(said).await.unwrap();
    }
    // What nobody adopts goes with the session, and nothing else.
    seen.until("what nobody adopts is gone", |ids| ids.len() == 50).await;
    let client = Client::connect(&ensemble.authorities()).await.unwrap();
    let mut owners = BTreeSet::new();
    let names = client.list_children("/s/web").await.unwrap();
    for name in &names {
        owners.extend(client.check_stat(&format!("/s/web/{name}")).await.unwrap().map(|s| s.ephemeral_owner));
    }
    assert_eq!((names.len(), owners.len()), (50, 2), "one node each, of the two that live");
    assert_eq!(seen.fewest_of("web"), Some(50), "none was missed for a moment");
    for opened in next {
        opened.close().await;
    }
    seen.until("they go with their owners", BTreeSet::is_empty).await;
    bystander.close().await;
}
