//! Servers die, are stopped, restarted, lose their memory. Two hundred instances live through all of it, and whoever
//! watches sees no service without instances.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use portolan_model::{Guard, Health, Registration, View, Weight};
use serde_json::Value;
use testkit::cluster::Cluster;
use testkit::cluster::consul::Consul;
use tokio::time::{Instant, timeout};

use crate::handle::{Handle, Watcher, counts, open, said};

const MANY: u16 = 200;
const SERVICES: u16 = 4;
/// Far longer than a sign of life may be late.
const HUNG: Duration = Duration::from_secs(30);
/// How long servers are parted from one another: longer than they keep a leader that nobody hears.
const PARTED: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(150);
/// How long the catalog may be other than it should once a leader answers, and what a watcher sees. It takes two seconds at
/// most; tests beside this one may be busy.
const SOON: Duration = Duration::from_secs(4);
/// How long an agent that comes back may hold what is registered no more: its `ttl` ends that after a minute and a half.
const GHOST: Duration = Duration::from_secs(20);
/// How long anything can be left over: an agent that was held up may come to a registration after its end; it drops it
/// when there was no sign of life for 15 s, and none for 60 s more, looking every 30 s.
const LEFT_OVER: Duration = Duration::from_secs(120);

/// How long a fact is left alone between two looks: each costs the servers that are looked at some milliseconds.
const PAUSE: Duration = Duration::from_millis(100);

/// A cluster with instances registered through its first server, and a watcher who reads another.
struct Stage {
    cluster: Consul,
    owner: Handle,
    other: Handle,
    watcher: Watcher,
}

impl Stage {
    async fn set(options: &str) -> Self {
        Self::on(Consul::start(3), options).await
    }

    async fn on(cluster: Consul, options: &str) -> Self {
        let at = |n: usize| cluster.authority(n);
        let owner = open(&format!("consul://{},{},{}?{options}", at(0), at(1), at(2)));
        let other = open(&format!("consul://{},{},{}?{options}", at(1), at(2), at(0)));
        owner.register_many(MANY, SERVICES).await;
        let watcher = Watcher::start(&other);
        watcher.until(LIMIT, "all are seen", |view| counts(view) == (200, 200)).await;
        // An agent that restarts remembers signs of life, and is not told of them by a registration.
        testkit::wait::until(LIMIT, "each has given a sign of life", async || {
            let heard = heard(&cluster, 0);
            if heard == Some(200) { Ok(()) } else { Err(heard) }
        })
        .await;
        Self { cluster, owner, other, watcher }
    }

