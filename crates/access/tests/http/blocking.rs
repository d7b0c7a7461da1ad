//! Blocking queries: who wakes, when, and with which index.

use std::collections::BTreeSet;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PATIENCE, Running};

#[tokio::test]
async fn a_query_wakes_for_its_service_and_for_no_other() {
    let face = Running::start();
    face.register(r#"{"Name":"web","Port":1}"#).await;
    for target in ["/v1/health/service/web?passing", "/v1/catalog/service/web"] {
        let seen = face.get(target).await.index();
        let separator = if target.contains('?') { '&' } else { '?' };
        let query = face.ask(&format!("{target}{separator}index={seen}&wait=60s"));
        face.until_waiting(1).await;
        // Had it woken for these, it would answer with the index it has seen.
        face.register(r#"{"Name":"other"}"#).await;
        face.put("/v1/agent/service/deregister/other", "").await;
        assert_eq!(face.get(target).await.index(), seen, "the index of a service is its own");
        face.register(&format!(r#"{{"Name":"web","Port":{}}}"#, seen + 1)).await;
        let answer = query.await.unwrap();
        assert!(answer.index() > seen);
        assert_eq!(answer.index(), face.get(target).await.index());
        assert!(answer.body.contains(&format!("Port\":{}", seen + 1)), "{}", answer.body);
        face.until_waiting(0).await;
    }
}

#[tokio::test]
async fn a_query_wakes_when_the_first_comes_and_when_the_last_goes() {
    let face = Running::start();
    face.register(r#"{"Name":"other"}"#).await;
    let absent = face.get("/v1/health/service/web").await;
    assert_eq!(absent.body, "[]");
    let query = face.ask(&format!("/v1/health/service/web?index={}", absent.index()));
    face.until_waiting(1).await;
    face.register(r#"{"Name":"web"}"#).await;
    let present = query.await.unwrap();
    assert!(present.index() > absent.index() && present.body.contains("\"ID\":\"web\""));

    let query = face.ask(&format!("/v1/health/service/web?index={}", present.index()));
    face.until_waiting(1).await;
    face.put("/v1/agent/service/deregister/web", "").await;
    let gone = query.await.unwrap();
    assert_eq!(gone.body, "[]");
    assert!(gone.index() > present.index(), "{} then {}", present.index(), gone.index());
}

#[tokio::test]
async fn the_list_of_services_wakes_for_names_and_tags_only() {
    let face = Running::start();
    face.register(r#"{"ID":"1","Name":"web","Tags":["a"]}"#).await;
    let changes = [r#"{"ID":"2","Name":"web","Tags":["b"]}"#, r#"{"ID":"3","Name":"new"}"#];
    for change in changes {
        let seen = face.get("/v1/catalog/services").await.index();
        let query = face.ask(&format!("/v1/catalog/services?index={seen}&wait=60s"));
        face.until_waiting(1).await;
        // Neither health nor one more instance nor a drain shows in that list.
        face.register(r#"{"ID":"1","Name":"web","Tags":["a"],"Check":{"Status":"critical"}}"#).await;
        face.register(r#"{"ID":"1b","Name":"web","Tags":["a"]}"#).await;
        face.put("/v1/portolan/drain/1b", "").await;
        face.put("/v1/agent/service/deregister/1b", "").await;
        face.register(r#"{"ID":"1","Name":"web","Tags":["a"]}"#).await;
        face.register(change).await;
        let answer = query.await.unwrap();
        let now = face.get("/v1/catalog/services").await;
        assert_eq!((answer.index(), answer.body), (now.index(), now.body));
    }
    let seen = face.get("/v1/catalog/services").await.index();
    let query = face.ask(&format!("/v1/catalog/services?index={seen}&wait=60s"));
    face.until_waiting(1).await;
    face.put("/v1/agent/service/deregister/3", "").await;
    assert_eq!(query.await.unwrap().body, r#"{"web":["a","b"]}"#);
}

#[tokio::test]
async fn a_write_without_a_change_wakes_nobody_and_time_runs_out() {
    let face = Running::start();
    face.register(r#"{"Name":"web"}"#).await;
    for target in ["/v1/health/service/web", "/v1/catalog/service/web", "/v1/catalog/services"] {
        let before = face.get(target).await;
        let query = face.ask(&format!("{target}?index={}&wait=200ms", before.index()));
        face.until_waiting(1).await;
        face.register(r#"{"Name":"web"}"#).await;
        let answer = query.await.unwrap();
        assert_eq!((answer.index(), answer.body), (before.index(), before.body), "{target}");
    }
}

#[tokio::test]
async fn an_index_is_never_zero_and_no_change_falls_between_polls() {
    let face = Running::start();
    let targets = ["/v1/health/service/web", "/v1/catalog/service/web", "/v1/catalog/services"];
    for target in targets {
        assert_eq!(face.get(target).await.index(), 1, "{target}");
        assert_eq!(face.get(&format!("{target}?index=0")).await.index(), 1);
        // The empty book is a state to wait in, not one to loop over.
        assert_eq!(face.get(&format!("{target}?index=1&wait=20ms")).await.index(), 1);
    }
    face.register(r#"{"Name":"web"}"#).await;
    for target in targets {
        let late = timeout(PATIENCE, face.get(&format!("{target}?index=1&wait=10m"))).await;
        assert_eq!(
            late.unwrap().index(),
            2,
            "a client that polls after the first change hears of it at once"
        );
    }
}

#[tokio::test]
async fn an_index_of_another_life_is_answered_at_once_and_goes_on_from_here() {
    let face = Running::start();
    face.register(r#"{"Name":"web"}"#).await;
    for target in ["/v1/health/service/web", "/v1/catalog/services", "/v1/health/service/nope"] {
        let index = face.get(&format!("{target}?index=999999&wait=10m")).await.index();
        assert_eq!(index, face.get(target).await.index(), "{target}");
    }
}

#[tokio::test]
async fn an_index_only_grows() {
    let face = Running::start();
    let mut last = 0;
    for step in 0..20 {
        match step % 4 {
            0 => face.register(r#"{"ID":"1","Name":"web"}"#).await,
            1 => face.register(r#"{"Name":"other"}"#).await,
            2 => drop(face.put("/v1/agent/service/deregister/1", "").await),
            _ => drop(face.put("/v1/agent/service/deregister/other", "").await),
        }
        let index = face.get("/v1/health/service/web").await.index();
        assert!(index >= last, "{index} after {last}");
        last = index;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_queries_on_one_service_all_wake() {
    let face = Running::start();
    face.register(r#"{"Name":"web"}"#).await;
    let seen = face.get("/v1/health/service/web").await.index();
    let target = format!("/v1/health/service/web?index={seen}&wait=60s");
    let queries: Vec<_> = (0..200).map(|_| face.ask(&target)).collect();
    face.until_waiting(200).await;
    face.put("/v1/portolan/drain/web", "").await;
    let mut indexes = BTreeSet::new();
    for query in queries {
        let answer = query.await.unwrap();
        assert!(answer.body.contains("_service_maintenance:web"));
        indexes.insert(answer.index());
    }
    assert_eq!(indexes.into_iter().collect::<Vec<_>>(), [seen + 1]);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let face = Running::start();
    let mut stream = TcpStream::connect(face.address).await.unwrap();
    stream
        .write_all(b"GET /v1/health/service/web?index=1&wait=10m HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    face.until_waiting(1).await;
    drop(stream);
    face.until_waiting(0).await;
}

#[tokio::test]
async fn shutdown_answers_who_waits_and_ends() {
    let face = Running::start();
    face.register(r#"{"Name":"web"}"#).await;
    let idle = TcpStream::connect(face.address).await.unwrap();
    let targets =
        ["/v1/health/service/web?index=2", "/v1/catalog/services?index=2", "/v1/health/service/nope?index=1"];
    let queries: Vec<_> = targets.iter().map(|target| face.ask(&format!("{target}&wait=10m"))).collect();
    face.until_waiting(3).await;
    face.trigger.trigger();
    for (query, expect) in queries.into_iter().zip([2, 2, 1]) {
        assert_eq!(query.await.unwrap().index(), expect);
    }
    timeout(PATIENCE, face.task).await.expect("it ends in time").unwrap();
    TcpStream::connect(face.address).await.expect_err("nobody listens any more");
    drop(idle);
}
