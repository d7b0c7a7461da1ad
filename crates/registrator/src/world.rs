//! What is known of the containers: the last read of each, and what events said since. Pure: the time is an argument.
//!
//! A read is the truth as of its beginning. Two facts come from events alone: that a container was asked to end (the
//! engine has no word for it) and that it has ended (the engine answers reads only when its network is down, tens of
//! milliseconds later). Both only ever take an instance out, count only for the life they were said of, and give way
//! to the next read that began after them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::container::{Container, ContainerId, EngineTime, ExitCode, Signal};
use crate::source::{Event, EventKind};

#[cfg(test)]
mod tests;

/// The most containers that are followed.
pub const CONTAINERS_LIMIT: usize = 10_000;

/// Everything known of the containers. `now` is the time since any fixed moment.
#[derive(Debug)]
pub struct World {
    slots: BTreeMap<ContainerId, Slot>,
    margins: Margins,
    listed: bool,
    changed: bool,
    urgent: VecDeque<ContainerId>,
    routine: VecDeque<ContainerId>,
}

/// How long after its stop timeout a container that was sent a signal, and still runs, serves again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Margins {
    /// When the signal was its stop signal. Whoever stops it may give it more time than its stop timeout, and the engine
    /// does not tell.
    pub stop: Duration,
    /// When the signal was another.
    pub signal: Duration,
}

/// A whole view of the containers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Every container known, by id.
    pub seen: Vec<Seen>,
    /// Nothing that runs is missing: what is not here is not there.
    pub whole: bool,
    /// Containers that the engine did not describe, nor when it was asked again.
    pub unreadable: Vec<ContainerId>,
}

/// A container and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The last read of it.
    pub container: Arc<Container>,
    /// Whether it serves.
    pub standing: Standing,
}

/// Whether a container serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It runs.
    Serving,
    /// It runs, and was asked to end.
    Stopping,
    /// It does not run.
    Stopped,
    /// It does not run, because it failed.
    Failed,
}

impl Standing {
    /// Whether it runs.
    pub fn runs(self) -> bool {
        matches!(self, Self::Serving | Self::Stopping)
    }
}

#[derive(Debug, Default)]
struct Slot {
    container: Option<Arc<Container>>,
    /// By signal, the last of each. Which of them end it is known once it is read.
    killed: BTreeMap<Signal, Kill>,
    died: Option<Death>,
    reading: Reading,
    /// The last read failed, and it is asked again.
    retried: bool,
    unreadable: bool,
}

/// A container was sent a signal.
#[derive(Debug, Clone, Copy)]
struct Kill {
    at: EngineTime,
    told: Duration,
    /// The next read that finds it running ends this mark.
    doubtful: bool,
}

/// A container ended.
#[derive(Debug, Clone, Copy)]
struct Death {
    at: EngineTime,
    exit: Option<ExitCode>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Idle,
    /// Not answered; to be begun again, but not at once.
    Failed,
    /// In the queue of the routine.
    Queued,
    /// In the queue of those that an event named.
    QueuedFirst,
    /// Begun, and nothing happened since.
    Begun,
    /// Begun, and something happened since: its answer may be from before that.
    Overtaken,
}

impl World {
    /// Nothing is known yet.
    pub fn new(margins: Margins) -> Self {
        Self {
            slots: BTreeMap::new(),
            margins,
            listed: false,
            changed: false,
            urgent: VecDeque::new(),
            routine: VecDeque::new(),
        }
    }

    /// Takes note of an event.
    pub fn witness(&mut self, event: &Event, now: Duration) {
        if !self.slots.contains_key(&event.container) && self.slots.len() >= CONTAINERS_LIMIT {
            return;
        }
        let slot = self.slots.entry(event.container.clone()).or_default();
        self.changed |= match event.kind {
            EventKind::Killed(signal) => {
                let kill = Kill { at: event.at, told: now.saturating_sub(event.age), doubtful: false };
                slot.note_kill(signal, kill, self.margins, now)
            }
            EventKind::Died(exit) => {
                if slot.died.is_none_or(|known| known.at <= event.at) {
                    slot.died = Some(Death { at: event.at, exit });
                }
                slot.doubt_kills(event.at);
                true
            }
            EventKind::Started => {
                slot.doubt_kills(event.at);
                false
            }
            EventKind::Changed => false,
        };
        // A signal changes nothing that can be read.
        if !matches!(event.kind, EventKind::Killed(_)) || slot.container.is_none() {
            slot.queue_first(&event.container, &mut self.urgent);
        }
    }

