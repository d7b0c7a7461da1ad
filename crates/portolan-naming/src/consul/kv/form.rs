//! Keys, transactions and sessions as Consul writes them; pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::DENIED;
use super::super::line::Trouble;
use crate::leased::{Failed, KeyValue, LeaseId, NO_LEASE, Transaction, Write};

/// A key as Consul shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    key: String,
    /// Base64; `null` for an empty one.
    value: Option<String>,
    create_index: i64,
    modify_index: i64,
    #[serde(default)]
    session: String,
}

/// What Consul answers to a transaction, whether it holds or not.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Outcome {
    results: Option<Vec<Written>>,
    errors: Option<Vec<Error>>,
}

#[derive(Debug, Deserialize)]
struct Written {
    #[serde(rename = "KV")]
    kv: Option<Modified>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Modified {
    modify_index: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Error {
    what: String,
}

impl Entry {
    /// `None`: its value is no base64.
    pub(super) fn key_value(self) -> Option<KeyValue> {
        let Self { key, value, create_index, modify_index, session } = self;
        let value = BASE64.decode(value.unwrap_or_default()).ok()?;
        let lease = lease(&session);
        Some(KeyValue {
            key: key.into(),
            value: value.into(),
            created: create_index,
            modified: modify_index,
            lease,
        })
    }
}

/// A transaction as JSON. Keys are texts: ours are, and others are not written to.
pub(super) fn body(transaction: &Transaction) -> Value {
    let compare = transaction.compare.iter().map(|(key, index)| match index {
        0 => json!({ "KV": { "Verb": "check-not-exists", "Key": text(key) } }),
        _ => json!({ "KV": { "Verb": "check-index", "Key": text(key), "Index": index } }),
    });
    compare.chain(transaction.writes.iter().flat_map(operations)).collect()
}

/// A key comes to hang on a session by being locked, which works while it hangs on none or on that one.
fn operations(write: &Write) -> Vec<Value> {
    let delete = |key: &Bytes| json!({ "KV": { "Verb": "delete", "Key": text(key) } });
    match write {
        Write::Delete(key) => vec![delete(key)],
        Write::Put { key, value, lease, before } => {
            let value = BASE64.encode(value);
            let put = match *lease {
                NO_LEASE => json!({ "KV": { "Verb": "set", "Key": text(key), "Value": value } }),
                lease => json!({ "KV": {
                    "Verb": "lock", "Key": text(key), "Value": value, "Session": session(lease),
                } }),
            };
            let stays = *before == NO_LEASE || before == lease;
            if stays { vec![put] } else { vec![delete(key), put] }
        }
    }
}

fn text(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// What an answer says of a transaction: whether it held, and the newest index among what it touched.
pub(super) fn verdict(status: u16, body: &[u8]) -> Result<(bool, i64), Failed> {
    let outcome: Outcome = serde_json::from_slice(body).map_err(|error| Failed::Broken(error.to_string()))?;
    let errors = outcome.errors.unwrap_or_default();
    if errors.iter().any(|error| error.what.contains("invalid session")) {
        return Err(Failed::UnknownLease);
    }
    // Nobody was quicker: it may not be written at all.
    if let Some(denied) = errors.iter().find(|error| error.what.contains(DENIED)) {
        return Err(Failed::Refused(denied.what.clone()));
    }
    let indexes =
        outcome.results.unwrap_or_default().into_iter().filter_map(|r| r.kv).map(|kv| kv.modify_index);
    Ok((status == 200 && errors.is_empty(), indexes.max().unwrap_or_default()))
}

/// Why there is no answer to a transaction.
pub(super) fn failed(trouble: &Trouble) -> Failed {
    match trouble {
        Trouble::Refused { status: 400 | 401 | 403 | 405 | 413, .. } => Failed::Refused(trouble.to_string()),
        Trouble::Refused { .. } | Trouble::Unreachable(_) | Trouble::Nonsense(_) => {
            Failed::Broken(trouble.to_string())
        }
    }
}

/// A session's id, which is a UUID; none if it is not.
pub(super) fn lease(session: &str) -> LeaseId {
    let digits: String = session.chars().filter(|c| *c != '-').collect();
    LeaseId::from_str_radix(&digits, 16).unwrap_or(NO_LEASE)
}

/// The UUID that [`lease`] was made of.
pub(super) fn session(lease: LeaseId) -> String {
    let digits = format!("{lease:032x}");
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "0e4127e7-c666-ef5a-8f38-d114fb60a32f";

    #[test]
    fn sessions_survive() {
        assert_eq!(session(lease(SESSION)), SESSION);
        assert_eq!((lease(""), lease("nonsense")), (NO_LEASE, NO_LEASE));
    }

    #[test]
    fn keys_are_read() {
        let json = format!(
            r#"[{{"LockIndex":1,"Key":"p/web/a","Flags":0,"Value":"eA==","Session":"{SESSION}","CreateIndex":13,
            "ModifyIndex":14}},{{"Key":"p/b","Value":null,"CreateIndex":1,"ModifyIndex":1}},
            {{"Key":"p/c","Value":"?","CreateIndex":1,"ModifyIndex":1}}]"#
        );
        let entries: Vec<Entry> = serde_json::from_str(&json).unwrap();
        let read: Vec<_> = entries.into_iter().filter_map(Entry::key_value).collect();
        let expect = KeyValue {
            key: "p/web/a".into(),
            value: "x".into(),
            created: 13,
            modified: 14,
            lease: lease(SESSION),
        };
        assert_eq!(read[0], expect);
        assert_eq!((read.len(), &read[1].value[..], read[1].lease), (2, &b""[..], NO_LEASE));
    }

