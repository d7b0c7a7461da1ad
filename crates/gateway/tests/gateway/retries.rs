//! What is tried elsewhere, and what never is.

use std::time::Duration;

use testkit::upstream::Behaviour;

use crate::rig::{Rig, nobody, within};

#[tokio::test]
async fn a_refused_connection_is_nobodys_failure() {
    let rig = Rig::start();
    rig.register("web", "dead", nobody()).await;
    let _b = rig.instance("web", "b", Behaviour::Answer("b")).await;
    let mut client = rig.client().await;
    for _ in 0..6 {
        let post = "POST /web/ HTTP/1.1\r\nhost: gw\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(client.ask(post).await.unwrap().text(), "b");
    }
    rig.stop().await;
}

#[tokio::test]
async fn an_idempotent_request_on_a_closing_connection_goes_elsewhere() {
    let rig = Rig::start();
    let closing = rig.instance("web", "a", Behaviour::CloseAfter(1, "a")).await;
    let _b = rig.instance("web", "b", Behaviour::Answer("b")).await;
    let mut client = rig.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/web/", "").await.unwrap().status(), 200);
    }
    assert!(closing.requests().len() >= 4, "it was tried, and answered every other time");
    rig.stop().await;
}

#[tokio::test]
async fn a_lone_instance_gets_a_new_connection() {
    let rig = Rig::start();
    let only = rig.instance("web", "a", Behaviour::CloseAfter(1, "a")).await;
    let mut client = rig.client().await;
    for _ in 0..6 {
        assert_eq!(client.get("/web/", "").await.unwrap().text(), "a");
    }
    assert!(only.connections() >= 6);
    rig.stop().await;
}

#[tokio::test]
async fn what_may_have_been_acted_on_is_never_repeated() {
    let rig = Rig::start();
    let closing = rig.instance("web", "a", Behaviour::CloseAfter(1, "a")).await;
    let mut client = rig.client().await;
    let post = "POST /web/ HTTP/1.1\r\nhost: gw\r\ncontent-length: 3\r\n\r\nabc";
    assert_eq!(client.ask(post).await.unwrap().status(), 200);
    // The kept connection is closed on the second request, after it was read.
    let answer = client.ask(post).await.unwrap();
    assert_eq!((answer.status(), answer.header("x-portolan-cause")), (502, Some("closed_before_answer")));
    assert_eq!(closing.requests().len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn a_new_connection_that_closes_is_not_repeated() {
    let rig = Rig::start();
    let closing = rig.instance("web", "a", Behaviour::CloseAfter(0, "")).await;
    let other = rig.instance("web", "b", Behaviour::CloseAfter(0, "")).await;
    let answer = rig.get("/web/", "").await;
    assert_eq!((answer.status(), answer.header("x-portolan-cause")), (502, Some("closed_before_answer")));
    assert_eq!(closing.requests().len() + other.requests().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn rubbish_is_a_bad_answer() {
    let rig = Rig::start();
    for (service, bytes) in
        [("a", "SSH-2.0-x\r\n\r\n"), ("b", "HTTP/1.1 200 OK\r\ncontent-le"), ("c", "\0\0\0\0")]
    {
        let upstream = rig.instance(service, service, Behaviour::Raw(bytes)).await;
        let answer = rig.get(&format!("/{service}/"), "").await;
        assert_eq!(
            (answer.status(), answer.header("x-portolan-cause")),
            (502, Some("bad_answer")),
            "{service}"
        );
        assert_eq!(upstream.requests().len(), 1);
    }
    rig.stop().await;
}

#[tokio::test]
async fn too_slow_is_504_and_cancels_the_request() {
    let rig = Rig::with(|config| config.timeouts.response = Duration::from_millis(50));
    let silent = rig.instance("web", "a", Behaviour::Silent).await;
    let answer = rig.get("/web/", "").await;
    assert_eq!((answer.status(), answer.header("x-portolan-cause")), (504, Some("response_timeout")));
    within(silent.until(|s| s.open() == 0)).await;
    assert_eq!(silent.requests().len(), 1, "a slow answer is not tried elsewhere");
    rig.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let rig = Rig::with(|config| config.timeouts.response = Duration::from_millis(50));
    let web = rig.instance("web", "a", Behaviour::Echo).await;
    let mut client = rig.client().await;
    let half = "POST /web/ HTTP/1.1\r\nhost: gw\r\ncontent-length: 100\r\n\r\nhalf";
    let answer = within(client.ask(half)).await.unwrap();
    assert_eq!((answer.status(), answer.header("x-portolan-cause")), (408, Some("body_timeout")));
    assert!(within(client.reader.head()).await.is_ok_and(|next| next.is_none()), "the connection is closed");
    within(web.until(|web| web.open() == 0)).await;

    // Whoever has sent all of it waits for the instance alone.
    let silent = rig.instance("silent", "b", Behaviour::Silent).await;
    let whole = "POST /silent/ HTTP/1.1\r\nhost: gw\r\ncontent-length: 4\r\n\r\nhalf";
    let answer = within(rig.client().await.ask(whole)).await.unwrap();
    assert_eq!((answer.status(), answer.header("x-portolan-cause")), (504, Some("response_timeout")));
    within(silent.until(|silent| silent.open() == 0)).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let rig = Rig::start();
    let silent = rig.instance("web", "a", Behaviour::Silent).await;
    let mut client = rig.client().await;
    let asking = tokio::spawn(async move { client.get("/web/", "").await });
    within(silent.until(|s| s.requests().len() == 1)).await;
    asking.abort();
    within(silent.until(|s| s.open() == 0)).await;
    rig.stop().await;
}

#[tokio::test]
async fn connections_are_kept_and_reused() {
    let rig = Rig::start();
    let web = rig.instance("web", "a", Behaviour::Answer("a")).await;
    for _ in 0..20 {
        assert_eq!(rig.get("/web/", "").await.text(), "a");
    }
    assert_eq!(web.connections(), 1, "twenty clients in turn, one upstream connection");
    rig.stop().await;
}
