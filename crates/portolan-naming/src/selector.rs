//! For callers who pick an instance themselves.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use portolan_model::{Health, Instance, InstanceId, Phase, Zone};

/// How to pick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// In turn.
    #[default]
    RoundRobin,
    /// At random.
    Random,
    /// At random, in proportion to weights.
    Weighted,
    /// The one with the fewest picks still held; of two drawn at random, so that callers do not all run to the same.
    LeastRequests,
    /// The one that a key belongs to, for as long as it is there: when others come and go, only their share moves
    /// (rendezvous hashing, by weight).
    ConsistentHash,
}

/// Which instances to pick from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preference {
    /// Every one of these attributes must be there with this value.
    pub meta: BTreeMap<String, String>,
    /// Instances in this zone are preferred; others are picked when it has none.
    pub zone: Option<Zone>,
    /// Take young instances as well, although they may not be warm yet.
    pub young: bool,
}

/// Picks instances. Cheap to share; clones share turns and counts.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    strategy: Strategy,
    preference: Preference,
    turn: Arc<AtomicU64>,
    held: Arc<Mutex<BTreeMap<InstanceId, Arc<AtomicUsize>>>>,
}

/// An instance picked; hold it while working with it, [`Strategy::LeastRequests`] counts by it.
#[derive(Debug)]
pub struct Pick {
    /// The instance.
    pub instance: Arc<Instance>,
    held: Arc<AtomicUsize>,
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Selector {
    /// Picks by `strategy` among those that `preference` takes.
    pub fn new(strategy: Strategy, preference: Preference) -> Self {
        Self { strategy, preference, ..Self::default() }
    }

    /// Picks one of `instances` that may be sent new work; `key` is what [`Strategy::ConsistentHash`] goes by. Young
    /// ones are picked only if asked for, or if there are no others.
    pub fn pick(&self, instances: &[Arc<Instance>], key: &str) -> Option<Pick> {
        self.pick_with(instances, key, fastrand::u64(..))
    }

    fn pick_with(&self, instances: &[Arc<Instance>], key: &str, dice: u64) -> Option<Pick> {
        let candidates = self.candidates(instances);
        let count = candidates.len() as u64;
        let nth = |n: u64| usize::try_from(n.checked_rem(count)?).ok().map(|n| candidates[n]);
        let chosen = match self.strategy {
            Strategy::RoundRobin => nth(self.turn.fetch_add(1, Ordering::Relaxed)),
            Strategy::Random => nth(dice),
            Strategy::Weighted => weighted(&candidates, dice),
            Strategy::LeastRequests => {
                let (one, other) = (nth(dice)?, nth(dice.rotate_right(32))?);
                Some(if self.load(other) < self.load(one) { other } else { one })
            }
            Strategy::ConsistentHash => {
                candidates.iter().copied().max_by(|a, b| score(a, key).total_cmp(&score(b, key)))
            }
        }?;
        Some(self.hold(chosen, instances))
    }

    fn candidates<'i>(&self, instances: &'i [Arc<Instance>]) -> Vec<&'i Arc<Instance>> {
        let Preference { meta, zone, young } = &self.preference;
        let fits = |i: &&Arc<Instance>| {
            i.takes_new_work()
                && i.registration.weight.0 > 0
                && meta.iter().all(|(key, value)| i.registration.meta.get(key) == Some(value))
        };
        let mut candidates: Vec<_> = instances.iter().filter(fits).collect();
        // Each wish holds only while it leaves somebody.
        prefer(&mut candidates, |i| *young || i.phase != Phase::Young);
        prefer(&mut candidates, |i| zone.is_none() || i.registration.zone == *zone);
        prefer(&mut candidates, |i| i.registration.health == Health::Passing);
        candidates
    }

    fn load(&self, instance: &Instance) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(instance.id()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn hold(&self, instance: &Arc<Instance>, all: &[Arc<Instance>]) -> Pick {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = Arc::clone(held.entry(instance.id().clone()).or_default());
        count.fetch_add(1, Ordering::Relaxed);
        // Those that are gone and not held any more are forgotten, so that the map stays as large as the service.
        if held.len() > 2 * all.len() + 16 {
            held.retain(|_, count| count.load(Ordering::Relaxed) > 0);
        }
        Pick { instance: Arc::clone(instance), held: count }
    }
}

fn prefer(candidates: &mut Vec<&Arc<Instance>>, wish: impl Fn(&Instance) -> bool) {
    if candidates.iter().any(|i| wish(i)) {
        candidates.retain(|i| wish(i));
    }
}

