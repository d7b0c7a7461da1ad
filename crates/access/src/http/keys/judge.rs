//! What a transaction comes to, with what is known to be kept; pure.
//!
//! Its operations are followed one after the other over a view of the keys, as Consul does them. What comes of all of them
//! is one batch: for each key what must still be so, and what it ends as.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use consul_api::{KeyOperation, KeyVerb, TxnError};
use portolan_model::{Condition, Effect, Entry, Key, Operation, Revision};

use super::super::error::Error;
use super::find::Beginning;

/// One operation of a transaction, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Set { key: Key, value: Arc<[u8]>, cas: Option<u64> },
    Get { key: Key, or_empty: bool },
    GetTree(Beginning),
    CheckIndex { key: Key, index: u64 },
    CheckNotExists(Key),
    Delete { key: Key, cas: Option<u64> },
    DeleteTree(Beginning),
}

/// What is known to be kept.
pub(super) type View = BTreeMap<Key, Arc<Entry>>;

/// What a transaction comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Some operations cannot be done, so none is.
    Refused(Vec<TxnError>),
    /// To be done in one batch; then what to tell.
    Batch(Vec<Operation>, Vec<Told>),
}

/// What an operation tells of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) key: Key,
    /// `None`: it is not told, or there is none.
    pub(super) value: Option<Arc<[u8]>>,
    pub(super) at: At,
}

/// When a key was changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Never,
    Before(Revision),
    /// By this transaction.
    Now,
}

/// What one operation is, or why no registry here can do it.
pub(super) fn understood(at: usize, operation: KeyOperation) -> Result<Op, Error> {
    let refused = |why: &str| Err(Error::Operation { at, why: why.to_owned() });
    let KeyOperation { verb, key, value, index, flags, session } = operation;
    if flags.is_some_and(|flags| flags != 0) {
        return refused("Flags are not supported: keys have no flags but 0 here");
    }
    if session.is_some_and(|session| !session.is_empty()) {
        return refused("Session is not supported: keys have no sessions here");
    }
    let index = index.unwrap_or_default();
    let named = || Key::new(&key).map_err(|bad| Error::Operation { at, why: bad.to_string() });
    let value = || Arc::from(value.unwrap_or_default().0);
    Ok(match verb {
        KeyVerb::Set => Op::Set { key: named()?, value: value(), cas: None },
        KeyVerb::Cas => Op::Set { key: named()?, value: value(), cas: Some(index) },
        KeyVerb::Get => Op::Get { key: named()?, or_empty: false },
        KeyVerb::GetOrEmpty => Op::Get { key: named()?, or_empty: true },
        KeyVerb::GetTree => Op::GetTree(Beginning(key)),
        KeyVerb::CheckIndex => Op::CheckIndex { key: named()?, index },
        KeyVerb::CheckNotExists => Op::CheckNotExists(named()?),
        KeyVerb::Delete => Op::Delete { key: named()?, cas: None },
        KeyVerb::DeleteCas => Op::Delete { key: named()?, cas: Some(index) },
        KeyVerb::DeleteTree => Op::DeleteTree(Beginning(key)),
        KeyVerb::Lock | KeyVerb::Unlock | KeyVerb::CheckSession => {
            return refused("lock, unlock and check-session are not supported: keys have no sessions here");
        }
    })
}

impl Op {
    /// Whether it changes nothing, whatever there is.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Self::Get { .. } | Self::GetTree(_) | Self::CheckIndex { .. } | Self::CheckNotExists(_) => true,
            Self::Set { .. } | Self::Delete { .. } | Self::DeleteTree(_) => false,
        }
    }

    /// The one key it is about.
    pub(super) fn key(&self) -> Option<&Key> {
        match self {
            Self::Set { key, .. }
            | Self::Get { key, .. }
            | Self::CheckIndex { key, .. }
            | Self::CheckNotExists(key)
            | Self::Delete { key, .. } => Some(key),
            Self::GetTree(_) | Self::DeleteTree(_) => None,
        }
    }

    /// The keys it is about, by what they begin with.
    pub(super) fn tree(&self) -> Option<&Beginning> {
        match self {
            Self::GetTree(beginning) | Self::DeleteTree(beginning) => Some(beginning),
            Self::Set { .. }
            | Self::Get { .. }
            | Self::CheckIndex { .. }
            | Self::CheckNotExists(_)
            | Self::Delete { .. } => None,
        }
    }
}

