//! Reading one server's catalog and following it: a Portolan by its [`changes`](super::changes), Consul by blocking
//! queries.
//!
//! One query waits for the list of services, and one for each service ([`follower`](super::follower)): a change costs in
//! proportion to that service, and all of them no more than the server's [`Pace`] allows. An agent of Consul takes 200
//! connections from one address in all, so only so many services have a query of their own, those first in which this
//! handle has registered something; the others are read in turn, whenever the list moves and every few seconds. What is
//! sent on is what was read, never a difference, so that a lost answer costs time only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consul_api::CatalogServices;
use futures_util::{StreamExt, stream};
use portolan_model::{InstanceId, ServiceName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::changes::{Delta, changes};
use super::config::{Config, Flavour};
use super::cursor::{Cursor, Moved, answer_limit, long_wait, pause};
use super::follower::Follower;
use super::leader::{Lead, LeaderWatch};
use super::line::{Answer, Ask, Line, Server, Trouble};
use super::pace::{News, Pace, Restraint};
use super::row::{Reader, Row};
use super::wanted::encoded;

/// How long an answer may take that waits for nothing.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(10);
/// How many services have a query of their own.
const FOLLOWERS: usize = 64;
/// How often to read the services that have no query of their own.
const SWEEP: Duration = Duration::from_secs(5);
/// How long to leave them alone at least.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// How many of those are read at a time.
const SWEEP_WIDTH: usize = 4;
/// The most services taken on at all.
const SERVICES_LIMIT: usize = 20_000;

/// What was seen on one server.
#[derive(Debug)]
pub(super) enum Seen {
    /// All services there are.
    Listed { services: BTreeSet<ServiceName>, index: u64 },
    /// All rows of one service at an index. One that is read in turn may be overtaken by its own query.
    Read { service: ServiceName, rows: Vec<Arc<Row>>, index: u64, in_turn: bool },
    /// All rows of these instances in a service at an index.
    ReadOf { service: ServiceName, ids: BTreeSet<InstanceId>, rows: Vec<Arc<Row>>, index: u64 },
    /// All rows of all services at an index; from now on each change is told.
    Whole { services: BTreeMap<ServiceName, Vec<Row>>, index: u64 },
    /// What has changed since.
    Changed { delta: Delta, index: u64 },
    /// No leader answers the server, so that nothing can be read or written there; or one does (again).
    Led(bool),
    /// Reading cannot go on like this. `again`: the same server may be asked once more, at once.
    Broken { why: String, again: bool },
}

impl Seen {
    /// Reading goes on elsewhere.
    pub(super) fn broken(server: &Server, why: &Trouble) -> Self {
        Self::Broken { why: why.with(server), again: false }
    }
}

/// Reading one server. Dropping it ends it.
pub(super) struct Session {
    context: Context,
    followers: BTreeMap<ServiceName, Follower>,
    others: watch::Sender<BTreeSet<ServiceName>>,
    tasks: JoinSet<()>,
}

/// What every task of a session has.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) config: Arc<Config>,
    pub(super) server: Arc<Server>,
    pub(super) pace: Arc<Pace>,
    number: u64,
    events: mpsc::Sender<(u64, Seen)>,
}

impl Session {
    /// Begins to read `server`; `number` goes with everything that is seen.
    pub(super) fn start(
        config: Arc<Config>,
        server: Arc<Server>,
        number: u64,
        events: mpsc::Sender<(u64, Seen)>,
    ) -> Self {
        let context = Context::new(config, server, number, events);
        let mut tasks = JoinSet::new();
        let (others, unfollowed) = watch::channel(BTreeSet::new());
        tasks.spawn(probe(context.clone()));
        match context.config.flavour {
            Flavour::Portolan => {
                tasks.spawn(changes(context.clone()));
            }
            Flavour::Consul => {
                tasks.spawn(list(context.clone()));
                tasks.spawn(sweep(context.clone(), unfollowed));
            }
        }
        Self { context, followers: BTreeMap::new(), others, tasks }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.context.server
    }

    pub(super) fn number(&self) -> u64 {
        self.context.number
    }

    /// Follows exactly these services, where not all are followed anyway. As far as there is room each has a query of its own:
    /// those of `own` first, then those that had one before.
    pub(super) fn follow(&mut self, services: &BTreeSet<ServiceName>, own: &BTreeSet<ServiceName>) {
        if self.context.config.flavour == Flavour::Portolan {
            return;
        }
        while self.tasks.try_join_next().is_some() {}
        let mut followed: Vec<_> = services.iter().collect();
        followed.sort_by_key(|service| (!own.contains(*service), !self.followers.contains_key(*service)));
        let others = followed.split_off(followed.len().min(FOLLOWERS));
        let mut before = std::mem::take(&mut self.followers);
        for service in followed {
            let follower = before
                .remove(service)
                .unwrap_or_else(|| Follower::start(self.context.clone(), service.clone(), &mut self.tasks));
            self.followers.insert(service.clone(), follower);
        }
        // Also when they are the same: the list has moved, so they may be others inside.
        self.others.send_replace(others.into_iter().cloned().collect());
    }

    /// News of an instance in this service is waited for.
    pub(super) fn await_news(&self, service: &ServiceName, id: &InstanceId) {
        self.followers.get(service).inspect(|follower| follower.await_news(id));
    }

