//! The state against a store of a few lines, whose answers and events come when a test says so.

use bytes::Bytes;
use portolan_model::{Filter, Guard, Interest, Registration, ServiceName};
use tokio::sync::oneshot::{self, Receiver};

use super::*;
use crate::fixture::instance;
use crate::leased::{Layout, Write};

const S: Duration = Duration::from_secs(1);
const TRAITS: Traits = Traits { name: "etcd", at_once: 128, chunk: 50, chunk_bytes: 512 << 10 };

/// Applies transactions and keeps the events until they are asked for.
#[derive(Default)]
struct Fake {
    revision: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    events: Vec<(i64, Vec<Event>)>,
    writes: usize,
    leases: LeaseId,
}

impl Fake {
    fn apply(&mut self, txn: Transaction) -> (bool, i64) {
        let known = |key| self.keys.get(key).map_or(0, |kv| kv.modified);
        let holds = txn.compare.iter().all(|(key, revision)| known(key) == *revision);
        if !holds {
            return (false, self.revision);
        }
        self.writes += 1;
        self.revision += 1;
        let events = txn.writes.into_iter().filter_map(|write| match write {
            Write::Put { key, value, lease, before: _ } => Some(self.put(key, value, lease)),
            Write::Delete(key) => self.delete(&key),
        });
        let events = events.collect();
        self.events.push((self.revision, events));
        (true, self.revision)
    }

    fn end_lease(&mut self, lease: LeaseId) {
        self.revision += 1;
        let keys: Vec<_> =
            self.keys.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect();
        let events = keys.iter().filter_map(|key| self.delete(key)).collect();
        self.events.push((self.revision, events));
    }

    fn put(&mut self, key: Bytes, value: Bytes, lease: LeaseId) -> Event {
        let created = self.keys.get(&key).map_or(self.revision, |kv| kv.created);
        let kv = KeyValue { key: key.clone(), created, modified: self.revision, value, lease };
        self.keys.insert(key, kv.clone());
        Event::Put(kv)
    }

    fn delete(&mut self, key: &Bytes) -> Option<Event> {
        self.keys.remove(key).map(|kv| Event::Delete(kv.key))
    }

    /// Answers `calls`: leases are granted, transactions applied, no lease but the newest is alive.
    fn answer(&mut self, state: &mut State, calls: Vec<Call>, now: Duration) {
        for call in calls {
            match call {
                Call::Write(number, txn) => {
                    let answer = self.apply(txn);
                    state.written(number, Ok(answer), now).unwrap();
                }
                Call::Grant => {
                    self.leases += 1;
                    state.granted(self.leases, now);
                }
                Call::Ask(lease) => state.asked(lease, lease == self.leases, now),
            }
        }
    }

    /// Lets everything happen that is due, until nothing is.
    fn run(&mut self, state: &mut State, now: Duration) {
        state.tick(now);
        loop {
            for (revision, events) in take(&mut self.events) {
                state.take(revision, events, now);
            }
            let calls = state.calls(now);
            if calls.is_empty() && self.events.is_empty() {
                return;
            }
            self.answer(state, calls, now);
        }
    }

    fn count(&self) -> usize {
        self.keys.len()
    }
}

fn begun() -> (Fake, State, Mirror) {
    let mirror = Mirror::default();
    let mut state = State::new(TRAITS, mirror.clone(), Book::new(Layout::json("/p")), Doubts::new(3 * S));
    state.reset(1, vec![], Duration::ZERO);
    (Fake { revision: 1, ..Fake::default() }, state, mirror)
}

fn said(id: &str) -> Registration {
    instance("web", id, 0).registration.clone()
}

fn order(state: &mut State, command: Command) -> Receiver<Result<Revision, RegistryError>> {
    let (reply, answer) = oneshot::channel();
    state.order(Order { command, reply, tried: false });
    answer
}

/// The one call that is due: a transaction.
fn the_write(state: &mut State) -> (u64, Transaction) {
    match state.calls(S).pop() {
        Some(Call::Write(number, txn)) => (number, txn),
        other => panic!("not {other:?}"),
    }
}

