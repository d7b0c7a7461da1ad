//! The seam for small values that several processes share: whoever keeps them implements [`KeyValue`].
//!
//! It is made for configuration: some ten thousand values of a few kilobytes, several writers, and watchers that never
//! miss how it ends. What holds for all registries decides the limits: a transaction of Consul takes 64 steps and
//! 512 KiB of JSON (a value is base64 in it, a guarded removal two steps), a request to ZooKeeper has at most 1 MiB, one
//! to etcd 1.5 MiB.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::id::Revision;
use crate::key::{Key, Prefix};
use crate::key_book::{KeyChange, KeySubscription};
use crate::registry::Pending;

/// Small values by key. Reads answer from what is known, also while the registry is away; a write returns once it is
/// durable and reads of the same handle show it, with a revision at which the state asked for holds. A write that
/// changes nothing wakes nobody.
pub trait KeyValue: Send + Sync + 'static {
    /// What is kept under `key`.
    fn get(&self, key: Key) -> Pending<'_, Result<Option<Arc<Entry>>, KeyValueError>>;

    /// Everything that `prefix` is about, as of one moment.
    fn list(&self, prefix: Prefix) -> Pending<'_, Result<KeyListing, KeyValueError>>;

    /// Does all of `batch` or, with an error, nothing. Whether its conditions hold is judged by the registry as it is
    /// then, not by what is known of it here.
    fn commit(&self, batch: Batch) -> Pending<'_, Result<Revision, KeyValueError>>;

    /// Starts watching. The first change is a reset with everything under the prefix; it never ends with an error.
    fn watch(&self, prefix: Prefix) -> KeySubscription;

    /// Keeps `value` under `key`, if `condition` holds.
    fn put(
        &self,
        key: Key,
        value: Arc<[u8]>,
        condition: Condition,
    ) -> Pending<'_, Result<Revision, KeyValueError>> {
        self.do_one(Operation { key, condition, effect: Effect::Put(value) })
    }

    /// Keeps nothing under `key`, if `condition` holds.
    fn delete(&self, key: Key, condition: Condition) -> Pending<'_, Result<Revision, KeyValueError>> {
        self.do_one(Operation { key, condition, effect: Effect::Delete })
    }

    /// A batch of one.
    fn do_one(&self, operation: Operation) -> Pending<'_, Result<Revision, KeyValueError>> {
        match Batch::new(vec![operation]) {
            Ok(batch) => self.commit(batch),
            Err(limit) => Box::pin(std::future::ready(Err(limit.into()))),
        }
    }
}

/// A kept value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Any bytes.
    pub value: Arc<[u8]>,
    /// Its last change. No other change of this key ever has the same, also after it was deleted.
    pub revision: Revision,
}

/// Values at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyListing {
    /// No change up to here is missing. At least 1, and every key is newer than a registry without keys: a reader can tell
    /// "nothing yet" from the first change also where 0 means that nothing was read.
    pub revision: Revision,
    /// By key.
    pub entries: Vec<Arc<Entry>>,
}

/// What must be so for an operation to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// Nothing is kept under the key.
    Absent,
    /// What is kept was last changed at this revision.
    At(Revision),
}

/// One part of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What it is about.
    pub key: Key,
    /// What must be so.
    pub condition: Condition,
    /// What is done.
    pub effect: Effect,
}

/// What an operation does to its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Keeps this value.
    Put(Arc<[u8]>),
    /// Keeps nothing.
    Delete,
    /// Nothing: only the condition counts, as in "while that consumer is still there".
    Check,
}

/// Operations done together or not at all; no two of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch(Vec<Operation>);

impl Batch {
    /// How many operations it may have.
    pub const OPERATIONS: usize = 32;
    /// How many bytes its values may have in all, and so how many one value may have.
    pub const BYTES: usize = 256 * 1024;

