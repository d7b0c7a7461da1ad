//! The owner of the connection: from one session to the next, until shutdown. What is known, what is held and what is
//! asked for outlives sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portolan_model::{Change, InstanceId, KeyValue, Phase, Registration, RegistryError, Revision};
use runtime::{Backoff, Reporter, Shutdown, State, StatusBoard};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use zookeeper_client::{Acl, Client, SessionInfo, SessionState};

use super::config::Config;
use super::connection::{Connection, Refusal};
use super::jobs::{Job, Jobs, Past};
use super::key_value::Follower;
use super::plan::{Known, Plan, Wish};
use super::session::{End, Session};
use super::table::Table;
use crate::mirror::Mirror;
use crate::turns::Turns;

/// Sessions of ours that are remembered: their nodes are ours to replace. Servers forget them sooner.
const FORMER_LIMIT: usize = 64;

/// A connection that was well for so long is no failure to come back from more slowly.
const LASTING: Duration = Duration::from_secs(1);

/// How soon servers are tried again when none was of use.
const AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(400)];

/// How long ago there may have been a connection for the next to be in haste.
const LATELY: Duration = Duration::from_secs(30);

/// Drives a registry in ZooKeeper: connects, watches, writes, and keeps registered what was registered through the handle
/// that was built with it.
pub struct Driver {
    work: Work,
    /// Where the connection is shown to whoever shares it.
    line: watch::Sender<Option<Client>>,
    keys: Follower,
}

/// What outlives a session.
pub(super) struct Work {
    pub(super) config: Config,
    pub(super) acl: Vec<Acl>,
    pub(super) mirror: Mirror,
    pub(super) commands: mpsc::Receiver<Job>,
    pub(super) table: Table,
    pub(super) jobs: Jobs,
    /// What was registered through our handle and is to be there.
    pub(super) held: BTreeMap<InstanceId, Held>,
    /// Sessions that were ours.
    pub(super) former: BTreeSet<i64>,
    /// How long connections were well, in all.
    pub(super) lived: Duration,
    reporter: Reporter,
}

/// One registration as it should be.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) registration: Registration,
    pub(super) phase: Phase,
}

impl Driver {
    pub(super) fn new(
        config: Config,
        mirror: Mirror,
        commands: mpsc::Receiver<Job>,
        board: &StatusBoard,
    ) -> Self {
        let (line, shared) = watch::channel(None);
        let keys = Follower::new(&config, shared);
        let work = Work {
            acl: config.access.entries(),
            table: Table::new(config.grace, config.reread_grace),
            config,
            mirror,
            commands,
            jobs: Jobs::default(),
            held: BTreeMap::new(),
            former: BTreeSet::new(),
            lived: Duration::ZERO,
            reporter: board.reporter("registry"),
        };
        Self { work, line, keys }
    }

    /// The keys that are kept in the same ZooKeeper, below `/portolan-keys`. They are read once somebody asks for them.
    pub fn key_value(&self) -> Arc<dyn KeyValue> {
        self.keys.handle()
    }

    /// Runs until shutdown. What is held is removed then; what cannot be, because ZooKeeper is away, goes with its session.
    pub async fn run(mut self, shutdown: Shutdown) {
        let keys = self.keys.clone();
        let last = tokio::select! {
            last = self.drive(&shutdown) => last,
            never = keys.run() => match never {},
        };
        // The follower of keys is gone by now, and with it the other half of the client: nothing keeps the session.
        if let Some(connection) = last {
            connection.close().await;
        }
        let work = &self.work;
        if !work.held.is_empty() {
            tracing::warn!("zookeeper: instances stay until their session ends");
        }
        work.mirror.end();
        work.reporter.say(State::Stopped, "");
    }

    /// Until shutdown. What is left is the connection, if there is one.
    async fn drive(&mut self, shutdown: &Shutdown) -> Option<Connection> {
        let work = &mut self.work;
        // In an order of our own, so that servers have about as many clients each, also when one of them is away; but one after
        // the other, and not by lot each time as the client would: one that hangs is not come upon again at once.
        let mut servers = work.config.servers.clone();
        fastrand::shuffle(&mut servers);
        let mut turns = Turns::new(servers.len(), LASTING, Backoff::new(AGAIN[0], AGAIN[1]));
        let mut resumed: Option<SessionInfo> = None;
        let mut well = Instant::now();
        while !shutdown.is_triggered() {
            let server = servers[turns.at()].as_str();
            let patience = work.config.connection_timeout(well.elapsed() < LATELY);
            let opened = tokio::select! {
                () = shutdown.triggered() => break,
                opened = Connection::open(&work.config, server, patience, resumed.as_ref()) => opened,
            };
            let mut lasted = Duration::ZERO;
            let why = match opened {
                Ok(connection) => {
                    let session = connection.client.session().clone();
                    tracing::info!(server, session = %session.id(), again = resumed.is_some(), "zookeeper: connected");
                    let begun = Instant::now();
                    self.line.send_replace(Some(connection.client.clone()));
                    let end = Session::new(work, connection.client.clone()).run(server, shutdown).await;
                    self.line.send_replace(None);
                    resumed = Some(session);
                    match end {
                        End::Shutdown => {
                            work.held.clear();
                            return Some(connection);
                        }
                        End::Lost(state) => {
                            (lasted, well) = (begun.elapsed(), Instant::now());
                            format!("{server}: {}", lost(state))
                        }
                    }
                }
                Err(refusal) => {
                    let expired = resumed.take_if(|_| matches!(refusal, Refusal::Expired));
                    if let Some(session) = expired {
                        work.remember(&session);
                        work.away(&refusal.to_string());
                        // What is held is missed by now: no time to lose.
                        continue;
                    }
                    format!("no connection: {server}: {refusal}")
                }
            };
            work.jobs.restart();
            work.away(&why);
            tokio::select! {
                () = shutdown.triggered() => break,
                () = tokio::time::sleep(turns.next(lasted, fastrand::u64(..))) => {}
            }
        }
        None
    }
}

