//! One connection to ZooKeeper: the loop that watches, reads and writes. It ends with the connection, or on shutdown; a
//! session may have several, one after the other.
//!
//! Everything known comes from reading: events only say where to look, and a write is answered when a look has shown it.
//! One look is under way at a time, so that none is overtaken by another.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use portolan_model::{Change, InstanceId, RegistryError};
use runtime::{Backoff, Shutdown};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zookeeper_client::{
    AddWatchMode, Client, Error, EventType, PersistentWatcher, SessionState, WatchedEvent,
};

use super::driver::Work;
use super::jobs::{Job, Past, Stage};
use super::plan::{Deed, Plan, Wish};
use super::silence::silence;
use super::table::{Found, Sighting};
use super::wire::{self, Reading};

/// Writes on their way and waiting; more wait in the queue before.
const JOBS_LIMIT: usize = 1024;

/// Transactions under way.
const WRITING_LIMIT: usize = 256;

/// How long removing what is held may take at shutdown.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often a write is planned anew because somebody else wrote at the same time.
const CONFLICTS_LIMIT: u32 = 20;

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The connection is lost, or the session has ended as well.
    Lost(SessionState),
    /// We are told to stop.
    Shutdown,
}

/// See the module's head.
pub(super) struct Session<'a> {
    work: &'a mut Work,
    client: Client,
    watcher: Option<PersistentWatcher>,
    /// Since when there is the connection.
    since: Instant,
    /// Paths to look at, with whether the last event told of a removal on purpose.
    dirty: BTreeMap<String, bool>,
    reading: Option<(Looks, Awaited)>,
    /// When to read everything, because the last reading failed or there was none.
    reread: Option<Instant>,
    /// Whether everything was read since something was last in doubt: plans are made from no less.
    fresh: bool,
    backoff: Backoff,
    writing: FuturesUnordered<Written>,
    /// How much has come to an end: the watch, looks, writes.
    answers: watch::Sender<u64>,
    /// The path that the previous event said was changed.
    previous: Option<String>,
}

/// What the look under way is about.
type Awaited = BTreeMap<String, bool>;
type Looks = Pin<Box<dyn Future<Output = Result<Look, Error>> + Send>>;
type Written = Pin<Box<dyn Future<Output = (InstanceId, Attempt, Result<(), Error>)> + Send>>;

/// What was done for a job.
enum Attempt {
    /// The server was brought up to date, for a look at these paths.
    Asked(BTreeSet<String>),
    Wrote(Deed),
}

enum Look {
    All(Reading),
    Some(Vec<Sighting>),
}

impl<'a> Session<'a> {
    pub(super) fn new(work: &'a mut Work, client: Client) -> Self {
        work.table.session = client.session_id().0;
        let now = Instant::now();
        Self {
            work,
            client,
            watcher: None,
            since: now,
            dirty: BTreeMap::new(),
            reading: None,
            reread: Some(now),
            fresh: false,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
            writing: FuturesUnordered::new(),
            answers: watch::Sender::default(),
            previous: None,
        }
    }

    /// Runs until the connection to `server` ends.
    pub(super) async fn run(mut self, server: &str, shutdown: &Shutdown) -> End {
        let (client, config) = (self.client.clone(), self.work.config.clone());
        let answers = self.answers.subscribe();
        let end = tokio::select! {
            end = self.serve(shutdown) => end,
            () = silence(&client, server, answers, &config) => {
                tracing::info!(session = %client.session_id(), "zookeeper: the server answers nothing that it is asked");
                End::Lost(SessionState::Disconnected)
            }
        };
        // A transaction under way may have been carried out or not; the next reading will tell.
        self.work.lived = self.lived();
        end
    }