    /// Checks the limits.
    ///
    /// # Errors
    /// Says which is passed.
    pub fn new(operations: Vec<Operation>) -> Result<Self, KeyLimit> {
        if operations.len() > Self::OPERATIONS {
            return Err(KeyLimit::Operations(operations.len()));
        }
        let mut keys = BTreeSet::new();
        let mut bytes = 0;
        for Operation { key, effect, .. } in &operations {
            if let Effect::Put(value) = effect {
                if value.len() > Self::BYTES {
                    return Err(KeyLimit::Value { key: key.clone(), bytes: value.len() });
                }
                bytes += value.len();
            }
            if !keys.insert(key) {
                return Err(KeyLimit::Twice(key.clone()));
            }
        }
        if bytes > Self::BYTES {
            return Err(KeyLimit::Bytes(bytes));
        }
        Ok(Self(operations))
    }

    /// Its operations.
    pub fn operations(&self) -> &[Operation] {
        &self.0
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(|operation| &operation.key)
    }

    /// What it comes to, with what is kept now.
    ///
    /// # Errors
    /// [`KeyValueError::Conflict`] for the first condition that does not hold.
    pub fn plan(&self, kept: impl Fn(&Key) -> Option<Arc<Entry>>) -> Result<Vec<Step>, KeyValueError> {
        self.0.iter().map(|operation| operation.plan(kept(&operation.key))).collect()
    }
}

impl Operation {
    fn plan(&self, before: Option<Arc<Entry>>) -> Result<Step, KeyValueError> {
        let current = before.as_ref().map(|entry| entry.revision);
        let holds = match self.condition {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::At(revision) => current == Some(revision),
        };
        if !holds {
            return Err(KeyValueError::Conflict { key: self.key.clone(), current });
        }
        let after = match (&self.effect, &before) {
            (Effect::Put(value), Some(before)) if before.value == *value => After::Same,
            (Effect::Put(value), _) => After::Value(Arc::clone(value)),
            (Effect::Delete, Some(_)) => After::Nothing,
            (Effect::Delete, None) | (Effect::Check, _) => After::Same,
        };
        Ok(Step { key: self.key.clone(), before, after })
    }
}

/// What an operation comes to: with `before` still so, make it `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is about.
    pub key: Key,
    /// What was kept when it was planned.
    pub before: Option<Arc<Entry>>,
    /// What is to be kept.
    pub after: After,
}

/// What a step leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// What is there.
    Same,
    /// This value, which is another than before.
    Value(Arc<[u8]>),
    /// Nothing, where something was.
    Nothing,
}

impl Step {
    /// Whether it changes anything.
    pub fn is_change(&self) -> bool {
        self.after != After::Same
    }

    /// What it changes, once it is done at `revision`.
    pub fn into_change(self, revision: Revision) -> Option<KeyChange> {
        let Self { key, before: _, after } = self;
        match after {
            After::Same => None,
            After::Value(value) => Some(KeyChange::Upsert(Arc::new(Entry { key, value, revision }))),
            After::Nothing => Some(KeyChange::Remove { key, revision }),
        }
    }
}

/// A limit that every registry keeps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyLimit {
    /// A value is too long.
    #[error("the value of {key} has {bytes} bytes; at most {limit} are kept", limit = Batch::BYTES)]
    Value {
        /// Whose.
        key: Key,
        /// Its length.
        bytes: usize,
    },
    /// The values of a batch are too long together.
    #[error("a batch holds values of at most {limit} bytes, not {0}", limit = Batch::BYTES)]
    Bytes(usize),
    /// A batch has too many operations.
    #[error("a batch has at most {limit} operations, not {0}", limit = Batch::OPERATIONS)]
    Operations(usize),
    /// A batch has two operations for one key.
    #[error("key {0} is twice in one batch")]
    Twice(Key),
    /// There are too many keys.
    #[error("at most {limit} keys are kept", limit = KeyLimit::KEYS)]
    Keys,
    /// All values are too long together.
    #[error("values of at most {limit} bytes are kept in all", limit = KeyLimit::BYTES)]
    Total,
}

impl KeyLimit {
    /// How many keys are kept at most: each process holds all of them in memory. Writers that come at once may pass this
    /// limit, and the next, by what each of them writes.
    pub const KEYS: usize = 100_000;
    /// How many bytes of values are kept at most.
    pub const BYTES: usize = 256 << 20;
}

