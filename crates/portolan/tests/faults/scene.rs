//! A running `portolan up`, and the ways to talk to it that the tests share.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::upstream::Upstream;
use testkit::wire::{Client, Message};
use tokio::time::timeout;

use crate::process::Up;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `portolan up`.
pub(crate) struct Scene {
    pub(crate) up: Up,
    pub(crate) gateway: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Scene {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::with(dir, &[])
    }

    pub(crate) fn with(dir: &Path, more: &[&str]) -> Self {
        Self::within(&[], dir, more)
    }

    /// See [`Up::within`].
    pub(crate) fn within(wrapper: &[&str], dir: &Path, more: &[&str]) -> Self {
        let up = Up::within(wrapper, dir, &[&["--http", "127.0.0.1:0"], more].concat());
        let address = |url: &str| url.strip_prefix("http://").unwrap().parse().unwrap();
        Self { gateway: address(&up.gateway), http: address(&up.http), up }
    }

    pub(crate) async fn face(&self) -> Face {
        Face::connect(self.http).await.unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.gateway).await.unwrap()
    }

    /// Registers `upstream` as the instance of `service`, and waits until the gateway knows.
    pub(crate) async fn route(&self, service: &str, upstream: &Upstream) {
        let mut face = self.face().await;
        assert_eq!(face.register(service, service, upstream.address().port()).await.unwrap(), 200);
        let question = format!("/v1/portolan/explain?path=/{service}/");
        until("the gateway knows the instance", async || {
            let told = face.get(&question).await.unwrap().text();
            told.contains(&upstream.address().to_string()).then_some(())
        })
        .await;
    }

    /// Whether both listeners answer whoever comes now.
    pub(crate) async fn serves(&self, service: &str) {
        let answer = within(self.client().await.get(&format!("/{service}/"), "")).await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let answer = within(self.face().await.get("/v1/agent/services")).await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }

    /// A line of the kernel's about its memory, in KiB: `VmRSS` is what it has, `VmHWM` the most it ever had.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        memory_of(self.up.process.id(), line)
    }
}

/// See [`Scene::memory`].
pub(crate) fn memory_of(process: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A connection to the HTTP face.
pub(crate) struct Face(Client);

/// An instance as the face tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) port: u16,
    pub(crate) created: u64,
    pub(crate) modified: u64,
}

/// The instances of a service, and the index they were told with.
pub(crate) struct Rows {
    pub(crate) index: u64,
    pub(crate) by_id: BTreeMap<String, Row>,
}

impl Face {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Client::connect(address).await?))
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Message> {
        self.0.get(path, "").await
    }

    pub(crate) async fn put(&mut self, path: &str, body: &str) -> io::Result<Message> {
        let length = body.len();
        self.0.ask(&format!("PUT {path} HTTP/1.1\r\nhost: f\r\ncontent-length: {length}\r\n\r\n{body}")).await
    }

    /// Registers on loopback; the status.
    pub(crate) async fn register(&mut self, service: &str, id: &str, port: u16) -> io::Result<u16> {
        let body = json!({ "Name": service, "ID": id, "Address": "127.0.0.1", "Port": port });
        Ok(self.put("/v1/agent/service/register", &body.to_string()).await?.status())
    }

    /// Deregisters; the status.
    pub(crate) async fn deregister(&mut self, id: &str) -> io::Result<u16> {
        Ok(self.put(&format!("/v1/agent/service/deregister/{id}"), "").await?.status())
    }

    pub(crate) async fn rows(&mut self, service: &str) -> io::Result<Rows> {
        let answer = self.get(&format!("/v1/catalog/service/{service}")).await?;
        let index = answer.header("x-consul-index").unwrap().parse().unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
        let row = |row: &Value| {
            let number = |key: &str| row[key].as_u64().unwrap();
            let port = number("ServicePort").try_into().unwrap();
            let id = row["ServiceID"].as_str().unwrap().to_owned();
            (id, Row { port, created: number("CreateIndex"), modified: number("ModifyIndex") })
        };
        let by_id = rows.iter().map(row).collect();
        Ok(Rows { index, by_id })
    }
}

/// A test never waits for ever.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.unwrap_or_else(|_| panic!("waited in vain"))
}

/// Looks until there is something to see.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    testkit::wait::until(PATIENCE, what, look)
}
