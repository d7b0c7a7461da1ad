//! Who is gone, and who only seems so.

use std::time::{Duration, Instant};

use portolan_model::{Guard, Incarnation, Owner, Phase};
use testkit::cluster::Cluster;
use testkit::cluster::etcd::Etcd;

use crate::handle::{Handle, said, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_believed_for_a_reason() {
    let cluster = Etcd::start(1);
    let uri = format!("etcd://{}/l?ttl=2s&grace=1s", cluster.authorities());
    let (crasher, other) = (Handle::open(&uri), Handle::open(&uri));
    crasher.register(said("web", "a:1")).await;
    crasher.register(said("web", "b:1")).await;
    until("both are seen", async || other.count("web").await == 2).await;

    // Somebody deletes one: at once for everybody, and it does not come back.
    let begun = Instant::now();
    cluster.ctl(&["del", "/l/web/a:1"]);
    until("it is gone", async || other.count("web").await == 1 && crasher.count("web").await == 1).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "long before any grace time has passed");
    cluster.revoke_all_leases();
    until("the other is back", async || cluster.ctl(&["get", "/l/web/b:1"]).contains("10.0.0.1")).await;
    assert_eq!(cluster.ctl(&["get", "/l/web/a:1"]), "", "nobody held it any more");
    assert_eq!(other.count("web").await, 1);

    // A process that dies is out of the book after ttl and grace.
    crasher.crash().await;
    until("it is kept in doubt", async || {
        other.board.snapshot()["registry"].detail.contains("1 instances are kept although their leases ended")
    })
    .await;
    assert_eq!(other.count("web").await, 1);
    until("it is gone", async || other.count("web").await == 0).await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_follows_what_others_do_to_it() {
    let cluster = Etcd::start(1);
    let uri = format!("etcd://{}/l?ttl=2s&grace=1s", cluster.authorities());
    let (first, second) = (Handle::open(&uri), Handle::open(&uri));
    for id in ["drained:1", "taken:1", "removed:1"] {
        first.register(said("web", id)).await;
    }
    until("all are seen", async || second.count("web").await == 3).await;
    second.registry.drain(said("web", "drained:1").id, Guard::Anyone).await.unwrap();
    let mut taken = said("web", "taken:1");
    taken.owner = Owner::new("second").unwrap();
    taken.incarnation = Incarnation(0);
    second.register(taken).await;
    second.registry.deregister(said("web", "removed:1").id, Guard::Anyone).await.unwrap();
    until("all is known", async || first.count("web").await == 2).await;

    // All leases end: everybody restores what is his, as it was last.
    cluster.revoke_all_leases();
    until("both are back", async || cluster.keys("/l/").len() == 2).await;
    let value = |id: &str| cluster.ctl(&["get", "--print-value-only", &format!("/l/web/{id}")]);
    assert!(value("drained:1").contains(r#""phase":"draining""#), "{}", value("drained:1"));
    assert!(value("taken:1").contains(r#""owner":"second""#), "{}", value("taken:1"));
    let listing = first.registry.list().await.unwrap();
    let phases: Vec<_> = listing.services.values().flatten().map(|i| (i.id().to_string(), i.phase)).collect();
    assert_eq!(phases, [("drained:1".to_owned(), Phase::Draining), ("taken:1".to_owned(), Phase::Adult)]);

    // The one who lost it takes nothing along.
    first.close().await;
    until("only the taken one stays", async || cluster.keys("/l/").iter().eq(["/l/web/taken:1"])).await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stalled_write_would_leave_ends_with_the_process() {
    let cluster = Etcd::start(1);
    let uri = |timeout| format!("etcd://{}/l?ttl=600s&timeout={timeout}", cluster.authorities());
    let hasty = Handle::open(&uri("10ms"));
    until("it has a lease", async || hasty.registry.register(said("web", "first:1")).await.is_ok()).await;
    // Given up, and perhaps done: who leaves cannot know.
    cluster.stop(0);
    assert!(hasty.registry.register(said("web", "late:1")).await.is_err());
    cluster.cont(0);
    until("it is back", async || hasty.registry.register(said("web", "last:1")).await.is_ok()).await;
    hasty.close().await;
    assert_eq!(cluster.ctl(&["lease", "list"]).lines().skip(1).count(), 0, "no lease to write to");
    assert!(cluster.keys("/l/").is_empty());
    // Who leaves nothing lets others ask about the lease.
    let clean = Handle::open(&uri("5s"));
    clean.register(said("web", "first:1")).await;
    clean.close().await;
    assert_eq!(cluster.ctl(&["lease", "list"]).lines().skip(1).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_given_up_leaves_nothing() {
    let cluster = Etcd::start(1);
    let uri = |timeout| format!("etcd://{}/l?ttl=2s&grace=0s&timeout={timeout}", cluster.authorities());
    let (hasty, other) = (Handle::open(&uri("10ms")), Handle::open(&uri("5s")));
    until("it has a lease", async || hasty.registry.register(said("web", "first:1")).await.is_ok()).await;
    // Whether they came true or not: no caller was told that they did.
    cluster.stop(0);
    for n in 0..20 {
        let given_up = hasty.registry.register(said("late", &format!("late:{n}"))).await;
        assert!(given_up.is_err(), "{given_up:?}");
    }
    cluster.cont(0);
    other.register(said("web", "second:1")).await;
    until("nothing is left", async || cluster.keys("/l/").iter().eq(["/l/web/first:1", "/l/web/second:1"]))
        .await;
    hasty.close().await;
    other.close().await;
}
