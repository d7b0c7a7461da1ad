//! A tiny HTTP/1.1 client that hides nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// What came back. Header names as they were written.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.headers["Content-Type"], "application/json");
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn index(&self) -> u64 {
        assert_eq!(self.status, 200, "{}", self.body);
        self.headers["X-Consul-Index"].parse().unwrap()
    }
}

/// One request on a connection of its own.
pub(crate) async fn exchange(address: SocketAddr, method: &str, target: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// Reads to the end of the connection.
pub(crate) async fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("an answer, not {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned()));
    Answer { status, headers: headers.collect(), body: body.to_owned() }
}
