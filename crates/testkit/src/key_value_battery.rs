//! The conformance battery of [`KeyValue`]: what every implementation promises, told from outside.
//!
//! It takes two handles to the same keys, as two processes have them (they may be one). Each check keeps to a prefix of
//! its own, so all of them may run, in any order, over keys that others use too. A check panics where a promise is
//! broken.

#![expect(clippy::expect_used, clippy::panic, reason = "a check's verdict is a panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Batch, Condition, Effect, Entry, Key, KeyChange, KeyListing, KeySubscription, KeyValue, KeyValueError,
    Operation, Prefix, Revision,
};
use tokio::time::timeout;

use Condition::{Absent, Always, At};

/// How long any one answer may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many large values a watcher sleeps through in [`a_laggard_ends_like_everyone`]: more than wait for anybody.
const LAG: usize = 70;

type Keys = Arc<dyn KeyValue>;

/// Runs every check, one after the other.
pub async fn run(one: Keys, other: Keys) {
    what_is_put_is_got(&one).await;
    listings_end_at_segments(&one).await;
    conditions_are_judged(&one).await;
    unchanged_writes_are_silent(&one).await;
    another_life_of_a_key_is_another(&one).await;
    a_batch_is_done_or_not(&one).await;
    as_much_as_is_allowed(&one, &other).await;
    a_watch_sees_every_change_in_order(&one).await;
    a_watch_is_about_its_prefix_only(&one).await;
    a_wait_given_up_loses_nothing(&one).await;
    one_of_many_wins(&one, &other).await;
    no_increment_is_lost(&one, &other).await;
    whoever_watches_ends_alike(&one, &other).await;
    a_laggard_ends_like_everyone(&one, &other).await;
    many_keys(&one, &other).await;
}

/// Any bytes under any key, with the revision that the write returned.
pub async fn what_is_put_is_got(keys: &Keys) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let rows: [(&str, &[u8]); 6] = [
        ("got/text", b"hello"),
        ("got/empty", b""),
        ("got/bytes", &every_byte),
        ("got/文字/键", "值 \"…\" \u{1f600}".as_bytes()),
        ("got/a b%2F?c#&=+\\\"<>|'*~!@$^(){}[]:;,", b"signs"),
        ("got", b"a key beside keys under it"),
    ];
    assert_eq!(get(keys, "got/text").await, None);
    let mut before = list(keys, "got").await.revision;
    assert!(before > Revision::default(), "a history begins at 1");
    for (name, value) in rows {
        let revision = put(keys, name, value, Always).await.expect("put");
        assert!(revision > before, "revisions grow: {before} then {revision}");
        before = revision;
        let entry = get(keys, name).await.expect("an entry");
        assert_eq!(*entry, Entry { key: key(name), value: value.into(), revision });
    }
    for (name, value) in rows {
        assert_eq!(*get(keys, name).await.expect("an entry").value, *value, "{name}");
        let revision = delete(keys, name, Always).await.expect("deleted");
        assert!(revision > before, "revisions grow: {before} then {revision}");
        assert_eq!(get(keys, name).await, None);
    }
}

/// A prefix is about whole segments, and not about itself.
pub async fn listings_end_at_segments(keys: &Keys) {
    let all = ["ends", "ends/a", "ends/a/1", "ends/a/1/x", "ends/a-b/1", "ends/ab/1", "ends/b/1", "ends-2/a"];
    for name in all {
        put(keys, name, b"v", Always).await.expect("put");
    }
    for (under, expect) in [
        ("ends/a", "ends/a/1 ends/a/1/x"),
        ("ends/a/1", "ends/a/1/x"),
        ("ends/ab", "ends/ab/1"),
        ("ends/c", ""),
        ("ends", "ends/a ends/a-b/1 ends/a/1 ends/a/1/x ends/ab/1 ends/b/1"),
    ] {
        let listing = list(keys, under).await;
        assert_eq!(names(listing.entries.iter().map(|entry| &entry.key)), expect, "{under}");
        assert!(listing.entries.iter().all(|entry| entry.revision <= listing.revision));
    }
    let everything = timeout(PATIENCE, keys.list(Prefix::all())).await.expect("in time").expect("a listing");
    assert!(all.iter().all(|name| everything.entries.iter().any(|entry| entry.key == key(name))));
}