    async fn serve(&mut self, shutdown: &Shutdown) -> End {
        tokio::select! {
            () = shutdown.triggered() => return End::Shutdown,
            watching = self.watch() => if let Err(state) = watching { return End::Lost(state) },
        }
        self.answered();
        loop {
            self.look();
            let expiry = self.work.table.next_expiry();
            let wake = expiry.map(|at| Instant::now() + at.saturating_sub(self.lived()));
            let wake = [wake, self.reread.filter(|_| self.reading.is_none())].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = shutdown.triggered() => {
                    self.farewell().await;
                    return End::Shutdown;
                }
                event = changed(&mut self.watcher) => if let Some(end) = self.event(event) { return end },
                look = looked(&mut self.reading) => {
                    self.answered();
                    self.seen(look);
                }
                Some((id, attempt, outcome)) = self.writing.next() => {
                    self.answered();
                    self.tried(&id, attempt, outcome);
                }
                Some(job) = self.work.commands.recv(), if self.work.jobs.count() < JOBS_LIMIT => {
                    let id = job.wish.id().clone();
                    self.work.jobs.push(job);
                    self.advance(&id);
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.expire(),
            }
        }
    }

    /// Makes the base and watches all below it.
    async fn watch(&mut self) -> Result<(), SessionState> {
        let root = self.work.config.layout.root().to_owned();
        loop {
            // Who may only read does not mind.
            if let Err(error) = wire::mkdir(&self.client, &root, &self.work.acl).await
                && !wire::is_loss(&error)
            {
                tracing::warn!(path = root, %error, "zookeeper: base path not created");
            }
            match self.client.watch(&root, AddWatchMode::PersistentRecursive).await {
                Ok(watcher) => {
                    self.watcher = Some(watcher);
                    return Ok(());
                }
                Err(_) if self.client.state() != SessionState::SyncConnected => {
                    return Err(self.client.state());
                }
                Err(error) => {
                    self.answered();
                    self.failed("watching", &error);
                    sleep(self.backoff.next(fastrand::u64(..))).await;
                }
            }
        }
    }

    fn answered(&self) {
        self.answers.send_modify(|answers| *answers += 1);
    }

    /// What is refused stays so until somebody changes ZooKeeper or our settings, and is told to people; the rest passes.
    fn failed(&self, what: &str, error: &Error) {
        tracing::debug!(%error, "zookeeper: {what} failed");
        if !wire::is_loss(error) {
            self.work.away(&format!("{what} failed: {error}"));
        }
    }

    fn event(&mut self, event: WatchedEvent) -> Option<End> {
        let previous = self.previous.take();
        match event.event_type {
            EventType::Session if event.session_state == SessionState::SyncConnected => {}
            EventType::Session => return Some(End::Lost(event.session_state)),
            kind if self.work.config.layout.is_instance(&event.path) => {
                let farewell =
                    kind == EventType::NodeDeleted && previous.as_deref() == Some(event.path.as_str());
                if kind == EventType::NodeDataChanged {
                    self.previous = Some(event.path.clone());
                }
                self.dirty.insert(event.path, farewell);
            }
            _ => {}
        }
        None
    }

    /// Starts the next look, if none is under way.
    fn look(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let (client, layout) = (self.client.clone(), self.work.config.layout.clone());
        if let Some(due) = self.reread {
            if due > Instant::now() {
                return;
            }
            self.reread = None;
            let looks = Box::pin(async move { wire::read_all(client, layout).await.map(Look::All) });
            self.reading = Some((looks, std::mem::take(&mut self.dirty)));
        } else if !self.dirty.is_empty() {
            let awaited = std::mem::take(&mut self.dirty);
            let paths = awaited.clone().into_iter().collect();
            let looks =
                Box::pin(async move { wire::read_paths(client, layout, paths).await.map(Look::Some) });
            self.reading = Some((looks, awaited));
        }
    }

    fn seen(&mut self, look: Result<Look, Error>) {
        self.reading = None;
        let now = self.lived();
        match look {
            Ok(Look::All(reading)) => {
                self.backoff.reset();
                self.fresh = true;
                if reading.cut {
                    tracing::error!(limit = wire::NODES_LIMIT, "zookeeper: more nodes than are read");
                }
                let change = self.work.table.reset(reading.nodes, reading.newest, now);
                self.work.mirror.apply(change);
                self.renew();
            }
            Ok(Look::Some(mut sightings)) => {
                for Sighting { path, found } in &mut sightings {
                    match found {
                        // It was seen after its change, so a removal that comes later is not part of it.
                        Found::Here(_) => drop(self.previous.take_if(|previous| previous == path)),
                        // The look was quicker than the second event; that is here by now, as events come first.
                        Found::Gone { farewell, .. } => *farewell |= self.dirty.get(path) == Some(&true),
                    }
                }
                let jobs = &self.work.jobs;
                let changes = self.work.table.fold(sightings, |id| jobs.intent(id), now);
                let ids = self.work.show(changes);
                self.work.respect_others(ids);
            }
            Err(error) => {
                self.failed("reading", &error);
                return self.doubt();
            }
        }
        self.advance_all();
        self.work.present();
    }

