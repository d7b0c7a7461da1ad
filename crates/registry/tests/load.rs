//! Many at once share their commits, and a large book is as good as a small one.

#![allow(clippy::unwrap_used, reason = "a test's verdict is a panic")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::{Condition, Filter, Interest, Key, KeyValue, Registry, Revision};
use runtime::StatusBoard;
use support::{Running, fresh, open, said, service};

#[tokio::test]
async fn writes_that_wait_together_are_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    register_all(&running, 1000).await;
    let commits = running.registry.counts().commits;
    println!("1000 concurrent registrations in {commits} commits");
    assert!(commits <= 20, "{commits}");
    assert_eq!(Registry::list(&*running.registry).await.unwrap().revision, Revision(1000));
    running.stop().await;
}

#[tokio::test]
async fn keys_and_instances_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    let puts: Vec<_> = (0..500)
        .map(|n| {
            let registry = Arc::clone(&running.registry);
            let key = Key::new(format!("key/{n}")).unwrap();
            tokio::spawn(async move {
                KeyValue::put(&*registry, key, (*b"value").into(), Condition::Absent).await
            })
        })
        .collect();
    register_all(&running, 500).await;
    for put in puts {
        put.await.unwrap().unwrap();
    }
    let counts = running.registry.counts();
    println!("500 keys and 500 registrations in {} commits", counts.commits);
    assert_eq!((counts.keys, counts.instances), (500, 500));
    assert!(counts.commits <= 20, "{}", counts.commits);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_write_costs_little_more_than_its_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    let mut took = Vec::new();
    for n in 0..200 {
        let begun = Instant::now();
        running.registry.register(said("web", &n.to_string())).await.unwrap();
        took.push(begun.elapsed());
    }
    running.stop().await;
    let fsync = fsync_cost(dir.path());
    took.sort();
    let (median, p99) = (took[100], took[197]);
    println!("register {median:?} (median), {p99:?} (p99); an fsync alone {fsync:?} (median)");
    assert!(median < fsync + Duration::from_millis(20), "{median:?}, fsync {fsync:?}");
}

fn fsync_cost(dir: &std::path::Path) -> Duration {
    use std::io::Write;
    let mut file = std::fs::File::create(dir.join("probe")).unwrap();
    let mut took: Vec<_> = (0..51)
        .map(|_| {
            file.write_all(&[1; 4096]).unwrap();
            let begun = Instant::now();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    took.sort();
    took[25]
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_instances() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    let begun = Instant::now();
    register_all(&running, 10_000).await;
    let registered = begun.elapsed();
    let listing = Registry::list(&*running.registry).await.unwrap();
    assert_eq!(listing.services.values().map(Vec::len).sum::<usize>(), 10_000);
    assert_eq!(listing.services.len(), 100);
    let view = fresh(&running.registry, &Interest::All).await;
    let begun = Instant::now();
    let found = running.registry.find(service("service-7"), Filter::usable()).await.unwrap();
    let asked = begun.elapsed();
    assert_eq!(found.instances.len(), 100);
    running.stop().await;

    let begun = Instant::now();
    let (registry, _task) = open(dir.path(), Duration::ZERO, &StatusBoard::default());
    println!(
        "10,000 registered in {registered:?}, one service found in {asked:?}, reopened in {:?}",
        begun.elapsed()
    );
    assert_eq!(Registry::list(&*registry).await.unwrap(), listing);
    assert_eq!(fresh(&registry, &Interest::All).await, view);
}

/// Registers `count` instances of 100 services, all at once.
async fn register_all(running: &Running, count: u32) {
    let writes: Vec<_> = (0..count)
        .map(|n| {
            let registry = Arc::clone(&running.registry);
            let said = said(&format!("service-{}", n % 100), &n.to_string());
            tokio::spawn(async move { registry.register(said).await })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
}
