//! Bytes that are no requests: whoever sends them gets a refusal or nothing, and nobody else notices.

use std::net::SocketAddr;

use fastrand::Rng;
use testkit::upstream::{Behaviour, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::scene::{Scene, within};

const RANDOM: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::start(dir.path());
    let upstream = Upstream::start(Behaviour::Answer("ok")).await.unwrap();
    scene.route("web", &upstream).await;
    let mut face = scene.face().await;
    let before =
        (face.get("/v1/agent/services").await.unwrap().text(), face.rows("web").await.unwrap().index);

    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = Rng::with_seed(seed);
    let mut thrown: Vec<Vec<u8>> = rows();
    thrown.extend((0..RANDOM).map(|_| random(&mut dice)));
    thrown.extend((0..RANDOM).map(|_| damaged(&mut dice)));
    for listener in [scene.gateway, scene.http] {
        for bytes in &thrown {
            let answer = within(throw(listener, bytes)).await;
            let head = answer.lines().next().unwrap_or_default();
            let refused =
                head.is_empty() || head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 505");
            // Damage may spare what matters.
            let fine = head.starts_with("HTTP/1.1 2") || head.starts_with("HTTP/1.1 503");
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            assert!(refused || fine, "{head:?} for {shown:?}");
        }
    }
    // And all at once.
    let mut all = JoinSet::new();
    for bytes in thrown {
        all.spawn(within(async move {
            throw(scene.gateway, &bytes).await;
            throw(scene.http, &bytes).await;
        }));
    }
    all.join_all().await;

    scene.serves("web").await;
    let after = (face.get("/v1/agent/services").await.unwrap().text(), face.rows("web").await.unwrap().index);
    assert_eq!(after, before);
}

/// Sends `bytes`, says that nothing follows, and reads what comes until the other side closes. It may close while the
/// bytes are still on their way, and then whatever it answered is lost.
async fn throw(listener: SocketAddr, bytes: &[u8]) -> String {
    let (mut reader, mut writer) = TcpStream::connect(listener).await.unwrap().into_split();
    let mut answer = Vec::new();
    let _ = tokio::join!(reader.read_to_end(&mut answer), async {
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    });
    String::from_utf8_lossy(&answer).into_owned()
}

fn rows() -> Vec<Vec<u8>> {
    let register = "/v1/agent/service/register";
    let head =
        |start: &str, fields: &str| format!("{start} HTTP/1.1\r\nhost: h\r\n{fields}\r\n").into_bytes();
    let put = |fields: &str, body: &str| [head(&format!("PUT {register}"), fields), body.into()].concat();
    let mut rows: Vec<Vec<u8>> = [
        "",
        "\r\n\r\n\r\n",
        "GET",
        "GET /web/",
        "GET /web/ HTTP/1.1\r\nhost: h\r\n",
        "GET /web/\r\n\r\n",
        "GET /web/ HTTP/9.9\r\n\r\n",
        "GET /web/ HTTP/1.1\r\nhost: h\r\nno colon\r\n\r\n",
        "GET /web/ HTTP/1.1\r\nhost: h\r\n folded: x\r\n\r\n",
        "GET /web/\0 HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /web/ HTTP/1.1\r\nhost: h\r\na: \0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /web/ HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nhalf",
        "POST /web/ HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n",
        "POST /web/ HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST /web/ HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST /web/ HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "POST /web/ HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nno number\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    // A TLS greeting, and what scanners send to find a SOCKS proxy.
    rows.push([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), vec![7; 512]].concat());
    rows.push(vec![5, 1, 0]);
    // Heads beyond any limit: one long line, one long field, many fields, an endless one that never ends.
    rows.push(head(&format!("GET /{}", "a".repeat(1 << 20)), ""));
    rows.push(head("GET /web/", &format!("long: {}\r\n", "a".repeat(1 << 20))));
    rows.push(head("GET /web/", &"a: b\r\n".repeat(10_000)));
    rows.push([b"GET / HTTP/1.1\r\n".to_vec(), "a: b\r\n".repeat(1_000_000).into_bytes()].concat());
    // Registrations that are none.
    rows.push(put("content-length: 9\r\n", "{\"Name\": "));
    rows.push(put("content-length: 30\r\n", "{\"Name\": \"cut-off\", "));
    rows.push(put("content-length: 4\r\n", "null"));
    rows.push(put("content-length: 200000\r\n", &"[".repeat(200_000)));
    rows.push(put("content-length: 2000000\r\n", &"{\"Name\":\"a\"}".repeat(200_000)));
    rows
}

/// Up to 8 KiB of anything.
fn random(dice: &mut Rng) -> Vec<u8> {
    let length = dice.usize(..8192);
    (0..length).map(|_| dice.u8(..)).collect()
}

/// A request that only reads, with some bytes changed and perhaps its end missing.
fn damaged(dice: &mut Rng) -> Vec<u8> {
    let sound = "GET /web/ HTTP/1.1\r\nhost: h\r\naccept: text/plain\r\nconnection: close\r\n\r\n\
                 GET /v1/health/service/web?passing HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut bytes = sound.as_bytes().to_vec();
    for _ in 0..dice.usize(1..6) {
        let at = dice.usize(..bytes.len());
        bytes[at] = dice.u8(..);
    }
    if dice.bool() {
        bytes.truncate(dice.usize(..bytes.len()));
    }
    bytes
}
