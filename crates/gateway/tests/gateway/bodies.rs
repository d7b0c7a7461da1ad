//! Bodies stream both ways.

use testkit::upstream::Behaviour;
use tokio::io::AsyncWriteExt;

use crate::rig::{Rig, within};

const SIZE: u64 = 256 << 20;

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let rig = Rig::start();
    let _web = rig.instance("web", "a", Behaviour::Stream(SIZE)).await;
    let mut client = rig.client().await;
    let head = format!("POST /web/ HTTP/1.1\r\nhost: gw\r\ncontent-length: {SIZE}\r\n\r\n");
    client.writer.write_all(head.as_bytes()).await.unwrap();
    let block = vec![b'y'; 1 << 20];
    for _ in 0..SIZE >> 20 {
        within(client.writer.write_all(&block)).await.unwrap();
    }
    let answer = client.reader.head().await.unwrap().unwrap();
    assert_eq!(answer.header("content-length"), Some(SIZE.to_string().as_str()));
    assert_eq!(within(client.reader.skip(SIZE)).await.unwrap(), SIZE);
    // The connection carries on.
    client.writer.write_all(b"GET /web/ HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
    assert_eq!(client.reader.head().await.unwrap().unwrap().status(), 200);
    drop(client);
    rig.stop().await;
}

#[tokio::test]
async fn framings() {
    let rig = Rig::start();
    let _web = rig.instance("web", "a", Behaviour::Echo).await;
    let mut client = rig.client().await;
    let chunked = "POST /web/ HTTP/1.1\r\nhost: gw\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert!(client.ask(chunked).await.unwrap().text().ends_with("\n\nabcde"));
    let mut client = rig.client().await;
    let expecting = "POST /web/ HTTP/1.1\r\nhost: gw\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    client.writer.write_all(expecting.as_bytes()).await.unwrap();
    assert_eq!(client.reader.head().await.unwrap().unwrap().status(), 100);
    let answer = client.ask("ab").await.unwrap();
    assert!(answer.text().ends_with("\n\nab") && !answer.text().contains("expect"), "{}", answer.text());
    let head = client.ask("HEAD /web/ HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
    assert_eq!((head.status(), head.body.len()), (200, 0));
    rig.stop().await;
}

/// Whose fault it is decides what the client is told, and one day what the instance is held to account for.
#[tokio::test]
async fn a_body_that_breaks_off_is_the_clients_fault() {
    let rig = Rig::start();
    let web = rig.instance("web", "a", Behaviour::Echo).await;
    for (count, body) in [
        "content-length: 100\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n5\r\nha",
        "transfer-encoding: chunked\r\n\r\nno number\r\n",
        "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = rig.client().await;
        let request = format!("POST /web/ HTTP/1.1\r\nhost: gw\r\n{body}");
        client.writer.write_all(request.as_bytes()).await.unwrap();
        client.writer.shutdown().await.unwrap();
        let answer = within(client.reader.message(true)).await.unwrap().unwrap();
        assert_eq!(
            (answer.status(), answer.header("x-portolan-cause")),
            (400, Some("body_broken")),
            "{body:?}"
        );
        // Nobody else is bothered with it, and the instance is not left waiting.
        within(web.until(|web| web.connections() == count + 1 && web.open() == 0)).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn two_lengths_are_one_and_the_last_request_of_its_connection() {
    let rig = Rig::start();
    let web = rig.instance("web", "a", Behaviour::Echo).await;
    let both = [
        "content-length: 6\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 6",
    ];
    for fields in both {
        let mut client = rig.client().await;
        let smuggled = "GET /web/smuggled HTTP/1.1\r\nhost: gw\r\n\r\n";
        let request = format!("POST /web/ HTTP/1.1\r\nhost: gw\r\n{fields}\r\n\r\n0\r\n\r\n{smuggled}");
        let answer = client.ask(&request).await.unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
        assert!(!answer.text().contains("content-length"), "{}", answer.text());
        assert!(within(client.reader.head()).await.is_ok_and(|next| next.is_none()));
    }
    assert_eq!(web.requests().len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn a_body_that_can_be_read_in_two_ways_is_refused() {
    let rig = Rig::start();
    let web = rig.instance("web", "a", Behaviour::Echo).await;
    for request in [
        "POST /web/ HTTP/1.1\r\nhost: gw\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST /web/ HTTP/1.1\r\nhost: gw\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /web/ HTTP/1.1\r\nhost: gw\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "POST /web/ HTTP/1.1\r\nhost: gw\r\ncontent-length: +3\r\n\r\nabc",
        "POST /web/ HTTP/1.0\r\nhost: gw\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /web/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET /web/ HTTP/1.1\r\n\r\n",
        "GET /web/ HTTP/1.1\r\nhost : gw\r\n\r\n",
        "CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\n\r\n",
    ] {
        let answer = within(async { rig.client().await.ask(request).await }).await.unwrap();
        assert!(matches!(answer.status(), 400 | 405), "{request} → {}", answer.start);
    }
    assert!(web.requests().is_empty());
    rig.stop().await;
}
