//! The ZooKeeper adapter against a real ensemble of three servers.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's verdict is a panic")]

mod faults;
#[path = "../keeping/mod.rs"]
mod keeping;
mod kept;
mod keys;
mod neighbours;
mod secured;
mod silence;
mod support;
mod witnesses;

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::Guard;
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::registry_battery;

use support::{Opened, Seen, instance, settle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_battery() {
    let ensemble = ZooKeeper::start(3);
    for (base, layout) in [("/a/base/path", "registrator"), ("/curator", "curator"), ("", "registrator")] {
        let opened = Opened::over(&ensemble, base, &format!("layout={layout}"));
        registry_battery::run(Arc::clone(&opened.registry)).await;
        // Somebody who comes later reads the same.
        let other = Opened::over(&ensemble, base, &format!("layout={layout}"));
        let (ours, theirs) = (opened.registry.list().await.unwrap(), other.registry.list().await.unwrap());
        let said = |listing: portolan_model::Listing| {
            let all = listing.services.into_values().flatten();
            all.map(|instance| (instance.registration.clone(), instance.phase)).collect::<Vec<_>>()
        };
        assert_eq!(said(ours), said(theirs), "{layout}");
        other.close().await;
        opened.close().await;
        let after = Opened::over(&ensemble, base, &format!("layout={layout}"));
        assert!(after.registry.list().await.unwrap().services.is_empty(), "a closed registry leaves nothing");
        after.close().await;
    }
}

/// How soon another process's subscriber sees what is registered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_are_seen_soon() {
    let ensemble = ZooKeeper::start(3);
    let (writer, reader) = (Opened::over(&ensemble, "/s", ""), Opened::over(&ensemble, "/s", ""));
    let seen = Seen::by(&reader.registry).await;
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let said = instance("web", n);
        let begun = Instant::now();
        writer.registry.register(said.clone()).await.unwrap();
        seen.until("it is seen", |ids| ids.contains(&said.id)).await;
        there.push(begun.elapsed());
        if n % 2 == 0 {
            let begun = Instant::now();
            writer.registry.deregister(said.id.clone(), Guard::Anyone).await.unwrap();
            seen.until("it is gone", |ids| !ids.contains(&said.id)).await;
            gone.push(begun.elapsed());
        }
    }
    for (what, mut times) in [("register -> seen", there), ("deregister -> gone", gone)] {
        times.sort();
        let at = |q: usize| times[times.len() * q / 100];
        println!("{what}: p50 {:?} p99 {:?} max {:?}", at(50), at(99), times[times.len() - 1]);
        // Far more than it takes, far less than a grace time or a session.
        assert!(at(50) < Duration::from_secs(1), "{what}");
    }
    let begun = Instant::now();
    let many = (0..2000).map(|n| {
        let registry = Arc::clone(&writer.registry);
        tokio::spawn(async move { settle(registry.as_ref(), instance(&format!("many-{}", n % 20), n)).await })
    });
    for one in many.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    seen.until("all are seen", |ids| ids.len() == 2100).await;
    println!("2000 registrations at once -> all seen: {:?}", begun.elapsed());
    let begun = Instant::now();
    let late = Opened::over(&ensemble, "/s", "");
    assert_eq!(late.registry.list().await.unwrap().services.values().map(Vec::len).sum::<usize>(), 2100);
    println!("reading 2100 instances from the start: {:?}", begun.elapsed());
    late.close().await;
    writer.close().await;
    seen.until("all are gone", |ids| ids.is_empty()).await;
    reader.close().await;
}

#[tokio::test]
async fn nobody_there_is_said_and_waited_for() {
    let port = testkit::ports::free_ports(1)[0];
    let opened = Opened::at(&format!("zookeeper://127.0.0.1:{port}/s?timeout=300ms"));
    let unavailable = |error: portolan_model::RegistryError| error.to_string();
    let listed = opened.registry.list().await.map_err(unavailable);
    assert_eq!(listed, Err("registry unavailable: zookeeper was not read yet".to_owned()));
    let registered = opened.registry.register(instance("web", 1)).await.map_err(unavailable);
    assert_eq!(registered, Err("registry unavailable: zookeeper does not answer in time".to_owned()));
    let report = opened.report();
    assert!(report.starts_with("Degraded") && report.contains("answering from what is known"), "{report}");
    let registry = Arc::clone(&opened.registry);
    opened.close().await;
    let closed = registry.register(instance("web", 1)).await.map_err(unavailable);
    assert_eq!(closed, Err("registry unavailable: the registry is closed".to_owned()));
}
