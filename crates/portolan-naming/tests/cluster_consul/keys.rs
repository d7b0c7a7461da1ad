//! Keys in Consul: the battery, what is really there, and what a fault does to writers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::{Condition, Key, KeyChange, KeyValue, KeyValueError, Prefix};
use testkit::cluster::Cluster;
use testkit::cluster::consul::Consul;
use testkit::wait::until;
use testkit::{key_value_battery, key_value_faults};

use crate::handle::open;

const LIMIT: Duration = Duration::from_secs(60);
/// How long servers hang, or are parted: longer than they keep a leader that nobody hears.
const HUNG: Duration = Duration::from_secs(8);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_pass_the_battery() {
    let cluster = Consul::start(3);
    let uri = format!("consul://{}", cluster.authorities());
    let (one, other) = (open(&uri), open(&uri));
    key_value_battery::run(one.keys(), other.keys()).await;

    one.keys().put(key("a/b"), (*b"1").into(), Condition::Always).await.unwrap();
    assert_eq!(cluster.get(1, "/v1/kv/portolan-keys/a/b?raw&consistent").as_deref(), Some("1"));
    let mut watch = other.keys().watch(Prefix::under(&key("z")));
    assert!(matches!(watch.next().await, Some(KeyChange::Reset(_))));
    cluster.put(2, "/v1/kv/portolan-keys/z/", "no key").unwrap();
    cluster.put(2, "/v1/kv/portolan-keys/z/1", "2").unwrap();
    let Some(KeyChange::Upsert(entry)) = watch.next().await else { panic!("a value") };
    assert_eq!((entry.key.as_str(), &*entry.value), ("z/1", &b"2"[..]));
    one.close().await;
    other.close().await;
    assert_eq!(watch.next().await, None, "the registry is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_dies_while_many_write() {
    nothing_is_lost(Consul::start(3), async |cluster, _| {
        let leader = cluster.leader();
        cluster.kill(leader);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_hang_while_many_write() {
    nothing_is_lost(Consul::start(3), async |cluster, keys| {
        // One that follows, and then the leader.
        let leader = cluster.leader();
        for n in [(leader + 1) % 3, leader] {
            cluster.stop(n);
            let begun = Instant::now();
            key_value_faults::all_write(keys).await;
            until(LIMIT, "it hung long enough", async || begun.elapsed() >= HUNG).await;
            cluster.cont(n);
            cluster.leader();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_parted_while_many_write() {
    nothing_is_lost(Consul::start_apart(3), async |cluster, keys| {
        let leader = cluster.leader();
        cluster.net().cut(leader);
        key_value_faults::all_write(keys).await;
        cluster.net().mend(leader);
        cluster.leader();
        // All from one another, while we reach each: nobody has a quorum.
        cluster.net().part_all(true);
        let begun = Instant::now();
        until(LIMIT, "parted for long enough", async || begun.elapsed() >= HUNG).await;
        cluster.net().part_all(false);
    })
    .await;
}

/// `strike` happens to the cluster while three handles write.
async fn nothing_is_lost(mut cluster: Consul, strike: impl AsyncFnOnce(&mut Consul, &[Arc<dyn KeyValue>])) {
    let uri = format!("consul://{}", cluster.authorities());
    let handles: Vec<_> = (0..3).map(|_| open(&uri)).collect();
    let keys: Vec<_> = handles.iter().map(|handle| handle.keys()).collect();
    let told = key_value_faults::no_write_is_lost_or_doubled(&keys, async || {
        strike(&mut cluster, &keys).await;
        tokio::task::block_in_place(|| cluster.led_somewhere(&[0, 1, 2]));
        let begun = Instant::now();
        key_value_faults::all_write(&keys).await;
        println!("each handle writes {:?} after a leader answers", begun.elapsed());
    })
    .await;
    println!("{told:?}");
    for handle in handles {
        handle.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_while_consul_is_away() {
    let mut cluster = Consul::start(1);
    let handle = open(&format!("consul://{}", cluster.authorities()));
    handle.keys().put(key("a"), (*b"1").into(), Condition::Always).await.unwrap();
    let mut watch = handle.keys().watch(Prefix::all());
    assert!(matches!(watch.next().await, Some(KeyChange::Reset(_))));
    cluster.kill(0);
    let refused = handle.keys().put(key("a"), (*b"2").into(), Condition::Always).await;
    assert!(matches!(refused, Err(KeyValueError::Unavailable(_))), "{refused:?}");
    assert_eq!(*handle.keys().get(key("a")).await.unwrap().unwrap().value, *b"1");
    cluster.launch(0);
    let again = async || handle.keys().put(key("a"), (*b"2").into(), Condition::Always).await;
    until(LIMIT, "it is written again", again).await;
    let Some(KeyChange::Upsert(entry)) = watch.next().await else { panic!("a value") };
    assert_eq!(*entry.value, *b"2", "and no reset");
    handle.close().await;
}
