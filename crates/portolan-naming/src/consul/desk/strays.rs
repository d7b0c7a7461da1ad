//! What agents hold that they should not any more, and how far they are with letting go of it; pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use portolan_model::InstanceId;
use tokio::time::Instant;

use super::super::wanted::ASK_AGAIN;
use super::At;

/// Of how many ids one agent is told at a time: it does at once what many have asked it for. It takes 200 connections from one
/// address.
const AT_A_TIME: usize = 64;
/// After how many answers an agent has brought back what it remembered. It may answer one or two before.
const ENOUGH: u32 = 8;
/// How long an agent may take to answer until what it has is taken out of the catalog all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the catalog may show what an agent that was told has let go of.
const LINGERS: Duration = Duration::from_secs(2);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Strays {
    all: BTreeMap<InstanceId, BTreeMap<At, Stray>>,
    agents: BTreeMap<At, Agent>,
}

#[derive(Debug, Clone, Copy)]
struct Stray {
    stage: Stage,
    found: Instant,
    /// How often its agent was told.
    times: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its agent must not be told before this, or before something changes.
    Waits(Instant),
    Ready,
    UnderWay,
    Told(Instant),
}

#[derive(Debug, Default)]
struct Agent {
    /// What it may be told of next.
    ready: VecDeque<InstanceId>,
    under_way: usize,
    /// Of how many ids it was told since it lives.
    told: u32,
}

impl Strays {
    /// An agent that was left lives.
    pub(super) fn alive(&mut self, at: At) {
        self.agents.entry(at).or_default().told = 0;
    }

    /// An agent holds an id that it should not.
    pub(super) fn found(&mut self, id: &InstanceId, at: At, now: Instant) {
        let fresh = Stray { stage: Stage::Waits(now), found: now, times: 0 };
        self.all.entry(id.clone()).or_default().entry(at).or_insert(fresh);
        self.again(id, now);
    }

    /// What had to wait may be told of now.
    pub(super) fn again(&mut self, id: &InstanceId, now: Instant) {
        for (at, stray) in self.all.get_mut(id).into_iter().flatten() {
            if matches!(stray.stage, Stage::Waits(until) if until <= now) {
                stray.stage = Stage::Ready;
                self.agents.entry(*at).or_default().ready.push_back(id.clone());
            }
        }
    }

    /// The next that an agent with room may be told of. It waits again unless it is [begun](Self::begin).
    pub(super) fn next(&mut self) -> Option<(InstanceId, At)> {
        for (at, agent) in &mut self.agents {
            while agent.under_way < AT_A_TIME
                && let Some(id) = agent.ready.pop_front()
            {
                let stray = self.all.get_mut(&id).and_then(|holders| holders.get_mut(at));
                if let Some(stray) = stray.filter(|stray| stray.stage == Stage::Ready) {
                    stray.stage = Stage::Waits(stray.found);
                    return Some((id, *at));
                }
            }
        }
        None
    }

    /// An agent is being told.
    pub(super) fn begin(&mut self, id: &InstanceId, at: At) {
        if let Some(stray) = self.get_mut(id, at) {
            (stray.stage, stray.times) = (Stage::UnderWay, stray.times.saturating_add(1));
            self.agents.entry(at).or_default().under_way += 1;
        }
    }

    /// An agent was told, or is to be told once more later. Gives the ids for which that makes a difference.
    pub(super) fn end(&mut self, id: &InstanceId, at: At, told: bool, now: Instant) -> Vec<InstanceId> {
        let Some(stray) = self.get_mut(id, at).filter(|stray| stray.stage == Stage::UnderWay) else {
            return Vec::new();
        };
        stray.stage = match told {
            true => Stage::Told(now),
            false => Stage::Waits(now + ASK_AGAIN * stray.times.min(8)),
        };
        let agent = self.agents.entry(at).or_default();
        agent.under_way -= 1;
        agent.told = agent.told.saturating_add(u32::from(told));
        match told && agent.told == ENOUGH {
            true => self.of_agent(at).cloned().collect(),
            false => vec![id.clone()],
        }
    }

