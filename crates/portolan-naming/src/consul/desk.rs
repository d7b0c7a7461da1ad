//! Where wishes meet what is known: which agent to ask what, now.
//!
//! Pure but for the answers to callers: time is an argument, and what to ask comes out as [`Act`]s. Per id there is one
//! write at a time, and one act at a time; an id is looked at again after each answer, each change of its rows, and when
//! its time has come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, InstanceId, Phase, RegistryError, Revision, ServiceName};
use tokio::time::Instant;

use super::book::Book;
use super::config::{Config, Flavour};
use super::job::{Begun, Goal, Job};
use super::line::Trouble;
use super::row::Row;
use super::wanted::{ASK_AGAIN, Call, Need, Wanted};

/// Index of a server in the configuration.
pub(super) type At = usize;

/// How long after one write the next is still expected, and how much longer the last of a crowd may take.
const PROGRESS: Duration = Duration::from_secs(2);
const CROWD_LIMIT: Duration = Duration::from_secs(50);

/// See the module's head.
pub(super) struct Desk {
    config: Arc<Config>,
    pub(super) book: Book,
    wanted: BTreeMap<InstanceId, Wanted>,
    jobs: BTreeMap<InstanceId, VecDeque<Job>>,
    /// What was asked last of an id, when, and how often in a row.
    asked: BTreeMap<InstanceId, Asked>,
    /// Registrations that were given up, and that an agent may hold all the same.
    orphans: BTreeSet<InstanceId>,
    busy: BTreeSet<InstanceId>,
    ready: BTreeSet<InstanceId>,
    timers: BTreeSet<(Instant, InstanceId)>,
    timer_of: BTreeMap<InstanceId, Instant>,
    /// When a write was seen to be done last.
    progress: Option<Instant>,
    home: Option<Home>,
    /// Which configured server is which node's agent, as far as met.
    agents: BTreeMap<String, At>,
}

/// The agent that registrations of this handle go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) at: At,
    /// Its node; empty where there is one book for all.
    pub(super) node: String,
    /// Why nothing can be registered there: its catalog is not the one that is read.
    pub(super) foreign: Option<String>,
}

#[derive(Debug)]
struct Asked {
    calls: Vec<(At, Call)>,
    when: Instant,
    times: u32,
}

/// Calls to make in order; the first that fails ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Act {
    pub(super) id: InstanceId,
    pub(super) calls: Vec<(At, Call)>,
}

/// How an act went.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) act: Act,
    /// The call that failed, and why.
    pub(super) failed: Option<(At, Call, Trouble)>,
}