    /// Takes note of what runs. All of it is to be read, and so is what was known to run and is not listed: it may
    /// have been started since.
    pub fn listed(&mut self, mut running: Vec<ContainerId>) {
        running.truncate(CONTAINERS_LIMIT);
        self.listed = true;
        self.changed = true;
        let running: BTreeSet<ContainerId> = running.into_iter().collect();
        self.slots.retain(|id, slot| running.contains(id) || !slot.is_over());
        for id in running {
            self.slots.entry(id).or_default();
        }
        for (id, slot) in &mut self.slots {
            slot.queue(id, &mut self.routine);
        }
    }

    /// The next container to read; one that an event named if there is any, else, when `idle`, one of the routine.
    pub fn begin_read(&mut self, idle: bool) -> Option<ContainerId> {
        loop {
            let (id, queued) = match self.urgent.pop_front() {
                Some(id) => (id, Reading::QueuedFirst),
                None if idle => (self.routine.pop_front()?, Reading::Queued),
                None => return None,
            };
            // One that an event named while it waited for its routine read stays in that queue too.
            if let Some(slot) = self.slots.get_mut(&id)
                && slot.reading == queued
            {
                slot.reading = Reading::Begun;
                return Some(id);
            }
        }
    }

    /// Takes note of what a read found by `now`; `None` is no such container.
    pub fn read(&mut self, id: &ContainerId, found: Option<Container>, now: Duration) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let fresh = slot.reading == Reading::Begun;
        slot.reading = Reading::Idle;
        slot.retried = false;
        self.changed |= std::mem::take(&mut slot.unreadable);
        if found.is_none() && fresh {
            self.slots.remove(id);
            self.changed = true;
            return;
        }
        if let Some(found) = found.map(|found| slot.recalled(found))
            && slot.container.as_deref() != Some(&found)
        {
            slot.container = Some(Arc::new(found));
            self.changed = true;
        }
        if fresh {
            self.changed |= slot.died.is_some() || !slot.killed.is_empty();
            slot.died = None;
            slot.forget_kills(self.margins, now);
        } else {
            slot.queue_first(id, &mut self.urgent);
        }
    }

    /// Takes note that a read failed: nothing is known that was not before. An engine that goes away fails all reads
    /// before it is missed, so only one that fails again is about the container.
    pub fn unread(&mut self, id: &ContainerId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.reading = Reading::Failed;
            self.changed |= slot.retried && !std::mem::replace(&mut slot.unreadable, true);
        }
    }

    /// Asks again for what could not be read.
    pub fn retry(&mut self) {
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.reading == Reading::Failed) {
            slot.retried = true;
            slot.queue(id, &mut self.routine);
        }
    }

    /// The engine went away: what was being read will not be answered.
    pub fn interrupted(&mut self) {
        self.listed = false;
        self.changed = true;
        self.urgent.clear();
        self.routine.clear();
        for slot in self.slots.values_mut() {
            slot.reading = Reading::Idle;
            slot.retried = false;
        }
    }

    /// When [`World::overdue`] has something to do next.
    pub fn next_due(&self) -> Option<Duration> {
        self.slots.values().filter_map(|slot| slot.give_up_at(self.margins)).min()
    }

    /// Doubts the ends that should have come by `now`: those containers are to be read, and serve again if they run.
    pub fn overdue(&mut self, now: Duration) {
        for (id, slot) in &mut self.slots {
            if slot.doubt_overdue(self.margins, now) {
                slot.queue_first(id, &mut self.urgent);
            }
        }
    }

    /// All that is known, if it may be different from last time.
    pub fn news(&mut self) -> Option<Sight> {
        std::mem::take(&mut self.changed).then(|| self.sight())
    }

    /// All that is known, at once.
    pub fn sight(&self) -> Sight {
        let seen = self.slots.values().filter_map(|slot| {
            let container = slot.container.clone()?;
            Some(Seen { standing: slot.standing(&container), container })
        });
        let unreadable = self.slots.iter().filter(|(_, slot)| slot.unreadable);
        Sight {
            unreadable: unreadable.map(|(id, _)| id.clone()).collect(),
            seen: seen.collect(),
            whole: self.listed && self.slots.values().all(|slot| slot.container.is_some()),
        }
    }
}