/// What holds is done, what does not is refused with what is there.
pub async fn conditions_are_judged(keys: &Keys) {
    let name = "conditions/a";
    let conflict = |current| Err(KeyValueError::Conflict { key: key(name), current });
    assert_eq!(put(keys, name, b"1", At(Revision(1))).await, conflict(None));
    assert_eq!(delete(keys, name, At(Revision(1))).await, conflict(None));
    let first = put(keys, name, b"1", Absent).await.expect("put");
    assert_eq!(put(keys, name, b"2", Absent).await, conflict(Some(first)));
    assert_eq!(put(keys, name, b"1", Absent).await, conflict(Some(first)), "equal, and there all the same");
    let second = put(keys, name, b"2", At(first)).await.expect("put");
    assert_eq!(put(keys, name, b"3", At(first)).await, conflict(Some(second)));
    assert_eq!(delete(keys, name, At(first)).await, conflict(Some(second)));
    assert_eq!(delete(keys, name, Absent).await, conflict(Some(second)));
    assert_eq!(*get(keys, name).await.expect("an entry").value, *b"2");
    delete(keys, name, At(second)).await.expect("deleted");
    assert_eq!(delete(keys, name, At(second)).await, conflict(None));
    delete(keys, name, Absent).await.expect("nothing to do");
}

/// Putting what is there and deleting what is not changes nothing, and nobody hears of it.
pub async fn unchanged_writes_are_silent(keys: &Keys) {
    let revision = put(keys, "silent/a", b"1", Always).await.expect("put");
    let mut watch = watch(keys, "silent");
    reset(&mut watch).await;
    for condition in [Always, At(revision)] {
        put(keys, "silent/a", b"1", condition).await.expect("put");
    }
    delete(keys, "silent/b", Always).await.expect("deleted");
    keys.commit(Batch::default()).await.expect("nothing to do");
    assert_eq!(get(keys, "silent/a").await.expect("an entry").revision, revision);
    let marker = put(keys, "silent/c", b"", Always).await.expect("put");
    assert!(marker > revision);
    assert_eq!(next(&mut watch).await.revision(), marker, "the first that is heard of");
}

/// A key that was deleted and made again is not at any revision of its earlier life.
pub async fn another_life_of_a_key_is_another(keys: &Keys) {
    let name = "lives/a";
    let first = put(keys, name, b"1", Absent).await.expect("put");
    let gone = delete(keys, name, At(first)).await.expect("deleted");
    let second = put(keys, name, b"1", Absent).await.expect("put");
    assert!(first < gone && gone < second, "{first} {gone} {second}");
    let conflict = Err(KeyValueError::Conflict { key: key(name), current: Some(second) });
    assert_eq!(put(keys, name, b"2", At(first)).await, conflict);
    put(keys, name, b"2", At(second)).await.expect("put");
}

/// All operations or none; a check protects what is not written.
pub async fn a_batch_is_done_or_not(keys: &Keys) {
    let name = |n: usize| format!("batch/{n}");
    let first = put(keys, &name(0), b"0", Always).await.expect("put");
    put(keys, &name(1), b"1", Always).await.expect("put");
    let mut watch = watch(keys, "batch");
    reset(&mut watch).await;
    let batch = |condition| {
        vec![
            operation(&name(1), Always, Effect::Delete),
            operation(&name(2), Absent, effect(b"2")),
            operation(&name(3), Absent, Effect::Check),
            operation(&name(0), condition, Effect::Check),
        ]
    };
    let stale = Revision(first.0 - 1);
    let refused = commit(keys, batch(At(stale))).await;
    assert_eq!(refused, Err(KeyValueError::Conflict { key: key(&name(0)), current: Some(first) }));
    assert_eq!(names(list(keys, "batch").await.entries.iter().map(|entry| &entry.key)), "batch/0 batch/1");
    let done = commit(keys, batch(At(first))).await.expect("done");
    let listing = list(keys, "batch").await;
    let there: Vec<_> = listing.entries.iter().map(|entry| (entry.key.as_str(), entry.revision)).collect();
    assert_eq!(there, [("batch/0", first), ("batch/2", done)]);
    let mut told = [next(&mut watch).await, next(&mut watch).await];
    told.sort_by_key(|change| format!("{change:?}"));
    let [KeyChange::Remove { key: gone, revision }, KeyChange::Upsert(entry)] = &told else {
        panic!("one gone and one new, not {told:?}")
    };
    assert_eq!((gone, *revision, &entry.key, entry.revision), (&key(&name(1)), done, &key(&name(2)), done));
}

