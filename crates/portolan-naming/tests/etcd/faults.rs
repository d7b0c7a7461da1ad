//! Members die, are stopped, restarted; leases end. Two hundred instances live through all of it, and whoever watches
//! sees none of it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use portolan_model::{Guard, Interest, Registry, RegistryError, ServiceName, View};
use testkit::cluster::Cluster;
use testkit::cluster::etcd::Etcd;
use testkit::wait;
use tokio::task::JoinHandle;

use crate::handle::{Handle, said, until};

const SERVICES: usize = 4;
const EACH: usize = 50;

/// How long it may take beside other tests until everything is right, from when a quorum answers. It is to take half of
/// that.
const RIGHT: Duration = Duration::from_secs(4);

/// How long a member stays deaf and mute: longer than a lease lives, and than any patience with one server.
const DEAF: Duration = Duration::from_secs(30);

/// How long members are parted from one another: longer than a lease lives.
const PARTED: Duration = Duration::from_secs(8);

/// What happens to the cluster. Both handles begin with the first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillOurs,
    KillLeader,
    StopOurs,
    StopLeader,
    /// The first member can be reached by nobody.
    CutOurs,
    CutLeader,
    /// The first member reaches no other, while we reach it.
    PartOurs,
    /// No member reaches another, while we reach all: there is no quorum.
    PartAll,
    RestartAll,
    EndLeases,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::KillOurs,
        Self::KillLeader,
        Self::StopOurs,
        Self::StopLeader,
        Self::CutOurs,
        Self::CutLeader,
        Self::PartOurs,
        Self::PartAll,
        Self::RestartAll,
        Self::EndLeases,
    ];

    /// Lets it happen. Returns how to undo it, once the cluster has a quorum again.
    async fn strike(self, cluster: &mut Etcd) -> Box<dyn FnOnce(&mut Etcd)> {
        let leader = cluster.leader();
        let n =
            if matches!(self, Self::KillLeader | Self::StopLeader | Self::CutLeader) { leader } else { 0 };
        match self {
            Self::KillOurs | Self::KillLeader => {
                cluster.kill(n);
                return Box::new(move |cluster| cluster.launch(n));
            }
            Self::StopOurs | Self::StopLeader => {
                cluster.stop(n);
                return Box::new(move |cluster| cluster.cont(n));
            }
            Self::CutOurs | Self::CutLeader => {
                cluster.net().cut(n);
                return Box::new(move |cluster| cluster.net().mend(n));
            }
            Self::PartOurs => {
                cluster.net().part(n, true);
                return Box::new(move |cluster| cluster.net().part(n, false));
            }
            Self::PartAll => {
                cluster.net().part_all(true);
                let begun = Instant::now();
                until("parted for long enough", async || begun.elapsed() >= PARTED).await;
                cluster.net().part_all(false);
            }
            Self::RestartAll => cluster.restart_all(),
            Self::EndLeases => cluster.revoke_all_leases(),
        }
        Box::new(|_| {})
    }
}

/// Watches one service and notes the shortest list it ever saw.
struct Spectator {
    shortest: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Spectator {
    async fn of(registry: &Arc<dyn Registry>, service: &str) -> Self {
        let service = ServiceName::new(service).unwrap();
        let mut subscription = registry.subscribe(Interest::Service(service.clone()));
        let mut view = View::default();
        view.apply(subscription.next().await.unwrap());
        let shortest = Arc::new(AtomicUsize::new(view.instances(service.as_str()).count()));
        let seen = Arc::clone(&shortest);
        let task = tokio::spawn(async move {
            while let Some(change) = subscription.next().await {
                view.apply(change);
                seen.fetch_min(view.instances(service.as_str()).count(), Ordering::Relaxed);
            }
        });
        Self { shortest, task }
    }

    fn shortest(&self) -> usize {
        self.shortest.load(Ordering::Relaxed)
    }
}

impl Drop for Spectator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Finds out when members that can be reached have a quorum. Nobody looks any more once it is dropped.
struct Quorum {
    first: mpsc::Receiver<Instant>,
    wanted: Arc<()>,
}

impl Quorum {
    fn watch(cluster: &Etcd) -> Self {
        let (found, first) = mpsc::channel();
        let wanted = Arc::new(());
        for n in 0..3 {
            let (found, answers, wanted) =
                (found.clone(), cluster.asks_its_quorum(n), Arc::downgrade(&wanted));
            thread::spawn(move || {
                while wanted.strong_count() > 0 {
                    if answers() {
                        let _late = found.send(Instant::now());
                        return;
                    }
                }
            });
        }
        Self { first, wanted }
    }

