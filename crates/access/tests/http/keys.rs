//! Keys: what is served beside what Consul does, which is in the tests on a real one.

use std::sync::Arc;
use std::time::Duration;

use access::http::Limits;
use portolan_model::{
    Batch, Entry, Key, KeyListing, KeySubscription, KeyValue, KeyValueError, Pending, Prefix, Revision,
};
use serde_json::json;
use testkit::memory_key_value::MemoryKeyValue;
use testkit::memory_registry::MemoryRegistry;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::client::{Answer, answer};
use super::{Running, until};

/// A face, and the keys behind it.
fn watched() -> (Running, Arc<MemoryKeyValue>) {
    let kept = Arc::new(MemoryKeyValue::default());
    (over(Arc::clone(&kept) as _), kept)
}

fn over(keys: Arc<dyn KeyValue>) -> Running {
    Running::over_both(Limits::default(), Arc::new(MemoryRegistry::default()), keys, Default::default())
}

/// Asks in the background; returns once the query waits.
async fn blocked(face: &Running, kept: &MemoryKeyValue, target: String) -> JoinHandle<Answer> {
    let query = face.ask(&target);
    until(|| kept.watchers() == 1).await;
    query
}

#[tokio::test]
async fn a_query_wakes_for_its_key_and_for_no_other() {
    let (face, kept) = watched();
    face.put("/v1/kv/a/key", "1").await;
    let first = face.get("/v1/kv/a/key").await.index();
    let query = blocked(&face, &kept, format!("/v1/kv/a/key?index={first}&wait=60s")).await;
    // Had it woken for these, it would answer with the index it has seen.
    for other in ["/v1/kv/a/key/b", "/v1/kv/a/key2", "/v1/kv/a", "/v1/kv/z"] {
        face.put(other, "1").await;
    }
    face.delete("/v1/kv/a/key2").await;
    assert_eq!(face.get("/v1/kv/a/key").await.index(), first, "the index of a key is its own");
    face.put("/v1/kv/a/key", "2").await;
    let second = query.await.unwrap();
    assert!(second.index() > first);
    assert_eq!(second.json()[0]["ModifyIndex"], second.index());

    let query = blocked(&face, &kept, format!("/v1/kv/a/key?index={}&wait=60s", second.index())).await;
    face.delete("/v1/kv/a/key").await;
    let gone = query.await.unwrap();
    let at: u64 = gone.headers["X-Consul-Index"].parse().unwrap();
    assert!(gone.status == 404 && at > second.index() && gone.body.is_empty(), "{gone:?}");

    let query = blocked(&face, &kept, format!("/v1/kv/a/key?index={at}&wait=60s")).await;
    face.put("/v1/kv/z", "2").await;
    face.put("/v1/kv/a/key", "3").await;
    assert_eq!(query.await.unwrap().json()[0]["Value"], "Mw==");
}

#[tokio::test]
async fn a_list_wakes_for_what_begins_so() {
    let (face, kept) = watched();
    let empty = face.get("/v1/kv/a/b?recurse").await;
    assert_eq!((empty.status, &*empty.headers["X-Consul-Index"]), (404, "1"));
    let mut seen = 1;
    for (method, change, expect) in [
        ("PUT", "/v1/kv/a/bc", json!(["a/bc"])),
        ("PUT", "/v1/kv/a/b/c", json!(["a/b/c", "a/bc"])),
        ("DELETE", "/v1/kv/a/bc", json!(["a/b/c"])),
    ] {
        let query = blocked(&face, &kept, format!("/v1/kv/a/b?keys&index={seen}&wait=60s")).await;
        for other in ["/v1/kv/a/c", "/v1/kv/b"] {
            face.put(other, change).await;
        }
        super::client::exchange(face.address, method, change, "1").await;
        let answer = query.await.unwrap();
        assert_eq!(answer.json(), expect);
        seen = answer.index();
    }
    let unknown = face.get("/v1/kv/a/b?keys&index=99999&wait=60s").await;
    assert_eq!(unknown.index(), seen, "from another life of the server");
    assert_eq!(face.get(&format!("/v1/kv/a/b?keys&index={seen}&wait=1ms")).await.index(), seen);
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_by_name() {
    let face = Running::start();
    let long = "k".repeat(513);
    let rows = [
        ("/v1/kv/a/", 400, "key \"a/\" has an empty segment"),
        ("/v1/kv/a//b", 400, "key \"a//b\" has an empty segment"),
        ("/v1/kv/a/../b", 400, "key \"a/../b\" has a segment \".\" or \"..\""),
        ("/v1/kv/a%0Ab", 400, "a key cannot hold '\\n'"),
        (&format!("/v1/kv/{long}"), 400, "a key has at most 512 bytes, not 513"),
        ("/v1/kv/a?acquire=s", 400, "?acquire is not supported: keys have no sessions here"),
        ("/v1/kv/a?release=s", 400, "?release is not supported: keys have no sessions here"),
        ("/v1/kv/a?flags=42", 400, "?flags is not supported: keys have no flags but 0 here"),
        ("/v1/kv/a?flags=x", 400, "Invalid value for ?flags"),
        ("/v1/kv/a?cas=x", 400, "Invalid value for ?cas"),
        ("/v1/kv/a?cas=", 400, "Invalid value for ?cas"),
        ("/v1/kv/a?dc=mars", 500, "No path to datacenter"),
    ];
    for (target, status, text) in rows {
        let answer = face.put(target, "x").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, text), "{target}");
    }
    let large = face.put("/v1/kv/a", &"x".repeat(Batch::BYTES + 1)).await;
    let text = "the value of a has 262145 bytes; at most 262144 are kept";
    assert_eq!((large.status, large.body.as_str()), (413, text));
    assert_eq!(face.get("/v1/kv/?keys").await.body, "[]");
    assert_eq!(face.put("/v1/kv/a?flags=0&cas=0", &"x".repeat(Batch::BYTES)).await.body, "true");
    for target in ["/v1/kv/a/", "/v1/kv/a%0Ab", "/v1/kv/a//b?recurse"] {
        assert_eq!(face.get(target).await.status, 404, "{target}");
        assert_eq!(face.delete(target).await.body, "true", "{target}");
    }
    let both = face.delete("/v1/kv/a?recurse&cas=1").await;
    assert_eq!((both.status, both.body.as_str()), (400, "Conflicting flags: recurse, cas"));
}