fn known(mirror: &Mirror) -> usize {
    mirror.find(&ServiceName::new("web").unwrap(), &Filter::default()).instances.len()
}

#[test]
fn answers_come_when_the_write_is_seen() {
    let (mut etcd, mut state, mirror) = begun();
    let mut answer = order(&mut state, Command::Register(said("a")));
    let grant = state.calls(S);
    assert!(matches!(grant[..], [Call::Grant]), "a lease first: {grant:?}");
    etcd.answer(&mut state, grant, S);
    let write = state.calls(S);
    etcd.answer(&mut state, write, S);
    assert!(answer.try_recv().is_err(), "it is durable, and not seen yet");
    etcd.run(&mut state, S);
    assert_eq!(answer.try_recv().unwrap(), Ok(Revision(2)));
    assert_eq!(known(&mirror), 1);

    let mut again = order(&mut state, Command::Register(said("a")));
    etcd.run(&mut state, S);
    assert_eq!(
        (again.try_recv().unwrap(), etcd.writes),
        (Ok(Revision(2)), 1),
        "unchanged: nothing is written"
    );
}

#[test]
fn a_lost_lease_is_made_good_in_few_writes_that_nobody_sees() {
    let (mut etcd, mut state, mirror) = begun();
    let mut answers = Vec::new();
    for n in 0..200 {
        answers.push(order(&mut state, Command::Register(said(&format!("i{n}")))));
    }
    etcd.run(&mut state, S);
    assert_eq!((etcd.count(), state.held(), known(&mirror)), (200, 200, 200));

    let mut watcher = mirror.subscribe(Interest::All);
    let mut next = at_once(&mut watcher);
    assert!(next.is_some(), "a reset first");
    let before = etcd.writes;
    etcd.end_lease(1);
    etcd.leases = 0;
    // The grant comes after the question, which finds no lease alive.
    etcd.run(&mut state, 2 * S);
    assert_eq!((etcd.count(), etcd.writes - before), (200, 4));
    next = at_once(&mut watcher);
    assert!(next.is_none(), "{next:?}");
}

/// One that is held, and a lease that is granted after the one it was on has ended.
fn missing() -> (Fake, State) {
    let (mut etcd, mut state, _mirror) = begun();
    let _answer = order(&mut state, Command::Register(said("a")));
    etcd.run(&mut state, S);
    etcd.end_lease(1);
    for (revision, events) in take(&mut etcd.events) {
        state.take(revision, events, S);
    }
    state.kept_alive(1, false, S);
    let grant = state.calls(S);
    assert!(matches!(grant[..], [.., Call::Grant]), "{grant:?}");
    state.granted(2, S);
    etcd.leases = 2;
    (etcd, state)
}

#[test]
fn who_registers_what_is_just_being_undone_waits_for_that() {
    let (mut etcd, mut state, _mirror) = begun();
    drop(order(&mut state, Command::Register(said("a"))));
    let mut first = order(&mut state, Command::Register(said("b")));
    etcd.run(&mut state, S);
    assert!(first.try_recv().unwrap().is_ok());
    // Nobody waited for it, and it came true.
    let late = restored(&said("a"), etcd.leases);
    etcd.apply(late);
    for (revision, events) in take(&mut etcd.events) {
        state.take(revision, events, S);
    }
    state.tick(S);
    let (number, undone) = the_write(&mut state);
    let mut answer = order(&mut state, Command::Register(said("a")));
    assert!(state.calls(S).is_empty() && answer.try_recv().is_err(), "it is there, and about to go");
    let written = etcd.apply(undone);
    state.written(number, Ok(written), S).unwrap();
    etcd.run(&mut state, S);
    assert!(answer.try_recv().unwrap().is_ok());
    assert_eq!((etcd.count(), state.held()), (2, 2));
}

#[test]
fn who_deregisters_what_is_held_and_missing_is_heard() {
    let (mut etcd, mut state) = missing();
    state.believe(&said("a").id);
    let mut answer = order(&mut state, Command::Deregister(said("a").id, Guard::Anyone));
    etcd.run(&mut state, S);
    assert!(answer.try_recv().unwrap().is_ok());
    etcd.run(&mut state, S + LATE);
    assert_eq!((etcd.count(), state.held()), (0, 0), "it is not brought back");
}