    /// There was news of a service: only of these instances more is waited for.
    pub(super) fn await_only(&self, service: &ServiceName, still: impl Fn(&InstanceId) -> bool) {
        self.followers.get(service).inspect(|follower| follower.await_only(still));
    }
}

impl Context {
    pub(super) fn new(
        config: Arc<Config>,
        server: Arc<Server>,
        number: u64,
        events: mpsc::Sender<(u64, Seen)>,
    ) -> Self {
        Self { config, server, pace: Arc::default(), number, events }
    }

    pub(super) async fn see(&self, seen: Seen) {
        // Nobody listens any more: the session is about to be dropped.
        let _ = self.events.send((self.number, seen)).await;
    }

    pub(super) async fn broken(&self, why: &Trouble) {
        self.see(Seen::broken(&self.server, why)).await;
    }

    /// A query of the catalog, and how long its answer may take; one that waits so long for news, if it is somewhere.
    pub(super) fn query(&self, path: &str, cursor: Cursor, wait: Duration) -> (Ask, Duration) {
        // A new leader answers otherwise while it has not applied all that its log holds: with too little.
        let mut query = vec!["consistent".to_owned()];
        if let Some(datacenter) = &self.config.datacenter {
            query.push(format!("dc={}", encoded(datacenter)));
        }
        if cursor.is_somewhere() {
            query.push(cursor.waiting(wait));
        }
        let ask = Ask::get(format!("{path}?{}", query.join("&")));
        (ask, if cursor.is_somewhere() { answer_limit(wait) } else { READ_LIMIT })
    }

    pub(super) fn reader(&self, service: &ServiceName) -> Reader {
        Reader::new(self.config.flavour, service.clone())
    }
}

/// Follows the list of services.
async fn list(context: Context) {
    let mut line = Line::new(Arc::clone(&context.server));
    let (mut cursor, mut restraint, mut known) = (Cursor::default(), Restraint::default(), BTreeSet::new());
    loop {
        let (ask, limit) = context.query("/v1/catalog/services", cursor, long_wait(fastrand::f64()));
        let begun = Instant::now();
        let outcome = line.ask(&ask, limit).await.and_then(|answer| Ok((names(&answer)?, answer)));
        let (services, answer) = match outcome {
            Ok(outcome) => outcome,
            Err(trouble) => return context.broken(&trouble).await,
        };
        let moved = cursor.advance(answer.index);
        let others = std::mem::replace(&mut known, services.clone()) != services;
        let restraint = restraint.after(others, begun.elapsed());
        if moved != Moved::Nowhere {
            context.see(Seen::Listed { services, index: answer.index.unwrap_or_default() }).await;
        }
        sleep(pause(moved, answer.body.len()) + restraint).await;
    }
}

fn names(answer: &Answer) -> Result<BTreeSet<ServiceName>, Trouble> {
    let services: CatalogServices = answer.json()?;
    let names = services.keys().filter_map(|name| ServiceName::new(name).ok());
    Ok(names.take(SERVICES_LIMIT).collect())
}

fn read(reader: &mut Reader, answer: &Answer) -> Result<Vec<Arc<Row>>, Trouble> {
    reader.read(&answer.body).map_err(|error| Trouble::Nonsense(error.to_string()))
}

/// Reads the services that nobody follows, in turn.
async fn sweep(context: Context, mut services: watch::Receiver<BTreeSet<ServiceName>>) {
    let lines = super::line::Lines::new(Arc::clone(&context.server));
    loop {
        let begun = Instant::now();
        let now: Vec<_> = services.borrow_and_update().iter().cloned().collect();
        let reads = now.into_iter().map(|service| {
            let (context, lines) = (&context, &lines);
            async move {
                let path = format!("/v1/health/service/{}", encoded(service.as_str()));
                let (ask, limit) = context.query(&path, Cursor::default(), Duration::ZERO);
                let begun = Instant::now();
                let answer = lines.ask(&ask, limit).await?;
                let now = Instant::now();
                let due = context.pace.spend(answer.body.len(), now - begun, News::Single, now);
                let rows = read(&mut context.reader(&service), &answer)?;
                let index = answer.index.unwrap_or_default();
                context.see(Seen::Read { service, rows, index, in_turn: true }).await;
                Ok::<_, Trouble>(due)
            }
        });
        let mut reads = stream::iter(reads).buffer_unordered(SWEEP_WIDTH);
        let mut due = begun;
        while let Some(outcome) = reads.next().await {
            match outcome {
                Ok(then) => due = due.max(then),
                Err(trouble) => return context.broken(&trouble).await,
            }
        }
        // A list that moves all the time does not make it read all the time.
        sleep_until(due.max(Instant::now() + SWEEP_PAUSE)).await;
        let _ = timeout_at(begun + SWEEP, services.changed()).await;
    }
}

/// Tells who leads, until that is reason to begin anew.
async fn probe(context: Context) {
    let mut leader = LeaderWatch::new(context.config.flavour, Arc::clone(&context.server));
    loop {
        match leader.next().await {
            Lead::Led(led) => context.see(Seen::Led(led)).await,
            Lead::Gone(trouble) => return context.broken(&trouble).await,
            Lead::Moved(leader) => {
                let why = format!("the leader is {leader} now");
                return context.see(Seen::Broken { why, again: true }).await;
            }
        }
    }
}
