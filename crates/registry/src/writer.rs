//! The one writer.
//!
//! A turn: take what waits → decide and evolve on a private catalog and private keys → one commit → publish → answer. If
//! the commit fails, the turn never happened: what is private is as published again, and every caller hears of it. Whether
//! the disk has the batch nonetheless is then unknown, so the writer does what a restart would: it opens the store
//! anew and goes on from what it finds there.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use catalog::{Catalog, Command, Event, Millis, decide, evolve};
use portolan_model::{
    Batch as KeyBatch, KeyBook, KeyChange, KeyListing, KeyValueError, Prefix, RegistryError, Revision,
};
use runtime::{Backoff, Reporter, Shutdown, State};
use store::{Batch, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::embedded::{Request, Shared};
use crate::ledger::{self, Opened};

/// How many commands share one commit at most; it bounds a turn's time and memory.
const TURN_LIMIT: usize = 256;

/// The longest the writer sleeps while anybody is young: the wall clock may jump, and only a look at it tells.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// The writer, ready to run.
pub struct RegistryTask {
    config: Config,
    shared: Published,
    requests: mpsc::Receiver<Request>,
    /// What is true once the running turn is durable.
    catalog: Catalog,
    keys: KeyBook,
    disk: Disk,
    reporter: Reporter,
}

/// The way to the disk.
enum Disk {
    Sound(Arc<Store>),
    Broken { reason: Arc<str>, retry: Instant, backoff: Backoff },
}

/// Ends the subscriptions when the writer is gone, however it went: nobody waits for a change that cannot come.
struct Published(Arc<Shared>);

impl Drop for Published {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Who waits for an outcome, and what it is once the turn is durable.
enum Answer {
    Instances(oneshot::Sender<Result<Revision, RegistryError>>, Result<Revision, RegistryError>),
    Keys(oneshot::Sender<Result<Revision, KeyValueError>>, Result<Revision, KeyValueError>),
}

impl RegistryTask {
    pub(crate) fn new(
        config: Config,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Request>,
        store: Store,
        reporter: Reporter,
    ) -> Self {
        let catalog = shared.read(Catalog::clone);
        let keys = copy(shared.keys.list(&Prefix::all()));
        let disk = Disk::Sound(Arc::new(store));
        Self { config, shared: Published(shared), requests, catalog, keys, disk, reporter }
    }

    /// Writes until shutdown, or until nobody is left who could ask; what waits by then is still done. Subscriptions
    /// end with it.
    pub async fn run(mut self, shutdown: Shutdown) {
        self.reporter.say(State::Running, "");
        let mut waiting = Vec::with_capacity(TURN_LIMIT);
        loop {
            let nap = self.nap();
            tokio::select! {
                biased;
                () = shutdown.triggered() => break,
                taken = self.requests.recv_many(&mut waiting, TURN_LIMIT) => if taken == 0 { break },
                () = sleep(nap.unwrap_or_default()), if nap.is_some() => {}
            }
            self.turn(&mut waiting).await;
        }
        self.requests.close();
        loop {
            // Takes what has entered, and does not wait for those on the threshold: they are told it is over.
            waiting.extend(std::iter::from_fn(|| self.requests.try_recv().ok()).take(TURN_LIMIT));
            if waiting.is_empty() {
                break;
            }
            self.turn(&mut waiting).await;
        }
        self.close().await;
    }

    /// How long until there is something to do unasked, if there ever is.
    fn nap(&self) -> Option<Duration> {
        let nap = match &self.disk {
            Disk::Broken { retry, .. } => Some(retry.saturating_duration_since(Instant::now())),
            Disk::Sound(_) => self.catalog.next_maturity().map(|due| due.since(now()).unwrap_or_default()),
        };
        nap.map(|nap| nap.clamp(Duration::from_millis(1), LONGEST_NAP))
    }

    async fn turn(&mut self, waiting: &mut Vec<Request>) {
        self.mend().await;
        let store = match &self.disk {
            Disk::Sound(store) => Arc::clone(store),
            Disk::Broken { reason, .. } => {
                return waiting.drain(..).for_each(|request| request.refuse(reason));
            }
        };
        let now = now();
        let mut turn = Turn::default();
        // Whether anybody is old enough by now is no one's question, so it has no one to be answered.
        let _ = turn.take(&mut self.catalog, &Command::Mature, now);
        for request in waiting.drain(..) {
            let answer = match request {
                Request::Instances(command, answer) => {
                    Answer::Instances(answer, turn.take(&mut self.catalog, &command, now))
                }
                Request::Keys(batch, answer) => Answer::Keys(answer, turn.take_keys(&self.keys, &batch)),
            };
            turn.answers.push(answer);
        }
        let Turn { events, changes, batch, answers } = turn;
        if !batch.is_empty() {
            if let Err(reason) = commit(store, batch, self.catalog.revision()).await {
                self.broken(&reason).await;
                return answers.into_iter().for_each(|answer| answer.withdraw(&reason));
            }
            self.shared.0.publish(&events, changes);
        }
        answers.into_iter().for_each(Answer::send);
    }

    /// Nothing of this turn is known to be durable: forget it.
    async fn broken(&mut self, reason: &Arc<str>) {
        self.catalog = self.shared.0.read(Catalog::clone);
        self.keys = copy(self.shared.0.keys.list(&Prefix::all()));
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let retry = Instant::now() + backoff.next(self.catalog.revision().0);
        let broken = Disk::Broken { reason: Arc::clone(reason), retry, backoff };
        let store = std::mem::replace(&mut self.disk, broken);
        self.say_broken(reason);
        // Gone before it is opened again; a panic in there has nothing left to break.
        let _ = spawn_blocking(move || drop(store)).await;
    }

    /// Opens a broken store again, once it is time to.
    async fn mend(&mut self) {
        let Disk::Broken { retry, reason, backoff } = &mut self.disk else { return };
        if Instant::now() < *retry {
            return;
        }
        let config = self.config.clone();
        let opened = spawn_blocking(move || ledger::open(&config)).await;
        let known = self.shared.0.read(Catalog::revision);
        let known_keys = self.shared.0.keys.revision();
        let Opened { store, catalog, keys } = match opened {
            Ok(Ok(opened)) if opened.catalog.revision() >= known && opened.keys.revision >= known_keys => {
                opened
            }
            failed => {
                *reason = match failed {
                    Ok(Ok(Opened { catalog, .. })) if catalog.revision() < known => {
                        lost(known, catalog.revision())
                    }
                    Ok(Ok(Opened { keys, .. })) => lost(known_keys, keys.revision),
                    Ok(Err(error)) => error.to_string().into(),
                    Err(error) => error.to_string().into(),
                };
                *retry = Instant::now() + backoff.next(known.0);
                let reason = Arc::clone(reason);
                return self.say_broken(&reason);
            }
        };
        self.disk = Disk::Sound(Arc::new(store));
        self.catalog = catalog.clone();
        self.keys = copy(keys.clone());
        self.shared.0.replace(catalog, keys);
        self.reporter.say(State::Running, "");
        tracing::info!(revision = self.catalog.revision().0, "registry writes again");
    }

    fn say_broken(&self, reason: &str) {
        if self.reporter.say(State::Degraded, format!("reads only: {reason}")) {
            tracing::error!(reason, "registry cannot write");
        }
    }

    /// Closing the store still writes, so it is kept off the runtime's threads.
    async fn close(self) {
        let Self { disk, reporter, shared, .. } = self;
        drop(shared);
        if spawn_blocking(move || drop(disk)).await.is_err() {
            tracing::warn!("registry store was not closed cleanly; the next start repairs it");
        }
        reporter.say(State::Stopped, "");
    }
}

/// What one turn has decided so far.
#[derive(Default)]
struct Turn {
    events: Vec<Event>,
    changes: Vec<KeyChange>,
    batch: Batch,
    answers: Vec<Answer>,
}

impl Turn {
    fn take(
        &mut self,
        catalog: &mut Catalog,
        command: &Command,
        now: Millis,
    ) -> Result<Revision, RegistryError> {
        for event in decide(catalog, command, now)? {
            evolve(catalog, &event);
            ledger::record(&mut self.batch, &event, catalog);
            self.events.push(event);
        }
        Ok(catalog.revision())
    }

    fn take_keys(&mut self, keys: &KeyBook, batch: &KeyBatch) -> Result<Revision, KeyValueError> {
        let steps = batch.plan(|key| keys.get(key))?;
        keys.check_room(&steps)?;
        let revision = keys.revision().next();
        let changes: Vec<_> = steps.into_iter().filter_map(|step| step.into_change(revision)).collect();
        changes.iter().for_each(|change| ledger::record_key(&mut self.batch, change));
        self.changes.extend(changes.iter().cloned());
        keys.apply(changes);
        Ok(keys.revision())
    }
}

impl Request {
    /// The disk is known to be broken; nothing is tried.
    fn refuse(self, reason: &Arc<str>) {
        let reason = Arc::clone(reason);
        match self {
            Self::Instances(_, answer) => drop(answer.send(Err(RegistryError::Unavailable(reason)))),
            Self::Keys(_, answer) => drop(answer.send(Err(KeyValueError::Unavailable(reason)))),
        }
    }
}

impl Answer {
    /// Whoever asked may have gone; what they asked for is done.
    fn send(self) {
        match self {
            Self::Instances(answer, outcome) => drop(answer.send(outcome)),
            Self::Keys(answer, outcome) => drop(answer.send(outcome)),
        }
    }

    /// The turn is not durable. Refusals decided in it hold no more either: they judged a state that never came to be.
    fn withdraw(self, reason: &Arc<str>) {
        let reason = Arc::clone(reason);
        match self {
            Self::Instances(answer, _) => drop(answer.send(Err(RegistryError::Unavailable(reason)))),
            Self::Keys(answer, Ok(_)) => drop(answer.send(Err(KeyValueError::Uncertain(reason)))),
            Self::Keys(answer, Err(_)) => drop(answer.send(Err(KeyValueError::Unavailable(reason)))),
        }
    }
}

/// The same keys in a book of their own.
fn copy(keys: KeyListing) -> KeyBook {
    let book = KeyBook::default();
    book.apply([KeyChange::Reset(keys)]);
    book
}

async fn commit(store: Arc<Store>, batch: Batch, revision: Revision) -> Result<(), Arc<str>> {
    match spawn_blocking(move || store.commit(&batch, revision.0)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string().into()),
        Err(error) => Err(error.to_string().into()),
    }
}

fn lost(known: Revision, found: Revision) -> Arc<str> {
    format!("the store went back from revision {known} to {found}").into()
}

fn now() -> Millis {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}
