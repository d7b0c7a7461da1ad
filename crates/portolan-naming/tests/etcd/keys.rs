//! Keys in etcd: the battery, what is really there, and what a fault does to writers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::{Condition, Key, KeyChange, KeyValue, KeyValueError, Prefix, Revision};
use testkit::cluster::Cluster;
use testkit::cluster::etcd::Etcd;
use testkit::{key_value_battery, key_value_faults};

use crate::handle::{Handle, until};

/// How long members hang, or are parted: longer than any patience with one member, or with a write.
const HUNG: Duration = Duration::from_secs(8);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_pass_the_battery() {
    let cluster = Etcd::start(3);
    let uri = format!("etcd://{}/svc", cluster.authorities());
    let (one, other) = (Handle::open(&uri), Handle::open(&uri));
    key_value_battery::run(Arc::clone(&one.keys), Arc::clone(&other.keys)).await;
    one.keys.put(key("a/b"), (*b"1").into(), Condition::Always).await.unwrap();
    assert_eq!(cluster.ctl(&["get", "portolan-keys/svc//a/b"]), "portolan-keys/svc//a/b\n1\n");
    assert!(cluster.keys("/").is_empty(), "nothing among instances");

    // What others write there is seen, if it is a key; what was missed is caught up with, also when compacted away.
    let mut watch = other.keys.watch(Prefix::under(&key("a")));
    assert!(matches!(watch.next().await, Some(KeyChange::Reset(_))));
    cluster.ctl(&["put", "portolan-keys/svc//no//key", "x"]);
    cluster.ctl(&["put", "portolan-keys/svc//a/c", "2"]);
    let Some(KeyChange::Upsert(entry)) = watch.next().await else { panic!("a value") };
    assert_eq!((entry.key.as_str(), &*entry.value), ("a/c", &b"2"[..]));
    one.close().await;
    assert_eq!(other.keys.get(key("a/b")).await.unwrap().unwrap().value[..], *b"1");
    other.close().await;
    assert_eq!(watch.next().await, None, "the registry is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_dies_while_many_write() {
    nothing_is_lost(Etcd::start(3), async |cluster, _| {
        let leader = cluster.leader();
        cluster.kill(leader);
    })
    .await;
}

/// `strike` happens to the cluster while three handles write.
#[expect(clippy::print_stdout, reason = "how it went is worth keeping")]
async fn nothing_is_lost(mut cluster: Etcd, strike: impl AsyncFnOnce(&mut Etcd, &[Arc<dyn KeyValue>])) {
    let uri = format!("etcd://{}/svc", cluster.authorities());
    let handles: Vec<_> = (0..3).map(|_| Handle::open(&uri)).collect();
    let keys: Vec<_> = handles.iter().map(|handle| Arc::clone(&handle.keys)).collect();
    let told = key_value_faults::no_write_is_lost_or_doubled(&keys, async || {
        strike(&mut cluster, &keys).await;
        cluster.leader();
    })
    .await;
    println!("{told:?}");
    for handle in handles {
        handle.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_hang_while_many_write() {
    nothing_is_lost(Etcd::start(3), async |cluster, keys| {
        // All handles begin with the first member.
        for n in [0, cluster.leader()] {
            cluster.stop(n);
            let begun = Instant::now();
            key_value_faults::all_write(keys).await;
            until("it hung long enough", async || begun.elapsed() >= HUNG).await;
            cluster.cont(n);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_parted_while_many_write() {
    nothing_is_lost(Etcd::start_apart(3), async |cluster, keys| {
        let leader = cluster.leader();
        cluster.net().cut(leader);
        key_value_faults::all_write(keys).await;
        cluster.net().mend(leader);
        // All from one another, while we reach each: nobody has a quorum.
        cluster.net().part_all(true);
        let begun = Instant::now();
        until("parted for long enough", async || begun.elapsed() >= HUNG).await;
        cluster.net().part_all(false);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_while_etcd_is_away() {
    let mut cluster = Etcd::start(1);
    let handle = Handle::open(&format!("etcd://{}/svc?timeout=500ms", cluster.authorities()));
    let put = |value: &[u8]| handle.keys.put(key("a"), value.into(), Condition::Always);
    until("it is up", async || put(b"1").await.is_ok()).await;
    cluster.kill(0);
    until("it is noticed", async || handle.board.snapshot()["registry"].detail.starts_with("etcd is away"))
        .await;
    let refused = put(b"2").await;
    assert!(matches!(refused, Err(KeyValueError::Unavailable(_))), "{refused:?}");
    assert_eq!(handle.keys.get(key("a")).await.unwrap().unwrap().value[..], *b"1");
    let mut watch = handle.keys.watch(Prefix::all());
    let Some(KeyChange::Reset(listing)) = watch.next().await else { panic!("a reset") };
    assert_eq!(listing.entries.len(), 1);
    cluster.launch(0);
    until("it is back", async || put(b"2").await.is_ok()).await;
    let Some(KeyChange::Upsert(entry)) = watch.next().await else { panic!("a value") };
    assert!(entry.revision > Revision(0) && entry.value[..] == *b"2");
    handle.close().await;
}