/// The longest key, the longest value, the largest batches.
pub async fn as_much_as_is_allowed(keys: &Keys, other: &Keys) {
    let long = format!("limits/{}", "%键".repeat((Key::LIMIT - 7) / 4));
    let value = vec![b'"'; Batch::BYTES];
    let revision = put(keys, &long, &value, Absent).await.expect("put");
    assert_eq!(*get(keys, &long).await.expect("an entry").value, *value);
    delete(keys, &long, At(revision)).await.expect("deleted");

    let name = |n: usize| format!("limits/{}{n:02}", "k".repeat(Key::LIMIT - 9));
    let each = vec![0xff; Batch::BYTES / Batch::OPERATIONS];
    let all = |condition, effect: Effect| {
        let names = (0..Batch::OPERATIONS).map(name);
        names.map(|name| operation(&name, condition, effect.clone())).collect::<Vec<_>>()
    };
    let written = commit(keys, all(Absent, effect(&each))).await.expect("put");
    assert_eq!(list(keys, "limits").await.entries.len(), Batch::OPERATIONS);
    commit(keys, all(At(written), Effect::Check)).await.expect("all are there");
    commit(keys, all(At(written), effect(&each))).await.expect("all are equal");
    until(other, "limits", |entries| entries.values().all(|entry| *entry.value == *each)).await;
    commit(keys, all(At(written), Effect::Delete)).await.expect("deleted");
    assert_eq!(list(keys, "limits").await.entries.len(), 0);
    let refused = keys.put(key("limits/a"), vec![0; Batch::BYTES + 1].into(), Always).await;
    assert!(matches!(refused, Err(KeyValueError::Limit(_))), "{refused:?}");
}

/// Changes that were waited for are each seen, in their order, with their revisions.
pub async fn a_watch_sees_every_change_in_order(keys: &Keys) {
    put(keys, "order/a", b"0", Always).await.expect("put");
    let mut watch = watch(keys, "order");
    assert_eq!(reset(&mut watch).await.entries.len(), 1);
    for round in 1..=5_u8 {
        let put_a = put(keys, "order/a", &[round], Always).await.expect("put");
        let put_b = put(keys, "order/b", &[round], Absent).await.expect("put");
        let gone = delete(keys, "order/b", At(put_b)).await.expect("deleted");
        for (expect, value) in [(put_a, Some(round)), (put_b, Some(round)), (gone, None)] {
            let change = next(&mut watch).await;
            assert_eq!(change.revision(), expect, "{change:?}");
            let told = match change {
                KeyChange::Upsert(entry) => Some(entry.value[0]),
                KeyChange::Remove { .. } => None,
                KeyChange::Reset(listing) => panic!("a reset of {} entries", listing.entries.len()),
            };
            assert_eq!(told, value);
        }
    }
}

/// Nobody hears of other keys.
pub async fn a_watch_is_about_its_prefix_only(keys: &Keys) {
    let mut watch = watch(keys, "about/a");
    assert_eq!(reset(&mut watch).await.entries, []);
    for name in ["about", "about/a", "about/ab", "about/ab/1", "about/b/a/1"] {
        put(keys, name, b"v", Always).await.expect("put");
    }
    let marker = put(keys, "about/a/1", b"v", Always).await.expect("put");
    assert_eq!(next(&mut watch).await.revision(), marker);
}