#[tokio::test]
async fn what_a_transaction_cannot_do_is_refused_by_name() {
    let face = Running::start();
    let no_key = "an operation is about a key, as {\"KV\": {…}}, and about nothing else";
    let rows = [
        (
            json!([{"KV": {"Verb": "get", "Key": "a"}}, {"KV": {"Verb": "lock", "Key": "a", "Session": ""}}]),
            "operation 1: lock, unlock and check-session are not supported: keys have no sessions here",
        ),
        (
            json!([{"KV": {"Verb": "set", "Key": "a", "Session": "s"}}]),
            "operation 0: Session is not supported: keys have no sessions here",
        ),
        (
            json!([{"KV": {"Verb": "set", "Key": "a", "Flags": 1}}]),
            "operation 0: Flags are not supported: keys have no flags but 0 here",
        ),
        (json!([{"KV": {"Verb": "set", "Key": "a/"}}]), "operation 0: key \"a/\" has an empty segment"),
        (
            json!([{"KV": {"Verb": "get-tree", "Key": "a/"}}, {"KV": {"Verb": "delete", "Key": "b"}}]),
            "operation 0: get-tree is not supported beside operations that change something",
        ),
        (json!([{"Node": {"Verb": "get"}}]), no_key),
        (json!([{"KV": {"Verb": "bogus", "Key": "a"}}]), "unknown variant `bogus`"),
        (json!({}), "invalid type: map, expected a sequence"),
    ];
    for (body, text) in rows {
        let answer = face.put("/v1/txn", &body.to_string()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.body.contains(text), "{}", answer.body);
    }
    let many = |count: usize| {
        let set = |n| json!({"KV": {"Verb": "set", "Key": format!("k{n}"), "Value": "aGk="}});
        json!((0..count).map(set).collect::<Vec<_>>()).to_string()
    };
    let refused = face.put("/v1/txn", &many(65)).await;
    let text = "Transaction contains too many operations (65 > 64)";
    assert_eq!((refused.status, refused.body.as_str()), (413, text));
    let refused = face.put("/v1/txn", &many(33)).await;
    assert_eq!((refused.status, refused.body.as_str()), (413, "a batch has at most 32 operations, not 33"));
    assert_eq!(face.get("/v1/kv/?keys").await.body, "[]");
    assert_eq!(face.put("/v1/txn", &many(32)).await.json()["Results"].as_array().unwrap().len(), 32);
    let read_all =
        json!([{"KV": {"Verb": "get-tree", "Key": "k"}}, {"KV": {"Verb": "get-tree", "Key": "k3"}}]);
    let read = face.put("/v1/txn", &read_all.to_string()).await.json();
    assert_eq!(read["Results"].as_array().unwrap().len(), 35, "reading has no limit");
}

#[tokio::test]
async fn a_value_is_not_for_browsers() {
    let face = Running::start();
    face.put("/v1/kv/page", "<script>alert(1)</script>").await;
    let raw = face.get("/v1/kv/page?raw").await;
    assert_eq!((raw.status, raw.body.as_str()), (200, "<script>alert(1)</script>"));
    assert_eq!(raw.headers["Content-Type"], "text/plain");
    assert_eq!(raw.headers["X-Content-Type-Options"], "nosniff");
    assert_eq!(raw.headers["Content-Security-Policy"], "sandbox");
}

#[tokio::test]
async fn a_removal_may_be_larger_than_a_batch() {
    let face = Running::start();
    for n in 0..100 {
        face.put(&format!("/v1/kv/many/{n}"), "x").await;
    }
    face.put("/v1/kv/manyfold", "x").await;
    assert_eq!(face.delete("/v1/kv/many/?recurse").await.body, "true");
    assert_eq!(face.get("/v1/kv/?keys").await.json(), json!(["manyfold"]));
    assert_eq!(face.delete("/v1/kv/?recurse").await.body, "true");
    assert_eq!(face.get("/v1/kv/?keys").await.json(), json!([]));
}

