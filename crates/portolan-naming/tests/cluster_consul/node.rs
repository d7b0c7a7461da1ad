//! A reader of others' making: npm's `consul` follows a service by its own watch, on Consul and on our face alike.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portolan_model::{Guard, Health};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::handle::{Handle, said};

const LIMIT: Duration = Duration::from_secs(30);

/// The program `watch.js`, and the last it said.
struct Follower {
    process: Child,
    last: Arc<Mutex<String>>,
}

impl Follower {
    fn start(port: u16, service: &str) -> Self {
        let testkit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit");
        let libraries = libraries();
        assert!(libraries.is_dir(), "{} is missing: run cargo xtask setup", libraries.display());
        let mut process = Command::new("node")
            .arg(testkit.join("witness/node-consul/watch.js"))
            .args(["127.0.0.1", &port.to_string(), service])
            .env("NODE_PATH", libraries)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node: run cargo xtask setup");
        let words = BufReader::new(process.stdout.take().unwrap());
        let last = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&last);
        std::thread::spawn(move || {
            for line in words.lines().map_while(Result::ok) {
                *told.lock().unwrap() = line;
            }
        });
        Self { process, last }
    }

    /// Waits until it sees exactly the instances with these ports, tags and version as they were said.
    async fn sees(&self, what: &str, ports: &[u16]) {
        let expect = ports.iter().map(|port| {
            let id = said("followed", *port).id;
            let endpoint = format!("10.0.0.1:{port}");
            serde_json::json!({ "id": id.as_str(), "endpoint": endpoint, "tags": ["blue", "v1"], "version": "7" })
        });
        let expect = serde_json::json!({ "instances": expect.collect::<Vec<_>>() });
        let seen = async {
            while serde_json::from_str::<Value>(&self.last.lock().unwrap()).ok().as_ref() != Some(&expect) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(LIMIT, seen).await.is_err() {
            panic!("{what}: not {expect}, but {}", self.last.lock().unwrap());
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// Where `cargo xtask setup` puts what the program needs.
fn libraries() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("peers/node-consul/node_modules")
}

/// A follower at `port` sees what is registered through `handle`, and each change of it.
pub(crate) async fn follows(handle: &Handle, port: u16) {
    let instance = |n: u16| {
        let mut said = said("followed", n);
        said.tags = ["blue".to_owned(), "v1".to_owned()].into();
        said.meta = [("version".to_owned(), "7".to_owned())].into();
        said
    };
    let register = async |n: u16| handle.registry.register(instance(n)).await.unwrap();
    let follower = Follower::start(port, "followed");
    follower.sees("before anything", &[]).await;
    register(1).await;
    follower.sees("the first", &[1]).await;
    register(2).await;
    register(3).await;
    register(4).await;
    follower.sees("scaled up", &[1, 2, 3, 4]).await;
    handle.registry.drain(instance(2).id, Guard::Anyone).await.unwrap();
    follower.sees("one drains", &[1, 3, 4]).await;
    let ill = portolan_model::Registration { health: Health::Critical, ..instance(3) };
    handle.registry.register(ill).await.unwrap();
    follower.sees("one is ill", &[1, 4]).await;
    register(3).await;
    follower.sees("it is well again", &[1, 3, 4]).await;
    for n in [1, 2, 3] {
        handle.registry.deregister(instance(n).id, Guard::Anyone).await.unwrap();
    }
    follower.sees("scaled down", &[4]).await;
    handle.registry.deregister(instance(4).id, Guard::Anyone).await.unwrap();
    follower.sees("none left", &[]).await;
}
