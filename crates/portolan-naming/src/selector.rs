//! For callers who pick an instance themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The one with the fewest picks still held for its weight; of two drawn at random, so that callers do not all run to
    /// the same.
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
    /// What to do with young instances.
    pub young: Young,
}

/// What to do with instances that have just arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Young {
    /// Pick them when there are no others: better not warm than nobody.
    #[default]
    LastResort,
    /// Do not pick them before they are adult: for whoever must be connected to an instance before it may get work.
    Never,
    /// Pick them like any other.
    Always,
}

/// Picks instances. Cheap to share; clones share turns and counts.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    strategy: Strategy,
    preference: Preference,
    turn: Arc<AtomicU64>,
    held: Arc<Mutex<BTreeMap<InstanceId, Arc<AtomicU64>>>>,
}

/// An instance picked; hold it while working with it, [`Strategy::LeastRequests`] counts by it.
#[derive(Debug)]
pub struct Pick {
    /// The instance.
    pub instance: Arc<Instance>,
    held: Arc<AtomicU64>,
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

    /// Picks one of `instances` that may be sent new work; `key` is what [`Strategy::ConsistentHash`] goes by, the same in
    /// every process. See [`Young`] for those that have just arrived.
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
                let first = dice.checked_rem(count)?;
                // One of the others, if there are any: the same one twice would be no choice.
                let step = (dice >> 32).checked_rem(count - 1).map_or(0, |step| step + 1);
                let (one, other) = (nth(first)?, nth(first + step)?);
                let burden = |of: &Instance, beside: &Instance| {
                    self.load(of) * u64::from(beside.registration.weight.0)
                };
                Some(if burden(other, one) < burden(one, other) { other } else { one })
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
        match young {
            Young::LastResort => prefer(&mut candidates, |i| i.phase != Phase::Young),
            Young::Never => candidates.retain(|i| i.phase != Phase::Young),
            Young::Always => {}
        }
        prefer(&mut candidates, |i| zone.is_none() || i.registration.zone == *zone);
        prefer(&mut candidates, |i| i.registration.health == Health::Passing);
        candidates
    }

    fn load(&self, instance: &Instance) -> u64 {
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
    let unit = ((hash(instance.id().as_str(), key) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(instance.registration.weight.0) / -unit.ln()
}

/// FNV-1a with a finisher of splitmix64. Processes that share keys must agree, whatever each was built with, so it is
/// not the standard library's hash, which may change.
fn hash(id: &str, key: &str) -> u64 {
    let bytes = id.bytes().chain([0]).chain(key.bytes());
    let mut mixed = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
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
        /// Picks with these dice, holding all; the one of a number is let go first.
        #[track_caller]
        fn check(instances: &[Arc<Instance>], steps: &[(u64, &str, Option<usize>)]) {
            let selector = Selector::new(Strategy::LeastRequests, Preference::default());
            let mut held: Vec<Option<Pick>> = Vec::new();
            for (dice, expect, let_go) in steps {
                if let Some(n) = let_go {
                    held[*n] = None;
                }
                let pick = selector.pick_with(instances, "", *dice).unwrap();
                assert_eq!(pick.instance.id().as_str(), *expect, "{dice}");
                held.push(Some(pick));
            }
        }
        // Draws a first, and beside it the only other; the less loaded wins, the first drawn where they are equal.
        check(&plain(&["a", "b"]), &[(0, "a", None), (0, "b", None), (0, "a", None), (0, "b", Some(1))]);
        check(&plain(&["a", "b"]), &[(1, "b", None), (1, "a", None)]);
        // One alone is picked whatever it holds.
        check(&plain(&["a"]), &[(0, "a", None), (7 << 32, "a", None)]);
        // Of three, the second drawn is never the first.
        check(&plain(&["a", "b", "c"]), &[(0, "a", None), (0, "b", None), ((1 << 32) | 2, "c", None)]);
        // Twice the weight holds twice as much.
        let heavy = [with("a", |i| i.registration.weight = Weight(2)), instance("web", "b", 1)];
        check(&heavy, &[(0, "a", None), (0, "b", None), (0, "a", None), (0, "a", None), (1, "b", None)]);
    }

    #[test]
    fn hashes_are_the_same_everywhere() {
        #[track_caller]
        fn check(id: &str, key: &str, expect: u64) {
            assert_eq!(hash(id, key), expect, "{id} {key}");
        }
        check("", "", 0x25fc_6dd3_6ce0_4b20);
        check("a", "b", 0xeb38_c838_c62d_597e);
        check("ab", "", 0xe208_5096_df8f_b4ed);
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
        check(Preference { young: Young::Always, ..Preference::default() }, &all, &["y", "a", "f"]);
        check(Preference { young: Young::Never, ..Preference::default() }, &all, &["a", "f"]);
        check(Preference { young: Young::Never, ..Preference::default() }, std::slice::from_ref(&young), &[]);
        check(zone("far"), &all, &["f"]);
        check(zone("nowhere"), &all, &["a", "f"]);
        check(Preference::default(), &[young], &["y"]);
        check(Preference::default(), &[warning], &["w"]);
        check(Preference { meta: [("v".into(), "2".into())].into(), ..Preference::default() }, &all, &[]);
    }
}
