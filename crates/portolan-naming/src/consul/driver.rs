//! The one owner of everything towards the cluster: one loop, one closed set of events.
//!
//! Two things are kept apart. *Reading* goes through any server, and moves to the next as soon as one hangs, lies or has
//! no leader. The *home* is the agent that registrations go to; it is left only when it does not answer (see
//! [`Contact`]), or when no leader answers it while one answers another, since leaving it means to register everything
//! anew. While no leader answers it, it is told nothing but signs of life. Reading goes along with it, and to where a
//! leader is known to answer.

mod acting;
mod home;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use portolan_model::{Change, KeyValue, ServiceName};
use runtime::{Backoff, Reporter, Shutdown, State};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::config::{Config, Flavour};
use super::contact::Contact;
use super::desk::{At, Desk};
use super::errands::{Told, acted, holdings};
use super::job::Job;
use super::key_value::Follower;
use super::line::{Lines, Server};
use super::row::Row;
use super::watch::{Seen, Session};
use crate::mirror::Mirror;

/// How many acts run at a time. With the queries they stay below half of the 200 connections that an agent takes from
/// one address: a gateway and a registrator may share a host.
const ACTS: usize = 16;
/// How many ids may have a write waiting; more wait in the queue.
const WAITING: usize = 4096;
/// How long nothing that vanishes is believed gone after the cluster has lost its memory.
const DOUBT: Duration = Duration::from_secs(15);
/// How long a clean shutdown takes at most to deregister.
const FAREWELL: Duration = Duration::from_secs(3);
/// How many are said at a time, and how long an answer is waited for: an agent that cannot reach its leader answers
/// nobody for some seconds, and does all that it was asked afterwards.
const FAREWELLS: usize = 64;
const FAREWELL_CALL: Duration = Duration::from_millis(500);

/// Keeps a handle's promises until shutdown. Without it the handle knows nothing and writes nothing.
pub struct Driver {
    config: Arc<Config>,
    mirror: Mirror,
    commands: mpsc::Receiver<Job>,
    reporter: Reporter,
    keys: Follower,
}

/// What can happen.
enum Event {
    Command(Job),
    Seen(Seen),
    Task(Told),
    /// A server that is looked at as an agent to register with is none.
    Unmet,
    Time,
}

impl Driver {
    pub(super) fn new(
        config: Config,
        mirror: Mirror,
        commands: mpsc::Receiver<Job>,
        reporter: Reporter,
    ) -> Self {
        let keys = match config.flavour {
            Flavour::Consul => Follower::new(&config.reach, config.datacenter.as_deref()),
            Flavour::Portolan => Follower::of_portolan(&config.reach),
        };
        Self { config: Arc::new(config), mirror, commands, reporter, keys }
    }

    /// The keys that are kept in the same Consul, below `portolan-keys`; over our own HTTP API, those of the registry behind
    /// it. They are read once somebody asks for them.
    pub fn key_value(&self) -> Arc<dyn KeyValue> {
        self.keys.handle()
    }

    /// Drives until shutdown. What this handle registered at a Consul agent is deregistered then; what it registered
    /// with a Portolan stays, as its registrations do not depend on who made them.
    pub async fn run(self, shutdown: Shutdown) {
        let keys = self.keys.clone();
        tokio::select! {
            () = self.drive(shutdown) => {}
            never = keys.run() => match never {},
        }
    }

    async fn drive(self, shutdown: Shutdown) {
        let Self { config, mirror, mut commands, reporter, keys: _ } = self;
        let (events, mut seen) = mpsc::channel(256);
        let mut loop_ = Loop::new(config, mirror, reporter, events);
        let mut unmet = loop_.unmet.subscribe();
        loop_.seek(0);
        loop {
            loop_.dispatch();
            let due = loop_.due();
            let event = tokio::select! {
                biased;
                () = shutdown.triggered() => break,
                Some(told) = loop_.tasks.join_next() => match told {
                    Ok(told) => Event::Task(told),
                    Err(_) => continue,
                },
                Some((number, seen)) = seen.recv() => match &loop_.session {
                    Some(session) if session.number() == number => Event::Seen(seen),
                    // From a session that has been given up.
                    Some(_) | None => continue,
                },
                Some(job) = commands.recv(), if loop_.desk.waiting() < WAITING => Event::Command(job),
                Ok(()) = unmet.changed() => Event::Unmet,
                () = sleep_until(due) => Event::Time,
            };
            loop_.handle(event);
        }
        commands.close();
        loop_.end().await;
    }
}

