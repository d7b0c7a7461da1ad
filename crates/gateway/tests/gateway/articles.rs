//! The ten ways in which the articles' Node gateway breaks; ours does not.

use testkit::upstream::Behaviour;

use crate::rig::{Rig, nobody, within};

#[tokio::test]
async fn one_a_dead_backend_still_registered() {
    let rig = Rig::start();
    rig.register("service_1", "dead", nobody()).await;
    assert_eq!(rig.get("/service_1/", "").await.status(), 502);
    let _alive = rig.instance("service_1", "alive", Behaviour::Answer("ok")).await;
    assert_eq!(rig.get("/service_1/", "").await.text(), "ok");
    rig.stop().await;
}

#[tokio::test]
async fn two_and_three_missing_headers_and_unknown_services() {
    let rig = Rig::start();
    let _one = rig.instance("service_1", "a", Behaviour::Answer("ok")).await;
    assert_eq!(rig.get("/services", "service_name: service_1\r\n").await.status(), 400);
    assert_eq!(rig.get("/services", "").await.status(), 400);
    let unknown = rig.get("/services", "service_name: nope\r\napi_name: /\r\n").await;
    assert_eq!(unknown.status(), 404);
    assert!(!unknown.text().contains('<') && !unknown.text().contains("stack"), "{}", unknown.text());
    assert_eq!(rig.get("/service_1/", "").await.text(), "ok");
    rig.stop().await;
}

#[tokio::test]
async fn four_a_service_at_zero_instances_is_not_called() {
    let rig = Rig::start();
    let one = rig.instance("service_1", "a", Behaviour::Answer("old")).await;
    assert_eq!(rig.get("/service_1/", "").await.text(), "old");
    rig.deregister("service_1", "a").await;
    assert_eq!(rig.get("/service_1/", "").await.status(), 503);
    assert_eq!(one.requests().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn five_and_six_the_path_is_joined_and_stays_a_path() {
    let rig = Rig::start();
    let one = rig.instance("service_1", "a", Behaviour::Echo).await;
    let echoed = rig.get("/services/?id=1", "service_name: service_1\r\napi_name: /user\r\n").await;
    assert!(echoed.text().starts_with("GET /user?id=1 HTTP/1.1\n"), "{}", echoed.text());
    for evil in ["@127.0.0.1:22/x", "http://127.0.0.1:22/x", "user", "//"] {
        let headers = format!("service_name: service_1\r\napi_name: {evil}\r\n");
        let answer = rig.get("/services", &headers).await;
        let went_to_the_instance = answer.status() == 200 && one.requests().last().is_some();
        assert!(answer.status() == 400 || (evil == "//" && went_to_the_instance), "{evil}: {}", answer.start);
    }
    rig.stop().await;
}

#[tokio::test]
async fn seven_changes_do_not_multiply_watchers() {
    let rig = Rig::start();
    for n in 0..14 {
        rig.register("service_1", &format!("i{n}"), nobody()).await;
    }
    assert_eq!(rig.registry.subscriptions(), 1);
    rig.stop().await;
}

/// Eight (changes are seen after a lost session) is the registry's part: a subscription resets, see the battery.
#[tokio::test]
async fn nine_started_before_any_service_exists() {
    let rig = Rig::start();
    assert_eq!(rig.get("/service_1/", "").await.status(), 404);
    let _one = rig.instance("service_1", "a", Behaviour::Answer("ok")).await;
    assert_eq!(rig.get("/service_1/", "").await.text(), "ok");
    rig.stop().await;
}

#[tokio::test]
async fn ten_dashes_do_as_well_as_underscores() {
    let rig = Rig::start();
    let _one = rig.instance("service_1", "a", Behaviour::Answer("ok")).await;
    let answer = within(rig.get("/services", "service-name: service_1\r\napi-name: /\r\n")).await;
    assert_eq!(answer.text(), "ok");
    rig.stop().await;
}
