//! Others in the same ensemble: what they wrote, what they see, what they may not do.

use std::sync::Arc;

use portolan_model::{Filter, Guard, Phase, RegistryError, ServiceName};
use testkit::cluster::zookeeper::ZooKeeper;
use testkit::wait::until;
use zookeeper_client::{Acls, Client, CreateMode, Error};

use super::support::{Opened, PATIENCE, Seen, instance};

const EPHEMERAL: zookeeper_client::CreateOptions<'static> =
    CreateMode::Ephemeral.with_acls(Acls::anyone_all());
const PERSISTENT: zookeeper_client::CreateOptions<'static> =
    CreateMode::Persistent.with_acls(Acls::anyone_all());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_is_read_and_what_we_write_is_as_they_write() {
    let ensemble = ZooKeeper::start(1);
    let client = Client::connect(&ensemble.authorities()).await.unwrap();
    client.mkdir("/services/old", &PERSISTENT).await.unwrap();
    client.create("/services/old/10.0.0.7:80", b"", &EPHEMERAL).await.unwrap();
    client.create("/services/old/notes", b"no instance", &PERSISTENT).await.unwrap();
    let opened = Opened::over(&ensemble, "/services", "");
    let seen = Seen::by(&opened.registry).await;
    seen.until("the old one is seen", |ids| ids.iter().any(|id| id.as_str() == "old/10.0.0.7:80")).await;
    let body = br#"{"Name":"old","IP":"10.0.0.8","PublicPort":80,"PrivatePort":80,"ContainerID":"c","Tags":["x"],"Attrs":null}"#;
    client.create("/services/old/10.0.0.8:80", body, &EPHEMERAL).await.unwrap();
    seen.until("the new one is seen", |ids| ids.len() == 2).await;
    let found = opened.registry.find(ServiceName::new("old").unwrap(), Filter::default()).await.unwrap();
    assert_eq!(found.instances[1].registration.tags, ["x".to_owned()].into());
    // Others do not say goodbye; they are believed all the same.
    client.delete("/services/old/10.0.0.8:80", None).await.unwrap();
    seen.until("it is gone at once", |ids| ids.len() == 1).await;
    assert!(opened.report().starts_with("Running"), "{}", opened.report());

    opened.registry.register(instance("web", 1)).await.unwrap();
    opened.registry.drain(instance("web", 1).id, Guard::Anyone).await.unwrap();
    let (body, stat) = client.get_data("/services/web/10.0.0.1:10001").await.unwrap();
    assert_ne!(stat.ephemeral_owner, 0);
    let body = String::from_utf8(body).unwrap();
    assert!(
        body.starts_with(r#"{"Name":"web","IP":"10.0.0.1","PublicPort":10001,"PrivatePort":80,"ContainerID":"web-1","Tags":["blue"],"Attrs":{"region":"cn"},"#),
        "{body}"
    );
    assert_eq!(client.get_data("/services/web").await.unwrap().1.ephemeral_owner, 0);
    opened.registry.deregister(instance("web", 1).id, Guard::Anyone).await.unwrap();
    assert_eq!(client.check_stat("/services/web").await.unwrap(), None, "an empty parent goes");
    opened.close().await;
}

/// Somebody creates below a service while its last instance goes, again and again: nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_parent_goes_and_nobody_loses_anything() {
    let ensemble = ZooKeeper::start(1);
    let (a, b) = (Opened::over(&ensemble, "/s", ""), Opened::over(&ensemble, "/s", ""));
    let loops = [(&a, 1), (&b, 2)].map(|(opened, n)| {
        let registry = Arc::clone(&opened.registry);
        tokio::spawn(async move {
            for _ in 0..100 {
                registry.register(instance("web", n)).await.unwrap();
                let found = registry.find(ServiceName::new("web").unwrap(), Filter::default()).await.unwrap();
                assert!(found.instances.iter().any(|i| *i.id() == instance("web", n).id));
                registry.deregister(instance("web", n).id, Guard::Anyone).await.unwrap();
            }
        })
    });
    for one in loops {
        one.await.unwrap();
    }
    a.close().await;
    b.close().await;
}

