//! Keys in etcd: the battery, what is really there, and what a fault does to writers.

use std::sync::Arc;

use portolan_model::{Condition, Key, KeyChange, KeyValueError, Prefix, Revision};
use testkit::cluster::Cluster;
use testkit::cluster::etcd::Etcd;
use testkit::{key_value_battery, key_value_faults};

use crate::handle::{Handle, until};

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
    assert_eq!(cluster.ctl(&["get", "/", "--prefix", "--keys-only"]).trim(), "", "nothing among instances");

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
    let mut cluster = Etcd::start(3);
    let uri = format!("etcd://{}/svc", cluster.authorities());
    let handles: Vec<_> = (0..3).map(|_| Handle::open(&uri)).collect();
    let keys: Vec<_> = handles.iter().map(|handle| Arc::clone(&handle.keys)).collect();
    let told = key_value_faults::no_write_is_lost_or_doubled(&keys, async || {
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.leader();
    })
    .await;
    println!("{told:?}");
    for handle in handles {
        handle.close().await;
    }
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
