//! Keys in ZooKeeper: the battery, what is really there, and what a fault does to writers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::{Condition, Key, KeyChange, KeyValue, KeyValueError, Prefix};
use testkit::cluster::Cluster;
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::wait::until;
use testkit::{key_value_battery, key_value_faults};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::support::{Opened, PATIENCE};

/// How long servers hang, or are parted: longer than a session may be silent.
const HUNG: Duration = Duration::from_secs(8);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_pass_the_battery() {
    let ensemble = ZooKeeper::start(3);
    // At the root, keys and services are siblings.
    for base in ["/svc", ""] {
        let (one, other) = (Opened::over(&ensemble, base, ""), Opened::over(&ensemble, base, ""));
        key_value_battery::run(Arc::clone(&one.keys), Arc::clone(&other.keys)).await;
        assert!(one.registry.list().await.unwrap().services.is_empty(), "no key is an instance");
        one.close().await;
        other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_may_read_and_write_keys() {
    let ensemble = ZooKeeper::start(3);
    let opened = Opened::over(&ensemble, "/svc", "");
    let revision = opened.keys.put(key("a/b/c"), (*b"1").into(), Condition::Absent).await.unwrap();
    let outside = Client::connect(&ensemble.authorities()).await.unwrap();
    let node = "/portolan-keys/svc/a%2Fb/c";
    assert_eq!(outside.get_data(node).await.unwrap().0, b"1");

    let mut watch = opened.keys.watch(Prefix::under(&key("a")));
    assert!(matches!(watch.next().await, Some(KeyChange::Reset(_))));
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    outside.create("/portolan-keys/svc/a%2Fb/%zz", b"no key", &options).await.unwrap();
    outside.set_data(node, b"2", None).await.unwrap();
    let Some(KeyChange::Upsert(entry)) = watch.next().await else { panic!("a value") };
    assert!(entry.revision > revision && *entry.value == *b"2");
    // They do not raise the root's version; what is written is compared all the same.
    let stale = opened.keys.put(key("a/b/c"), (*b"3").into(), Condition::At(revision)).await;
    assert_eq!(stale, Err(KeyValueError::Conflict { key: key("a/b/c"), current: Some(entry.revision) }));
    outside.delete(node, None).await.unwrap();
    assert!(matches!(watch.next().await, Some(KeyChange::Remove { .. })));

    // A directory goes with its last key.
    opened.keys.put(key("d/e"), (*b"1").into(), Condition::Absent).await.unwrap();
    opened.keys.delete(key("d/e"), Condition::Always).await.unwrap();
    assert_eq!(outside.check_stat("/portolan-keys/svc/d").await.unwrap(), None);
    opened.close().await;
    assert_eq!(watch.next().await, None, "the registry is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_dies_while_many_write() {
    nothing_is_lost(ZooKeeper::start(3), async |ensemble, _| {
        let leader = ensemble.leader();
        ensemble.kill(leader);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_hang_while_many_write() {
    nothing_is_lost(ZooKeeper::start(3), async |ensemble, keys| {
        // Whoever follows, and has connections of ours most likely; then the leader.
        let leader = ensemble.leader();
        for n in [(leader + 1) % 3, leader] {
            ensemble.stop(n);
            let begun = Instant::now();
            key_value_faults::all_write(keys).await;
            let long_enough = async || begun.elapsed() >= HUNG;
            until(PATIENCE, "it hung long enough", long_enough).await;
            ensemble.cont(n);
            ensemble.serving();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_parted_while_many_write() {
    nothing_is_lost(ZooKeeper::start_apart(3), async |ensemble, keys| {
        let leader = ensemble.leader();
        ensemble.net().cut(leader);
        key_value_faults::all_write(keys).await;
        ensemble.net().mend(leader);
        ensemble.serving();
        // All from one another, while we reach each: nobody has a quorum.
        ensemble.net().part_all(true);
        let begun = Instant::now();
        until(PATIENCE, "parted for long enough", async || begun.elapsed() >= HUNG).await;
        ensemble.net().part_all(false);
        ensemble.serving();
    })
    .await;
}

/// `strike` happens to the ensemble while three handles write.
#[expect(clippy::print_stdout, reason = "how it went is worth keeping")]
async fn nothing_is_lost(
    mut ensemble: ZooKeeper,
    strike: impl AsyncFnOnce(&mut ZooKeeper, &[Arc<dyn KeyValue>]),
) {
    let open = || Opened::over(&ensemble, "/svc", "session_timeout=4s");
    let opened: Vec<_> = (0..3).map(|_| open()).collect();
    let keys: Vec<_> = opened.iter().map(|opened| Arc::clone(&opened.keys)).collect();
    let told = key_value_faults::no_write_is_lost_or_doubled(&keys, async || {
        strike(&mut ensemble, &keys).await;
        ensemble.leader();
    })
    .await;
    println!("{told:?}");
    for opened in opened {
        opened.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asked_for_keys_ends_the_session_too() {
    let ensemble = ZooKeeper::start(1);
    let opened = Opened::over(&ensemble, "/svc", "session_timeout=40s");
    opened.keys.put(key("a"), (*b"1").into(), Condition::Always).await.unwrap();
    assert!(ensemble.has_sessions());
    opened.close().await;
    assert!(!ensemble.has_sessions(), "the farewell was answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_read_any_more_is_told_so() {
    let ensemble = ZooKeeper::start(1);
    let opened = Opened::over(&ensemble, "/svc", "timeout=5s");
    opened.keys.put(key("a"), (*b"1").into(), Condition::Always).await.unwrap();
    let owner = Client::connector().with_auth("digest", b"root:pw");
    let owner = owner.connect(&ensemble.authorities()).await.unwrap();
    owner.set_acl("/portolan-keys/svc", &Acls::creator_all(), None).await.unwrap();
    let begun = Instant::now();
    let refused = opened.keys.put(key("a"), (*b"2").into(), Condition::Always).await.unwrap_err();
    assert!(refused.to_string().contains("zookeeper refuses"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(4), "long before the timeout");
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_while_zookeeper_is_away() {
    let mut ensemble = ZooKeeper::start(1);
    let opened = Opened::over(&ensemble, "/svc", "timeout=2s");
    opened.keys.put(key("a"), (*b"1").into(), Condition::Always).await.unwrap();
    let mut watch = opened.keys.watch(Prefix::all());
    assert!(matches!(watch.next().await, Some(KeyChange::Reset(_))));
    ensemble.kill(0);
    opened.until_report("answering from what is known").await;
    let refused = opened.keys.put(key("a"), (*b"2").into(), Condition::Always).await;
    assert!(matches!(refused, Err(KeyValueError::Unavailable(_))), "{refused:?}");
    assert_eq!(*opened.keys.get(key("a")).await.unwrap().unwrap().value, *b"1");
    ensemble.launch(0);
    opened.until_report("Running").await;
    let again = async || opened.keys.put(key("a"), (*b"2").into(), Condition::Always).await;
    until(PATIENCE, "it is written again", again).await;
    let Some(KeyChange::Upsert(entry)) = watch.next().await else { panic!("a value") };
    assert_eq!(*entry.value, *b"2", "and no reset");
    opened.close().await;
}
