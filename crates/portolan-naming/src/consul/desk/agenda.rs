//! Which ids to look at, and when; pure.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::InstanceId;
use tokio::time::Instant;

/// Ids to look at now, and ids to look at once their time has come. Each id is in either list at most once.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    ready: BTreeSet<InstanceId>,
    timers: BTreeSet<(Instant, InstanceId)>,
    timer_of: BTreeMap<InstanceId, Instant>,
}

impl Agenda {
    /// Looks at an id as soon as may be.
    pub(super) fn now(&mut self, id: InstanceId) {
        self.ready.insert(id);
    }

    /// Looks at these ids as soon as may be.
    pub(super) fn all_now(&mut self, ids: impl IntoIterator<Item = InstanceId>) {
        self.ready.extend(ids);
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
    pub(super) fn ripen(&mut self, now: Instant) {
        while self.due().is_some_and(|due| due <= now)
            && let Some((_, id)) = self.timers.pop_first()
        {
            self.timer_of.remove(&id);
            self.ready.insert(id);
        }
    }

    /// The next id to look at.
    pub(super) fn pop(&mut self) -> Option<InstanceId> {
        self.ready.pop_first()
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
        agenda.ripen(begun);
        assert_eq!(agenda.pop(), None);
        agenda.ripen(begun + s(1));
        agenda.now(id("a"));
        assert_eq!([agenda.pop(), agenda.pop()], [Some(id("a")), None]);
        assert_eq!(agenda.due(), Some(begun + s(5)));
    }
}
