//! Keys and transactions: `/v1/kv` and `/v1/txn`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A kept value, as listings and transactions answer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyEntry {
    /// Its name.
    pub key: String,
    /// The value; a transaction that writes answers without.
    #[serde(default)]
    pub value: Option<Base64>,
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
#[serde(rename_all = "UPPERCASE")]
pub enum TxnOperation {
    /// About a key; there are others, about nodes, services and checks.
    Kv(KeyOperation),
}

/// A step about a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
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
}

/// What a step does. Consul has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyVerb {
    /// Keeps a value if the index is as said.
    Cas,
    /// Nothing, if the index is as said.
    CheckIndex,
    /// Nothing, if there is no such key.
    CheckNotExists,
    /// Removes the key.
    Delete,
}

/// What a transaction answers when it was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnAnswer {
    /// One for each step that has something to tell.
    #[serde(default)]
    pub results: Option<Vec<TxnResult>>,
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
            modify_index,
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
            TxnOperation::Kv(KeyOperation { verb, key: "k".to_owned(), value, index })
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
}
