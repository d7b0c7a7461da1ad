//! Keys over HTTP: the same is asked of a real Consul and of the face, one request after the other, and both say the same.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::http::{Config, Limits, build};
use runtime::{Shutdown, StatusBoard};
use serde_json::Value;
use testkit::cluster::consul::Consul;
use testkit::memory_key_value::MemoryKeyValue;
use testkit::memory_registry::MemoryRegistry;

use client::{Answer, exchange};

#[path = "../http/client.rs"]
#[expect(dead_code, reason = "shared with the tests of the face alone, which need more of it")]
mod client;

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests in their order. `{key}` stands for the index of that key's last change.
const ROWS: &[(&str, &str, &str)] = &[
    // Nothing is there.
    ("GET", "/v1/kv/a", ""),
    ("GET", "/v1/kv/a?raw", ""),
    ("GET", "/v1/kv/a?keys", ""),
    ("GET", "/v1/kv/a/?recurse", ""),
    ("GET", "/v1/kv/?keys", ""),
    ("GET", "/v1/kv/?recurse", ""),
    ("GET", "/v1/kv/", ""),
    ("DELETE", "/v1/kv/a", ""),
    ("DELETE", "/v1/kv/a?cas=3", ""),
    ("DELETE", "/v1/kv/a?recurse", ""),
    ("DELETE", "/v1/kv/", ""),
    ("PUT", "/v1/kv/", "x"),
    // One key.
    ("PUT", "/v1/kv/a", "hi"),
    ("GET", "/v1/kv/a", ""),
    ("GET", "/v1/kv/a?raw", ""),
    ("GET", "/v1/kv/a?consistent", ""),
    ("GET", "/v1/kv/a?stale", ""),
    ("GET", "/v1/kv/a?stale&consistent", ""),
    ("GET", "/v1/kv/a?index=x", ""),
    ("GET", "/v1/kv/a?index=1&wait=x", ""),
    ("GET", "/v1/kv/a?index={a}&wait=1ms", ""),
    ("GET", "/v1/kv/a?dc=dc1", ""),
    ("GET", "/v1/kv/a?dc=mars", ""),
    ("PUT", "/v1/kv/a", "hi"),
    ("PUT", "/v1/kv/empty", ""),
    ("GET", "/v1/kv/empty", ""),
    ("GET", "/v1/kv/empty?raw", ""),
    ("PUT", "/v1/kv/a?flags=0", "hi"),
    ("POST", "/v1/kv/a", "hi"),
    // Compare and set.
    ("PUT", "/v1/kv/a?cas=0", "x"),
    ("PUT", "/v1/kv/a?cas=1", "x"),
    ("PUT", "/v1/kv/a?cas={a}", "y"),
    ("GET", "/v1/kv/a", ""),
    ("PUT", "/v1/kv/b?cas=0", "x"),
    ("PUT", "/v1/kv/c?cas=7", "x"),
    ("DELETE", "/v1/kv/a?cas=1", ""),
    ("DELETE", "/v1/kv/a?cas=0", ""),
    ("DELETE", "/v1/kv/a?cas={a}", ""),
    ("GET", "/v1/kv/a", ""),
    // Trees.
    ("PUT", "/v1/kv/t/1", "1"),
    ("PUT", "/v1/kv/t/2", "2"),
    ("PUT", "/v1/kv/t%2F2%2Fx", "2x"),
    ("PUT", "/v1/kv/t/2/y", "2y"),
    ("PUT", "/v1/kv/t2/z", "z"),
    ("PUT", "/v1/kv/t/%E5%80%BC%20a+b", "text"),
    ("GET", "/v1/kv/t?recurse", ""),
    ("GET", "/v1/kv/t/?recurse", ""),
    ("GET", "/v1/kv/t/2?recurse&raw", ""),
    ("GET", "/v1/kv/t?keys", ""),
    ("GET", "/v1/kv/?keys&separator=/", ""),
    ("GET", "/v1/kv/t?keys&separator=/", ""),
    ("GET", "/v1/kv/t/?keys&separator=/", ""),
    ("GET", "/v1/kv/t/?keys&separator=%2F", ""),
    ("GET", "/v1/kv/t/2?keys&separator=/", ""),
    ("GET", "/v1/kv/t/2/?keys&seperator=/", ""),
    ("GET", "/v1/kv/t/%E5%80%BC%20a+b", ""),
    ("DELETE", "/v1/kv/t/2?recurse", ""),
    ("GET", "/v1/kv/?keys", ""),
    ("DELETE", "/v1/kv/b?recurse&cas=1", ""),
    // Transactions.
    ("GET", "/v1/txn", ""),
    ("PUT", "/v1/txn", "[]"),
    ("PUT", "/v1/txn", r#"[{"KV":{"Verb":"get","Key":"b"}},{"KV":{"Verb":"get-tree","Key":"t"}}]"#),
    ("PUT", "/v1/txn", r#"[{"KV":{"Verb":"get","Key":"b"}},{"KV":{"Verb":"get","Key":"none"}}]"#),
    ("PUT", "/v1/txn", r#"[{"KV":{"Verb":"get-tree","Key":"none"}}]"#),
    ("PUT", "/v1/txn", r#"[{"KV":{"Verb":"check-index","Key":"b","Index":{b}}}]"#),
    (
        "PUT",
        "/v1/txn",
        r#"[{"KV":{"Verb":"set","Key":"n","Value":"aGk="}},{"KV":{"Verb":"check-index","Key":"b","Index":1}},
            {"KV":{"Verb":"check-not-exists","Key":"b"}},{"KV":{"Verb":"cas","Key":"b","Index":1,"Value":"eA=="}},
            {"KV":{"Verb":"delete-cas","Key":"b","Index":1}},{"KV":{"Verb":"get","Key":"none"}},
            {"KV":{"Verb":"check-index","Key":"none","Index":1}},{"KV":{"Verb":"delete-cas","Key":"none","Index":1}}]"#,
    ),
    ("GET", "/v1/kv/n", ""),
    (
        "PUT",
        "/v1/txn",
        r#"[{"KV":{"Verb":"set","Key":"n","Value":"aGk="}},{"KV":{"Verb":"get","Key":"n"}},
            {"KV":{"Verb":"set","Key":"b","Value":"eA=="}},{"KV":{"Verb":"cas","Key":"m","Index":0,"Value":""}},
            {"KV":{"Verb":"check-not-exists","Key":"none"}},{"KV":{"Verb":"check-index","Key":"t/1","Index":{t/1}}},
            {"KV":{"Verb":"delete","Key":"none"}},{"KV":{"Verb":"delete-cas","Key":"none","Index":7}}]"#,
    ),
    ("GET", "/v1/kv/?recurse", ""),
    (
        "PUT",
        "/v1/txn",
        r#"[{"KV":{"Verb":"check-index","Key":"n","Index":{n}}},{"KV":{"Verb":"delete","Key":"n"}},
            {"KV":{"Verb":"check-not-exists","Key":"n"}},{"KV":{"Verb":"set","Key":"t/9","Value":"OQ=="}},
            {"KV":{"Verb":"delete-tree","Key":"t/"}},{"KV":{"Verb":"cas","Key":"m","Index":{m},"Value":"bQ=="}}]"#,
    ),
    ("GET", "/v1/kv/?recurse", ""),
    (
        "PUT",
        "/v1/txn",
        r#"[{"KV":{"Verb":"delete-cas","Key":"m","Index":{m},"Flags":0,"Session":""},"Node":null},
            {"KV":{"Verb":"delete","Key":"b"}},{"KV":{"Verb":"check-index","Key":"b","Index":{b}}}]"#,
    ),
    ("PUT", "/v1/txn", r#"[{"KV":{"Verb":"delete-cas","Key":"m","Index":{m}}}]"#),
    ("DELETE", "/v1/kv/?recurse", ""),
    ("GET", "/v1/kv/?keys", ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_face_says_what_consul_says() {
    let cluster = Consul::start(1);
    let consul: SocketAddr = cluster.authority(0).parse().unwrap();
    let (trigger, shutdown) = Shutdown::new();
    let (registry, keys) = (Arc::new(MemoryRegistry::default()), Arc::new(MemoryKeyValue::default()));
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        node: "n1".into(),
        node_address: "127.0.0.1".parse().unwrap(),
        datacenter: "dc1".into(),
        extra: axum::Router::new(),
        limits: Limits::default(),
        reports: None,
    };
    let (handle, server) = build(config, registry, keys, StatusBoard::default()).unwrap();
    let running = tokio::spawn(server.run(shutdown));
    for (n, (method, target, body)) in ROWS.iter().enumerate() {
        let expect = ask(consul, method, target, body).await;
        let got = ask(handle.local_addr(), method, target, body).await;
        assert_eq!(got, expect, "row {n}: {method} {target} {body}");
    }
    trigger.trigger();
    running.await.unwrap();
}

/// What a client makes of an answer.
async fn ask(server: SocketAddr, method: &str, target: &str, body: &str) -> String {
    let (target, body) = (filled(server, target).await, filled(server, body).await);
    let Answer { status, headers, body } = exchange(server, method, &target, &body).await;
    let mut lines = vec![status.to_string()];
    for name in [
        "Content-Type",
        "X-Consul-Knownleader",
        "X-Consul-Lastcontact",
        "X-Content-Type-Options",
        "Content-Security-Policy",
    ] {
        // Consul says more of transactions that only read.
        let said = headers.get(name).filter(|_| name.starts_with('C') || !target.ends_with("/txn"));
        lines.extend(said.map(|value| format!("{name}: {value}")));
    }
    let index = headers.get("X-Consul-Index").map(|index| index.parse::<u64>().unwrap());
    assert_ne!(index, Some(0));
    lines.extend(index.map(|_| "an index".to_owned()));
    match serde_json::from_str::<Value>(&body) {
        Ok(mut value) => {
            // Of one key, the index is its own.
            let of_one = value.as_array().filter(|list| list.len() == 1 && !target.contains("recurse"));
            if let Some(own) = of_one.and_then(|list| list[0].get("ModifyIndex")) {
                assert_eq!(own.as_u64(), index, "{target}");
            }
            simplify(&mut value);
            lines.push(value.to_string());
        }
        // Texts of status 500 are Go's own.
        Err(_) if status == 500 => {}
        Err(_) if body.starts_with("Conflicting flags: ") => {}
        Err(_) => lines.push(body),
    }
    lines.join("\n")
}

/// Takes out what differs between two that say the same: numbers of indexes, the time of making, and what Consul says of
/// transactions that only read.
fn simplify(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["CreateIndex", "Index", "LastContact", "KnownLeader", "ConsistencyLevel"] {
                fields.remove(name);
            }
            if let Some(index) = fields.get_mut("ModifyIndex") {
                *index = Value::from(index.as_u64().is_some_and(|index| index > 0));
            }
            if let Some(Value::String(what)) = fields.get_mut("What") {
                let numberless = what.replace(|c: char| c.is_ascii_digit(), "");
                *what = numberless.replace("index of this transaction !=", "index  !=");
            }
            fields.values_mut().for_each(simplify);
        }
        Value::Array(list) => list.iter_mut().for_each(simplify),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Puts the indexes of keys where they are asked for.
async fn filled(server: SocketAddr, text: &str) -> String {
    let mut filled = text.to_owned();
    for key in ["a", "b", "n", "m", "t/1"] {
        let place = format!("{{{key}}}");
        if filled.contains(&place) {
            let read = exchange(server, "GET", &format!("/v1/kv/{key}"), "").await;
            let index =
                if read.status == 200 { read.json()[0]["ModifyIndex"].to_string() } else { "0".into() };
            filled = filled.replace(&place, &index);
        }
    }
    filled
}