impl Work {
    fn remember(&mut self, session: &SessionInfo) {
        if self.former.len() >= FORMER_LIMIT {
            self.former.pop_first();
        }
        self.former.insert(session.id().0);
    }

    /// Shows changes to watchers and to those who wait for them. Returns whom they are about.
    pub(super) fn show(&mut self, changes: Vec<Change>) -> BTreeSet<InstanceId> {
        let mut ids = BTreeSet::new();
        for change in changes {
            let id = match &change {
                Change::Upsert { instance, .. } => instance.id().clone(),
                Change::Remove { id, .. } => id.clone(),
                Change::Reset { .. } => continue,
            };
            self.jobs.told(&id, change.revision());
            self.mirror.apply(change);
            ids.insert(id);
        }
        ids
    }

    /// What others did to instances that we hold stands: they drained or removed it, or took it over.
    pub(super) fn respect_others(&mut self, ids: BTreeSet<InstanceId>) {
        for id in ids {
            let Some(held) = self.held.get_mut(&id).filter(|_| self.jobs.front(&id).is_none()) else {
                continue;
            };
            match self.table.winner(&id).and_then(|(_, node)| Some((node.session, node.said.clone()?))) {
                Some((session, said)) if session == self.table.session => {
                    *held = Held { registration: said.registration, phase: said.phase };
                }
                Some(_) => {
                    tracing::warn!(%id, "zookeeper: an instance was taken over by somebody else");
                    self.held.remove(&id);
                    self.jobs.push(Job::new(Wish::Discard(id), None));
                }
                None if self.table.shown(&id).is_none() => {
                    tracing::info!(%id, "zookeeper: an instance was deregistered by somebody else");
                    self.held.remove(&id);
                }
                None => {}
            }
        }
    }

    /// What was written for an instance was found different at the next look: somebody else wrote since, and that stands.
    /// Where there is no node then, somebody removed it, because our session lives.
    pub(super) fn undone(&mut self, id: &InstanceId) {
        if self.held.contains_key(id)
            && self.jobs.front(id).is_none()
            && self.table.winner(id).is_none()
            && let Some(change) = self.table.believe(id)
        {
            self.show(vec![change]);
        }
        self.respect_others([id.clone()].into());
    }

    /// What the wish of an instance's job leads to.
    pub(super) fn plan(&self, wish: &Wish, past: Past) -> Plan {
        let now_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
        let known = Known {
            table: &self.table,
            layout: &self.config.layout,
            former: &self.former,
            now_ms: u64::try_from(now_ms).unwrap_or_default(),
        };
        known.plan(wish, past)
    }

    /// Answers an instance's job. What is registered is held as soon as somebody knows.
    pub(super) fn finish(&mut self, id: &InstanceId, answer: Result<Revision, RegistryError>) {
        let Some(Job { wish, reply, .. }) = self.jobs.finish(id) else { return };
        let done = answer.is_ok();
        let heard = reply.is_none_or(|reply| reply.send(answer).is_ok());
        match wish {
            Wish::Register(registration) if done && heard => {
                self.held.insert(id.clone(), Held { registration, phase: Phase::Adult });
            }
            Wish::Register(_) if !heard => self.discard(id),
            Wish::Drain(..) if done => {
                if let Some(held) = self.held.get_mut(id) {
                    held.phase = Phase::Draining;
                }
            }
            Wish::Deregister(..) if done => {
                self.held.remove(id);
            }
            Wish::Register(_)
            | Wish::Renew(..)
            | Wish::Drain(..)
            | Wish::Deregister(..)
            | Wish::Discard(_) => {}
        }
    }

    /// Forgets a job that nobody waits for any more.
    pub(super) fn abandon(&mut self, id: &InstanceId) {
        if let Some(Job { wish: Wish::Register(_), .. }) = self.jobs.finish(id) {
            self.discard(id);
        }
    }

    /// An answer for people: ZooKeeper is there.
    pub(super) fn present(&self) {
        let (doubted, count) = (self.table.doubted(), self.table.count());
        let shown = &self.config.shown;
        let changed = if doubted == 0 {
            self.reporter.say(State::Running, format!("{shown}: {count} instances"))
        } else {
            let kept = format!(
                "{shown}: {doubted} of {count} instances are missing there and kept for a grace time"
            );
            self.reporter.say(State::Degraded, kept)
        };
        if changed {
            tracing::info!(instances = count, kept = doubted, "zookeeper: connected");
        }
    }

    /// An answer for people: ZooKeeper is not there.
    pub(super) fn away(&self, why: &str) {
        let said = format!("{}: {why}; answering from what is known", self.config.shown);
        let said = self.mirror.meanwhile(&said);
        if self.reporter.say(State::Degraded, said) {
            tracing::warn!(why, "zookeeper: away");
        }
    }

    /// Nobody heard of its registration, so nobody would end it.
    fn discard(&mut self, id: &InstanceId) {
        if !self.held.contains_key(id) {
            self.jobs.push(Job::new(Wish::Discard(id.clone()), None));
        }
    }
}

fn lost(state: SessionState) -> String {
    match state {
        SessionState::Disconnected | SessionState::SyncConnected | SessionState::ConnectedReadOnly => {
            "the connection is lost".to_owned()
        }
        SessionState::AuthFailed => "the credentials are refused".to_owned(),
        SessionState::Expired | SessionState::Closed => "the session has ended".to_owned(),
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Driver({:?})", self.work.config)
    }
}