    /// After a complete reading: what is held is to be there, in this session; what nobody holds is not.
    fn renew(&mut self) {
        for (id, held) in self.work.held.clone() {
            if self.work.jobs.front(&id).is_none() {
                self.work.jobs.push(Job::new(Wish::Renew(held.registration, held.phase), None));
            }
        }
        for id in self.work.table.of_our_session() {
            if !self.work.held.contains_key(&id) && self.work.jobs.front(&id).is_none() {
                self.work.jobs.push(Job::new(Wish::Discard(id), None));
            }
        }
    }

    fn expire(&mut self) {
        let now = self.lived();
        let changes = self.work.table.expire(now);
        self.work.show(changes);
        if self.fresh {
            self.work.present();
        }
    }

    fn advance_all(&mut self) {
        for id in self.work.jobs.ids() {
            self.advance(&id);
        }
    }

    /// Moves the jobs of an instance as far as they go.
    fn advance(&mut self, id: &InstanceId) {
        while let Some(job) = self.work.jobs.front(id) {
            let (stage, told, past) = (job.stage.clone(), job.told, job.past);
            let (abandoned, conflicts, wish) = (job.is_abandoned(), job.conflicts, job.wish.clone());
            let awaited = self.reading.as_ref().map(|(_, awaited)| awaited);
            let over = stage.is_over(|path| {
                self.dirty.contains_key(path) || awaited.is_some_and(|a| a.contains_key(path))
            });
            match stage {
                Stage::Writing => return,
                Stage::Settling(_) => {
                    let tried = Past { tried: true, ..past };
                    let done = matches!(self.work.plan(&wish, tried), Plan::Done(_));
                    if !over && !done {
                        return;
                    }
                    let shown = self.work.table.shown(id).map(|instance| instance.modified);
                    let revision = shown.or(told).unwrap_or(self.work.table.last());
                    self.work.finish(id, Ok(revision));
                    if !done {
                        self.work.undone(id);
                    }
                }
                Stage::Looking(_) if !over => return,
                Stage::Looking(_) if conflicts > CONFLICTS_LIMIT => {
                    let busy = format!("instance {id:?} is written by others all the time");
                    self.work.finish(id, Err(RegistryError::Unavailable(busy.into())));
                }
                Stage::Ready | Stage::Looking(_) if abandoned => self.work.abandon(id),
                // Somebody has registered it since.
                Stage::Ready | Stage::Looking(_)
                    if matches!(wish, Wish::Discard(_)) && self.work.held.contains_key(id) =>
                {
                    self.work.finish(id, Ok(self.work.table.last()));
                }
                Stage::Ready | Stage::Looking(_) => {
                    if !self.fresh || self.writing.len() >= WRITING_LIMIT {
                        return;
                    }
                    let plan = self.work.plan(&wish, past);
                    self.execute(id, plan);
                }
            }
        }
    }

    fn execute(&mut self, id: &InstanceId, plan: Plan) {
        let last = self.work.table.last();
        match plan {
            Plan::Done(revision) => self.work.finish(id, Ok(revision)),
            Plan::Refuse(error) => self.work.finish(id, Err(error)),
            Plan::Believe => {
                let change = self.work.table.believe(id);
                let revision = change.as_ref().map_or(last, Change::revision);
                self.work.show(change.into_iter().collect());
                self.work.finish(id, Ok(revision));
            }
            Plan::LetGo => {
                tracing::warn!(%id, "zookeeper: an instance was taken over by somebody else");
                self.work.held.remove(id);
                self.work.finish(id, Ok(last));
            }
            Plan::Ask(paths) => {
                let (client, root) = (self.client.clone(), self.work.config.layout.root().to_owned());
                self.attempt(id, Attempt::Asked(paths), async move { client.sync(&root).await });
            }
            Plan::Write(deed) => {
                let write = wire::write(self.client.clone(), deed.clone(), self.work.acl.clone());
                self.attempt(id, Attempt::Wrote(deed), write);
            }
        }
    }

