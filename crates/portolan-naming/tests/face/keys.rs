//! Keys over our own HTTP face, kept by an embedded registry behind it.

use std::sync::Arc;

use portolan_model::{Condition, Key, KeyChange, KeyValueError, Prefix};
use testkit::{key_value_battery, key_value_faults};

use super::handle::{Handle, open};
use super::{Face, LIMIT, node};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A face over the keys of `kept`.
fn face(kept: &Handle, port: u16) -> Face {
    Face::over(Arc::clone(&kept.registry), kept.keys(), Default::default(), port)
}

fn uri(face: &Face) -> String {
    format!("portolan://127.0.0.1:{}", face.port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_pass_the_battery() {
    let kept = open("embedded:");
    let face = face(&kept, 0);
    let (one, other) = (open(&uri(&face)), open(&uri(&face)));
    key_value_battery::run(one.keys(), other.keys()).await;
    let mut watch = other.keys().watch(Prefix::under(&key("z")));
    assert!(matches!(watch.next().await, Some(KeyChange::Reset(_))));
    one.close().await;
    other.close().await;
    assert_eq!(watch.next().await, None, "the registry is closed");
    face.end().await;
    kept.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_in_the_process_and_whoever_comes_by_http_have_the_same_keys() {
    let kept = open("embedded:");
    let face = face(&kept, 0);
    let far = open(&uri(&face));
    // It compares values, revisions and who wins.
    key_value_battery::run(far.keys(), kept.keys()).await;
    let near = kept.keys().list(Prefix::all()).await.unwrap();
    let mut watch = far.keys().watch(Prefix::all());
    let Some(KeyChange::Reset(mut seen)) = watch.next().await else { panic!("a reset") };
    while seen.entries != near.entries {
        seen = far.keys().list(Prefix::all()).await.unwrap();
        tokio::task::yield_now().await;
    }
    far.close().await;
    face.end().await;
    kept.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_face_restarts_while_many_write() {
    let kept = open("embedded:");
    let mut serving = Some(face(&kept, 0));
    let uri = uri(serving.as_ref().unwrap());
    let handles: Vec<_> = (0..3).map(|_| open(&uri)).collect();
    let keys: Vec<_> = handles.iter().map(Handle::keys).collect();
    let told = key_value_faults::no_write_is_lost_or_doubled(&keys, async || {
        let before = serving.take().unwrap();
        let port = before.port;
        before.end().await;
        serving = Some(face(&kept, port));
    })
    .await;
    println!("{told:?}");
    for handle in handles {
        handle.close().await;
    }
    serving.unwrap().end().await;
    kept.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_read_while_the_face_is_away() {
    let kept = open("embedded:");
    let serving = face(&kept, 0);
    let far = open(&uri(&serving));
    let put = async |value: &[u8; 1]| far.keys().put(key("a"), (*value).into(), Condition::Always).await;
    put(b"1").await.unwrap();
    let mut watch = far.keys().watch(Prefix::all());
    assert!(matches!(watch.next().await, Some(KeyChange::Reset(_))));
    let port = serving.port;
    serving.end().await;
    let refused = put(b"2").await;
    assert!(matches!(refused, Err(KeyValueError::Unavailable(_))), "{refused:?}");
    assert_eq!(*far.keys().get(key("a")).await.unwrap().unwrap().value, *b"1");
    kept.keys().put(key("b"), (*b"2").into(), Condition::Always).await.unwrap();
    let serving = face(&kept, port);
    let change = tokio::time::timeout(LIMIT, watch.next()).await.unwrap();
    let Some(KeyChange::Upsert(entry)) = change else { panic!("a value, and no reset: {change:?}") };
    assert_eq!((entry.key.as_str(), &*entry.value), ("b", &b"2"[..]));
    far.close().await;
    serving.end().await;
    kept.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_consul_works_on_keys_as_on_consuls() {
    let kept = open("embedded:");
    let face = face(&kept, 0);
    let port = face.port;
    tokio::task::spawn_blocking(move || node::works_on_keys(port)).await.unwrap();
    face.end().await;
    kept.close().await;
}