/// What `ops` come to, if the registry is as `view` says.
pub(super) fn judge(ops: &[Op], view: &View) -> Verdict {
    let mut course = Course { view, touched: BTreeMap::new(), told: Vec::new() };
    let mut errors = Vec::new();
    for (op_index, op) in ops.iter().enumerate() {
        if let Err(what) = course.follow(op) {
            errors.push(TxnError { op_index, what });
        }
    }
    if !errors.is_empty() {
        return Verdict::Refused(errors);
    }
    let operations = course.touched.into_iter().map(|(key, touched)| touched.operation(key, view));
    Verdict::Batch(operations.collect(), course.told)
}

/// A transaction half done.
struct Course<'v> {
    view: &'v View,
    touched: BTreeMap<Key, Touched>,
    told: Vec<Told>,
}

/// A key that an operation was about.
struct Touched {
    /// Whether what it was before mattered.
    pinned: bool,
    now: Now,
}

/// What a key is, half way.
#[derive(Clone)]
enum Now {
    Absent,
    Kept(Arc<Entry>),
    Put(Arc<[u8]>),
}

impl Course<'_> {
    fn follow(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Set { key, value, cas } => self.set(key, value, *cas),
            Op::Get { key, or_empty } => match (self.pinned(key), or_empty) {
                (Now::Absent, false) => Err(missing(key)),
                (now, _) => {
                    self.told.push(now.told(key, true));
                    Ok(())
                }
            },
            Op::GetTree(beginning) => {
                for key in self.keys_of(beginning) {
                    let now = self.pinned(&key);
                    self.told.push(now.told(&key, true));
                }
                Ok(())
            }
            Op::CheckIndex { key, index } => self.check_index(key, *index),
            Op::CheckNotExists(key) => match self.pinned(key) {
                Now::Absent => Ok(()),
                Now::Kept(_) | Now::Put(_) => Err(format!("key {:?} exists", key.as_str())),
            },
            Op::Delete { key, cas } => self.delete(key, *cas),
            Op::DeleteTree(beginning) => {
                for key in self.keys_of(beginning) {
                    self.touch(&key).now = Now::Absent;
                }
                Ok(())
            }
        }
    }

    fn set(&mut self, key: &Key, value: &Arc<[u8]>, cas: Option<u64>) -> Result<(), String> {
        if let Some(index) = cas {
            let holds = match self.pinned(key) {
                Now::Absent => index == 0,
                now => index != 0 && now.is_at(index),
            };
            if !holds {
                return Err(format!("failed to set key {:?}, index is stale", key.as_str()));
            }
        }
        let touched = self.touch(key);
        match &touched.now {
            // Nothing changes, unless somebody else changes it meanwhile: then it is put back.
            Now::Kept(entry) if entry.value == *value && touched.pinned => {}
            Now::Absent | Now::Kept(_) | Now::Put(_) => touched.now = Now::Put(Arc::clone(value)),
        }
        let told = touched.now.told(key, false);
        self.told.push(told);
        Ok(())
    }

    fn check_index(&mut self, key: &Key, index: u64) -> Result<(), String> {
        let now = self.pinned(key);
        match &now {
            Now::Absent => Err(format!("failed to check index, {}", missing(key))),
            now if now.is_at(index) => Ok(()),
            Now::Kept(entry) => Err(mismatch(key, &entry.revision.to_string(), index)),
            Now::Put(_) => Err(mismatch(key, "of this transaction", index)),
        }?;
        self.told.push(now.told(key, false));
        Ok(())
    }

    fn delete(&mut self, key: &Key, cas: Option<u64>) -> Result<(), String> {
        if let Some(index) = cas {
            match self.pinned(key) {
                Now::Absent => {}
                now if now.is_at(index) => {}
                Now::Kept(_) | Now::Put(_) => {
                    return Err(format!("failed to delete key {:?}, index is stale", key.as_str()));
                }
            }
        }
        self.touch(key).now = Now::Absent;
        Ok(())
    }

    /// What a key is; whoever asks depends on it.
    fn pinned(&mut self, key: &Key) -> Now {
        let touched = self.touch(key);
        touched.pinned |= !matches!(touched.now, Now::Put(_));
        touched.now.clone()
    }

    fn touch(&mut self, key: &Key) -> &mut Touched {
        match self.touched.entry(key.clone()) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let now = self.view.get(key).map_or(Now::Absent, |entry| Now::Kept(Arc::clone(entry)));
                slot.insert(Touched { pinned: false, now })
            }
        }
    }

    fn keys_of(&self, beginning: &Beginning) -> Vec<Key> {
        let kept = self.view.keys().filter(|key| match self.touched.get(*key) {
            Some(touched) => !matches!(touched.now, Now::Absent),
            None => true,
        });
        let put = self.touched.iter().filter(|(_, touched)| matches!(touched.now, Now::Put(_)));
        let put = put.map(|(key, _)| key).filter(|key| !self.view.contains_key(*key));
        let mut keys: Vec<_> = kept.chain(put).filter(|key| beginning.includes(key)).cloned().collect();
        keys.sort();
        keys
    }
}

