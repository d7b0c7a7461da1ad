//! A server that is parted from the others while we reach all of them: one that is read, and one that is registered with.
//!
//! One reads elsewhere than where one registers once a connection has broken: here somebody between us and the first
//! server breaks those that wait for news.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use portolan_model::{Condition, Key, KeyChange, Prefix};
use serde_json::Value;
use testkit::cluster::Cluster;
use testkit::cluster::consul::Consul;
use testkit::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::handle::{Handle, Watcher, counts, open, said};

const LIMIT: Duration = Duration::from_secs(60);
/// How late may be what a server of no use is to bring. Without us it takes Consul six seconds, or for ever.
const SOON: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_server_without_a_leader_reads_another() {
    let (cluster, [leader, read, third]) = start();
    let at = |n: usize| cluster.authority(n);
    let between = Between::start(at(leader)).await;
    let ours = open(&format!("consul://{},{},{}", between.authority, at(read), at(third)));
    let other = open(&format!("consul://{},{}", at(leader), at(third)));
    until(LIMIT, "it reads the second", async || reads(&ours, &at(read))).await;
    between.breaks.store(false, SeqCst);
    let watcher = Watcher::start(&ours);
    ours.registry.register(said("web", 1)).await.unwrap();

    cluster.net().part(read, true);
    let begun = Instant::now();
    other.registry.register(said("web", 2)).await.unwrap();
    let seen = watcher.until(SOON, "what others register", |view| view.instances("web").count() == 2).await;
    ours.registry.register(said("web", 3)).await.unwrap();
    println!("parted: seen after {seen:?}, and one's own write in all {:?}", begun.elapsed());
    cluster.net().part(read, false);
    ours.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_keys_at_a_server_without_a_leader_watches_at_another() {
    let (cluster, [leader, read, third]) = start();
    let at = |n: usize| cluster.authority(n);
    let ours = open(&format!("consul://{},{}", at(read), at(third)));
    let other = open(&format!("consul://{}", at(leader)));
    let mut watch = ours.keys().watch(Prefix::all());
    assert!(matches!(watch.next().await, Some(KeyChange::Reset(_))));
    cluster.net().part(read, true);
    let begun = Instant::now();
    let key = Key::new("a").unwrap();
    other.keys().put(key.clone(), (*b"1").into(), Condition::Always).await.unwrap();
    let news = tokio::time::timeout(SOON, watch.next()).await.expect("news in time");
    println!("parted: a key is seen after {:?}", begun.elapsed());
    assert!(matches!(news, Some(KeyChange::Upsert(entry)) if entry.key == key));
    cluster.net().part(read, false);
    ours.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_gossip_holds_to_have_failed_is_left() {
    let (cluster, [leader, home, third]) = start();
    let at = |n: usize| cluster.authority(n);
    let owner = open(&format!("consul://{},{},{}", at(home), at(third), at(leader)));
    let other = open(&format!("consul://{}", at(leader)));
    owner.register_many(20, 1).await;
    let watcher = Watcher::start(&other);
    watcher.until(LIMIT, "all are seen", |view| counts(view) == (20, 20)).await;

    cluster.part_gossip(home, true);
    let failed = async || {
        let checks: Vec<Value> = read_json(&cluster, leader, &format!("/v1/health/node/node-{home}"))?;
        checks
            .iter()
            .any(|check| check["CheckID"] == "serfHealth" && check["Status"] == "critical")
            .then_some(())
    };
    until(LIMIT, "it is held to have failed", failed).await;
    let begun = Instant::now();
    let moved = async || {
        let all: Vec<Value> = read_json(&cluster, leader, "/v1/health/service/many-0").unwrap_or_default();
        let nodes = all.iter().map(|entry| entry["Node"]["Node"].as_str().unwrap_or_default().to_owned());
        let nodes: BTreeMap<_, usize> = nodes.fold(BTreeMap::new(), |mut nodes, node| {
            *nodes.entry(node).or_default() += 1;
            nodes
        });
        match nodes.iter().collect::<Vec<_>>()[..] {
            [(node, 20)] if *node != format!("node-{home}") => Ok(()),
            _ => Err(nodes),
        }
    };
    until(SOON, "each is with another agent, and none twice", moved).await;
    println!("held to have failed: all are with another agent after {:?}", begun.elapsed());
    watcher.until(LIMIT, "all are seen", |view| counts(view) == (20, 20)).await;
    assert_eq!(watcher.emptied(), []);
    cluster.part_gossip(home, false);
    owner.close().await;
    other.close().await;
}

/// Servers on hosts of their own, the leader first.
fn start() -> (Consul, [usize; 3]) {
    let cluster = Consul::start_apart(3);
    let leader = cluster.leader();
    (cluster, [leader, (leader + 1) % 3, (leader + 2) % 3])
}

fn read_json(cluster: &Consul, n: usize, path: &str) -> Option<Vec<Value>> {
    serde_json::from_str(&cluster.get(n, path)?).ok()
}

fn reads(handle: &Handle, server: &str) -> Result<(), String> {
    let detail = handle.status().detail;
    if detail.contains(&format!("reading {server}, registering at 127.0.0.1")) { Ok(()) } else { Err(detail) }
}

/// Hands on what clients and a server say to each other.
struct Between {
    authority: String,
    /// Whether it hangs up on those who ask what waits for news.
    breaks: Arc<AtomicBool>,
}

impl Between {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let breaks = Arc::new(AtomicBool::new(true));
        let broken = Arc::clone(&breaks);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(hand_on(client, server, Arc::clone(&broken)));
            }
        });
        Self { authority, breaks }
    }
}

/// Ends with either side; a request comes in one piece.
async fn hand_on(client: TcpStream, server: TcpStream, breaks: Arc<AtomicBool>) {
    let ((mut asks, mut hears), (mut answers, mut is_asked)) = (client.into_split(), server.into_split());
    let there = async {
        let mut piece = [0; 16 * 1024];
        while let Ok(length @ 1..) = asks.read(&mut piece).await {
            let waits = piece[..length].windows(6).any(|word| word == b"index=");
            if waits && breaks.load(SeqCst) || is_asked.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        _ended = copy(&mut answers, &mut hears) => {}
    }
}
