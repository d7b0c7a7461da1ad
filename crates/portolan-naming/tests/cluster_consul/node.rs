//! A client of others' making: npm's `consul` follows a service by its own watch, and works on keys, on Consul and on our
//! face alike.

use portolan_model::{Guard, Health};
use serde_json::{Value, json};
use testkit::cluster::witness::Witness;

use crate::handle::{Handle, said};

/// The program `watch.js`.
struct Follower(Witness);

impl Follower {
    fn start(port: u16, service: &str) -> Self {
        let at = [("HOST", "127.0.0.1"), ("PORT", &port.to_string()), ("SERVICE", service)];
        Self(Witness::node("node-consul", "watch.js", &at))
    }

    /// Waits until it sees exactly the instances with these ports, tags and version as they were said.
    fn sees(&mut self, what: &str, ports: &[u16]) {
        let expect = ports.iter().map(|port| {
            let id = said("followed", *port).id;
            let endpoint = format!("10.0.0.1:{port}");
            json!({ "id": id.as_str(), "endpoint": endpoint, "tags": ["blue", "v1"], "version": "7" })
        });
        let expect = json!({ "instances": expect.collect::<Vec<_>>() });
        self.0.until(what, |line| {
            serde_json::from_str(line).is_ok_and(|seen: Value| seen == expect).then_some(())
        });
    }
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
    let mut follower = Follower::start(port, "followed");
    follower.sees("before anything", &[]);
    register(1).await;
    follower.sees("the first", &[1]);
    register(2).await;
    register(3).await;
    register(4).await;
    follower.sees("scaled up", &[1, 2, 3, 4]);
    handle.registry.drain(instance(2).id, Guard::Anyone).await.unwrap();
    follower.sees("one drains", &[1, 3, 4]);
    let ill = portolan_model::Registration { health: Health::Critical, ..instance(3) };
    handle.registry.register(ill).await.unwrap();
    follower.sees("one is ill", &[1, 4]);
    register(3).await;
    follower.sees("it is well again", &[1, 3, 4]);
    for n in [1, 2, 3] {
        handle.registry.deregister(instance(n).id, Guard::Anyone).await.unwrap();
    }
    follower.sees("scaled down", &[4]);
    handle.registry.deregister(instance(4).id, Guard::Anyone).await.unwrap();
    follower.sees("none left", &[]);
}

/// At `port`, keys are what this client takes them for.
pub(crate) fn works_on_keys(port: u16) {
    let start = || {
        let at = [("HOST", "127.0.0.1"), ("PORT", &*port.to_string())];
        Witness::node("node-consul", "keys.js", &at)
    };
    let (mut client, mut watcher) = (start(), start());
    watcher.tell(&json!(["watch", { "key": "config/db" }]).to_string());
    let mut check = |asked: Value, expect: Value| {
        let said: Value = serde_json::from_str(&client.ask(&asked.to_string())).unwrap();
        assert_eq!(said, expect, "{asked}");
    };
    let entry =
        |key: &str, value: Option<&str>| json!({ "LockIndex": 0, "Key": key, "Flags": 0, "Value": value });
    let mut sees = |expect: Value| {
        watcher.until(&format!("{expect} is watched"), |said| {
            let seen = said.strip_prefix("watched ")?;
            (serde_json::from_str::<Value>(seen).ok()? == expect).then_some(())
        });
    };
    check(json!(["get", "config/db"]), json!(null));
    check(json!(["set", { "key": "config/db", "value": "postgres://a" }]), json!(true));
    check(json!(["get", "config/db"]), entry("config/db", Some("postgres://a")));
    sees(entry("config/db", Some("postgres://a")));
    check(
        json!(["get", { "key": "config/db", "raw": true }]),
        json!({ "type": "Buffer", "data": b"postgres://a" }),
    );
    // This client shows `false` as nothing.
    check(json!(["set", { "key": "config/db", "value": "b", "cas": "0" }]), json!(null));
    check(json!(["set", { "key": "config/a b/值", "value": "", "cas": "0" }]), json!(true));
    check(json!(["keys", "config"]), json!(["config/a b/值", "config/db"]));
    check(json!(["keys", { "key": "config/", "separator": "/" }]), json!(["config/a b/", "config/db"]));
    let all = json!([entry("config/a b/值", None), entry("config/db", Some("postgres://a"))]);
    check(json!(["get", { "key": "config/", "recurse": true }]), all);
    let set = json!({ "KV": { "Verb": "set", "Key": "config/x", "Value": "aGk=" } });
    let absent = json!({ "KV": { "Verb": "check-not-exists", "Key": "config/db" } });
    check(json!(["transaction", [set, absent]]), json!({ "error": "conflict" }));
    let done = json!({ "Results": [{ "KV": entry("config/x", None) }], "Errors": null });
    check(json!(["transaction", [set]]), done);
    check(json!(["del", "config/x"]), json!(true));
    check(json!(["del", { "key": "config", "recurse": true }]), json!(true));
    sees(json!(null));
    check(json!(["keys", ""]), json!([]));
}