    /// Waits until the catalog has each instance once, passing, until just as many are registered with the agents that run,
    /// and until the watcher sees them all; nobody saw less. Since when that is so is counted from when a leader answered the
    /// servers that run, for good.
    async fn recovered(&self, what: &str, running: &[usize]) {
        let cluster = &self.cluster;
        let listed = || is_complete(cluster, running[0]);
        let wrong = Mutex::new(Vec::new());
        let registered = || {
            let held: Vec<_> = running.iter().map(|n| registered(cluster, *n)).collect();
            let right = held.iter().copied().sum::<Option<usize>>() == Some(200);
            if !right {
                *wrong.lock().unwrap() = held;
            }
            right
        };
        let seen = || self.watcher.sees(|view| counts(view) == (200, 200));
        let led: Vec<_> = running.iter().map(|n| cluster.asks_its_leader(*n)).collect();
        let mut facts: Vec<Fact<'_>> = vec![&listed, &registered, &seen];
        facts.extend(led.iter().map(|led| led as Fact<'_>));
        let begun = Instant::now();
        let Some(since) = tokio::task::block_in_place(|| all_hold(&facts)) else {
            let agents: Vec<_> = running.iter().map(|n| self::registered(cluster, *n)).collect();
            panic!("{what}: the catalog has {:?}, agents {agents:?}", census(cluster, running[0]));
        };
        let led = since[3..].iter().map(|led| led.begun).max().unwrap_or(begun);
        let [listed, registered, seen] =
            [0, 1, 2].map(|n: usize| since[n].ended.saturating_duration_since(led));
        println!(
            "{what}: led for good after {:?}, then the catalog is right after {listed:?}, the watcher after {seen:?}, agents after {registered:?}",
            led - begun,
        );
        assert_eq!(self.watcher.emptied(), []);
        let last = listed.max(registered).max(seen);
        assert!(last <= SOON, "{what}: {listed:?}, {registered:?}, {seen:?}; agents held {wrong:?} before");
    }

    /// Waits until a leader answers one of the servers that can be reached, then until an instance can be registered anew, and
    /// until the watcher has seen what is new about it; nobody saw less. When the catalog is as it should be is Consul's
    /// business here: it takes its time to give a server up.
    async fn carries_on(&self, what: &str, reached: &[usize], weight: Weight) {
        let begun = Instant::now();
        tokio::task::block_in_place(|| self.cluster.led_somewhere(reached));
        let (led, begun) = (begun.elapsed(), Instant::now());
        let heavier = Registration { weight, ..said("many-0", 0) };
        let written = async { while self.owner.registry.register(heavier.clone()).await.is_err() {} };
        timeout(LIMIT, written).await.unwrap();
        let seen = |view: &View| view.instances("many-0").any(|instance| instance.registration == heavier);
        self.watcher.until(LIMIT, what, seen).await;
        println!("{what}: led after {led:?}, written and seen {:?} later", begun.elapsed());
        assert_eq!(self.watcher.emptied(), []);
    }

    async fn close(self) {
        drop(self.watcher);
        self.owner.close().await;
        self.other.close().await;
        // Agents tell the catalog by and by.
        testkit::wait::until(
            LEFT_OVER,
            "a clean shutdown leaves nothing, in catalogs and agents",
            async || {
                if (0..3).find_map(|n| census(&self.cluster, n)) == Some((0, 0)) {
                    return Ok(());
                }
                Err([0, 1, 2].map(|n| (census(&self.cluster, n), registered(&self.cluster, n))))
            },
        )
        .await;
    }
}

/// What holds or does not.
type Fact<'a> = &'a (dyn Fn() -> bool + Sync);

/// When it was looked last at what did not hold then; the beginning, if it always has.
#[derive(Clone, Copy)]
struct LastLook {
    begun: Instant,
    ended: Instant,
    holds: bool,
}

/// What the looks at all facts have come to.
struct Looks {
    last: Vec<LastLook>,
    over: bool,
}

impl Looks {
    fn all_hold(&self) -> bool {
        self.last.iter().all(|look| look.holds)
    }
}

/// Looks at each fact all the time until all hold at once, and says since when they have.
fn all_hold(facts: &[Fact<'_>]) -> Option<Vec<LastLook>> {
    let now = Instant::now();
    let last = vec![LastLook { begun: now, ended: now, holds: false }; facts.len()];
    let (looks, looked) = (Mutex::new(Looks { last, over: false }), Condvar::new());
    thread::scope(|scope| {
        for (n, fact) in facts.iter().enumerate() {
            let (looks, looked) = (&looks, &looked);
            scope.spawn(move || {
                loop {
                    let begun = Instant::now();
                    let holds = fact();
                    let mut looks = looks.lock().unwrap();
                    let look = &mut looks.last[n];
                    look.holds = holds;
                    if !holds {
                        (look.begun, look.ended) = (begun, Instant::now());
                    }
                    looked.notify_all();
                    if looked.wait_timeout_while(looks, PAUSE, |looks| !looks.over).unwrap().0.over {
                        return;
                    }
                }
            });
        }
        let waits = |looks: &mut Looks| !looks.all_hold();
        let mut looks = looked.wait_timeout_while(looks.lock().unwrap(), LIMIT, waits).unwrap().0;
        looks.over = true;
        looked.notify_all();
        looks.all_hold().then(|| looks.last.clone())
    })
}

/// Whether one server's catalog has each of the tests' instances once, and passing. Only if the numbers are right are all the
/// entries looked at: to be asked for those all the time would hold up the servers.
fn is_complete(cluster: &Consul, server: usize) -> bool {
    numbers(cluster, server) == Some((200, 0)) && census(cluster, server) == Some((200, 200))
}

/// How many entries there are of the tests' services, and how many of their checks are critical, as one server's catalog
/// has it.
fn numbers(cluster: &Consul, server: usize) -> Option<(u64, u64)> {
    let all: Vec<Value> = serde_json::from_str(&cluster.get(server, "/v1/internal/ui/services")?).ok()?;
    let ours = all.iter().filter(|of| of["Name"].as_str().is_some_and(|name| name.starts_with("many-")));
    let sum = |what: &str| ours.clone().map(|of| of[what].as_u64()).sum::<Option<u64>>();
    Some((sum("InstanceCount")?, sum("ChecksCritical")?))
}

/// How many different instances of the tests' are passing, and how many entries there are in all, as one server's
/// catalog has it.
fn census(cluster: &Consul, server: usize) -> Option<(usize, usize)> {
    let (mut passing, mut all) = (BTreeMap::new(), 0);
    for n in 0..SERVICES {
        let entries: Vec<Value> =
            serde_json::from_str(&cluster.get(server, &format!("/v1/health/service/many-{n}"))?).ok()?;
        all += entries.len();
        for entry in entries {
            let healthy = entry["Checks"].as_array()?.iter().all(|check| check["Status"] == "passing");
            if healthy {
                passing.insert(entry["Service"]["ID"].to_string(), ());
            }
        }
    }
    Some((passing.len(), all))
}

/// How many of the tests' instances are registered with one server's agent.
fn registered(cluster: &Consul, server: usize) -> Option<usize> {
    let services: BTreeMap<String, Value> =
        serde_json::from_str(&cluster.get(server, "/v1/agent/services")?).ok()?;
    Some(services.keys().filter(|id| id.starts_with("host:many")).count())
}

/// How many of the tests' instances have given a sign of life to one server's agent.
fn heard(cluster: &Consul, server: usize) -> Option<usize> {
    let checks: BTreeMap<String, Value> =
        serde_json::from_str(&cluster.get(server, "/v1/agent/checks")?).ok()?;
    let given = checks.values().filter(|check| check["Output"] == "as Portolan says");
    Some(
        given
            .filter(|check| check["ServiceID"].as_str().is_some_and(|id| id.starts_with("host:many")))
            .count(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_dies_and_comes_back() {
    let mut stage = Stage::set("").await;
    stage.cluster.kill(0);
    stage.recovered("home killed", &[1, 2]).await;
    stage.cluster.launch(0);
    stage.cluster.leader();
    // Its agent remembers all of them, and brings them back into the catalog: they are removed there.
    stage.recovered("home back", &[0, 1, 2]).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies() {
    let mut stage = Stage::set("").await;
    let leader = stage.cluster.leader();
    stage.cluster.kill(leader);
    let begun = Instant::now();
    stage.cluster.leader();
    let others: Vec<_> = (0..3).filter(|n| *n != leader).collect();
    println!("a new leader after {:?}", begun.elapsed());
    stage.recovered("leader killed", &others).await;
    stage.cluster.launch(leader);
    stage.recovered("leader back", &[0, 1, 2]).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs() {
    let stage = Stage::set("").await;
    stage.cluster.stop(0);
    let begun = Instant::now();
    stage.recovered("home hangs", &[1, 2]).await;
    testkit::wait::until(LIMIT, "it has lasted", async || begun.elapsed() >= HUNG).await;
    stage.recovered("home hangs for long", &[1, 2]).await;
    stage.cluster.cont(0);
    stage.recovered("home goes on", &[0, 1, 2]).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_cut_off() {
    let stage = Stage::on(Consul::start_apart(3), "").await;
    let net = stage.cluster.net();
    net.cut(0);
    stage.carries_on("home cut off", &[1, 2], Weight(7)).await;
    net.mend(0);
    stage.recovered("home reached again", &[0, 1, 2]).await;
    // All from one another, while we reach each.
    net.part_all(true);
    let begun = Instant::now();
    testkit::wait::until(LIMIT, "it has lasted", async || begun.elapsed() >= PARTED).await;
    assert_eq!(stage.watcher.emptied(), []);
    net.part_all(false);
    stage.carries_on("all reach one another again", &[0, 1, 2], Weight(8)).await;
    stage.recovered("all together again", &[0, 1, 2]).await;
    // An agent that was held up may carry out what it was asked long ago, after our goodbye: that goes by its `ttl`.
    stage.owner.close().await;
    stage.other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_restarts() {
    let mut stage = Stage::set("").await;
    stage.cluster.restart_all();
    stage.recovered("cluster restarted", &[0, 1, 2]).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_forgets_everything() {
    let mut stage = Stage::set("").await;
    stage.cluster.kill_all();
    (0..3).for_each(|n| stage.cluster.forget_everything(n));
    stage.cluster.launch_all();
    stage.recovered("cluster born again", &[0, 1, 2]).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_forgets_its_registrations() {
    let mut stage = Stage::set("").await;
    stage.cluster.kill(0);
    stage.cluster.forget_registrations(0);
    stage.cluster.launch(0);
    stage.recovered("agent without memory", &[0, 1, 2]).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deregistered_while_its_agent_is_away_is_no_ghost() {
    let mut cluster = Consul::start(3);
    let at = |n: usize| cluster.authority(n);
    let owner = open(&format!("consul://{},{},{}", at(0), at(1), at(2)));
    owner.register_many(20, SERVICES).await;
    cluster.kill(0);
    testkit::wait::until(LIMIT, "each is with another agent", async || {
        [1, 2].iter().map(|n| registered(&cluster, *n)).sum::<Option<usize>>() == Some(20)
    })
    .await;
    for n in 0..10 {
        let id = said(&format!("many-{}", n % SERVICES), n).id;
        owner.registry.deregister(id, Guard::Anyone).await.unwrap();
    }
    // It remembers all twenty.
    cluster.launch(0);
    let begun = Instant::now();
    testkit::wait::until(GHOST, "ten are left, and none with the one that was away", async || {
        let seen = (registered(&cluster, 0), census(&cluster, 1));
        if seen == (Some(0), Some((10, 10))) { Ok(()) } else { Err(seen) }
    })
    .await;
    println!("agent back: no ghost after {:?}", begun.elapsed());
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life_that_are_said_to_have_ended() {
    let stage = Stage::set("").await;
    for n in 0..MANY {
        let check = format!("/v1/agent/check/fail/service:host:many-{}:{n}", n % SERVICES);
        stage.cluster.put(0, &check, "").unwrap();
    }
    stage.recovered("all checks failed by hand", &[0, 1, 2]).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_crashes_is_seen() {
    let stage = Stage::set("ttl=2s").await;
    let Stage { cluster: _cluster, owner, other, watcher } = stage;
    owner.crash();
    let critical = |view: &portolan_model::View| {
        let instances = || view.services().flat_map(|service| view.instances(service.as_str()));
        instances().filter(|i| i.registration.health == Health::Critical).count() == usize::from(MANY)
    };
    let took = watcher.until(LIMIT, "all are critical", critical).await;
    println!("owner crashed: all critical after {took:?}");
    other.close().await;
}
