//! No file descriptor left: the process goes on with what it has, and recovers.

use std::path::Path;

use testkit::upstream::{Behaviour, Upstream};
use tokio::net::TcpStream;

use crate::scene::{Scene, until, within};

const LIMIT: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_it_goes_on_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::within(&["prlimit", &format!("--nofile={LIMIT}")], dir.path(), &[]);
    let process = scene.up.process.id();
    let upstream = Upstream::start(Behaviour::Answer("ok")).await.unwrap();
    scene.route("web", &upstream).await;
    let (mut client, mut face) = (scene.client().await, scene.face().await);
    assert_eq!(client.get("/web/", "").await.unwrap().status(), 200);
    assert_eq!(face.register("other", "one", 1).await.unwrap(), 200);

    for round in 0..2 {
        let mut crowd = Vec::new();
        for _ in 0..150 {
            crowd.push(TcpStream::connect(scene.gateway).await.unwrap());
            crowd.push(TcpStream::connect(scene.http).await.unwrap());
        }
        until("no descriptor is left", async || {
            let taken = |fd| Path::new(&format!("/proc/{process}/fd/{fd}")).is_symlink();
            (0..LIMIT).all(taken).then_some(())
        })
        .await;
        // Whoever was there is served, and what they write is kept.
        for _ in 0..5 {
            assert_eq!(within(client.get("/web/", "")).await.unwrap().status(), 200);
        }
        let id = format!("while-full-{round}");
        assert_eq!(within(face.register("other", &id, 2)).await.unwrap(), 200);

        drop(crowd);
        assert!(scene.up.process.is_alive());
        scene.serves("web").await;
    }
    assert_eq!(face.rows("other").await.unwrap().by_id.len(), 3);
    scene.up.process.signal("TERM");
    assert_eq!(scene.up.process.end(), Some(0));
}