    fn attempt(
        &mut self,
        id: &InstanceId,
        attempt: Attempt,
        outcome: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        if let Some(job) = self.work.jobs.front(id) {
            job.stage = Stage::Writing;
        }
        let id = id.clone();
        self.writing.push(Box::pin(async move { (id, attempt, outcome.await) }));
    }

    fn tried(&mut self, id: &InstanceId, attempt: Attempt, outcome: Result<(), Error>) {
        let Some(job) = self.work.jobs.front(id) else { return };
        let (paths, farewell, wrote): (BTreeSet<_>, _, _) = match attempt {
            Attempt::Asked(paths) => (paths, false, false),
            Attempt::Wrote(deed) => (deed.paths().map(str::to_owned).collect(), deed.farewell, true),
        };
        match outcome {
            Ok(()) if wrote => job.stage = Stage::Settling(paths.clone()),
            Ok(()) => {
                job.past.asked = true;
                job.stage = Stage::Looking(paths.clone());
            }
            Err(error) if wire::is_conflict(&error) => {
                job.conflicts += 1;
                job.past.asked = true;
                job.stage = Stage::Looking(paths.clone());
            }
            Err(error) if wire::is_loss(&error) => {
                tracing::debug!(%id, %error, "zookeeper: write is tried again");
                job.past.tried |= wrote;
                job.stage = Stage::Ready;
                return self.doubt();
            }
            Err(error) => {
                tracing::warn!(%id, %error, "zookeeper: write refused");
                self.work.finish(id, Err(RegistryError::Unavailable(format!("zookeeper: {error}").into())));
                return self.advance_all();
            }
        }
        for path in paths {
            // What events have told stays told.
            self.dirty.entry(path).or_insert(farewell);
        }
        self.advance(id);
    }

    /// Reads everything again before anything else is written.
    fn doubt(&mut self) {
        self.fresh = false;
        if self.reread.is_none() {
            self.reread = Some(Instant::now() + self.backoff.next(fastrand::u64(..)));
        }
    }

    /// Removes what is held, so that nobody waits for our session to end.
    async fn farewell(&mut self) {
        if self.work.held.is_empty() {
            return;
        }
        let work = &*self.work;
        let deeds =
            work.held.keys().filter_map(|id| match work.plan(&Wish::Discard(id.clone()), Past::default()) {
                Plan::Write(deed) => Some(deed),
                _ => None,
            });
        let writes: Vec<_> =
            deeds.map(|deed| wire::write(self.client.clone(), deed, work.acl.clone())).collect();
        let all = stream::iter(writes).buffer_unordered(WRITING_LIMIT).for_each(|outcome| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "zookeeper: an instance goes with its session only");
            }
            std::future::ready(())
        });
        if timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("zookeeper: instances stay until their session ends");
        }
    }

    /// How long there were connections. Instances are not given up while ZooKeeper is away.
    fn lived(&self) -> Duration {
        self.work.lived + self.since.elapsed()
    }
}

/// The next event. The client panics here if its own task has ended without a last event; that is an end like others.
async fn changed(watcher: &mut Option<PersistentWatcher>) -> WatchedEvent {
    let Some(watcher) = watcher else { return std::future::pending().await };
    let event = AssertUnwindSafe(watcher.changed()).catch_unwind().await;
    event.unwrap_or_else(|_| WatchedEvent::new_session(SessionState::Closed))
}

async fn looked(reading: &mut Option<(Looks, Awaited)>) -> Result<Look, Error> {
    match reading {
        Some((looks, _)) => looks.await,
        None => std::future::pending().await,
    }
}
