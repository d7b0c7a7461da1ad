//! What others write, and what others read.

use portolan_model::{Filter, ServiceName};
use testkit::cluster::Cluster;
use testkit::cluster::etcd::Etcd;

use crate::handle::{Handle, said, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_is_found_and_ours_is_plain_to_them() {
    let cluster = Etcd::start(1);
    let handle = Handle::open(&format!("etcd://{}/r?layout=registrator", cluster.authorities()));
    cluster.ctl(&["put", "/r/db/host:postgres:5432", "10.1.1.1:5432"]);
    cluster.ctl(&["put", "/r/api/1", "10.1.1.2:80"]);
    cluster.ctl(&["put", "/r/rubbish/1", "no address"]);
    handle.register(said("web", "host:web:80")).await;
    let found = async || {
        let listing = handle.registry.list().await.unwrap();
        let all = listing.services.values().flatten();
        all.map(|i| format!("{}={}@{}", i.id(), i.endpoint(), i.registration.owner))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let expect =
        "api/1=10.1.1.2:80@unknown host:postgres:5432=10.1.1.1:5432@unknown host:web:80=10.0.0.1:80@test";
    until("all are found", async || found().await == expect).await;
    assert_eq!(cluster.ctl(&["get", "--print-value-only", "/r/web/host:web:80"]).trim(), "10.0.0.1:80");

    // Another registrator's own refresh wins over what we added.
    cluster.ctl(&["put", "/r/web/host:web:80", "10.9.9.9:80"]);
    until("it is theirs now", async || found().await.ends_with("host:web:80=10.9.9.9:80@unknown")).await;
    // Whoever adopts a plain entry makes it his.
    handle.register(said("db", "host:postgres:5432")).await;
    assert!(found().await.contains("host:postgres:5432=10.0.0.1:80@test"));
    cluster.ctl(&["del", "/r/api/1"]);
    until("what they delete is gone", async || !found().await.contains("api/1")).await;
    handle.close().await;
    assert_eq!(
        cluster.keys("/r/").into_iter().collect::<Vec<_>>(),
        ["/r/.portolan/web/host:web:80", "/r/rubbish/1", "/r/web/host:web:80"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_were_compacted_away_are_read_anew() {
    let mut cluster = Etcd::start(1);
    let handle = Handle::open(&format!("etcd://{}/c?grace=0s", cluster.authorities()));
    handle.register(said("web", "a:1")).await;
    cluster.ctl(&["put", "/c/web/b:1", "10.0.0.2:80"]);
    until("both are known", async || handle.count("web").await == 2).await;
    cluster.kill(0);
    cluster.launch(0);
    cluster.leader();
    cluster.ctl(&["del", "/c/web/b:1"]);
    let told = cluster.ctl(&["put", "/c/web/c:1", "10.0.0.3:80", "--write-out=fields"]);
    let revision = told.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).unwrap().to_owned();
    cluster.ctl(&["compact", &revision]);
    let service = ServiceName::new("web").unwrap();
    until("the truth is known", async || {
        let view = handle.registry.find(service.clone(), Filter::default()).await.unwrap();
        view.instances.iter().map(|i| i.id().as_str()).eq(["a:1", "c:1"])
    })
    .await;
    handle.close().await;
}