/// Whoever registers an id has it; the one before does not fight, and does not take it away when it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_taken_over_drained_and_removed_by_others() {
    let ensemble = ZooKeeper::start(3);
    let (a, b) = (Opened::over(&ensemble, "/s", ""), Opened::over(&ensemble, "/s", ""));
    let (seen, at_a) = (Seen::by(&b.registry).await, Seen::by(&a.registry).await);
    for n in 0..3 {
        a.registry.register(instance("web", n)).await.unwrap();
    }
    seen.until("all three are seen", |ids| ids.len() == 3).await;
    // The same again by another process, one elsewhere, one removed, one drained.
    b.registry.register(instance("web", 0)).await.unwrap();
    let mut moved = instance("web", 1);
    moved.endpoint.port = 9;
    b.registry.register(moved).await.unwrap();
    b.registry.drain(instance("web", 2).id, Guard::Anyone).await.unwrap();
    let client = Client::connect(&ensemble.authorities()).await.unwrap();
    let owner = |path: &'static str| {
        let client = client.clone();
        async move {
            client.sync("/s").await.unwrap();
            client.check_stat(path).await.unwrap().map(|stat| stat.ephemeral_owner)
        }
    };
    assert_eq!(owner("/s/web/10.0.0.1:10001").await, None, "the old place is left");
    assert_eq!(owner("/s/web/10.0.0.1:9").await, owner("/s/web/10.0.0.1:10000").await);
    // The first loses its session: what others did to its instances, and it has seen, stands.
    let expected = [(10000, Phase::Adult), (9, Phase::Adult), (10002, Phase::Draining)];
    let at_first = async || {
        let found = a.registry.find(ServiceName::new("web").unwrap(), Filter::default()).await.unwrap();
        found.instances.iter().map(|i| (i.endpoint().port, i.phase)).collect::<Vec<_>>()
    };
    until(PATIENCE, "it has seen all of that", async || {
        let phases = at_first().await;
        if phases == expected { Ok(()) } else { Err(phases) }
    })
    .await;
    let session = owner("/s/web/10.0.0.1:10002").await.unwrap();
    ensemble.expire(session);
    let again = async || owner("/s/web/10.0.0.1:10002").await.is_some_and(|owner| owner != session);
    until(PATIENCE, "it is registered again", again).await;
    assert_eq!(at_first().await, expected);
    b.registry.deregister(instance("web", 2).id, Guard::Anyone).await.unwrap();
    at_a.until("the removal is seen", |ids| ids.len() == 2).await;
    a.close().await;
    assert_eq!(seen.ids().len(), 2, "they are the other's");
    b.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_protect_what_is_registered() {
    let ensemble = ZooKeeper::start(1);
    let at = |user: &str, options: &str| {
        Opened::at(&format!("zookeeper://{user}{}/s?{options}", ensemble.authorities()))
    };
    let owner = at("team:secret@", "");
    owner.registry.register(instance("web", 1)).await.unwrap();
    let stranger = at("", "");
    let seen = Seen::by(&stranger.registry).await;
    seen.until("everybody may read", |ids| ids.len() == 1).await;
    let refused = Err(RegistryError::Unavailable("zookeeper: not authorized".into()));
    assert_eq!(stranger.registry.deregister(instance("web", 1).id, Guard::Anyone).await, refused);
    assert_eq!(stranger.registry.register(instance("web", 2)).await, refused);
    let colleague = at("", "auth=digest:team:secret");
    colleague.registry.register(instance("web", 2)).await.unwrap();
    colleague.registry.deregister(instance("web", 1).id, Guard::Anyone).await.unwrap();
    seen.until("a colleague may do all", |ids| ids.len() == 1).await;

    let private = Opened::at(&format!("zookeeper://team:secret@{}/p?acl=private", ensemble.authorities()));
    private.registry.register(instance("web", 1)).await.unwrap();
    let client = Client::connect(&ensemble.authorities()).await.unwrap();
    assert_eq!(client.list_children("/p").await, Err(Error::NoAuth));
    let outsider = Opened::at(&format!("zookeeper://team:guessed@{}/p?timeout=1s", ensemble.authorities()));
    outsider.until_report("/p: reading failed: not authorized").await;
    let unread = Err(RegistryError::Unavailable("zookeeper was not read yet".into()));
    let nothing_better = async {
        loop {
            let report = outsider.report();
            assert!(report.starts_with("Degraded"), "it is tried again, and again refused: {report}");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        listed = outsider.registry.list() => assert_eq!(listed, unread),
        () = nothing_better => {}
    }
    for opened in [owner, stranger, colleague, private, outsider] {
        opened.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_a_node_is_refused() {
    let ensemble = ZooKeeper::start(1);
    let opened = Opened::over(&ensemble, "/s", "");
    let mut said = instance("web", 1);
    said.meta = (0..256).map(|n| (n.to_string(), "x".repeat(4096))).collect();
    let refused = opened.registry.register(said).await;
    assert!(matches!(refused, Err(RegistryError::Limit(_))), "{refused:?}");
    let mut said = instance("web", 1);
    said.meta = (0..200).map(|n| (n.to_string(), "x".repeat(4096))).collect();
    opened.registry.register(said).await.unwrap();
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_that_nobody_waits_for_leaves_nothing() {
    let ensemble = ZooKeeper::start(1);
    let opened = Opened::over(&ensemble, "/s", "");
    opened.registry.register(instance("web", 0)).await.unwrap();
    for n in 1..50 {
        // Given up at once, or right after it was sent.
        let write = opened.registry.register(instance("web", n));
        tokio::select! {
            biased;
            _ = write => panic!("answered at once"),
            () = std::future::ready(()) => {}
        }
    }
    // What comes later shows that all before was dealt with.
    opened.registry.register(instance("last", 99)).await.unwrap();
    let seen = Seen::by(&opened.registry).await;
    seen.until("only what somebody holds is there", |ids| ids.len() == 2).await;
    opened.close().await;
}