impl Desk {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let book = Book::new(config.grace);
        Self {
            config,
            book,
            wanted: BTreeMap::new(),
            jobs: BTreeMap::new(),
            asked: BTreeMap::new(),
            orphans: BTreeSet::new(),
            busy: BTreeSet::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            progress: None,
            home: None,
            agents: BTreeMap::new(),
        }
    }

    /// How many ids have a write waiting.
    pub(super) fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// The services that must be followed although the catalog may not list them yet.
    pub(super) fn expected(&self) -> impl Iterator<Item = &ServiceName> {
        self.wanted.values().map(|wanted| &wanted.registration.service)
    }

    /// Takes a write.
    pub(super) fn accept(&mut self, job: Job) {
        self.ready.insert(job.id.clone());
        self.jobs.entry(job.id.clone()).or_default().push_back(job);
    }

    /// Takes all rows of one service; gives what watchers are to be told.
    pub(super) fn take(&mut self, service: &ServiceName, rows: Vec<Row>, now: Instant) -> Vec<Change> {
        // Also ids of which nothing changed to see: an act may have waited for just these rows.
        let read = rows.iter().map(|row| row.id().clone()).filter(|id| self.is_of_concern(id));
        let read: Vec<_> = read.collect();
        self.ready.extend(read);
        let changes = self.book.take(service, rows, now);
        for change in &changes {
            match change {
                Change::Remove { id, revision, .. } => self.removed(id, *revision),
                Change::Upsert { instance, .. } if self.is_of_concern(instance.id()) => {
                    self.ready.insert(instance.id().clone());
                }
                Change::Upsert { .. } | Change::Reset { .. } => {}
            }
        }
        let unseen = self.wanted.iter().filter(|(_, w)| w.registration.service == *service);
        let unseen = unseen.filter(|(id, _)| self.book.winner(id).is_none()).map(|(id, _)| id.clone());
        let unseen: Vec<_> = unseen.collect();
        self.ready.extend(unseen);
        changes
    }

    /// Lets go of what was kept although it had vanished; gives what watchers are to be told.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let changes = self.book.expire(now);
        for change in &changes {
            if let Change::Remove { id, revision, .. } = change {
                self.removed(id, *revision);
            }
        }
        changes
    }

    /// There is an agent to register with. If it is not the one from before, all goes there; if it is, it may have
    /// forgotten.
    pub(super) fn settle(&mut self, home: Home) {
        self.agents.insert(home.node.clone(), home.at);
        self.home = Some(home);
        self.wanted.values_mut().for_each(|wanted| wanted.renewed = None);
        self.asked.clear();
        self.ready.extend(self.wanted.keys().chain(self.jobs.keys()).cloned());
    }

    /// The agent to register with is gone.
    pub(super) fn unsettle(&mut self) {
        self.home = None;
    }

    pub(super) fn home(&self) -> Option<&Home> {
        self.home.as_ref()
    }

    /// A configured server is this node's agent.
    pub(super) fn met(&mut self, at: At, node: String) {
        self.agents.insert(node, at);
    }

    /// An act has ended.
    pub(super) fn done(&mut self, done: &Done, now: Instant) {
        let id = &done.act.id;
        self.busy.remove(id);
        self.ready.insert(id.clone());
        let Some(wanted) = self.wanted.get_mut(id) else { return self.refused(id, done) };
        let made = done.act.calls.iter().map(|(_, call)| call);
        let made = made.take_while(|call| done.failed.as_ref().is_none_or(|(_, failed, _)| failed != *call));
        for call in made {
            match call {
                Call::Register { .. } => (wanted.renewed, wanted.lost) = (Some(now), false),
                Call::Renew { .. } => wanted.renewed = Some(now),
                Call::Say { .. }
                | Call::Mark { .. }
                | Call::Drain { .. }
                | Call::Deregister { .. }
                | Call::Forget { .. } => {}
            }
        }
        if let Some((_, Call::Renew { .. } | Call::Say { .. } | Call::Mark { .. }, trouble)) = &done.failed {
            wanted.lost |= is_unknown(trouble);
            if wanted.lost {
                self.asked.remove(id);
                return;
            }
        }
        self.refused(id, done);
    }

    /// A refusal for good ends the write; what may pass is tried again until its deadline.
    fn refused(&mut self, id: &InstanceId, done: &Done) {
        let Some((_, _, Trouble::Refused { status, text })) = &done.failed else { return };
        let error = match status {
            409 => RegistryError::StaleIncarnation { id: id.clone() },
            400 | 401 | 403 | 405 | 413 => {
                RegistryError::Unavailable(format!("refused with {status}: {text}").into())
            }
            _ => return,
        };
        self.give_up(id, error);
    }

    /// What to ask now.
    pub(super) fn acts(&mut self, now: Instant, mut room: usize) -> Vec<Act> {
        while let Some((due, id)) = self.timers.first().cloned() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            self.timer_of.remove(&id);
            self.ready.insert(id);
        }
        let mut acts = Vec::new();
        while room > 0 {
            let Some(id) = self.ready.pop_first() else { break };
            if let Some(act) = self.look_at(&id, now) {
                room -= 1;
                self.busy.insert(id);
                acts.push(act);
            }
        }
        acts
    }

    /// When to call [`Desk::acts`] again, if nothing happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Everything that this handle registered, to be deregistered where it is; callers who wait are told.
    pub(super) fn farewell(&mut self) -> Vec<Act> {
        let jobs = std::mem::take(&mut self.jobs).into_values().flatten();
        jobs.for_each(|job| job.finish(Err(RegistryError::Unavailable("shutting down".into()))));
        let wanted = std::mem::take(&mut self.wanted);
        let Some(home) = self.home.as_ref().filter(|_| self.config.flavour == Flavour::Consul) else {
            return Vec::new();
        };
        let act = |id: InstanceId| Act {
            calls: vec![(home.at, Call::Deregister { service_id: id.to_string() })],
            id,
        };
        wanted.into_keys().map(act).collect()
    }

    /// Looks at one id: begins and ends its write, and says what to ask for it.
    fn look_at(&mut self, id: &InstanceId, now: Instant) -> Option<Act> {
        if self.busy.contains(id) {
            return None;
        }
        self.write_on(id, now);
        if let Some(job) = self.front(id) {
            let deadline = job.deadline.max(now + PROGRESS / 4);
            self.wake(id, deadline);
        }
        let home = self.home.clone()?;
        let calls = if self.wanted.contains_key(id) {
            self.calls_for_wanted(id, &home, now)
        } else {
            self.calls_for_unwanted(id, &home)
        };
        self.paced(id, calls, now)
    }

    /// Begins, ends and replaces writes of an id until one is left that must wait.
    fn write_on(&mut self, id: &InstanceId, now: Instant) {
        loop {
            let Some(job) = self.jobs.get_mut(id).and_then(VecDeque::front_mut) else { return };
            if job.begun.is_none() {
                let given_up =
                    job.reply.is_closed().then(|| RegistryError::Unavailable("nobody waits".into()));
                let refused = given_up.map_or_else(|| job.allowed(self.book.shown(id)), Err);
                if let Err(error) = refused {
                    self.finish(id, Err(error));
                    continue;
                }
                self.begin(id, now);
            }
            if self.is_reached(id) {
                let shown = self.book.shown(id).map(|instance| instance.modified);
                let gone = self.front(id).and_then(|job| job.begun.as_ref()?.gone);
                self.progress = Some(now);
                self.finish(id, Ok(shown.or(gone).unwrap_or(self.book.revision())));
            } else if self.front(id).is_some_and(|job| self.is_too_late(job, now)) {
                let home = self.home.as_ref();
                let why = match home {
                    None => "no agent answers".to_owned(),
                    Some(Home { foreign: Some(why), .. }) => why.clone(),
                    Some(_) => "the catalog did not show it in time".to_owned(),
                };
                self.give_up(id, RegistryError::Unavailable(why.into()));
            } else {
                return;
            }
        }
    }

    fn begin(&mut self, id: &InstanceId, now: Instant) {
        self.asked.remove(id);
        self.orphans.remove(id);
        let before = self.wanted.get(id).cloned();
        let Some(job) = self.jobs.get_mut(id).and_then(VecDeque::front_mut) else { return };
        match &job.goal {
            Goal::Register(said) => {
                let (renewed, lost) = before.as_ref().map_or((None, false), |w| (w.renewed, w.lost));
                let registration = said.as_ref().clone();
                let fresh = Wanted { registration, draining: false, renewed, lost, seen: false };
                self.wanted.insert(id.clone(), fresh);
            }
            Goal::Drain(_) => {
                if let Some(wanted) = self.wanted.get_mut(id) {
                    wanted.draining = true;
                }
            }
            Goal::Deregister(_) => {
                self.wanted.remove(id);
                self.book.expect_gone(id, now);
            }
        }
        job.begun = Some(Begun { before, gone: None });
    }

    fn is_reached(&self, id: &InstanceId) -> bool {
        let Some(job) = self.front(id) else { return false };
        let (winner, shown) = (self.book.winner(id), self.book.shown(id));
        match &job.goal {
            Goal::Register(_) => {
                self.wanted.get(id).is_some_and(|w| !w.lost && winner.is_some_and(|row| w.is_met_by(row)))
            }
            Goal::Drain(_) => shown.is_none_or(|shown| shown.phase == Phase::Draining),
            Goal::Deregister(_) => winner.is_none() && shown.is_none(),
        }
    }

    /// Writes of a crowd come to the catalog one by one. While they do, none is given up for having many before it.
    fn is_too_late(&self, job: &Job, now: Instant) -> bool {
        let crowded =
            self.progress.is_some_and(|last| now < last + PROGRESS) && now < job.deadline + CROWD_LIMIT;
        job.deadline <= now && !crowded
    }

    /// An instance is gone: that may be what a write waits for, and its revision the answer; which is given only after
    /// watchers were told.
    fn removed(&mut self, id: &InstanceId, revision: Revision) {
        let job = self.jobs.get_mut(id).and_then(VecDeque::front_mut);
        if let Some(begun) = job.and_then(|job| job.begun.as_mut()) {
            begun.gone = Some(revision);
        }
        self.ready.insert(id.clone());
    }

    fn finish(&mut self, id: &InstanceId, outcome: Result<Revision, RegistryError>) {
        self.book.expect_no_more(id);
        self.asked.remove(id);
        let Some(queue) = self.jobs.get_mut(id) else { return };
        let job = queue.pop_front();
        if queue.is_empty() {
            self.jobs.remove(id);
        } else {
            self.ready.insert(id.clone());
        }
        if let Some(job) = job {
            job.finish(outcome);
        }
    }

    /// A write cannot be done: what it changed of our wishes is taken back.
    fn give_up(&mut self, id: &InstanceId, error: RegistryError) {
        let Some(job) = self.jobs.get_mut(id).and_then(VecDeque::front_mut) else { return };
        if let Some(Begun { before, gone: _ }) = job.begun.take() {
            match before {
                Some(before) => self.wanted.insert(id.clone(), before),
                None => {
                    self.orphans.insert(id.clone());
                    self.wanted.remove(id)
                }
            };
        }
        self.finish(id, Err(error));
    }

    fn calls_for_wanted(&mut self, id: &InstanceId, home: &Home, now: Instant) -> Vec<(At, Call)> {
        let (rows, shown): (Vec<_>, _) = (self.book.rows_of(id).collect(), self.book.winner(id));
        let Some(wanted) = self.wanted.get_mut(id) else { return Vec::new() };
        if home.foreign.is_some() {
            return Vec::new();
        }
        let met = shown.is_some_and(|row| wanted.is_met_by(row));
        wanted.seen |= met;
        // Somebody else drained it: that holds until it is registered again.
        let settled = wanted.seen && !self.jobs.contains_key(id);
        wanted.draining |=
            settled && shown.is_some_and(|row| row.node == home.node && row.phase == Phase::Draining);
        match wanted.need(&self.config, &home.node, &rows, shown, now) {
            Need::Calls(calls) => calls.into_iter().map(|call| (home.at, call)).collect(),
            Need::LetGo => {
                let mine = rows.iter().filter(|row| {
                    row.node == home.node && row.ours && row.registration.owner == wanted.registration.owner
                });
                let mine = mine.filter(|row| row.registration.incarnation <= wanted.registration.incarnation);
                let calls: Vec<_> = mine
                    .map(|row| (home.at, Call::Deregister { service_id: row.service_id.clone() }))
                    .collect();
                tracing::info!(%id, "registered by somebody else now: let go");
                self.wanted.remove(id);
                calls
            }
            Need::NothingUntil(due) => {
                let at_home = shown.is_some_and(|row| row.node == home.node);
                let elsewhere = rows.iter().filter(|row| at_home && row.node != home.node);
                let calls = elsewhere.flat_map(|row| removal(row, home, &self.agents, true)).collect();
                if let Some(due) = due {
                    self.wake(id, due);
                }
                calls
            }
        }
    }

    /// What to ask for an id that is not ours to keep: only what a write wants.
    fn calls_for_unwanted(&mut self, id: &InstanceId, home: &Home) -> Vec<(At, Call)> {
        let Some(job) = self.front(id).filter(|job| job.begun.is_some()) else {
            let orphan = self.orphans.remove(id) && self.config.flavour == Flavour::Consul;
            let deregister = Call::Deregister { service_id: id.to_string() };
            return orphan.then_some((home.at, deregister)).into_iter().collect();
        };
        let again = self.asked.contains_key(id);
        match &job.goal {
            Goal::Register(_) => Vec::new(),
            Goal::Deregister(_) if self.config.flavour == Flavour::Portolan => {
                vec![(home.at, Call::Deregister { service_id: id.to_string() })]
            }
            Goal::Deregister(_) => {
                let rows = self.book.rows_of(id);
                rows.flat_map(|row| removal(row, home, &self.agents, again)).collect()
            }
            Goal::Drain(_) if self.config.flavour == Flavour::Portolan => {
                vec![(home.at, Call::Drain { id: id.to_string() })]
            }
            Goal::Drain(_) => {
                let Some(row) = self.book.winner(id) else { return Vec::new() };
                let marks = super::form::Marks { draining: true, ..row.marks };
                let Some(at) = self.agents.get(&row.node).copied() else {
                    let why = format!(
                        "it is registered with the agent of {:?}, which is not among the servers given",
                        row.node
                    );
                    self.give_up(id, RegistryError::Unavailable(why.into()));
                    return Vec::new();
                };
                vec![(at, Call::Mark { service_id: row.service_id.clone(), marks })]
            }
        }
    }

    /// Asks the same again only after a while.
    fn paced(&mut self, id: &InstanceId, calls: Vec<(At, Call)>, now: Instant) -> Option<Act> {
        if calls.is_empty() {
            self.asked.remove(id);
            return None;
        }
        let times = match self.asked.get(id) {
            Some(asked) if asked.calls == calls => {
                // Whatever it is told, an agent tries again all that it has not brought to the catalog yet: in a crowd
                // it need not hear it from everybody.
                let crowd = Duration::from_millis(20) * u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
                let again = asked.when + ASK_AGAIN * asked.times.min(8) + crowd;
                if again > now {
                    self.wake(id, again);
                    return None;
                }
                asked.times + 1
            }
            Some(_) | None => 1,
        };
        self.asked.insert(id.clone(), Asked { calls: calls.clone(), when: now, times });
        self.wake(id, now + ASK_AGAIN);
        Some(Act { id: id.clone(), calls })
    }

    /// Looks at an id then, if not before.
    fn wake(&mut self, id: &InstanceId, when: Instant) {
        match self.timer_of.get(id) {
            Some(set) if *set <= when => return,
            Some(set) => {
                self.timers.remove(&(*set, id.clone()));
            }
            None => {}
        }
        self.timers.insert((when, id.clone()));
        self.timer_of.insert(id.clone(), when);
    }

    fn front(&self, id: &InstanceId) -> Option<&Job> {
        self.jobs.get(id).and_then(VecDeque::front)
    }

    fn is_of_concern(&self, id: &InstanceId) -> bool {
        self.wanted.contains_key(id) || self.jobs.contains_key(id)
    }
}

/// How to remove a row: by its agent, where that is known; and out of the catalog, if that was not enough or cannot be
/// had. An agent that lives and was not told puts it back into the catalog within a minute.
fn removal(row: &Row, home: &Home, agents: &BTreeMap<String, At>, thoroughly: bool) -> Vec<(At, Call)> {
    let agent = agents.get(&row.node).filter(|_| row.reachable);
    let deregister = agent.map(|at| (*at, Call::Deregister { service_id: row.service_id.clone() }));
    let forget = Call::Forget { node: row.node.clone(), service_id: row.service_id.clone() };
    let forget = (thoroughly || deregister.is_none()).then_some((home.at, forget));
    deregister.into_iter().chain(forget).collect()
}

/// Whether an agent says that it does not know the check or the instance. Consul up to 1.10 has 500 for that.
fn is_unknown(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Refused { status: 404, .. } => true,
        Trouble::Refused { status: 500, text } => {
            text.contains("does not have associated TTL") || text.contains("nknown check")
        }
        Trouble::Refused { .. } | Trouble::Unreachable(_) | Trouble::Nonsense(_) => false,
    }
}
