//! Client connections: upgrades, timeouts, shutdown.

use std::time::Duration;

use testkit::upstream::Behaviour;
use tokio::io::AsyncWriteExt;

use crate::rig::{Rig, within};

const UPGRADE: &str =
    "GET /web/chat HTTP/1.1\r\nhost: gw\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let rig = Rig::start();
    let _web = rig.instance("web", "a", Behaviour::Tunnel).await;
    let mut client = rig.client().await;
    client.writer.write_all(UPGRADE.as_bytes()).await.unwrap();
    let answer = client.reader.head().await.unwrap().unwrap();
    assert_eq!((answer.status(), answer.header("upgrade")), (101, Some("websocket")));
    for word in ["ping", "pong"] {
        client.writer.write_all(word.as_bytes()).await.unwrap();
        assert_eq!(within(client.reader.exactly(4)).await.unwrap(), word.as_bytes());
    }
    // Other services come and go; the tunnel lives on.
    let _other = rig.instance("other", "o", Behaviour::Answer("o")).await;
    rig.deregister("other", "o").await;
    client.writer.write_all(b"late").await.unwrap();
    assert_eq!(within(client.reader.exactly(4)).await.unwrap(), b"late");
    drop(client);
    rig.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_stays_a_request() {
    let rig = Rig::start();
    let web = rig.instance("web", "a", Behaviour::Answer("plain")).await;
    let mut client = rig.client().await;
    assert_eq!(client.ask(UPGRADE).await.unwrap().text(), "plain");
    assert_eq!(web.requests()[0].header("upgrade"), Some("websocket"));
    assert_eq!(client.get("/web/", "").await.unwrap().text(), "plain");
    rig.stop().await;
}

#[tokio::test]
async fn idle_and_slow_clients_are_ended() {
    let rig = Rig::with(|config| {
        config.timeouts.client_idle = Duration::from_millis(300);
        config.timeouts.request_head = Duration::from_millis(300);
    });
    let mut idle = rig.client().await;
    let mut slow = rig.client().await;
    slow.writer.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
    assert!(within(idle.reader.head()).await.unwrap().is_none());
    assert!(within(slow.reader.head()).await.unwrap().is_none());
    rig.stop().await;
}

#[tokio::test]
async fn a_long_answer_is_not_an_idle_connection() {
    let rig = Rig::with(|config| config.timeouts.client_idle = Duration::from_millis(100));
    let _web = rig.instance("web", "a", Behaviour::Tunnel).await;
    let mut client = rig.client().await;
    client.writer.write_all(UPGRADE.as_bytes()).await.unwrap();
    client.reader.head().await.unwrap().unwrap();
    let mut idle = rig.client().await;
    assert!(within(idle.reader.head()).await.unwrap().is_none(), "an idle one of the same age is ended");
    client.writer.write_all(b"x").await.unwrap();
    assert_eq!(within(client.reader.exactly(1)).await.unwrap(), b"x");
    drop(client);
    rig.stop().await;
}

#[tokio::test]
async fn heads_have_limits() {
    let rig = Rig::start();
    let web = rig.instance("web", "a", Behaviour::Answer("a")).await;
    let check = async |headers: String, expect: u16| {
        assert_eq!(rig.get("/web/", &headers).await.status(), expect, "{} bytes", headers.len());
    };
    check(format!("x: {}\r\n", "y".repeat(30_000)), 200).await;
    check(format!("x: {}\r\n", "y".repeat(33_000)), 431).await;
    check("x: y\r\n".repeat(99), 200).await;
    check("x: y\r\n".repeat(100), 431).await;
    assert_eq!(web.requests().len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn shutdown_finishes_what_runs() {
    let rig = Rig::start();
    let web = rig.instance("web", "a", Behaviour::Stream(64 << 20)).await;
    let idle = rig.client().await;
    let mut busy = rig.client().await;
    busy.writer.write_all(b"GET /web/ HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
    within(web.until(|w| w.requests().len() == 1)).await;
    rig.trigger.trigger();
    let answer = within(busy.reader.head()).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(within(busy.reader.skip(64 << 20)).await.unwrap(), 64 << 20);
    let address = rig.handle.local_addr();
    within(rig.running).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn shutdown_answers_whoever_has_connected() {
    let rig = Rig::start();
    let _web = rig.instance("web", "a", Behaviour::Answer("a")).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = rig.client().await;
        client.writer.write_all(b"GET /web/ HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
        clients.push(client);
    }
    rig.trigger.trigger();
    for (n, client) in clients.iter_mut().enumerate() {
        let answer = within(client.reader.message(true)).await.unwrap();
        assert_eq!(answer.map(|a| a.status()), Some(200), "client {n}");
    }
    within(rig.running).await.unwrap();
}

#[tokio::test]
async fn the_drain_timeout_ends_what_does_not_finish() {
    let rig = Rig::with(|config| config.timeouts.drain = Duration::from_millis(50));
    let silent = rig.instance("web", "a", Behaviour::Silent).await;
    let mut client = rig.client().await;
    client.writer.write_all(b"GET /web/ HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
    within(silent.until(|s| s.requests().len() == 1)).await;
    rig.stop().await;
}

#[tokio::test]
async fn several_cores_share_the_table() {
    let rig = Rig::with(|config| config.cores = 3);
    let _web = rig.instance("web", "a", Behaviour::Answer("a")).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let address = rig.handle.local_addr();
        all.spawn(async move {
            let mut client = testkit::wire::Client::connect(address).await.unwrap();
            client.get("/web/", "").await.unwrap().text()
        });
    }
    assert!(within(all.join_all()).await.iter().all(|text| text == "a"));
    rig.stop().await;
}