/// Reads behind the registry; counts on it that refusals are judged by what the registry holds.
#[tokio::test]
async fn whoever_is_refused_is_so_by_what_the_registry_holds() {
    let kept = Arc::new(MemoryKeyValue::default());
    let behind = Arc::new(Behind { kept: Arc::clone(&kept), shown: std::sync::Mutex::default() });
    let face = over(behind);
    let a = Key::new("a").unwrap();
    let at = kept.put(a, (*b"1").into(), portolan_model::Condition::Always).await.unwrap();
    assert_eq!(face.get("/v1/kv/a").await.status, 404, "as far as is known");
    let put = |verb: &str| json!([{"KV": {"Verb": verb, "Key": "a", "Value": "Mg==", "Index": at.0}}]);
    let stale = json!([{"KV": {"Verb": "check-not-exists", "Key": "a"}}]).to_string();
    assert_eq!(face.put("/v1/txn", &stale).await.status, 200, "what is only read may be late");
    assert_eq!(face.put("/v1/txn", &put("cas").to_string()).await.status, 200);
    assert_eq!(face.get("/v1/kv/a").await.json()[0]["Value"], "MQ==", "what it was judged by");
    assert_eq!(face.get("/v1/kv/a?consistent").await.json()[0]["Value"], "Mg==");
    assert_eq!(face.put("/v1/txn", &stale).await.status, 409);
    assert_eq!(face.put("/v1/txn", &put("cas").to_string()).await.status, 409);
}

#[tokio::test]
async fn keys_that_fail_say_what_is_known() {
    let rows = [
        (KeyValueError::Unavailable("disk full".into()), 503, "registry unavailable: disk full"),
        (
            KeyValueError::Uncertain("cut".into()),
            500,
            "it is not known whether the registry has written: cut",
        ),
        (KeyValueError::Unsupported("X".into()), 501, "X keeps no keys"),
        (KeyValueError::Limit(portolan_model::KeyLimit::Keys), 400, "at most 100000 keys are kept"),
    ];
    for (error, status, text) in rows {
        let face = over(Arc::new(Failing(error)));
        for answer in [
            face.get("/v1/kv/a").await,
            face.get("/v1/kv/a?recurse").await,
            face.put("/v1/kv/a", "x").await,
            face.delete("/v1/kv/a").await,
            face.delete("/v1/kv/a?recurse").await,
            face.put("/v1/txn", r#"[{"KV":{"Verb":"set","Key":"a"}}]"#).await,
        ] {
            assert_eq!((answer.status, answer.body.as_str()), (status, text));
            assert_eq!(answer.headers.contains_key("Retry-After"), status == 503);
        }
    }
}

#[tokio::test]
async fn values_and_transactions_have_the_bounds_of_every_body() {
    let face =
        Running::with(Limits { body: 1000, body_time: Duration::from_millis(50), ..Limits::default() });
    for target in ["/v1/kv/a", "/v1/txn"] {
        let refused = face.put(target, &"x".repeat(1001)).await;
        let text = "Request body too large, max size: 1000 bytes";
        assert_eq!((refused.status, refused.body.as_str()), (413, text), "{target}");
        let mut stream = TcpStream::connect(face.address).await.unwrap();
        let head = format!("PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(answer(stream).await.status, 408, "{target}");
    }
}

/// Shows nothing that it was not asked to check.
struct Behind {
    kept: Arc<MemoryKeyValue>,
    shown: std::sync::Mutex<KeyListing>,
}

impl KeyValue for Behind {
    fn get(&self, key: Key) -> Pending<'_, Result<Option<Arc<Entry>>, KeyValueError>> {
        let found = self.shown.lock().unwrap().entries.iter().find(|entry| entry.key == key).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn list(&self, _: Prefix) -> Pending<'_, Result<KeyListing, KeyValueError>> {
        Box::pin(async move { Ok(self.shown.lock().unwrap().clone()) })
    }

    fn commit(&self, batch: Batch) -> Pending<'_, Result<Revision, KeyValueError>> {
        Box::pin(async move {
            let check_only =
                batch.operations().iter().all(|operation| operation.effect == portolan_model::Effect::Check);
            let done = self.kept.commit(batch).await;
            if check_only || done.is_err() {
                let now = self.kept.list(Prefix::all()).await?;
                *self.shown.lock().unwrap() = now;
            }
            done
        })
    }

    fn watch(&self, prefix: Prefix) -> KeySubscription {
        self.kept.watch(prefix)
    }
}

/// Answers everything with an error.
struct Failing(KeyValueError);

impl KeyValue for Failing {
    fn get(&self, _: Key) -> Pending<'_, Result<Option<Arc<Entry>>, KeyValueError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn list(&self, _: Prefix) -> Pending<'_, Result<KeyListing, KeyValueError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn commit(&self, _: Batch) -> Pending<'_, Result<Revision, KeyValueError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn watch(&self, prefix: Prefix) -> KeySubscription {
        MemoryKeyValue::default().watch(prefix)
    }
}
