//! Keys and transactions: `/v1/kv` and `/v1/txn`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::lenient::lenient_names;

/// A kept value, as listings and transactions answer it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyEntry {
    /// How often it was locked.
    #[serde(default)]
    pub lock_index: u64,
    /// Its name.
    pub key: String,
    /// A number of the writer's own.
    #[serde(default)]
    pub flags: u64,
    /// The value; a transaction that writes answers without.
    #[serde(default)]
    pub value: Option<Base64>,
    /// The index of its making.
    #[serde(default)]
    pub create_index: u64,
    /// The index of its last change.
    pub modify_index: u64,
}

/// Bytes, base64 in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// One step of a transaction, as `PUT /v1/txn` takes a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE", try_from = "AnyOperation")]
pub enum TxnOperation {
    /// About a key; there are others, about nodes, services and checks.
    Kv(KeyOperation),
}

/// As it is written: Go's client says `null` of everything that an operation is not about.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AnyOperation {
    #[serde(rename = "KV", alias = "Kv", alias = "kv")]
    kv: Option<KeyOperation>,
    node: Option<IgnoredAny>,
    service: Option<IgnoredAny>,
    check: Option<IgnoredAny>,
    session: Option<IgnoredAny>,
    intention: Option<IgnoredAny>,
}

impl TryFrom<AnyOperation> for TxnOperation {
    type Error = &'static str;

    fn try_from(written: AnyOperation) -> Result<Self, Self::Error> {
        let AnyOperation { kv, node, service, check, session, intention } = written;
        let foreign = [&node, &service, &check, &session, &intention].into_iter().any(Option::is_some);
        match kv {
            Some(operation) if !foreign => Ok(Self::Kv(operation)),
            _ => Err("an operation is about a key, as {\"KV\": {…}}, and about nothing else"),
        }
    }
}

/// A step about a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", remote = "Self")]
pub struct KeyOperation {
    /// What is done.
    pub verb: KeyVerb,
    /// To which key.
    pub key: String,
    /// What to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Base64>,
    /// What the key's last change must have been; zero with [`KeyVerb::Cas`]: that there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// A number to keep with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<u64>,
    /// Who locks or unlocks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

lenient_names!(KeyOperation);

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyVerb {
    /// Keeps a value.
    Set,
    /// Keeps a value if the index is as said.
    Cas,
    /// Keeps a value and locks it for a session.
    Lock,
    /// Keeps a value and unlocks it.
    Unlock,
    /// Reads the key, which must be there.
    Get,
    /// Reads the key, which may be absent.
    GetOrEmpty,
    /// Reads all keys that begin so.
    GetTree,
    /// Nothing, if the index is as said.
    CheckIndex,
    /// Nothing, if a session holds the key.
    CheckSession,
    /// Nothing, if there is no such key.
    CheckNotExists,
    /// Removes the key.
    Delete,
    /// Removes the key if the index is as said, or if it is gone already.
    DeleteCas,
    /// Removes all keys that begin so.
    DeleteTree,
}

/// What a transaction answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnAnswer {
    /// When it was done: one for each step that has something to tell.
    #[serde(default)]
    pub results: Option<Vec<TxnResult>>,
    /// When it was not: one for each step that could not be done.
    #[serde(default)]
    pub errors: Option<Vec<TxnError>>,
}

/// Why one step could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnError {
    /// Which step, counted from zero.
    pub op_index: usize,
    /// Why.
    pub what: String,
}

/// What one step tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TxnResult {
    /// The key as it is now.
    Kv(KeyEntry),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_consul_answers() {
        let listed = r#"[{"LockIndex":0,"Key":"a/b","Flags":0,"Value":"aGk=","CreateIndex":7,"ModifyIndex":9},
            {"LockIndex":0,"Key":"c","Flags":0,"Value":null,"CreateIndex":7,"ModifyIndex":8}]"#;
        let entry = |key: &str, value: Option<&[u8]>, modify_index| KeyEntry {
            key: key.to_owned(),
            value: value.map(|value| Base64(value.to_vec())),
            create_index: if modify_index == 5 { 5 } else { 7 },
            modify_index,
            ..KeyEntry::default()
        };
        let read: Vec<KeyEntry> = serde_json::from_str(listed).unwrap();
        assert_eq!(read, [entry("a/b", Some(b"hi"), 9), entry("c", None, 8)]);
        let done = r#"{"Results":[{"KV":{"LockIndex":0,"Key":"a","Flags":0,"Value":null,"CreateIndex":5,"ModifyIndex":5}}],
            "Errors":null}"#;
        let read: TxnAnswer = serde_json::from_str(done).unwrap();
        assert_eq!(read.results, Some(vec![TxnResult::Kv(entry("a", None, 5))]));
        let nothing: TxnAnswer = serde_json::from_str(r#"{"Results":null,"Errors":null}"#).unwrap();
        assert_eq!(nothing, TxnAnswer::default());
    }

    #[test]
    fn as_consul_is_asked() {
        let step = |verb, value: Option<&[u8]>, index| {
            let value = value.map(|value| Base64(value.to_vec()));
            TxnOperation::Kv(KeyOperation {
                verb,
                key: "k".to_owned(),
                value,
                index,
                flags: None,
                session: None,
            })
        };
        #[track_caller]
        fn check(step: &TxnOperation, expect: &str) {
            assert_eq!(serde_json::to_string(step).unwrap(), expect);
            assert_eq!(serde_json::from_str::<TxnOperation>(expect).unwrap(), *step);
        }
        check(
            &step(KeyVerb::Cas, Some(b"\xff"), Some(0)),
            r#"{"KV":{"Verb":"cas","Key":"k","Value":"/w==","Index":0}}"#,
        );
        check(
            &step(KeyVerb::CheckIndex, None, Some(7)),
            r#"{"KV":{"Verb":"check-index","Key":"k","Index":7}}"#,
        );
        check(&step(KeyVerb::CheckNotExists, None, None), r#"{"KV":{"Verb":"check-not-exists","Key":"k"}}"#);
        check(&step(KeyVerb::Delete, None, None), r#"{"KV":{"Verb":"delete","Key":"k"}}"#);
    }

    #[test]
    fn as_others_ask() {
        #[track_caller]
        fn check(written: &str, expect: Result<(KeyVerb, Option<u64>), &str>) {
            let read: Result<TxnOperation, _> = serde_json::from_str(written);
            let got = read.map(|TxnOperation::Kv(operation)| (operation.verb, operation.index));
            assert_eq!(got.map_err(|error| error.to_string()), expect.map_err(str::to_owned), "{written}");
        }
        let by_go = r#"{"KV":{"Verb":"delete-cas","Key":"k","Value":null,"Flags":0,"Index":7,"Session":""},"Node":null}"#;
        check(by_go, Ok((KeyVerb::DeleteCas, Some(7))));
        check(r#"{"kv":{"verb":"get-tree","key":"k"}}"#, Ok((KeyVerb::GetTree, None)));
        let foreign = "an operation is about a key, as {\"KV\": {…}}, and about nothing else";
        check(r#"{"Node":{"Verb":"get","Node":{"Node":"a"}}}"#, Err(foreign));
        check(r#"{"Foo":{}}"#, Err(foreign));
    }
}