    fn returned(self) -> Instant {
        let Self { first, wanted: _wanted } = self;
        first.recv().unwrap()
    }
}

fn service(n: usize) -> String {
    format!("svc-{n}")
}

/// Registers what a handle has of its own, as soon as it can. Says when that was.
async fn written(handle: &Handle, probe: &str) -> Instant {
    loop {
        match handle.registry.register(said("probe", probe)).await {
            Ok(_) => return Instant::now(),
            Err(RegistryError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_the_cluster_s_faults() {
    let mut cluster = Etcd::start_apart(3);
    let uri = format!("etcd://{}/f?ttl=5s&timeout=15s", cluster.authorities());
    let (owner, other) = (Handle::open(&uri), Handle::open(&uri));
    let mut expected = BTreeSet::new();
    for (s, n) in (0..SERVICES).flat_map(|s| (0..EACH).map(move |n| (s, n))) {
        let id = format!("h:{s}:{n}");
        expected.insert(format!("/f/{}/{id}", service(s)));
        owner.register(said(&service(s), &id)).await;
    }
    let mut spectators = Vec::new();
    for (s, handle) in (0..SERVICES).flat_map(|s| [(s, &owner), (s, &other)]) {
        until("all are known", async || handle.count(&service(s)).await == EACH).await;
        spectators.push(Spectator::of(&handle.registry, &service(s)).await);
    }
    for fault in Fault::ALL {
        let begun = Instant::now();
        let undo = fault.strike(&mut cluster).await;
        let struck = Instant::now();
        let quorum = Quorum::watch(&cluster);
        let probes = ["probe:1", "probe:2"];
        let (wrote, other_wrote) = tokio::join!(written(&owner, probes[0]), written(&other, probes[1]));
        for handle in [&owner, &other] {
            until("what is new is seen", async || handle.count("probe").await == probes.len()).await;
        }
        let (seen, quorum) = (Instant::now(), quorum.returned());
        until("everything held is there", async || expected.is_subset(&cluster.keys("/f/"))).await;
        let [wrote, other_wrote, seen, there] = [wrote, other_wrote, seen, Instant::now()]
            .map(|at| at.saturating_duration_since(quorum).as_secs_f64());
        let quorum = quorum.saturating_duration_since(struck).as_secs_f64();
        println!(
            "{fault:?}: quorum after {quorum:.2}; {wrote:.2} and {other_wrote:.2} later writes, seen {seen:.2}, all there {there:.2}"
        );
        assert!(seen < RIGHT.as_secs_f64(), "{fault:?}: written and seen {seen} s after a quorum");
        for probe in probes {
            owner.registry.deregister(said("probe", probe).id, Guard::Anyone).await.unwrap();
        }
        if fault == Fault::StopOurs {
            // Our `until` gives up about now: it is for what comes sooner.
            wait::until(2 * DEAF, "it has been deaf for long enough", async || begun.elapsed() >= DEAF).await;
        }
        undo(&mut cluster);
        until("no ghost", async || cluster.keys("/f/") == expected).await;
        for s in 0..SERVICES {
            for handle in [&owner, &other] {
                until("the same is known", async || handle.count(&service(s)).await == EACH).await;
            }
        }
        let shortest: Vec<_> = spectators.iter().map(Spectator::shortest).collect();
        assert!(shortest.iter().all(|seen| *seen == EACH), "{fault:?}: somebody saw {shortest:?} of {EACH}");
    }
    owner.close().await;
    until("what is deregistered is gone everywhere", async || other.count(&service(0)).await == 0).await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_away_answers_from_what_it_knew() {
    let mut cluster = Etcd::start(1);
    let handle = Handle::open(&format!("etcd://{}/f?timeout=300ms", cluster.authorities()));
    until("it is up", async || handle.registry.register(said("web", "w:1")).await.is_ok()).await;
    cluster.kill(0);
    let refused = handle.registry.register(said("web", "w:2")).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable(_))), "{refused:?}");
    assert_eq!(handle.count("web").await, 1);
    until("the status says so", async || {
        let report = &handle.board.snapshot()["registry"];
        report.state == runtime::State::Degraded && report.detail.starts_with("etcd is away")
    })
    .await;
    let fresh = Handle::open(&format!("etcd://{}/f?timeout=100ms", cluster.authorities()));
    assert!(fresh.registry.list().await.is_err(), "nothing was ever known");
    let mut early = fresh.registry.subscribe(Interest::Service(ServiceName::new("web").unwrap()));
    cluster.launch(0);
    let mut view = View::default();
    view.apply(early.next().await.unwrap());
    until("it is back", async || handle.registry.register(said("web", "w:2")).await.is_ok()).await;
    until("all is known", async || fresh.count("web").await == 2 && handle.count("web").await == 2).await;
    let status = handle.board.snapshot()["registry"].state;
    assert_eq!(status, runtime::State::Running);
    handle.close().await;
    fresh.close().await;
}