struct Loop {
    config: Arc<Config>,
    servers: Vec<Lines>,
    desk: Desk,
    mirror: Mirror,
    reporter: Reporter,
    tasks: JoinSet<Told>,
    acting: usize,
    events: mpsc::Sender<(u64, Seen)>,
    session: Option<Session>,
    sessions: u64,
    /// Which server to read, or is read.
    reading: At,
    /// When to begin to read again.
    resume: Option<Instant>,
    backoff: Backoff,
    /// The index of the list, and whose it was.
    listed: Option<(At, u64)>,
    services: BTreeSet<ServiceName>,
    /// Whether the list has nothing, not even Consul itself, which registers there.
    blind: bool,
    /// Services not read yet in this session; `None` before the first list.
    unread: Option<BTreeSet<ServiceName>>,
    led: bool,
    trouble: Option<String>,
    /// Since when everything is read, so that the cluster works.
    read_since: Option<Instant>,
    /// How the home fares, while there is one.
    contact: Option<Contact>,
    /// Servers that were the home, until they answer again.
    away: watch::Sender<BTreeSet<At>>,
    /// What is wrong with servers as a home, while one is looked for.
    unmet: watch::Sender<BTreeMap<At, String>>,
    /// What asks the home whether it lives.
    pulse: Option<AbortHandle>,
    /// The last word of somebody who refused; until something succeeds.
    refused: Option<String>,
}

impl Loop {
    fn new(
        config: Arc<Config>,
        mirror: Mirror,
        reporter: Reporter,
        events: mpsc::Sender<(u64, Seen)>,
    ) -> Self {
        Self {
            servers: Server::all(&config.reach).into_iter().map(Lines::new).collect(),
            desk: Desk::new(Arc::clone(&config)),
            config,
            mirror,
            reporter,
            tasks: JoinSet::new(),
            acting: 0,
            events,
            session: None,
            sessions: 0,
            reading: 0,
            resume: Some(Instant::now()),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
            listed: None,
            services: BTreeSet::new(),
            blind: false,
            unread: None,
            led: true,
            trouble: None,
            read_since: None,
            contact: None,
            away: watch::Sender::default(),
            unmet: watch::Sender::default(),
            pulse: None,
            refused: None,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Command(job) => {
                self.desk.accept(job);
            }
            Event::Seen(Seen::Listed { services, index }) => self.listed(services, index),
            Event::Seen(Seen::Read { service, rows, index, in_turn }) => {
                if !in_turn || self.desk.newest(&service).is_none_or(|newest| index >= newest) {
                    let changes = self.desk.take(&service, rows, index, Instant::now());
                    self.tell(changes);
                    self.heard_of(&service);
                }
                self.read(&service);
            }
            Event::Seen(Seen::ReadOf { service, ids, rows, index }) => {
                let changes = self.desk.take_of(&service, &ids, rows, index, Instant::now());
                self.tell(changes);
                self.heard_of(&service);
            }
            Event::Seen(Seen::Whole { services, index }) => self.whole_at(services, index),
            Event::Seen(Seen::Changed { delta, index }) => {
                // How far this server's history goes: a shorter one is another.
                self.listed = Some((self.reading, index));
                let changes = self.desk.take_one(delta, index, Instant::now());
                self.tell(changes);
            }
            Event::Seen(Seen::Led(led)) => {
                self.led = led;
                self.read_where_home_is_led();
                self.report();
            }
            Event::Seen(Seen::Broken { why, again }) => self.broken(why, again),
            Event::Task(Told::Done(done)) => self.done(&done),
            Event::Task(Told::Met { at, about, home }) => self.met(at, about, home),
            Event::Task(Told::Led { at, led }) => self.home_led(at, led),
            Event::Task(Told::Lost { at, why }) => self.lost(at, why),
            Event::Task(Told::Back { at, held }) => {
                tracing::info!(server = %self.servers[at].server(), held = held.len(), "an agent is back");
                self.mark_away(at, false);
                self.desk.back(at, held, Instant::now());
            }
            Event::Task(Told::Alive { at }) => {
                self.desk.alive(at, Instant::now());
                self.tasks.spawn(holdings(self.servers[at].clone(), at));
            }
            Event::Task(Told::LetGo { id, at, trouble }) => {
                self.desk.has_let_go(&id, at, trouble.as_ref(), Instant::now());
            }
            Event::Unmet => self.report(),
            Event::Task(Told::Nothing) | Event::Time => {}
        }
    }

