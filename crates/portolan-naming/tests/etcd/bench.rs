//! Numbers, printed and not judged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::{Change, Interest};
use testkit::cluster::etcd::Etcd;

use crate::handle::{Handle, said, until};

const MANY: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_instances() {
    let cluster = Etcd::start(3);
    let uri = format!("etcd://{}/m?timeout=60s", cluster.authorities());
    let (owner, other) = (Handle::open(&uri), Handle::open(&uri));
    seen_by_another(&owner, &other).await;

    let begun = Instant::now();
    let writers = (0..16).map(|writer| {
        let registry = Arc::clone(&owner.registry);
        tokio::spawn(async move {
            for n in (writer..MANY).step_by(16) {
                registry.register(said(&format!("many-{}", n % 100), &format!("m:{n}"))).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    println!("{MANY} registered one by one in {:?}", begun.elapsed());
    let all = async |handle: &Handle| {
        let listing = handle.registry.list().await.unwrap();
        listing.services.values().map(Vec::len).sum::<usize>() == MANY
    };
    println!("{:?} later the other knows them", until("all are known", async || all(&other).await).await);
    let fresh = Handle::open(&uri);
    println!("read by a fresh handle in {:?}", until("all are read", async || all(&fresh).await).await);
    cluster.revoke_all_leases();
    let keys = || cluster.ctl(&["get", "/m/", "--prefix", "--keys-only", "--limit=1", "--write-out=fields"]);
    let back =
        until("all are registered again", async || keys().contains(&format!("\"Count\" : {MANY}"))).await;
    println!("registered again {back:?} after their lease was taken");
    assert!(all(&other).await && all(&fresh).await);
    let begun = Instant::now();
    owner.close().await;
    println!("deregistered at shutdown in {:?}", begun.elapsed());
    other.close().await;
    fresh.close().await;
}

async fn seen_by_another(owner: &Handle, other: &Handle) {
    let mut watcher = other.registry.subscribe(Interest::All);
    watcher.next().await.unwrap();
    let mut times = Vec::new();
    for n in 0..500 {
        let said = said("timed", &format!("t:{n}"));
        let begun = Instant::now();
        let seen = async {
            loop {
                match watcher.next().await.unwrap() {
                    Change::Upsert { instance, .. } if instance.registration == said => {
                        return begun.elapsed();
                    }
                    _ => {}
                }
            }
        };
        let (_, time) = tokio::join!(owner.register(said.clone()), seen);
        times.push(time);
    }
    times.sort();
    let at = |share: usize| -> Duration { times[(times.len() - 1) * share / 100] };
    println!("register to seen by another: p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
    for n in 0..500 {
        let id = said("timed", &format!("t:{n}")).id;
        owner.registry.deregister(id, portolan_model::Guard::Anyone).await.unwrap();
    }
}
