//! Which ids to look at, and when; pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use portolan_model::InstanceId;
use tokio::time::Instant;

/// How many ids that somebody waits for are looked at before one that nobody waits for.
const PRECEDENCE: u8 = 3;

/// Ids to look at now, and ids to look at once their time has come. Those that somebody waits for come first; but not so
/// that the others, signs of life for the most part, never do. Otherwise who came first is first.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    urgent: VecDeque<InstanceId>,
    calm: VecDeque<InstanceId>,
    /// What is in the queues and was not looked at yet, and whether somebody waits for it.
    ready: BTreeMap<InstanceId, bool>,
    /// How many urgent ones were looked at in a row.
    urgent_in_a_row: u8,
    timers: BTreeSet<(Instant, InstanceId)>,
    timer_of: BTreeMap<InstanceId, Instant>,
}

impl Agenda {
    /// Looks at an id as soon as may be; first, if somebody waits for it.
    pub(super) fn now(&mut self, id: InstanceId, urgent: bool) {
        let before = self.ready.get(&id).copied();
        if before.is_some_and(|before| before || !urgent) {
            return;
        }
        self.ready.insert(id.clone(), urgent);
        if urgent {
            self.urgent.push_back(id);
        } else {
            self.calm.push_back(id);
        }
    }

    /// Looks at an id then, if not before.
    pub(super) fn at(&mut self, id: &InstanceId, when: Instant) {
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

    /// Makes everything ready whose time has come.
    pub(super) fn ripen(&mut self, now: Instant, is_urgent: impl Fn(&InstanceId) -> bool) {
        while self.due().is_some_and(|due| due <= now)
            && let Some((_, id)) = self.timers.pop_first()
        {
            self.timer_of.remove(&id);
            let urgent = is_urgent(&id);
            self.now(id, urgent);
        }
    }

    /// The next id to look at.
    pub(super) fn pop(&mut self) -> Option<InstanceId> {
        loop {
            let calm_first = self.urgent_in_a_row >= PRECEDENCE && !self.calm.is_empty();
            let urgent = if calm_first { None } else { self.urgent.pop_front() };
            self.urgent_in_a_row = if urgent.is_some() { self.urgent_in_a_row.saturating_add(1) } else { 0 };
            let id = urgent.or_else(|| self.calm.pop_front())?;
            if self.ready.remove(&id).is_some() {
                return Some(id);
            }
        }
    }

    /// When the next time comes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_earliest_time_counts_and_once() {
        let (begun, s) = (Instant::now(), Duration::from_secs);
        let id = |text: &str| InstanceId::new(text).unwrap();
        let mut agenda = Agenda::default();
        agenda.at(&id("a"), begun + s(3));
        agenda.at(&id("a"), begun + s(1));
        agenda.at(&id("a"), begun + s(2));
        agenda.at(&id("b"), begun + s(5));
        assert_eq!(agenda.due(), Some(begun + s(1)));
        agenda.ripen(begun, |_| false);
        assert_eq!(agenda.pop(), None);
        agenda.ripen(begun + s(1), |_| false);
        agenda.now(id("a"), false);
        assert_eq!([agenda.pop(), agenda.pop()], [Some(id("a")), None]);
        assert_eq!(agenda.due(), Some(begun + s(5)));
    }

    #[test]
    fn who_is_waited_for_comes_first_and_the_others_come_too() {
        let id = |n: u32| InstanceId::new(n.to_string()).unwrap();
        let mut agenda = Agenda::default();
        (0..3).for_each(|n| agenda.now(id(n), false));
        (10..15).for_each(|n| agenda.now(id(n), true));
        agenda.now(id(2), true);
        agenda.now(id(10), true);
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop()).map(|id| id.to_string()).collect();
        assert_eq!(order, ["10", "11", "12", "0", "13", "14", "2", "1"]);
    }
}