impl Touched {
    fn operation(self, key: Key, view: &View) -> Operation {
        let before = view.get(&key);
        let condition = match (self.pinned, before) {
            (false, _) => Condition::Always,
            (true, None) => Condition::Absent,
            (true, Some(entry)) => Condition::At(entry.revision),
        };
        let effect = match self.now {
            Now::Put(value) => Effect::Put(value),
            Now::Kept(_) => Effect::Check,
            // What is not pinned may have come since the view was taken.
            Now::Absent if before.is_none() && self.pinned => Effect::Check,
            Now::Absent => Effect::Delete,
        };
        Operation { key, condition, effect }
    }
}

impl Now {
    /// Whether its last change was at `index`, which nobody knows of what was changed just now.
    fn is_at(&self, index: u64) -> bool {
        match self {
            Self::Kept(entry) => entry.revision.0 == index,
            Self::Absent | Self::Put(_) => false,
        }
    }

    fn told(&self, key: &Key, with_value: bool) -> Told {
        let (value, at) = match self {
            Self::Absent => (None, At::Never),
            Self::Kept(entry) => (Some(&entry.value), At::Before(entry.revision)),
            Self::Put(value) => (Some(value), At::Now),
        };
        Told { key: key.clone(), value: value.filter(|_| with_value).cloned(), at }
    }
}

fn missing(key: &Key) -> String {
    format!("key {:?} doesn't exist", key.as_str())
}