fn weighted<'i>(candidates: &[&'i Arc<Instance>], dice: u64) -> Option<&'i Arc<Instance>> {
    let total: u64 = candidates.iter().map(|i| u64::from(i.registration.weight.0)).sum();
    let mut left = dice.checked_rem(total)?;
    candidates.iter().copied().find(|i| {
        let weight = u64::from(i.registration.weight.0);
        let here = left < weight;
        left = left.saturating_sub(weight);
        here
    })
}

/// Weighted rendezvous hashing: the share of an instance is in proportion to its weight.
fn score(instance: &Instance, key: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    (instance.id().as_str(), key).hash(&mut hasher);
    let unit = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(instance.registration.weight.0) / -unit.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ids, instance};
    use portolan_model::Weight;

    fn with(id: &str, change: impl FnOnce(&mut Instance)) -> Arc<Instance> {
        let mut instance = Arc::unwrap_or_clone(instance("web", id, 1));
        change(&mut instance);
        Arc::new(instance)
    }

    fn plain(names: &[&str]) -> Vec<Arc<Instance>> {
        names.iter().map(|id| instance("web", id, 1)).collect()
    }

    fn picks(selector: &Selector, instances: &[Arc<Instance>], keys: &[&str]) -> Vec<String> {
        let pick = |(n, key): (usize, &&str)| selector.pick_with(instances, key, n as u64);
        keys.iter().enumerate().filter_map(pick).map(|p| p.instance.id().to_string()).collect()
    }

    #[test]
    fn strategies() {
        let abc = plain(&["a", "b", "c"]);
        let by = |strategy| Selector::new(strategy, Preference::default());
        assert_eq!(picks(&by(Strategy::RoundRobin), &abc, &[""; 4]), ["a", "b", "c", "a"]);
        assert_eq!(picks(&by(Strategy::Random), &abc, &[""; 4]), ["a", "b", "c", "a"]);
        let heavy = [with("a", |i| i.registration.weight = Weight(2)), instance("web", "b", 1)];
        assert_eq!(picks(&by(Strategy::Weighted), &heavy, &[""; 4]), ["a", "a", "b", "a"]);
        let none: [Arc<Instance>; 0] = [];
        assert!(by(Strategy::RoundRobin).pick(&none, "").is_none());
    }

    #[test]
    fn the_less_loaded_of_two_is_picked() {
        let ab = plain(&["a", "b"]);
        let selector = Selector::new(Strategy::LeastRequests, Preference::default());
        let both = (1_u64 << 32) | 2; // draws a, then b
        let first = selector.pick_with(&ab, "", both).unwrap();
        assert_eq!(first.instance.id().as_str(), "a");
        assert_eq!(selector.pick_with(&ab, "", both).unwrap().instance.id().as_str(), "b");
        drop(first);
        assert_eq!(selector.pick_with(&ab, "", both).unwrap().instance.id().as_str(), "a");
    }

    #[test]
    fn keys_stay_where_they_are() {
        let selector = Selector::new(Strategy::ConsistentHash, Preference::default());
        let keys: Vec<String> = (0..1000).map(|n| format!("user-{n}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let before = picks(&selector, &plain(&["a", "b", "c"]), &keys);
        let after = picks(&selector, &plain(&["a", "b"]), &keys);
        let share = before.iter().filter(|id| *id == "c").count();
        assert!((250..420).contains(&share), "{share}");
        assert!(before.iter().zip(&after).all(|(b, a)| b == a || b == "c"), "only c's keys have moved");
    }

    #[test]
    fn wishes_hold_while_they_leave_somebody() {
        #[track_caller]
        fn check(preference: Preference, instances: &[Arc<Instance>], expect: &[&str]) {
            let selector = Selector::new(Strategy::RoundRobin, preference);
            assert_eq!(ids(selector.candidates(instances)), expect);
        }
        let young = with("y", |i| i.phase = Phase::Young);
        let far = with("f", |i| i.registration.zone = Some(Zone::new("far").unwrap()));
        let warning = with("w", |i| i.registration.health = Health::Warning);
        let draining = with("d", |i| i.phase = Phase::Draining);
        let plain = instance("web", "a", 1);
        let all = [young.clone(), plain, warning.clone(), draining, far];
        let zone = |name: &str| Preference { zone: Some(Zone::new(name).unwrap()), ..Preference::default() };
        check(Preference::default(), &all, &["a", "f"]);
        check(Preference { young: true, ..Preference::default() }, &all, &["y", "a", "f"]);
        check(zone("far"), &all, &["f"]);
        check(zone("nowhere"), &all, &["a", "f"]);
        check(Preference::default(), &[young], &["y"]);
        check(Preference::default(), &[warning], &["w"]);
        check(Preference { meta: [("v".into(), "2".into())].into(), ..Preference::default() }, &all, &[]);
    }
}