    #[test]
    fn transactions_are_written() {
        #[track_caller]
        fn check(compare: &[(&'static str, i64)], writes: Vec<Write>, expect: &str) {
            let compare = compare.iter().map(|(key, index)| (Bytes::from_static(key.as_bytes()), *index));
            let body = body(&Transaction { compare: compare.collect(), writes });
            let words = body.as_array().unwrap().iter().map(|operation| {
                let kv = &operation["KV"];
                let rest = [&kv["Index"], &kv["Value"], &kv["Session"]].map(|value| match value {
                    Value::Null => String::new(),
                    Value::String(text) => format!(" {}", &text[..4]),
                    other => format!(" {other}"),
                });
                format!("{} {}{}", kv["Verb"].as_str().unwrap(), kv["Key"].as_str().unwrap(), rest.concat())
            });
            assert_eq!(words.collect::<Vec<_>>().join(", "), expect);
        }
        let put = |lease, before| {
            vec![Write::Put { key: "k".into(), value: "x".into(), lease, before }, Write::Delete("e".into())]
        };
        let ours = lease(SESSION);
        check(&[("k", 0)], put(ours, NO_LEASE), "check-not-exists k, lock k eA== 0e41, delete e");
        check(&[("k", 7)], put(ours, ours), "check-index k 7, lock k eA== 0e41, delete e");
        check(&[], put(ours, 1), "delete k, lock k eA== 0e41, delete e");
        check(&[], put(NO_LEASE, NO_LEASE), "set k eA==, delete e");
        check(&[], put(NO_LEASE, ours), "delete k, set k eA==, delete e");
    }

    #[test]
    fn verdicts() {
        #[track_caller]
        fn check(status: u16, body: &str, expect: &Result<(bool, i64), Failed>) {
            assert_eq!(verdict(status, body.as_bytes()), *expect);
        }
        let kv = |index: i64| format!(r#"{{"KV":{{"Key":"a","ModifyIndex":{index}}}}}"#);
        check(200, &format!(r#"{{"Results":[{},{}],"Errors":null}}"#, kv(13), kv(14)), &Ok((true, 14)));
        check(200, r#"{"Results":[],"Errors":null,"Index":0}"#, &Ok((true, 0)));
        let error = |what: &str| format!(r#"{{"Results":null,"Errors":[{{"OpIndex":0,"What":"{what}"}}]}}"#);
        check(409, &error("failed session check, current modify index is 5"), &Ok((false, 0)));
        check(409, &error("failed to lock key, lock is already held"), &Ok((false, 0)));
        check(409, &error("invalid session 0e41"), &Err(Failed::UnknownLease));
        let denied = "Permission denied: token lacks permission 'key:write'";
        check(409, &error(denied), &Err(Failed::Refused(denied.to_owned())));
    }
}