    /// What is due now: reading, letting go, acting.
    fn dispatch(&mut self) {
        let now = Instant::now();
        if self.resume.is_some_and(|resume| resume <= now) {
            self.resume = None;
            self.sessions += 1;
            let server = Arc::clone(self.servers[self.reading].server());
            // It reads the list first: whether the cluster has lost its memory must be known before anything is missed.
            let session =
                Session::start(Arc::clone(&self.config), server, self.sessions, self.events.clone());
            self.session = Some(session);
        }
        let gone = self.desk.expire(now);
        self.tell(gone);
        self.leave_if_stuck(now);
        self.leave_if_failed(now);
        self.act(now);
    }

    fn due(&self) -> Instant {
        let acts = self.desk.due().filter(|_| self.acting < ACTS);
        let due =
            [self.resume, self.desk.book.next_expiry(), acts, self.stuck_at(), self.desk.doubts_home_at()];
        let due = due.into_iter().flatten().min();
        due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn follow(&mut self) {
        let own = self.desk.expected().cloned().collect();
        if let Some(session) = &mut self.session {
            session.follow(&self.services, &own);
        }
    }

    fn followed(&self) -> BTreeSet<ServiceName> {
        let expected = self.desk.expected().chain(self.desk.book.services());
        self.services.iter().chain(expected).cloned().collect()
    }

    fn listed(&mut self, listed: BTreeSet<ServiceName>, index: u64) {
        let now = Instant::now();
        let at = (self.reading, index);
        let before = self.listed.replace(at).filter(|(at, _)| {
            // Each Portolan counts its own history; Consul's servers share theirs.
            self.config.flavour == Flavour::Consul || *at == self.reading
        });
        if before.is_some_and(|(_, before)| index < before) {
            tracing::warn!(index, "the cluster has lost its memory: what is missing is kept for a while");
            self.desk.book.doubt_until(now + DOUBT);
            self.desk.history_is_over();
        }
        self.blind = self.config.flavour == Flavour::Consul && listed.is_empty();
        // What is known and not listed is read until it is known to be gone: the list may be older than what was read.
        self.services = listed;
        self.services = self.followed();
        self.desk.follow_only(&self.services);
        if self.unread.is_none() {
            self.unread = Some(self.services.clone());
        }
        self.follow();
        self.whole();
    }

    /// Everything was told, and each change is from now on. A service that was not is gone.
    fn whole_at(&mut self, mut told: BTreeMap<ServiceName, Vec<Row>>, index: u64) {
        self.listed(told.keys().cloned().collect(), index);
        for service in self.services.clone() {
            let rows = told.remove(&service).unwrap_or_default().into_iter().map(Arc::new).collect();
            let changes = self.desk.take(&service, rows, index, Instant::now());
            self.tell(changes);
            self.read(&service);
        }
        self.desk.read_through(index);
    }

    fn read(&mut self, service: &ServiceName) {
        if let Some(unread) = &mut self.unread
            && unread.remove(service)
        {
            self.whole();
        }
    }

    /// When all was read once in a session, what is known is the truth.
    fn whole(&mut self) {
        let Some(unread) = &mut self.unread else { return };
        // Services that have gone in the meantime are not read any more.
        unread.retain(|service| self.services.contains(service));
        if !unread.is_empty() {
            return;
        }
        self.backoff.reset();
        self.read_since.get_or_insert_with(Instant::now);
        if !self.desk.book.is_filled() {
            self.desk.book.fill(self.listed.map_or(0, |(_, index)| index));
            self.mirror.reset(self.desk.book.revision(), self.desk.book.all());
            tracing::info!(services = self.services.len(), "the catalog is read");
        }
        self.report();
    }

    fn tell(&mut self, changes: Vec<Change>) {
        if self.desk.book.is_filled() {
            changes.into_iter().for_each(|change| self.mirror.apply(change));
        }
    }

    /// Whether everything is read, and a leader vouches for it.
    fn reads(&self) -> bool {
        self.session.is_some() && self.led && self.unread.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn broken(&mut self, why: String, again: bool) {
        // What never worked is in the status; here it would be said every second.
        if let Some(session) = self.session.as_ref().filter(|_| self.read_since.is_some()) {
            tracing::info!(server = %session.server(), why, "reading goes on elsewhere or anew");
        }
        self.read_no_more();
        let wait = if again {
            Duration::ZERO
        } else {
            self.reading = self.next_to_read();
            self.trouble = Some(why);
            self.backoff.next(fastrand::u64(..))
        };
        self.resume = Some(Instant::now() + wait);
        self.report();
    }

    fn read_from(&mut self, at: At) {
        self.read_no_more();
        self.reading = at;
        self.resume = Some(Instant::now());
        self.report();
    }

    fn read_no_more(&mut self) {
        self.session = None;
        self.unread = None;
        self.read_since = None;
        self.desk.read_anew();
        self.led = true;
    }

    fn report(&mut self) {
        let read = self.session.as_ref().filter(|_| self.unread.as_ref().is_some_and(BTreeSet::is_empty));
        let unled = self.session.as_ref().filter(|_| !self.led);
        let (state, mut detail) = match (read, self.desk.home()) {
            _ if let Some(session) = unled => {
                (State::Degraded, format!("no leader answers {}", session.server()))
            }
            _ if self.refused.is_some() => (State::Degraded, self.refused.clone().unwrap_or_default()),
            (Some(session), Some(home)) => {
                self.trouble = None;
                let at = self.servers[home.at].server();
                (State::Running, format!("reading {}, registering at {at}", session.server()))
            }
            (Some(session), None) if let Some(why) = self.homeless() => {
                (State::Degraded, format!("reading {}, and nobody to register with: {why}", session.server()))
            }
            (None, _) | (_, None) => match &self.trouble {
                Some(why) => (State::Degraded, self.mirror.meanwhile(why)),
                None => return,
            },
        };
        if read.is_some() && self.blind {
            detail += "; the catalog shows nothing, not even Consul: the token may not read services";
        }
        if let kept @ 1.. = self.desk.book.kept() {
            detail += &format!("; {kept} instances vanished and are kept for a while");
        }
        if self.reporter.say(state, detail.clone()) {
            if state == State::Degraded {
                tracing::warn!(detail, "the registry is away, or of little use");
            } else {
                tracing::info!(detail, "the registry is at work");
            }
        }
    }

    async fn end(mut self) {
        self.session = None;
        self.tasks.abort_all();
        self.mirror.end();
        let acts = self.desk.farewell();
        self.away.send_modify(BTreeSet::clear);
        let farewells = acts.into_iter().map(|act| {
            let said = acted(self.servers.clone(), Arc::clone(&self.config), act, self.away.subscribe());
            timeout(FAREWELL_CALL, said)
        });
        let all = stream::iter(farewells).buffer_unordered(FAREWELLS).for_each(async |_| {});
        if timeout(FAREWELL, all).await.is_err() {
            tracing::warn!(
                "not all could be deregistered in time; the rest goes when its time to live has passed"
            );
        }
        self.reporter.say(State::Stopped, "");
    }
}
