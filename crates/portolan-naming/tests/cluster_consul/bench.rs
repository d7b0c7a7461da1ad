//! Numbers, printed and not judged.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Interest};
use testkit::cluster::consul::Consul;
use tokio::time::Instant;

use crate::handle::{Watcher, open, said};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_soon_and_how_many() {
    let cluster = Consul::start(3);
    let at = |n: usize| cluster.authority(n);
    let owner = open(&format!("consul://{}?ttl=60s", at(0)));
    let other = open(&format!("consul://{}", at(1)));
    let mut changes = other.registry.subscribe(Interest::All);
    changes.next().await.unwrap();
    for (what, services) in [("of one service", 1), ("each of a new service", 200)] {
        let mut times = Vec::new();
        for n in 0..200 {
            let said = said(&format!("timed-{services}-{}", n % services), n);
            let begun = Instant::now();
            let seen = async {
                loop {
                    match changes.next().await.unwrap() {
                        Change::Upsert { instance, .. } if instance.registration == said => {
                            return begun.elapsed();
                        }
                        _ => {}
                    }
                }
            };
            let (written, time) = tokio::join!(owner.registry.register(said.clone()), seen);
            written.unwrap();
            times.push(time);
        }
        times.sort();
        let share = |share: usize| times[(times.len() - 1) * share / 100];
        println!(
            "register to seen by another, {what}: p50 {:?}, p99 {:?}, most {:?}",
            share(50),
            share(99),
            share(100)
        );
    }
    let watcher = Watcher::start(&other);
    let begun = Instant::now();
    let writes = (0..1000).map(|n| {
        let registry = Arc::clone(&owner.registry);
        tokio::spawn(async move { registry.register(said(&format!("bulk-{}", n % 150), n)).await })
    });
    let mut failed = 0;
    for write in writes.collect::<Vec<_>>() {
        failed += usize::from(write.await.unwrap().is_err());
    }
    println!("1000 of 150 services at once: {:?}, of which too late {failed}", begun.elapsed());
    let bulk = |view: &portolan_model::View| {
        let services = view.services().filter(|service| service.as_str().starts_with("bulk-"));
        services.map(|service| view.instances(service.as_str()).count()).sum::<usize>() >= 1000 - failed
    };
    let limit = Duration::from_secs(60);
    println!("the other knows them {:?} later", watcher.until(limit, "all are known", bulk).await);
    let begun = Instant::now();
    owner.close().await;
    println!("deregistered at shutdown in {:?}", begun.elapsed());
    other.close().await;
}
