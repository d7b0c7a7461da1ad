//! Instances that a re-read after an outage does not find are not gone yet.
//!
//! When a cluster was away, the sessions and leases of *others* may have ended with it; they register again within
//! moments. Whoever believed the first re-read would see services without instances that never stopped. So what was
//! known and is missing is kept for a grace time; a removal seen live is believed at once.
//!
//! Pure: the time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Instance, InstanceId};

/// What is missing and kept all the same. `now` is the time since any fixed moment.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    grace: Duration,
    missing: BTreeMap<InstanceId, Missing>,
}

#[derive(Debug)]
struct Missing {
    instance: Arc<Instance>,
    until: Duration,
}

impl Absences {
    /// Keeps what is missing for `grace`; zero believes every absence at once.
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, missing: BTreeMap::new() }
    }

    /// What to take for the truth after a re-read that found `found`, when `known` was known before: all that was found,
    /// and what is missing for less than the grace time.
    pub(crate) fn after_reread(
        &mut self,
        known: impl IntoIterator<Item = Arc<Instance>>,
        found: Vec<Arc<Instance>>,
        now: Duration,
    ) -> Vec<Arc<Instance>> {
        let mut truth: BTreeMap<InstanceId, Arc<Instance>> =
            found.into_iter().map(|instance| (instance.id().clone(), instance)).collect();
        let mut before = std::mem::take(&mut self.missing);
        for instance in known {
            let id = instance.id().clone();
            if truth.contains_key(&id) {
                continue;
            }
            let until = before.remove(&id).map_or(now + self.grace, |missing| missing.until);
            if until > now {
                truth.insert(id.clone(), Arc::clone(&instance));
                self.missing.insert(id, Missing { instance, until });
            }
        }
        truth.into_values().collect()
    }

    /// This instance is missing, and kept until `until` unless something settles it.
    #[cfg(any(feature = "zookeeper", test))]
    pub(crate) fn doubt(&mut self, instance: Arc<Instance>, until: Duration) {
        self.missing.entry(instance.id().clone()).or_insert(Missing { instance, until });
    }

    /// Those that are kept although they are missing.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.missing.values().map(|missing| &missing.instance)
    }

    /// A live change named this instance: there is nothing left to doubt.
    pub(crate) fn settled(&mut self, id: &InstanceId) {
        self.missing.remove(id);
    }

    /// Those whose grace time has passed: they are gone.
    pub(crate) fn expired(&mut self, now: Duration) -> Vec<Arc<Instance>> {
        let gone: Vec<_> =
            self.missing.iter().filter(|(_, m)| m.until <= now).map(|(id, _)| id.clone()).collect();
        gone.iter().filter_map(|id| self.missing.remove(id)).map(|missing| missing.instance).collect()
    }

    /// When to look for expired ones next.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        self.missing.values().map(|missing| missing.until).min()
    }

    /// How many are kept although they are missing: for the status.
    pub(crate) fn count(&self) -> usize {
        self.missing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ids, instance as of};

    fn instance(id: &str) -> Arc<Instance> {
        of("web", id, 1)
    }

    #[test]
    fn missing_ones_stay_for_the_grace_time() {
        let s = Duration::from_secs;
        let mut absences = Absences::new(s(10));
        let known = || [instance("a"), instance("b"), instance("c")];
        let truth = absences.after_reread(known(), vec![instance("a"), instance("d")], s(0));
        assert_eq!(ids(&truth), ["a", "b", "c", "d"]);
        // Another re-read does not start the grace time anew; one that came back is no longer doubted.
        let truth = absences.after_reread(truth, vec![instance("a"), instance("b"), instance("d")], s(5));
        assert_eq!((ids(&truth), absences.count()), (vec!["a", "b", "c", "d"], 1));
        assert_eq!(absences.next_expiry(), Some(s(10)));
        assert!(absences.expired(s(9)).is_empty());
        assert_eq!(ids(&absences.expired(s(10))), ["c"]);
        assert_eq!(absences.next_expiry(), None);
    }

    #[test]
    fn a_live_change_settles_it() {
        let s = Duration::from_secs;
        let mut absences = Absences::new(s(10));
        absences.after_reread([instance("a")], vec![], s(0));
        absences.settled(instance("a").id());
        assert!(absences.expired(s(99)).is_empty());
    }

    #[test]
    fn one_alone_may_be_doubted() {
        let s = Duration::from_secs;
        let mut absences = Absences::new(s(10));
        absences.doubt(instance("a"), s(3));
        absences.doubt(instance("a"), s(5));
        let truth = absences.after_reread([instance("a"), instance("b")], vec![], s(2));
        assert_eq!((ids(&truth), absences.count()), (vec!["a", "b"], 2));
        assert_eq!(ids(&absences.expired(s(3))), ["a"]);
        assert_eq!(absences.next_expiry(), Some(s(12)));
    }

    #[test]
    fn without_a_grace_time_every_absence_is_believed() {
        let mut absences = Absences::new(Duration::ZERO);
        assert!(absences.after_reread([instance("a")], vec![], Duration::ZERO).is_empty());
        assert_eq!(absences.count(), 0);
    }
}