/// Dropping a wait loses no change.
pub async fn a_wait_given_up_loses_nothing(keys: &Keys) {
    let mut watch = watch(keys, "given-up");
    reset(&mut watch).await;
    for n in 0..10_u8 {
        let given_up = timeout(Duration::ZERO, watch.next()).await;
        assert!(given_up.is_err(), "there is nothing to tell yet: {given_up:?}");
        put(keys, "given-up/a", &[n], Always).await.expect("put");
        let KeyChange::Upsert(entry) = next(&mut watch).await else { panic!("a value") };
        assert_eq!(*entry.value, [n]);
    }
}

/// Of many who make a key at once, exactly one makes it; and of many who change it from what it was, one.
pub async fn one_of_many_wins(one: &Keys, other: &Keys) {
    let mut condition = Absent;
    for round in 0..3 {
        let writers = (0..16_u8).map(|n| {
            let keys = Arc::clone(if n % 2 == 0 { one } else { other });
            tokio::spawn(async move { put(&keys, "race/a", &[round, n], condition).await.map(|at| (n, at)) })
        });
        let writers: Vec<_> = writers.collect();
        let mut won = Vec::new();
        for writer in writers {
            match writer.await.expect("a writer that does not panic") {
                Ok(winner) => won.push(winner),
                Err(KeyValueError::Conflict { current: Some(_), .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let [(winner, revision)] = won[..] else { panic!("one winner, not {won:?}") };
        let seen = until(one, "race", |entries| entries.values().any(|entry| entry.value[0] == round)).await;
        let entry = &seen[&key("race/a")];
        assert_eq!((&*entry.value, entry.revision), (&[round, winner][..], revision));
        condition = At(revision);
    }
}

/// Several writers count together; the sum is right.
pub async fn no_increment_is_lost(one: &Keys, other: &Keys) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 5;
    put(one, "count/n", &0_u64.to_be_bytes(), Always).await.expect("put");
    until(other, "count", |entries| !entries.is_empty()).await;
    let writers = (0..WRITERS).map(|n| {
        let keys = Arc::clone(if n % 2 == 0 { one } else { other });
        tokio::spawn(async move {
            for _ in 0..EACH {
                increment(&keys, "count/n").await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        timeout(PATIENCE, writer).await.expect("in time").expect("a writer that does not panic");
    }
    let sum = WRITERS * EACH;
    until(other, "count", |entries| entries.values().all(|entry| *entry.value == sum.to_be_bytes())).await;
}

/// One who was there from the start, one who comes late, and a listing: all know the same in the end.
pub async fn whoever_watches_ends_alike(one: &Keys, other: &Keys) {
    let (mut early, mut across) = (watch(one, "alike"), watch(other, "alike"));
    let writers = (0..6_u8).map(|n| {
        let keys = Arc::clone(if n % 2 == 0 { one } else { other });
        tokio::spawn(async move {
            for round in 0..12_u8 {
                let name = format!("alike/{}", (n + round) % 5);
                if (n ^ round) % 3 == 0 {
                    delete(&keys, &name, Always).await.expect("deleted");
                } else {
                    put(&keys, &name, &[n, round], Always).await.expect("put");
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        timeout(PATIENCE, writer).await.expect("in time").expect("a writer that does not panic");
    }
    let last = put(one, "alike/last", b"", Always).await.expect("put");
    let expect = until(other, "alike", |entries| entries.contains_key(&key("alike/last"))).await;
    for watch in [&mut early, &mut across] {
        let mut view = BTreeMap::new();
        let mut newest = Revision::default();
        while newest < last {
            let change = next(watch).await;
            assert!(change.revision() >= newest, "{change:?} after {newest}");
            newest = change.revision();
            change.apply_to(&mut view);
        }
        assert_eq!(view, expect);
    }
    assert_eq!(entries(list(one, "alike").await), expect);
}

/// More waits for a watcher than is kept for anybody; it is told the truth all the same.
pub async fn a_laggard_ends_like_everyone(one: &Keys, other: &Keys) {
    let mut laggard = watch(one, "lag");
    reset(&mut laggard).await;
    let mut value = vec![0; Batch::BYTES];
    for n in 0..LAG {
        value[0] = u8::try_from(n).expect("a small number");
        // So much at once may cost a small cluster its leader; a value put twice is there once.
        let keys = if n % 2 == 0 { one } else { other };
        while let Err(error) = put(keys, "lag/a", &value, Always).await {
            let lost = matches!(error, KeyValueError::Uncertain(_) | KeyValueError::Unavailable(_));
            assert!(lost, "{error}");
        }
    }
    let expect = until(one, "lag", |entries| entries.values().all(|entry| *entry.value == *value)).await;
    let mut view = BTreeMap::new();
    let mut changes = 0;
    while view != expect {
        next(&mut laggard).await.apply_to(&mut view);
        changes += 1;
    }
    assert!(changes <= LAG, "{changes} changes of {LAG}");
    delete(one, "lag/a", Always).await.expect("deleted");
}

/// A thousand keys, written in batches, are all there.
pub async fn many_keys(one: &Keys, other: &Keys) {
    const COUNT: usize = 1000;
    let all: Vec<_> =
        (0..COUNT).map(|n| operation(&format!("many/{n:04}"), Always, effect(b"value"))).collect();
    for batch in all.chunks(Batch::OPERATIONS) {
        commit(one, batch.to_vec()).await.expect("put");
    }
    for keys in [one, other] {
        until(keys, "many", |entries| entries.len() == COUNT).await;
    }
}

async fn increment(keys: &Keys, name: &str) {
    loop {
        let entry = get(keys, name).await.expect("an entry");
        let count = u64::from_be_bytes(entry.value[..].try_into().expect("eight bytes")) + 1;
        match put(keys, name, &count.to_be_bytes(), At(entry.revision)).await {
            Ok(_) => return,
            // What is read may be behind the registry by a moment.
            Err(KeyValueError::Conflict { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until what is under a prefix is as it should be.
async fn until(
    keys: &Keys,
    under: &str,
    mut as_expected: impl FnMut(&BTreeMap<Key, Arc<Entry>>) -> bool,
) -> BTreeMap<Key, Arc<Entry>> {
    let mut watch = watch(keys, under);
    let mut view = entries(reset(&mut watch).await);
    while !as_expected(&view) {
        next(&mut watch).await.apply_to(&mut view);
    }
    view
}

async fn get(keys: &Keys, name: &str) -> Option<Arc<Entry>> {
    timeout(PATIENCE, keys.get(key(name))).await.expect("in time").expect("an answer")
}

async fn list(keys: &Keys, under: &str) -> KeyListing {
    timeout(PATIENCE, keys.list(prefix(under))).await.expect("in time").expect("a listing")
}

async fn put(keys: &Keys, name: &str, value: &[u8], condition: Condition) -> Result<Revision, KeyValueError> {
    timeout(PATIENCE, keys.put(key(name), value.into(), condition)).await.expect("in time")
}

async fn delete(keys: &Keys, name: &str, condition: Condition) -> Result<Revision, KeyValueError> {
    timeout(PATIENCE, keys.delete(key(name), condition)).await.expect("in time")
}

async fn commit(keys: &Keys, operations: Vec<Operation>) -> Result<Revision, KeyValueError> {
    let batch = Batch::new(operations).expect("within the limits");
    timeout(PATIENCE, keys.commit(batch)).await.expect("in time")
}

fn watch(keys: &Keys, under: &str) -> KeySubscription {
    keys.watch(prefix(under))
}

async fn next(watch: &mut KeySubscription) -> KeyChange {
    timeout(PATIENCE, watch.next()).await.expect("a change in time").expect("a running registry")
}

async fn reset(watch: &mut KeySubscription) -> KeyListing {
    match next(watch).await {
        KeyChange::Reset(listing) => listing,
        other => panic!("the first is a reset, not {other:?}"),
    }
}

fn entries(listing: KeyListing) -> BTreeMap<Key, Arc<Entry>> {
    listing.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect()
}

fn operation(name: &str, condition: Condition, effect: Effect) -> Operation {
    Operation { key: key(name), condition, effect }
}

fn effect(value: &[u8]) -> Effect {
    Effect::Put(value.into())
}

fn prefix(under: &str) -> Prefix {
    Prefix::under(&key(under))
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a key")
}

fn names<'a>(keys: impl Iterator<Item = &'a Key>) -> String {
    keys.map(Key::as_str).collect::<Vec<_>>().join(" ")
}