fn mismatch(key: &Key, current: &str, index: u64) -> String {
    format!("failed index check for key {:?}, current modify index {current} != {index}", key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn value(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn set(name: &str, text: &str) -> Op {
        Op::Set { key: key(name), value: value(text), cas: None }
    }

    fn cas(name: &str, text: &str, index: u64) -> Op {
        Op::Set { key: key(name), value: value(text), cas: Some(index) }
    }

    fn get(name: &str) -> Op {
        Op::Get { key: key(name), or_empty: false }
    }

    fn delete(name: &str, cas: Option<u64>) -> Op {
        Op::Delete { key: key(name), cas }
    }

    fn tree(text: &str) -> Beginning {
        Beginning(text.to_owned())
    }

    /// What is kept is `a/1` at 3, `a/2` at 4 and `b` at 5, each with its revision as its value.
    #[track_caller]
    fn check(ops: &[Op], expect: &str) {
        let entry = |name: &str, at: u64| {
            let entry = Entry { key: key(name), value: value(&at.to_string()), revision: Revision(at) };
            (key(name), Arc::new(entry))
        };
        let view = [entry("a/1", 3), entry("a/2", 4), entry("b", 5)].into();
        let got = match judge(ops, &view) {
            Verdict::Refused(errors) => {
                errors.iter().map(|error| format!("{}: {}", error.op_index, error.what)).collect::<Vec<_>>()
            }
            Verdict::Batch(operations, told) => {
                operations.iter().map(written).chain(told.iter().map(said)).collect()
            }
        };
        assert_eq!(got.join("; "), expect);
    }

    fn written(Operation { key, condition, effect }: &Operation) -> String {
        let condition = match condition {
            Condition::Always => "",
            Condition::Absent => " absent",
            Condition::At(revision) => &format!(" at {revision}"),
        };
        let effect = match effect {
            Effect::Put(value) => &format!(" = {}", String::from_utf8_lossy(value)),
            Effect::Delete => " gone",
            Effect::Check => "",
        };
        format!("{key}{condition}{effect}")
    }

    fn said(Told { key, value, at }: &Told) -> String {
        let value = value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
        format!("{key} is {} {at:?}", value.unwrap_or_default())
    }

    #[test]
    fn one_operation() {
        check(&[set("n", "x")], "n = x; n is  Now");
        check(&[set("b", "x")], "b = x; b is  Now");
        check(&[set("b", "5")], "b = 5; b is  Now");
        check(&[cas("n", "x", 0)], "n absent = x; n is  Now");
        check(&[cas("b", "x", 5)], "b at 5 = x; b is  Now");
        check(&[cas("b", "5", 5)], "b at 5; b is  Before(Revision(5))");
        check(&[cas("b", "x", 0)], "0: failed to set key \"b\", index is stale");
        check(&[cas("n", "x", 7)], "0: failed to set key \"n\", index is stale");
        check(&[get("b")], "b at 5; b is 5 Before(Revision(5))");
        check(&[get("n")], "0: key \"n\" doesn't exist");
        check(&[Op::Get { key: key("n"), or_empty: true }], "n absent; n is  Never");
        check(&[delete("b", None)], "b gone");
        check(&[delete("n", None)], "n gone");
        check(&[delete("b", Some(5))], "b at 5 gone");
        check(&[delete("n", Some(5))], "n absent");
        check(&[delete("b", Some(4))], "0: failed to delete key \"b\", index is stale");
        check(&[Op::CheckNotExists(key("n"))], "n absent");
        check(&[Op::CheckNotExists(key("b"))], "0: key \"b\" exists");
        check(&[Op::CheckIndex { key: key("b"), index: 5 }], "b at 5; b is  Before(Revision(5))");
        let stale = "0: failed index check for key \"b\", current modify index 5 != 4";
        check(&[Op::CheckIndex { key: key("b"), index: 4 }], stale);
        let missing = "0: failed to check index, key \"n\" doesn't exist";
        check(&[Op::CheckIndex { key: key("n"), index: 4 }], missing);
        let both = "a/1 at 3; a/2 at 4; a/1 is 3 Before(Revision(3)); a/2 is 4 Before(Revision(4))";
        check(&[Op::GetTree(tree("a/"))], both);
        check(&[Op::DeleteTree(tree("a/"))], "a/1 gone; a/2 gone");
        check(&[Op::DeleteTree(tree("x"))], "");
    }

    #[test]
    fn one_after_the_other() {
        // As a guarded removal is asked for.
        let guarded = [Op::CheckIndex { key: key("b"), index: 5 }, delete("b", None)];
        check(&guarded, "b at 5 gone; b is  Before(Revision(5))");
        check(&[set("n", "x"), get("n"), delete("n", None)], "n gone; n is  Now; n is x Now");
        check(&[set("n", "x"), cas("n", "y", 0)], "1: failed to set key \"n\", index is stale");
        check(&[delete("b", None), cas("b", "y", 0)], "b at 5 = y; b is  Now");
        check(&[set("a/3", "x"), Op::DeleteTree(tree("a"))], "a/1 gone; a/2 gone; a/3 gone; a/3 is  Now");
        check(&[delete("a/1", None), Op::DeleteTree(tree("a/"))], "a/1 gone; a/2 gone");
        check(&[get("n"), get("b"), get("m")], "0: key \"n\" doesn't exist; 2: key \"m\" doesn't exist");
    }
}