    /// An agent was told otherwise.
    pub(super) fn told(&mut self, id: &InstanceId, at: At, now: Instant) {
        if let Some(stray) = self.get_mut(id, at).filter(|stray| stray.stage != Stage::UnderWay) {
            stray.stage = Stage::Told(now);
        }
    }

    /// What an agent does not hold it need not be told of.
    pub(super) fn only(&mut self, at: At, held: &BTreeSet<InstanceId>, now: Instant) {
        let others: Vec<_> = self.of_agent(at).filter(|id| !held.contains(*id)).cloned().collect();
        others.iter().for_each(|id| self.told(id, at, now));
    }

    /// Ends what was told of long enough ago: it is over, or begins anew where the catalog shows it.
    pub(super) fn settle(&mut self, id: &InstanceId, shown: impl Fn(At) -> bool, now: Instant) {
        self.retain(id, |at, stray| {
            let Stage::Told(when) = stray.stage else { return true };
            if now < when + LINGERS {
                return true;
            }
            stray.stage = Stage::Waits(when + ASK_AGAIN * stray.times.clamp(2, 8));
            stray.found = now;
            shown(at)
        });
    }

    /// Nobody is told of an id any more.
    pub(super) fn abandon(&mut self, id: &InstanceId) {
        self.retain(id, |_, stray| stray.stage == Stage::UnderWay);
    }

    fn retain(&mut self, id: &InstanceId, stays: impl Fn(At, &mut Stray) -> bool) {
        if let Some(holders) = self.all.get_mut(id) {
            holders.retain(|at, stray| stays(*at, stray));
            if holders.is_empty() {
                self.all.remove(id);
            }
        }
    }

    /// When something is to be done for an id although nothing changes.
    pub(super) fn due(&self, id: &InstanceId) -> Option<Instant> {
        let due = |stray: &Stray| match stray.stage {
            Stage::Waits(until) => Some(until),
            Stage::Told(when) => Some(when + LINGERS),
            Stage::Ready | Stage::UnderWay => None,
        };
        self.all.get(id)?.values().filter_map(due).min()
    }

    /// From when on what an agent has put into the catalog is taken out: not while it would bring that back. None if it is not
    /// known to hold the id.
    pub(super) fn forgets_from(&self, id: &InstanceId, at: At) -> Option<Instant> {
        let stray = self.all.get(id)?.get(&at)?;
        let answers = self.agents.get(&at).is_some_and(|agent| agent.told >= ENOUGH);
        Some(match stray.stage {
            Stage::Told(when) => when,
            _ if answers => stray.found,
            Stage::Waits(_) | Stage::Ready | Stage::UnderWay => stray.found + PATIENCE,
        })
    }

    /// Whether an agent is being told.
    pub(super) fn is_under_way(&self, id: &InstanceId, at: At) -> bool {
        let stray = self.all.get(id).and_then(|holders| holders.get(&at));
        stray.is_some_and(|stray| stray.stage == Stage::UnderWay)
    }

    pub(super) fn contains(&self, id: &InstanceId) -> bool {
        self.all.contains_key(id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.all.keys()
    }

    /// What agents were not told of yet.
    pub(super) fn untold(&self) -> impl Iterator<Item = (&InstanceId, At)> {
        let all = self.all.iter().flat_map(|(id, holders)| holders.iter().map(move |stray| (id, stray)));
        all.filter(|(_, (_, stray))| !matches!(stray.stage, Stage::Told(_))).map(|(id, (at, _))| (id, *at))
    }

    fn of_agent(&self, at: At) -> impl Iterator<Item = &InstanceId> {
        self.all.iter().filter(move |(_, holders)| holders.contains_key(&at)).map(|(id, _)| id)
    }

    fn get_mut(&mut self, id: &InstanceId, at: At) -> Option<&mut Stray> {
        self.all.get_mut(id)?.get_mut(&at)
    }
}
