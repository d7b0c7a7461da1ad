//! Bodies larger than any buffer, and clients that leave before the end.

use std::fs;
use std::time::{Duration, Instant};

use testkit::upstream::{Behaviour, Upstream};
use testkit::wire::Client;
use tokio::io::AsyncWriteExt;

use crate::scene::{Scene, until, within};

const GIB: u64 = 1 << 30;
/// What the process may grow by, in KiB, whatever passes through it.
const GROWTH: u64 = 16 << 10;
/// How long a process does nothing once it has nothing to do.
const STILL: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_each_way_in_flat_memory() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::start(dir.path());
    let upstream = Upstream::start(Behaviour::Stream(GIB)).await.unwrap();
    scene.route("bulk", &upstream).await;
    let before = scene.memory("VmRSS");

    let mut client = scene.client().await;
    let head = format!("POST /bulk/ HTTP/1.1\r\nhost: gw\r\ncontent-length: {GIB}\r\n\r\n");
    client.writer.write_all(head.as_bytes()).await.unwrap();
    let Client { mut reader, mut writer } = client;
    let upload = tokio::spawn(async move {
        let block = vec![b'y'; 1 << 20];
        for _ in 0..GIB >> 20 {
            writer.write_all(&block).await.unwrap();
        }
        writer
    });
    let _writer = upload.await.unwrap();
    let answer = within(reader.head()).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let after_upload = scene.memory("VmHWM");
    assert_eq!(reader.skip(GIB).await.unwrap(), GIB);

    let most = scene.memory("VmHWM");
    println!("resident before {before} KiB, at most {after_upload} uploading, {most} downloading");
    assert_eq!(upstream.requests()[0].header("content-length"), Some(GIB.to_string().as_str()));
    assert!(most - before < GROWTH, "grew from {before} to {most} KiB");
}

/// Whoever does not read makes the instance wait, not the gateway's memory grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_cost_a_buffer_each() {
    const CLIENTS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::start(dir.path());
    let upstream = Upstream::start(Behaviour::Stream(GIB)).await.unwrap();
    scene.route("bulk", &upstream).await;
    let before = scene.memory("VmRSS");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = scene.client().await;
        client.writer.write_all(b"GET /bulk/ HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
        assert_eq!(within(client.reader.head()).await.unwrap().unwrap().status(), 200);
        clients.push(client);
    }
    let process = scene.up.process.id();
    let (mut work, mut since) = (0, Instant::now());
    until("it has nothing left to do", async || {
        let now = work_of(process);
        if now != work {
            (work, since) = (now, Instant::now());
        }
        (since.elapsed() >= STILL).then_some(())
    })
    .await;
    let most = scene.memory("VmHWM");
    println!("resident before {before} KiB, at most {most} with {CLIENTS} clients that do not read");
    assert!(most - before < GROWTH, "grew from {before} to {most} KiB");
    drop(clients);
    within(upstream.until(|upstream| upstream.open() == 0)).await;
}

/// What a process has done so far: bytes moved and system calls made, as the kernel counts them.
fn work_of(process: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap();
    io.lines().filter_map(|line| line.split_once(": ")?.1.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_cancels_its_request() {
    /// Sends `request`, leaves once the instance has it, and waits until the instance is left as well.
    async fn check(scene: &Scene, service: &str, behaviour: Behaviour, request: &str) {
        let upstream = Upstream::start(behaviour).await.unwrap();
        scene.route(service, &upstream).await;
        let mut client = scene.client().await;
        client.writer.write_all(request.replace("SERVICE", service).as_bytes()).await.unwrap();
        within(upstream.until(|upstream| upstream.requests().len() == 1)).await;
        drop(client);
        within(upstream.until(|upstream| upstream.open() == 0)).await;
        assert_eq!(upstream.requests().len(), 1, "{service}: it is not tried again");
    }
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::start(dir.path());
    let get = "GET /SERVICE/ HTTP/1.1\r\nhost: gw\r\n\r\n";
    let half = "POST /SERVICE/ HTTP/1.1\r\nhost: gw\r\ncontent-length: 100\r\n\r\nhalf";
    check(&scene, "waiting", Behaviour::Silent, get).await;
    check(&scene, "reading", Behaviour::Stream(1 << 50), get).await;
    check(&scene, "writing", Behaviour::Stream(1), half).await;
}