/// Why values were not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// A condition does not hold; nothing was changed.
    #[error("key {key} is {}", Kept(*current))]
    Conflict {
        /// Whose condition.
        key: Key,
        /// The last change of what is kept there, if anything is.
        current: Option<Revision>,
    },
    /// A limit is passed; nothing was changed.
    #[error(transparent)]
    Limit(#[from] KeyLimit),
    /// The registry cannot be reached or does not write; nothing was changed.
    #[error("registry unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The answer was lost: everything was done, now or in a moment, or nothing. Reading tells.
    #[error("it is not known whether the registry has written: {0}")]
    Uncertain(Arc<str>),
    /// This registry keeps no values, only instances.
    #[error("{0} keeps no keys")]
    Unsupported(Arc<str>),
}

struct Kept(Option<Revision>);

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(revision) => write!(f, "at revision {revision}"),
            None => f.write_str("absent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn put(name: &str, bytes: usize) -> Operation {
        Operation { key: key(name), condition: Condition::Always, effect: Effect::Put(vec![0; bytes].into()) }
    }

    #[test]
    fn batches_have_limits() {
        #[track_caller]
        fn check(operations: Vec<Operation>, expect: &str) {
            let got = Batch::new(operations).map_or_else(|e| e.to_string(), |_| "fine".to_owned());
            assert_eq!(got, expect);
        }
        check(vec![], "fine");
        check(vec![put("a", Batch::BYTES)], "fine");
        check(vec![put("a", Batch::BYTES + 1)], "the value of a has 262145 bytes; at most 262144 are kept");
        check(
            vec![put("a", Batch::BYTES), put("b", 1)],
            "a batch holds values of at most 262144 bytes, not 262145",
        );
        check(vec![put("a", 1), put("b", 1), put("a", 1)], "key a is twice in one batch");
        let many = |n: usize| (0..n).map(|n| put(&n.to_string(), 1)).collect();
        check(many(32), "fine");
        check(many(33), "a batch has at most 32 operations, not 33");
    }

    #[test]
    fn plans() {
        use Condition::{Absent, Always, At};
        use Effect::{Check, Delete};
        #[track_caller]
        fn check(condition: Condition, effect: Effect, kept: Option<(&str, u64)>, expect: &str) {
            let kept = kept.map(|(value, at)| {
                let value = value.as_bytes().into();
                Arc::new(Entry { key: key("k"), value, revision: Revision(at) })
            });
            let batch = Batch::new(vec![Operation { key: key("k"), condition, effect }]).unwrap();
            let got = batch.plan(|_| kept.clone()).map(|steps| match &steps[0].after {
                After::Same => "same".to_owned(),
                After::Value(value) => format!("value {}", String::from_utf8_lossy(value)),
                After::Nothing => "nothing".to_owned(),
            });
            assert_eq!(got.unwrap_or_else(|e| e.to_string()), expect);
        }
        let put = || Effect::Put(Arc::from(*b"v"));
        check(Always, put(), None, "value v");
        check(Always, put(), Some(("u", 3)), "value v");
        check(Always, put(), Some(("v", 3)), "same");
        check(Absent, put(), None, "value v");
        check(Absent, put(), Some(("v", 3)), "key k is at revision 3");
        check(At(Revision(3)), put(), Some(("u", 3)), "value v");
        check(At(Revision(3)), put(), Some(("v", 3)), "same");
        check(At(Revision(3)), put(), Some(("u", 4)), "key k is at revision 4");
        check(At(Revision(3)), put(), None, "key k is absent");
        check(Always, Delete, None, "same");
        check(Always, Delete, Some(("u", 3)), "nothing");
        check(At(Revision(3)), Delete, Some(("u", 3)), "nothing");
        check(At(Revision(3)), Delete, None, "key k is absent");
        check(Absent, Check, None, "same");
        check(Absent, Check, Some(("u", 3)), "key k is at revision 3");
        check(At(Revision(3)), Check, Some(("u", 3)), "same");
    }
}
