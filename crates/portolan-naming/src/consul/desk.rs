//! Where wishes meet what is known: which agent to ask what, now.
//!
//! Pure but for the answers to callers: time is an argument, and what to ask comes out as [`Act`]s. Per id there is one
//! write at a time, and one act at a time; an id is looked at again after each answer, each change of its rows, and when
//! its time has come. Aside from that, agents are told to let go of what they should not hold any more (`letting_go`).
//!
//! A write that seems done before anything was asked is not believed at once: what is known may be older than what the
//! caller knows, who may have seen another handle's write succeed. The catalog is asked how far it is, and the write is
//! done when that much was read.

mod agenda;
mod behind;
mod calls;
mod letting_go;
mod orphans;
mod reading;
mod standing;
mod strays;
#[cfg(test)]
mod tests;
mod wishes;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{InstanceId, RegistryError, ServiceName};
use tokio::time::Instant;

use super::book::Book;
use super::config::{Config, Flavour};
use super::forgetting::TOGETHER;
use super::job::Job;
use super::line::Trouble;
use super::wanted::Call;
use agenda::Agenda;
use behind::Behind;
pub(super) use behind::Held;
use calls::is_unknown;
use orphans::{Orphan, is_over};
use standing::Standing;
use strays::Strays;
use wishes::Wishes;

/// Index of a server in the configuration.
pub(super) type At = usize;

/// How long after one write the next is still expected, and how much longer the last of a crowd may take.
const PROGRESS: Duration = Duration::from_secs(2);
const CROWD_LIMIT: Duration = Duration::from_secs(50);

/// For how many ids at a time other agents than the home are asked. One that is busy with itself, as after it has hung, holds
/// up each question for a second; the home's are not to wait for that.
const ELSEWHERE: usize = 8;

/// How long what an agent puts back into the catalog is gathered before it is forgotten: each transaction costs as much as
/// what the agent writes, and makes all who read the service read it again.
const FORGETS_AGAIN: Duration = Duration::from_millis(100);

/// See the module's head.
pub(super) struct Desk {
    config: Arc<Config>,
    pub(super) book: Book,
    wanted: Wishes,
    jobs: BTreeMap<InstanceId, VecDeque<Job>>,
    /// How many jobs there are in all.
    queued: usize,
    /// What was asked last of an id, when, and how often in a row.
    asked: BTreeMap<InstanceId, Asked>,
    /// Registrations that nobody holds, and that an agent may hold all the same.
    orphans: BTreeMap<InstanceId, Orphan>,
    busy: BTreeSet<InstanceId>,
    /// Those of them for which another agent than the home is asked, and those that wait for room to ask one.
    elsewhere: BTreeSet<InstanceId>,
    parked: BTreeSet<InstanceId>,
    agenda: Agenda,
    /// From when on more is forgotten that nobody waits for.
    forgets_at: Option<Instant>,
    /// The index at which each service was read last, by whoever is read now; and at which some of it was.
    read_at: BTreeMap<ServiceName, u64>,
    read_in_part_at: BTreeMap<ServiceName, u64>,
    /// Up to which index nothing of any service is missing, where each change is told.
    read_through: Option<u64>,
    /// When a write was seen to be done last.
    progress: Option<Instant>,
    home: Option<Home>,
    /// The home that was lost, until there is another.
    former: Option<Home>,
    standing: Standing,
    /// No leader answers the home: it is told nothing that it would have to hand on.
    holding: bool,
    /// Servers that were the home and are not back yet: what they are asked they leave without an answer.
    away: BTreeSet<At>,
    /// Those that have not said yet what they hold, and what was registered with them when they were left.
    left: BTreeMap<At, BTreeSet<InstanceId>>,
    /// What agents were asked to register without giving an answer: they may come to it at any time.
    unanswered: BTreeMap<At, BTreeSet<InstanceId>>,
    /// Which configured server is which node's agent, as far as met.
    agents: BTreeMap<String, At>,
    /// What an agent that was the home before holds still, whether the catalog shows it or not.
    strays: Strays,
    /// What was deregistered while an agent that may hold it was away.
    behind: BTreeMap<InstanceId, Behind>,
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

impl Act {
    /// Whether all of it is that one entry is taken out of the catalog.
    pub(super) fn forgets(&self) -> bool {
        is_forgetting(&self.calls)
    }
}

fn is_forgetting(calls: &[(At, Call)]) -> bool {
    matches!(calls, [(_, Call::Forget { .. })])
}

/// How an act went.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) act: Act,
    /// The call that failed, and why.
    pub(super) failed: Option<(At, Call, Trouble)>,
    /// The index of the last answer, where it has one.
    pub(super) index: Option<u64>,
}