/// What a registration under `lease` writes where there is nothing.
fn restored(said: &Registration, lease: LeaseId) -> Transaction {
    let book = Book::new(Layout::json("/p"));
    let kept = Kept { registration: said.clone(), phase: portolan_model::Phase::Adult };
    let place = book.layout().place(said).unwrap();
    crate::leased::decide::restore(&book, [(&place, &kept)], lease)
}

#[test]
fn a_late_word_about_a_former_lease_leaves_the_new_one() {
    let (mut etcd, mut state, _mirror) = begun();
    let mut answers = [said("a"), said("b")].map(|said| order(&mut state, Command::Register(said)));
    let grant = state.calls(S);
    etcd.answer(&mut state, grant, S);
    let writes = state.calls(S);
    assert_eq!(writes.len(), 2);
    state.written(0, Err(Failed::UnknownLease), S).unwrap();
    state.granted(2, S);
    etcd.leases = 2;
    state.written(1, Err(Failed::UnknownLease), S).unwrap();
    assert_eq!(state.lease(), Some(2));
    etcd.run(&mut state, S);
    assert!(answers.iter_mut().all(|answer| answer.try_recv().unwrap().is_ok()));
    assert!(etcd.keys.values().all(|kv| kv.lease == 2));
}

#[test]
fn a_restoration_that_is_overtaken_waits_for_news_or_a_while() {
    let (mut etcd, mut state) = missing();
    let (number, _) = the_write(&mut state);
    state.written(number, Ok((false, 9)), S).unwrap();
    assert!(state.calls(S).is_empty(), "nothing is known that was not known before");
    let at = etcd.revision + 1;
    state.take(at, vec![], S);
    let (number, _) = the_write(&mut state);
    state.take(at + 1, vec![], S);
    state.written(number, Ok((false, 9)), S).unwrap();
    let (number, _) = the_write(&mut state);
    state.written(number, Ok((false, 9)), S).unwrap();
    assert!(state.calls(S).is_empty());
    etcd.run(&mut state, S + RESTORE_AGAIN);
    assert_eq!((etcd.count(), state.held()), (1, 1));
}

/// What is there without waiting.
fn at_once(watcher: &mut portolan_model::Subscription) -> Option<portolan_model::Change> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(watcher.next()).poll(&mut context) {
        std::task::Poll::Ready(change) => change,
        std::task::Poll::Pending => None,
    }
}

#[test]
fn what_nobody_was_told_of_is_undone() {
    let (mut etcd, mut state, mirror) = begun();
    let given_up = order(&mut state, Command::Register(said("a")));
    let calls = state.calls(S);
    etcd.answer(&mut state, calls, S);
    let (number, txn) = the_write(&mut state);
    let answer = etcd.apply(txn);
    drop(given_up);
    state.written(number, Ok(answer), S).unwrap();
    etcd.run(&mut state, S);
    etcd.run(&mut state, 2 * S);
    assert_eq!((etcd.count(), known(&mirror), state.held()), (0, 0, 0));
}

#[test]
fn a_write_under_way_at_shutdown_is_not_begun_again_and_not_forgotten() {
    #[track_caller]
    fn check(answer: impl Fn(&mut Fake, Transaction) -> Result<(bool, i64), Failed>, leaves_nothing: bool) {
        let (mut etcd, mut state, _mirror) = begun();
        let _first = order(&mut state, Command::Register(said("a")));
        etcd.run(&mut state, S);
        let mut answered = order(&mut state, Command::Register(said("b")));
        let (number, txn) = the_write(&mut state);
        state.leave();
        let answer = answer(&mut etcd, txn);
        let _broken = state.written(number, answer, S);
        etcd.run(&mut state, S);
        etcd.run(&mut state, 2 * S);
        assert_eq!((etcd.count(), state.is_idle()), (0, true));
        assert_eq!((state.held(), state.lease(), state.leaves_nothing()), (0, Some(1), leaves_nothing));
        assert!(!matches!(answered.try_recv(), Err(oneshot::error::TryRecvError::Empty)), "somebody waits");
    }
    check(|_, _| Err(Failed::Refused("no space".to_owned())), true);
    check(|etcd, txn| Ok(etcd.apply(txn)), false);
    check(|_, _| Err(Failed::Late), false);
    check(|_, _| Ok((false, 1)), false);
}

