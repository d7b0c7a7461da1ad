//! The answer that does not end: everything, and then each change.

use access::http::Limits;
use consul_api::ChangeLine;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PATIENCE, Running, until};

/// A client that follows.
struct Follower(Lines<BufReader<TcpStream>>);

impl Follower {
    async fn of(face: &Running) -> Self {
        let mut stream = TcpStream::connect(face.address).await.unwrap();
        stream.write_all(b"GET /v1/portolan/changes HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        Self(BufReader::new(stream).lines())
    }

    /// The next that is told, in short. Each piece of the answer has whole lines.
    async fn told(&mut self) -> String {
        loop {
            let line = timeout(PATIENCE, self.0.next_line()).await.expect("a line in time").unwrap().unwrap();
            if !line.starts_with('{') {
                // Heads, and the lengths of pieces.
                continue;
            }
            return match serde_json::from_str(&line).unwrap() {
                ChangeLine::Alive {} => continue,
                ChangeLine::Reset {} => "reset".to_owned(),
                ChangeLine::Whole { index } => format!("whole at {index}"),
                ChangeLine::Upsert { index, entry } => {
                    assert_eq!(entry.service.modify_index, Some(index));
                    format!("{index}+{}:{}", entry.service.service, entry.service.id)
                }
                ChangeLine::Remove { index, service, id } => format!("{index}-{service}:{id}"),
            };
        }
    }
}

#[tokio::test]
async fn everything_is_told_and_then_each_change() {
    let face = Running::start();
    face.register(r#"{"ID":"1","Name":"web","Port":1}"#).await;
    face.register(r#"{"ID":"2","Name":"api"}"#).await;
    let mut follower = Follower::of(&face).await;
    for expect in ["reset", "2+web:1", "3+api:2", "whole at 3"] {
        assert_eq!(follower.told().await, expect);
    }
    face.register(r#"{"ID":"1","Name":"web","Port":1}"#).await;
    face.put("/v1/portolan/drain/1", "").await;
    face.put("/v1/agent/service/deregister/2", "").await;
    face.register(r#"{"ID":"3","Name":"web"}"#).await;
    for expect in ["4+web:1", "5-api:2", "6+web:3"] {
        assert_eq!(follower.told().await, expect);
    }
}

#[tokio::test]
async fn an_empty_book_is_whole_at_once() {
    let face = Running::start();
    let mut follower = Follower::of(&face).await;
    assert_eq!([follower.told().await, follower.told().await], ["reset", "whole at 1"]);
}

#[tokio::test]
async fn whoever_follows_takes_a_seat_and_gives_it_back() {
    let face = Running::with(Limits { blocking: 1, ..Limits::default() });
    let mut follower = Follower::of(&face).await;
    follower.told().await;
    let refused = face.get("/v1/portolan/changes").await;
    let text = "too many blocking queries: 1 are waiting already";
    assert_eq!((refused.status, refused.body.as_str()), (429, text));
    drop(follower);
    face.until_waiting(0).await;
    Follower::of(&face).await.told().await;
    assert_eq!(face.get("/v1/portolan/changes?dc=elsewhere").await.status, 500);
}

#[tokio::test]
async fn shutdown_ends_the_answer() {
    let face = Running::start();
    let mut follower = Follower::of(&face).await;
    follower.told().await;
    face.trigger.trigger();
    let ended = async { while follower.0.next_line().await.unwrap().is_some() {} };
    timeout(PATIENCE, ended).await.expect("it ends");
    timeout(PATIENCE, face.task).await.expect("it ends in time").unwrap();
}

#[tokio::test]
async fn whoever_does_not_read_holds_up_nobody() {
    let face = Running::start();
    let follower = Follower::of(&face).await;
    face.until_waiting(1).await;
    let note = "x".repeat(500);
    for n in 0..5000 {
        let body = format!(r#"{{"ID":"{}","Name":"web","Port":{n},"Meta":{{"note":"{note}"}}}}"#, n % 10);
        face.register(&body).await;
    }
    // Whatever was skipped, it ends where everybody is.
    let mut follower = follower;
    let last = face.get("/v1/health/service/web").await.index();
    let mut seen = String::new();
    until_last(&mut follower, &mut seen, last).await;
    assert!(seen.starts_with(&format!("{last}+web:")) || seen == format!("whole at {last}"), "{seen}");
    until(|| face.registry.subscriptions() == 1).await;
}

async fn until_last(follower: &mut Follower, seen: &mut String, last: u64) {
    while !seen.starts_with(&last.to_string()) && !seen.ends_with(&format!(" {last}")) {
        *seen = follower.told().await;
    }
}