impl Slot {
    fn queue(&mut self, id: &ContainerId, routine: &mut VecDeque<ContainerId>) {
        match self.reading {
            Reading::Begun | Reading::Overtaken => self.reading = Reading::Overtaken,
            Reading::Queued | Reading::QueuedFirst => {}
            Reading::Idle | Reading::Failed => {
                self.reading = Reading::Queued;
                routine.push_back(id.clone());
            }
        }
    }

    fn queue_first(&mut self, id: &ContainerId, urgent: &mut VecDeque<ContainerId>) {
        match self.reading {
            Reading::Begun | Reading::Overtaken => self.reading = Reading::Overtaken,
            Reading::QueuedFirst => {}
            Reading::Idle | Reading::Failed | Reading::Queued => {
                self.reading = Reading::QueuedFirst;
                urgent.push_back(id.clone());
            }
        }
    }

    /// Returns whether that is new. What was told before, or long ago, is not.
    fn note_kill(&mut self, signal: Signal, kill: Kill, margins: Margins, now: Duration) -> bool {
        let known = self.killed.get(&signal).is_some_and(|known| known.at >= kill.at);
        let means_something = |container: &Arc<Container>| {
            container.ends_by(signal) && kill.due(signal, container, margins) > now
        };
        if known || !self.container.as_ref().is_none_or(means_something) {
            return false;
        }
        self.killed.insert(signal, kill);
        true
    }

    fn doubt_kills(&mut self, at: EngineTime) {
        for kill in self.killed.values_mut().filter(|kill| kill.at <= at) {
            kill.doubtful = true;
        }
    }

    /// Forgets the signals that the container, as it was just read, does not end by, or not any more.
    fn forget_kills(&mut self, margins: Margins, now: Duration) {
        let Some(container) = &self.container else { return };
        self.killed.retain(|signal, kill| {
            container.ends_by(*signal) && !kill.doubtful && kill.due(*signal, container, margins) > now
        });
    }

    /// Doubts the signals whose end should have come by `now`. Returns whether there are any.
    fn doubt_overdue(&mut self, margins: Margins, now: Duration) -> bool {
        let Some(container) = &self.container else { return false };
        let mut any = false;
        for (signal, kill) in &mut self.killed {
            if kill.is_awaited(*signal, container) && kill.due(*signal, container, margins) <= now {
                kill.doubtful = true;
                any = true;
            }
        }
        any
    }

    fn standing(&self, container: &Container) -> Standing {
        let this_life = |at: EngineTime| at >= container.life.started_at;
        let died = self.died.filter(|death| this_life(death.at));
        if !container.life.running || died.is_some() {
            let exit = died.and_then(|death| death.exit).or(container.life.exit);
            if exit.is_some_and(ExitCode::is_failure) { Standing::Failed } else { Standing::Stopped }
        } else if self.killed.iter().any(|(signal, kill)| container.ends_by(*signal) && this_life(kill.at)) {
            Standing::Stopping
        } else {
            Standing::Serving
        }
    }

    /// `found` with what the engine forgets of a life that ended: where it was reached. Its ids are made of that.
    fn recalled(&self, mut found: Container) -> Container {
        if let Some(known) = &self.container
            && !found.life.running
            && known.life.started_at == found.life.started_at
        {
            if found.bindings.values().all(Vec::is_empty) {
                found.bindings.clone_from(&known.bindings);
            }
            if found.networks.is_empty() {
                found.networks.clone_from(&known.networks);
            }
        }
        found
    }

    /// When its end is overdue, if it was asked to end and that is not yet doubted.
    fn give_up_at(&self, margins: Margins) -> Option<Duration> {
        let container = self.container.as_deref()?;
        let awaited = self.killed.iter().filter(|(signal, kill)| kill.is_awaited(**signal, container));
        awaited.map(|(signal, kill)| kill.due(*signal, container, margins)).min()
    }

    /// It was read as ended, and nothing happened since.
    fn is_over(&self) -> bool {
        self.reading == Reading::Idle && self.container.as_ref().is_some_and(|c| !c.life.running)
    }
}

impl Kill {
    /// Whether `container` is to end by it, and that is not doubted.
    fn is_awaited(&self, signal: Signal, container: &Container) -> bool {
        !self.doubtful && container.ends_by(signal)
    }

    /// When `container` should have ended by it.
    fn due(&self, signal: Signal, container: &Container, margins: Margins) -> Duration {
        let margin = if signal == container.stop_signal { margins.stop } else { margins.signal };
        self.told.saturating_add(container.stop_timeout).saturating_add(margin)
    }
}
