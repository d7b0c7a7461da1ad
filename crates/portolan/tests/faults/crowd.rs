//! Many clients that do nothing, or next to nothing: others are served all the same.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::upstream::{Behaviour, Upstream};
use testkit::wire::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::scene::{Scene, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_on_each_listener() {
    const EACH: usize = 1000;
    let dir = tempfile::tempdir().unwrap();
    // What a process gets unasked is less than it may take.
    let scene = Scene::within(&["prlimit", "--nofile=1024:4096"], dir.path(), &[]);
    let upstream = Upstream::start(Behaviour::Answer("ok")).await.unwrap();
    scene.route("web", &upstream).await;
    let before = scene.memory("VmRSS");
    // Without the pages of the program's file: how many those are is the build's business, see `cargo xtask dist`.
    let own = scene.memory("RssAnon");
    let listeners = [(scene.gateway, "/web/"), (scene.http, "/v1/status/leader")];
    let mut idle = Vec::new();
    for (listener, path) in listeners {
        for number in 0..EACH {
            let mut client = Client::connect(listener).await.unwrap();
            // Half of them have been served once, half have yet to say a word.
            if number % 2 == 0 {
                assert_eq!(within(client.get(path, "")).await.unwrap().status(), 200);
            }
            idle.push((client, path));
        }
        scene.serves("web").await;
    }
    let most = scene.memory("VmHWM");
    println!("resident before {before} KiB, at most {most} with {} idle connections", idle.len());
    assert!(own <= 10 << 10, "it needs little before anybody comes: {own} KiB");
    assert!(most - before <= 16 * idle.len() as u64, "an idle connection needs little: {most} KiB");
    for (client, path) in &mut idle {
        assert_eq!(within(client.get(path, "")).await.unwrap().status(), 200, "it was kept");
    }
    // Idle clients hold up nobody's end either.
    scene.up.process.signal("TERM");
    assert_eq!(scene.up.process.end(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_hold_up_nobody() {
    const EACH: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::with(dir.path(), &["--request-head-timeout", "1s"]);
    let upstream = Upstream::start(Behaviour::Answer("ok")).await.unwrap();
    scene.route("web", &upstream).await;
    let (trickled, mut trickling) = watch::channel(0);
    let mut to_gateway = JoinSet::new();
    let mut to_face = JoinSet::new();
    for _ in 0..EACH {
        to_gateway.spawn(trickle(scene.gateway, "GET /web/ HTTP/1.1\r\nx: ", trickled.clone()));
        to_face.spawn(trickle(scene.http, "GET /v1/status/leader HTTP/1.1\r\nx: ", trickled.clone()));
        let upload = "PUT /v1/agent/service/register HTTP/1.1\r\nhost: f\r\ncontent-length: 99999\r\n\r\n";
        to_face.spawn(trickle(scene.http, upload, trickled.clone()));
    }
    within(trickling.wait_for(|count| *count >= 3 * EACH)).await.unwrap();
    for _ in 0..20 {
        scene.serves("web").await;
    }
    assert_eq!(scene.face().await.register("web", "another", 1).await.unwrap(), 200);
    // Sending on and on does not help: the gateway gives a head its time and no more.
    within(to_gateway.join_all()).await;
    assert_eq!(to_face.len(), 2 * EACH);
    to_face.shutdown().await;
    scene.serves("web").await;
}

/// Sends `first` and then a byte now and then, until it is cut off.
async fn trickle(listener: SocketAddr, first: &str, trickled: watch::Sender<usize>) {
    let mut stream = TcpStream::connect(listener).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    trickled.send_modify(|count| *count += 1);
    let mut answer = [0; 1024];
    // Whatever it is told: a refusal or nothing.
    while !matches!(timeout(Duration::from_millis(50), stream.read(&mut answer)).await, Ok(Ok(0) | Err(_))) {
        if stream.write_all(b"x").await.is_err() {
            return;
        }
    }
}
