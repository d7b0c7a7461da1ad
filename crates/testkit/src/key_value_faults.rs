//! Writers that compare and set while something happens to the cluster: what was acknowledged is there once, what was
//! refused is not there, and what nobody knows is there once or not at all. Whoever watched through all of it ends with what
//! is there.

#![expect(clippy::expect_used, clippy::panic, reason = "a check's verdict is a panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portolan_model::{Batch, Condition, Effect, Key, KeyChange, KeyValue, KeyValueError, Operation, Prefix};
use tokio::time::timeout;

use crate::wait::until;

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many acknowledged writes each handle needs before and after.
const ENOUGH: usize = 20;
/// Writers of each handle.
const WRITERS: usize = 2;

/// What came of it.
#[derive(Debug, Default)]
pub struct Told {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes that were refused, most of them because another writer was first.
    pub refused: usize,
    /// Writes whose answers were lost.
    pub uncertain: usize,
    /// How long the handle that was worst off could not write.
    pub longest_gap: Duration,
}

/// Lets writers of all `handles` append to one ledger, by compare and set, while `strike` happens. `strike` returns once
/// the cluster may be expected to work again.
pub async fn no_write_is_lost_or_doubled(handles: &[Arc<dyn KeyValue>], strike: impl AsyncFnOnce()) -> Told {
    let stop = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> =
        handles.iter().map(|keys| tokio::spawn(until_end(Arc::clone(keys), Duration::MAX))).collect();
    let done: Vec<_> = handles.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let writers = handles.iter().zip(&done).enumerate().flat_map(|(n, (keys, done))| {
        let writer = move |w| Writer {
            name: format!("{n}{w}"),
            keys: Arc::clone(keys),
            done: Arc::clone(done),
            said: Vec::new(),
            longest_gap: Duration::ZERO,
        };
        (0..WRITERS).map(writer)
    });
    let writers: Vec<_> = writers.map(|writer| tokio::spawn(writer.write(Arc::clone(&stop)))).collect();
    more(&done).await;
    strike().await;
    more(&done).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for writer in writers {
        all.push(timeout(PATIENCE, writer).await.expect("in time").expect("a writer that does not panic"));
    }
    let keys = handles.first().expect("a handle");
    // Whoever sees this has seen everything before it.
    keys.put(key("end"), Arc::from(*b"end"), Condition::Always).await.expect("the cluster works");
    let mut told = Told::default();
    for (keys, watcher) in handles.iter().zip(watchers) {
        let view = until_end(Arc::clone(keys), PATIENCE).await;
        told = judge(&view, &all);
        let watched = timeout(PATIENCE, watcher).await.expect("a watcher ends").expect("and does not panic");
        assert_eq!(watched, view, "who watched through it ends like who comes after it");
    }
    told
}

/// Waits until something can be written through each of `handles`: for whoever strikes, while it hurts.
pub async fn all_write(handles: &[Arc<dyn KeyValue>]) {
    for keys in handles {
        let write = async || keys.put(key("probe"), Arc::from(*b"probe"), Condition::Always).await;
        until(PATIENCE, "every handle writes", write).await;
    }
}

struct Writer {
    name: String,
    keys: Arc<dyn KeyValue>,
    done: Arc<AtomicUsize>,
    said: Vec<(String, Outcome)>,
    longest_gap: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Refused,
    Uncertain,
}

impl Writer {
    async fn write(mut self, stop: Arc<AtomicBool>) -> Self {
        let mut last = Instant::now();
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let token = format!("{}-{n}", self.name);
            let outcome = match self.append(&token).await {
                Ok(()) => Outcome::Acknowledged,
                Err(KeyValueError::Conflict { .. } | KeyValueError::Unavailable(_)) => Outcome::Refused,
                Err(KeyValueError::Uncertain(_)) => Outcome::Uncertain,
                Err(error) => panic!("{error}"),
            };
            if outcome == Outcome::Acknowledged {
                self.longest_gap = self.longest_gap.max(last.elapsed());
                last = Instant::now();
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            self.said.push((token, outcome));
            tokio::task::yield_now().await;
        }
        self
    }

    /// The ledger if it is as it was read, and our own key with it.
    async fn append(&self, token: &str) -> Result<(), KeyValueError> {
        let ledger = self.keys.get(key("ledger")).await?;
        let condition = ledger.as_ref().map_or(Condition::Absent, |entry| Condition::At(entry.revision));
        let before = ledger.map_or_else(Vec::new, |entry| entry.value.to_vec());
        let value = [&before[..], token.as_bytes(), b" "].concat().into();
        let operations = vec![
            Operation { key: key("ledger"), condition, effect: Effect::Put(value) },
            Operation {
                key: key(&self.name),
                condition: Condition::Always,
                effect: Effect::Put(token.as_bytes().into()),
            },
        ];
        self.keys.commit(Batch::new(operations)?).await.map(|_| ())
    }
}

/// Waits until every handle has written a good deal more.
async fn more(done: &[Arc<AtomicUsize>]) {
    let count = || done.iter().map(|done| done.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let before = count();
    until(PATIENCE, "every handle writes", async || {
        let now = count();
        let reached = now.iter().zip(&before).all(|(now, before)| now - before >= ENOUGH);
        if reached { Ok(()) } else { Err(format!("{now:?} writes, and {before:?} before")) }
    })
    .await;
}

/// What a watcher has seen when he sees the end. `patience` is for each change.
async fn until_end(keys: Arc<dyn KeyValue>, patience: Duration) -> BTreeMap<Key, String> {
    let mut watch = keys.watch(Prefix::under(&Key::new("faults").expect("a key")));
    let mut view = BTreeMap::new();
    while !view.contains_key(&key("end")) {
        let change: Option<KeyChange> = timeout(patience, watch.next()).await.expect("the end in time");
        change.expect("a running registry").apply_to(&mut view);
    }
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("text");
    view.into_iter().map(|(key, entry)| (key, text(&entry.value))).collect()
}

fn judge(view: &BTreeMap<Key, String>, writers: &[Writer]) -> Told {
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    let ledger = &view[&key("ledger")];
    ledger.split_whitespace().for_each(|token| *counted.entry(token).or_default() += 1);
    let mut told = Told::default();
    for writer in writers {
        told.longest_gap = told.longest_gap.max(writer.longest_gap);
        for (token, outcome) in &writer.said {
            let count = counted.get(token.as_str()).copied().unwrap_or_default();
            let (right, counter) = match outcome {
                Outcome::Acknowledged => (count == 1, &mut told.acknowledged),
                Outcome::Refused => (count == 0, &mut told.refused),
                Outcome::Uncertain => (count <= 1, &mut told.uncertain),
            };
            assert!(right, "{token} is {outcome:?} and {count} times in the ledger");
            *counter += 1;
        }
        let own = view.get(&key(&writer.name)).map(String::as_str);
        let of_ours = |token: &&str| token.split('-').next() == Some(writer.name.as_str());
        assert_eq!(own, ledger.split_whitespace().rfind(of_ours), "a batch is done as a whole");
    }
    told
}

fn key(name: &str) -> Key {
    Key::new(format!("faults/{name}")).expect("a key")
}