#[test]
fn a_late_duplicate_is_undone() {
    let (mut etcd, mut state, mirror) = begun();
    let mut answer = order(&mut state, Command::Register(said("a")));
    let calls = state.calls(S);
    etcd.answer(&mut state, calls, S);
    // The first server stalls with the write; it is sent again elsewhere, and removed again.
    let (number, stalled) = the_write(&mut state);
    state.written(number, Err(Failed::Late), S).unwrap();
    etcd.run(&mut state, S);
    assert!(answer.try_recv().unwrap().is_ok());
    let mut gone = order(&mut state, Command::Deregister(said("a").id, Guard::Anyone));
    etcd.run(&mut state, S);
    assert!(gone.try_recv().unwrap().is_ok());
    assert!(etcd.apply(stalled).0, "it compares with nothing there, and so it holds");
    etcd.run(&mut state, 2 * S);
    assert_eq!(known(&mirror), 1, "for a moment");
    etcd.run(&mut state, 3 * S);
    assert_eq!((etcd.count(), known(&mirror)), (0, 0));
}

#[test]
fn a_lost_answer_is_no_lost_write() {
    #[track_caller]
    fn check(came_true: bool) {
        let (mut etcd, mut state, mirror) = begun();
        let mut registered = order(&mut state, Command::Register(said("a")));
        etcd.run(&mut state, S);
        assert!(registered.try_recv().unwrap().is_ok());
        let mut removed = order(&mut state, Command::Deregister(said("a").id, Guard::Anyone));
        let (number, txn) = the_write(&mut state);
        if came_true {
            etcd.apply(txn);
            etcd.events.clear();
        }
        let broken = state.written(number, Err(Failed::Broken("reset".to_owned())), S);
        assert!(broken.is_err(), "the connection is of no use");
        state.disconnected();
        assert_eq!(known(&mirror), 1, "while nobody knows, it stays");
        state.reset(etcd.revision, etcd.keys.values().cloned().collect(), 2 * S);
        etcd.run(&mut state, 2 * S);
        state.kept_alive(1, true, 2 * S);
        etcd.run(&mut state, 2 * S);
        assert!(removed.try_recv().unwrap().is_ok(), "came true: {came_true}");
        assert_eq!((etcd.count(), known(&mirror), state.held()), (0, 0, 0));
    }
    check(true);
    check(false);
}

#[test]
fn a_lease_that_is_refused_is_told_and_asked_for_after_a_while() {
    let (mut etcd, mut state, _mirror) = begun();
    let mut answer = order(&mut state, Command::Register(said("a")));
    let grant = state.calls(S);
    assert!(matches!(grant[..], [Call::Grant]), "{grant:?}");
    state.lease_refused("no space", S);
    let told = answer.try_recv().unwrap().unwrap_err().to_string();
    assert_eq!(told, "registry unavailable: etcd refuses: no space");
    let mut answer = order(&mut state, Command::Register(said("a")));
    assert!(state.calls(S + GRANT_AGAIN / 2).is_empty(), "not at once");
    etcd.run(&mut state, S + GRANT_AGAIN);
    assert!(answer.try_recv().unwrap().is_ok());
}

#[test]
fn what_etcd_refuses_is_told() {
    let (mut etcd, mut state, _mirror) = begun();
    let mut answer = order(&mut state, Command::Register(said("a")));
    let grant = state.calls(S);
    etcd.answer(&mut state, grant, S);
    let (number, _) = the_write(&mut state);
    let fault = Failed::Refused("permission denied".to_owned());
    state.written(number, Err(fault), S).unwrap();
    let told = answer.try_recv().unwrap().unwrap_err().to_string();
    assert_eq!(told, "registry unavailable: etcd refuses: permission denied");
}
