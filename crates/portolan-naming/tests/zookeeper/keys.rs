//! Keys in ZooKeeper: the battery, what is really there, and what a fault does to writers.

use std::sync::Arc;

use portolan_model::{Condition, Key, KeyChange, KeyValueError, Prefix};
use testkit::cluster::Cluster;
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::{key_value_battery, key_value_faults};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::support::Opened;

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
    let mut ensemble = ZooKeeper::start(3);
    let opened: Vec<_> = (0..3).map(|_| Opened::over(&ensemble, "/svc", "")).collect();
    let keys: Vec<_> = opened.iter().map(|opened| Arc::clone(&opened.keys)).collect();
    let told = key_value_faults::no_write_is_lost_or_doubled(&keys, async || {
        let leader = ensemble.leader();
        ensemble.kill(leader);
        ensemble.leader();
    })
    .await;
    println!("{told:?}");
    for opened in opened {
        opened.close().await;
    }
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
    while opened.keys.put(key("a"), (*b"2").into(), Condition::Always).await.is_err() {}
    let Some(KeyChange::Upsert(entry)) = watch.next().await else { panic!("a value") };
    assert_eq!(*entry.value, *b"2", "and no reset");
    opened.close().await;
}