impl Desk {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let book = Book::new(config.grace);
        Self {
            config,
            book,
            wanted: Wishes::default(),
            jobs: BTreeMap::new(),
            queued: 0,
            asked: BTreeMap::new(),
            orphans: BTreeMap::new(),
            busy: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            parked: BTreeSet::new(),
            agenda: Agenda::default(),
            forgets_at: None,
            read_at: BTreeMap::new(),
            read_in_part_at: BTreeMap::new(),
            read_through: None,
            progress: None,
            home: None,
            former: None,
            standing: Standing::default(),
            holding: false,
            away: BTreeSet::new(),
            left: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            agents: BTreeMap::new(),
            strays: Strays::default(),
            behind: BTreeMap::new(),
        }
    }

    /// The service in which somebody waits for an act to show. None if it is about what others registered, whom Consul knows
    /// by another name.
    pub(super) fn looks_for(&self, act: &Act) -> Option<&ServiceName> {
        let named = || self.book.rows_of(&act.id).all(|row| row.service_id == act.id.as_str());
        self.service_of(&act.id).filter(|_| self.jobs.contains_key(&act.id) && named())
    }

    /// Whether what was asked for an id is not known to be done.
    pub(super) fn awaits(&self, id: &InstanceId) -> bool {
        self.asked.contains_key(id) || self.jobs.contains_key(id)
    }

    /// How many writes wait.
    pub(super) fn waiting(&self) -> usize {
        self.queued
    }

    /// The services that must be followed although the catalog may not list them yet.
    pub(super) fn expected(&self) -> impl Iterator<Item = &ServiceName> {
        self.wanted.services()
    }

    /// Takes a write.
    pub(super) fn accept(&mut self, job: Job) {
        self.agenda.now(job.id.clone(), true);
        self.queued += 1;
        self.jobs.entry(job.id.clone()).or_default().push_back(job);
    }

    /// There is an agent to register with. If it is not the one from before, all goes there; if it is, it may have
    /// forgotten.
    pub(super) fn settle(&mut self, home: Home) {
        self.agents.insert(home.node.clone(), home.at);
        self.away.remove(&home.at);
        self.holding = false;
        (self.home, self.former) = (Some(home), None);
        self.standing = Standing::default();
        self.wanted.values_mut().for_each(|wanted| wanted.renewed = None);
        self.asked.clear();
        self.all_again();
    }

    /// The agent to register with is gone.
    pub(super) fn unsettle(&mut self) {
        let Some(home) = self.home.take() else { return };
        self.away.insert(home.at);
        self.leave_all_behind(home.at);
        self.former = Some(home);
    }

    /// Whether to ask the home for nothing that it would hand to a leader. Afterwards it is asked at once for all that is
    /// not so yet.
    pub(super) fn hold(&mut self, hold: bool) {
        if std::mem::replace(&mut self.holding, hold) && !hold {
            self.asked.clear();
            self.all_again();
        }
    }

    fn all_again(&mut self) {
        let all = self.wanted.ids().chain(self.jobs.keys()).chain(self.orphans.keys());
        let all = all.chain(self.strays.ids());
        self.all_soon(all.cloned().collect());
    }

    /// Whether only the home answers for an act.
    pub(super) fn is_all_for_home(&self, act: &Act) -> bool {
        self.home.as_ref().is_some_and(|home| act.calls.iter().all(|(at, _)| *at == home.at))
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
        self.elsewhere.remove(id);
        self.soon(id.clone());
        let over = done
            .failed
            .as_ref()
            .is_none_or(|(_, call, trouble)| matches!(call, Call::Deregister { .. }) && is_over(trouble));
        for (at, call) in &done.act.calls {
            if over && matches!(call, Call::Deregister { .. }) {
                self.strays.told(id, *at, now);
            }
        }
        self.note_answers(done);
        if let (None, [(_, Call::Look { service })]) = (&done.failed, &done.act.calls[..]) {
            self.asked.remove(id);
            return self.proven(id, service, done.index);
        }
        if self.orphan_asked(id, done) {
            return;
        }
        let Some(wanted) = self.wanted.get_mut(id) else { return self.refused(id, done, now) };
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
                | Call::Forget { .. }
                | Call::Look { .. } => {}
            }
        }
        if let Some((_, Call::Renew { .. } | Call::Say { .. } | Call::Mark { .. }, trouble)) = &done.failed {
            wanted.lost |= is_unknown(trouble);
            if wanted.lost {
                self.asked.remove(id);
                return;
            }
        }
        self.refused(id, done, now);
    }

    /// What to ask now, in so many requests, or one more: what is only to be forgotten is asked [together](TOGETHER).
    pub(super) fn acts(&mut self, now: Instant, mut room: usize) -> Vec<Act> {
        self.agenda.ripen(now, |id| self.jobs.contains_key(id));
        let (mut acts, mut forgotten) = (Vec::new(), 0);
        while room > 0 {
            let Some(id) = self.unparked().or_else(|| self.agenda.pop()) else { break };
            if let Some(act) = self.look_at(&id, now) {
                forgotten += usize::from(act.forgets());
                if !act.forgets() || forgotten % TOGETHER == 0 {
                    room -= 1;
                }
                if !self.is_all_for_home(&act) {
                    self.elsewhere.insert(id.clone());
                }
                self.busy.insert(id);
                acts.push(act);
            }
        }
        if forgotten > 0 {
            self.forgets_at = Some(now + FORGETS_AGAIN);
        }
        acts
    }

    /// When to call [`Desk::acts`] again, if nothing happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.agenda.due()
    }

    /// Everything that this handle registered, to be deregistered where it is; callers who wait are told. An agent that was
    /// left may be back without our knowing, and holds what it held.
    pub(super) fn farewell(&mut self) -> Vec<Act> {
        self.queued = 0;
        let jobs = std::mem::take(&mut self.jobs).into_values().flatten();
        jobs.for_each(|job| job.finish(Err(RegistryError::Unavailable("shutting down".into()))));
        let wanted = std::mem::take(&mut self.wanted);
        let home = self.home.as_ref().or(self.former.as_ref());
        let Some(home) = home.filter(|_| self.config.flavour == Flavour::Consul) else {
            return Vec::new();
        };
        let removal =
            |id: &InstanceId, at: At| (id.clone(), (at, Call::Deregister { service_id: id.to_string() }));
        let held: Vec<InstanceId> = wanted.into_ids().collect();
        let at_home = held.iter().map(|id| removal(id, home.at));
        // Then where they were before, if that is not done yet.
        let strays = self.strays.untold().map(|(id, at)| removal(id, at));
        let away =
            self.away.iter().flat_map(|at| held.iter().chain(self.behind.keys()).map(|id| removal(id, *at)));
        let before = strays.chain(away).filter(|(_, (at, _))| *at != home.at);
        let removals = at_home.chain(self.removals(home)).chain(before);
        removals.map(|(id, call)| Act { id, calls: vec![call] }).collect()
    }

    /// Looks at one id: begins and ends its write, and says what to ask for it.
    fn look_at(&mut self, id: &InstanceId, now: Instant) -> Option<Act> {
        self.look_after_strays(id, now);
        if self.busy.contains(id) {
            return None;
        }
        self.write_on(id, now);
        if let Some(job) = self.front(id) {
            let deadline = job.deadline.max(now + PROGRESS / 4);
            self.agenda.at(id, deadline);
        }
        let home = self.home.clone()?;
        let calls = if let Some(service) = self.must_prove(id) {
            vec![(home.at, Call::Look { service })]
        } else if self.wanted.contains(id) && self.strays.is_under_way(id, home.at) {
            // It may be told to let go of it after it was told to take it.
            Vec::new()
        } else if self.wanted.contains(id) {
            self.calls_for_wanted(id, &home, now)
        } else if self.holding {
            // Before anything is forgotten that would be asked.
            return None;
        } else {
            self.calls_for_unwanted(id, &home, now)
        };
        let may = |(_, call): &(At, Call)| !self.holding || matches!(call, Call::Renew { .. });
        if !calls.iter().all(may) {
            return None;
        }
        if self.elsewhere.len() >= ELSEWHERE && calls.iter().any(|(at, _)| *at != home.at) {
            self.parked.insert(id.clone());
            return None;
        }
        if is_forgetting(&calls)
            && !self.jobs.contains_key(id)
            && let Some(at) = self.forgets_at.filter(|at| *at > now)
        {
            self.agenda.at(id, at);
            return None;
        }
        self.paced(id, calls, now)
    }

    /// The next that waits for room to ask another agent, if there is room.
    fn unparked(&mut self) -> Option<InstanceId> {
        (self.elsewhere.len() < ELSEWHERE).then(|| self.parked.pop_first())?
    }

    /// Looks at an id as soon as may be.
    fn soon(&mut self, id: InstanceId) {
        let urgent = self.jobs.contains_key(&id);
        self.agenda.now(id, urgent);
    }

    fn all_soon(&mut self, ids: Vec<InstanceId>) {
        ids.into_iter().for_each(|id| self.soon(id));
    }

    fn front(&self, id: &InstanceId) -> Option<&Job> {
        self.jobs.get(id).and_then(VecDeque::front)
    }

    fn is_of_concern(&self, id: &InstanceId) -> bool {
        self.wanted.contains(id) || self.jobs.contains_key(id) || self.orphans.contains_key(id)
    }
}
