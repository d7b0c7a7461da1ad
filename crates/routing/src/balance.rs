//! Which instance gets the next request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use portolan_model::{Health, Instance, Phase, Protocol, ServiceName, Weight};
use serde::{Deserialize, Serialize};

use crate::labels::Labels;

/// How requests are spread over the instances of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// In turn, in proportion to weights, evenly interleaved; equal weights make it plain round robin.
    #[default]
    Weighted,
    /// In turn, whatever the weights (zero still means none).
    RoundRobin,
    /// At random, each alike.
    Random,
}

/// A young instance's turns for each one's worth of an adult of the same weight.
const YOUNG_SHARE: u64 = 1;
const ADULT_SHARE: u64 = 4;

/// The longest schedule, in turns; beyond it, proportions are rounded.
const SCHEDULE_LIMIT: u64 = 4096;

/// One service as the gateway sees it at one moment: who can take requests, who cannot and why, and whose turn it is.
#[derive(Debug)]
pub struct Upstream {
    service: ServiceName,
    policy: Policy,
    candidates: Vec<Candidate>,
    parked: Vec<(Arc<Instance>, Parked)>,
    /// Candidates in the order of their turns; weights are in how often each appears.
    schedule: Box<[u32]>,
    /// Counts turns. Shared with the upstream this one replaces, so that a change does not restart the round.
    turn: Arc<AtomicU64>,
    /// The routes that its instances ask for; those of the last ones, when there are none.
    pub(crate) labels: Arc<Labels>,
}

/// An instance that can take requests.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Its address as a `Host` header value, made once.
    pub authority: HeaderValue,
}

/// Why an instance gets no requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Parked {
    /// It is on its way out.
    Draining,
    /// Its owner says it does not work.
    Critical,
    /// Somebody took it out on purpose.
    Maintenance,
    /// Its weight is zero.
    ZeroWeight,
    /// It does not speak TCP, or has no port.
    NotHttp,
}

/// Candidates that one request has tried already. Does not allocate before the first failure.
#[derive(Debug, Clone, Default)]
pub struct Tried(Vec<usize>);

impl Tried {
    /// Remembers one.
    pub fn add(&mut self, candidate: usize) {
        self.0.push(candidate);
    }

    /// How many attempts have failed.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Upstream {
    /// Sorts `instances` into candidates and parked, and lays out the turns. `before` is the upstream this replaces.
    pub fn new<'a>(
        service: ServiceName,
        policy: Policy,
        instances: impl IntoIterator<Item = &'a Arc<Instance>>,
        before: Option<&Upstream>,
    ) -> Self {
        let (mut candidates, mut parked) = (Vec::new(), Vec::new());
        for instance in instances {
            match (park(instance), HeaderValue::try_from(instance.endpoint().to_string())) {
                (None, Ok(authority)) => {
                    candidates.push(Candidate { instance: Arc::clone(instance), authority });
                }
                (why, _) => parked.push((Arc::clone(instance), why.unwrap_or(Parked::NotHttp))),
            }
        }
        let schedule = schedule(policy, &candidates);
        let turn = before.map_or_else(Arc::default, |b| Arc::clone(&b.turn));
        let known = before.map(|b| Arc::clone(&b.labels)).unwrap_or_default();
        let mut upstream = Self { service, policy, candidates, parked, schedule, turn, labels: known };
        if !upstream.is_empty() {
            let labels = Labels::of(&upstream.service, upstream.instances().map(|instance| &**instance));
            if labels != *upstream.labels {
                upstream.labels = Arc::new(labels);
            }
        }
        upstream
    }

    /// Whether it has no instance at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.candidates.is_empty() && self.parked.is_empty()
    }

    /// All instances.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.candidates.iter().map(|c| &c.instance).chain(self.parked.iter().map(|(instance, _)| instance))
    }

    /// The service this is of.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Instances that can take requests.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Instances that cannot, each with the reason.
    pub fn parked(&self) -> &[(Arc<Instance>, Parked)] {
        &self.parked
    }

    /// Takes the next turn: the index of the candidate for this attempt, never one in `tried`. `policy` overrides the
    /// upstream's own; `dice` is any number, used by [`Policy::Random`] alone. `None` when nobody is left.
    pub fn pick(&self, policy: Option<Policy>, dice: u64, tried: &Tried) -> Option<usize> {
        let ticket = match policy.unwrap_or(self.policy) {
            Policy::Random => dice,
            Policy::RoundRobin | Policy::Weighted => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        // A route's own policy may differ from the one the schedule was laid out for: without weights, all are alike.
        let unweighted = policy.is_some_and(|p| p != self.policy && p != Policy::Weighted);
        let turns = if unweighted { self.candidates.len() } else { self.schedule.len() };
        let start = usize::try_from(ticket.checked_rem(turns as u64)?).ok()?;
        let at = |turn: usize| if unweighted { turn } else { self.schedule[turn] as usize };
        (start..turns).chain(0..start).map(at).find(|candidate| !tried.0.contains(candidate))
    }
}

fn park(instance: &Instance) -> Option<Parked> {
    let said = &instance.registration;
    match (instance.phase, said.health, said.protocol) {
        (Phase::Draining, _, _) => Some(Parked::Draining),
        (_, Health::Maintenance, _) => Some(Parked::Maintenance),
        (_, Health::Critical, _) => Some(Parked::Critical),
        (_, _, Protocol::Udp) => Some(Parked::NotHttp),
        _ if said.endpoint.port == 0 => Some(Parked::NotHttp),
        _ if said.weight == Weight(0) => Some(Parked::ZeroWeight),
        _ => None,
    }
}

/// Lays the turns out so that each candidate's are spread evenly: turn k of a candidate with n turns belongs at
/// (k + ½) / n of the round.
fn schedule(policy: Policy, candidates: &[Candidate]) -> Box<[u32]> {
    let mut weights: Vec<u64> = candidates.iter().map(|c| share(policy, &c.instance)).collect();
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    weights.iter_mut().for_each(|w| *w /= divisor);
    let total: u64 = weights.iter().sum();
    let limit = SCHEDULE_LIMIT.max(candidates.len() as u64);
    if total > limit {
        weights.iter_mut().for_each(|w| *w = (*w * limit / total).max(1));
    }
    let mut turns: Vec<(f64, u32)> = Vec::new();
    for (candidate, weight) in (0_u32..).zip(&weights) {
        turns.extend((0..*weight).map(|k| ((k as f64 + 0.5) / *weight as f64, candidate)));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    turns.into_iter().map(|(_, candidate)| candidate).collect()
}

fn share(policy: Policy, instance: &Instance) -> u64 {
    let warmth = if instance.phase == Phase::Young { YOUNG_SHARE } else { ADULT_SHARE };
    match policy {
        Policy::Weighted => warmth * u64::from(instance.registration.weight.0),
        Policy::RoundRobin | Policy::Random => warmth,
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{instance, with};
    use std::collections::BTreeMap;

    fn upstream(policy: Policy, instances: &[Instance]) -> Upstream {
        let shared: Vec<_> = instances.iter().cloned().map(Arc::new).collect();
        Upstream::new(ServiceName::new("web").unwrap(), policy, &shared, None)
    }

    fn picks(upstream: &Upstream, policy: Option<Policy>, count: u64) -> Vec<usize> {
        (0..count).filter_map(|dice| upstream.pick(policy, dice, &Tried::default())).collect()
    }

    fn weighted(weights: &[u16]) -> Vec<Instance> {
        (1..)
            .zip(weights)
            .map(|(n, w)| with(instance("web", n), |i| i.registration.weight = Weight(*w)))
            .collect()
    }

    #[test]
    fn turns() {
        #[track_caller]
        fn check(policy: Policy, weights: &[u16], expect: &[usize]) {
            assert_eq!(picks(&upstream(policy, &weighted(weights)), None, expect.len() as u64), expect);
        }
        check(Policy::RoundRobin, &[1, 1, 1], &[0, 1, 2, 0, 1, 2]);
        check(Policy::RoundRobin, &[5, 1], &[0, 1, 0, 1]);
        check(Policy::Weighted, &[7, 7], &[0, 1, 0, 1]);
        check(Policy::Weighted, &[2, 1], &[0, 1, 0, 0, 1, 0]);
        check(Policy::Weighted, &[3, 0, 1], &[0, 0, 1, 0]); // the zero-weight one is no candidate
        check(Policy::Random, &[1, 1], &[0, 1, 0, 1]);
    }

    #[test]
    fn proportions_hold_for_large_weights() {
        let upstream = upstream(Policy::Weighted, &weighted(&[60_000, 30_000, 1]));
        let mut counts = BTreeMap::new();
        picks(&upstream, None, 4096).into_iter().for_each(|c| *counts.entry(c).or_insert(0) += 1);
        assert!((2700..2760).contains(&counts[&0]) && (1340..1380).contains(&counts[&1]), "{counts:?}");
        assert!(counts[&2] >= 1);
    }

    #[test]
    fn young_ones_take_a_quarter_share() {
        let young = with(instance("web", 2), |i| i.phase = Phase::Young);
        let mixed = picks(&upstream(Policy::RoundRobin, &[instance("web", 1), young.clone()]), None, 5);
        assert_eq!(mixed.iter().filter(|c| **c == 1).count(), 1);
        assert_eq!(
            picks(&upstream(Policy::RoundRobin, &[young]), None, 2),
            [0, 0],
            "a lone young one takes all"
        );
    }

    #[test]
    fn parked_with_a_reason() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Instance), expect: Option<Parked>) {
            let upstream = upstream(Policy::Weighted, &[with(instance("web", 1), change)]);
            assert_eq!(upstream.parked().first().map(|(_, why)| *why), expect);
            assert_eq!(upstream.pick(None, 0, &Tried::default()).is_none(), expect.is_some());
        }
        check(|_| (), None);
        check(|i| i.registration.health = Health::Warning, None);
        check(|i| i.phase = Phase::Draining, Some(Parked::Draining));
        check(|i| i.registration.health = Health::Critical, Some(Parked::Critical));
        check(|i| i.registration.health = Health::Maintenance, Some(Parked::Maintenance));
        check(|i| i.registration.protocol = Protocol::Udp, Some(Parked::NotHttp));
        check(|i| i.registration.endpoint.port = 0, Some(Parked::NotHttp));
        check(|i| i.registration.weight = Weight(0), Some(Parked::ZeroWeight));
    }

    #[test]
    fn a_retry_goes_elsewhere_until_nobody_is_left() {
        let upstream = upstream(Policy::Weighted, &weighted(&[2, 1, 1]));
        let mut tried = Tried::default();
        while let Some(candidate) = upstream.pick(None, 0, &tried) {
            assert!(!tried.0.contains(&candidate));
            tried.add(candidate);
        }
        assert_eq!(tried.count(), 3);
    }

    #[test]
    fn a_route_may_ask_for_another_policy() {
        let upstream = upstream(Policy::Weighted, &weighted(&[3, 1]));
        assert_eq!(picks(&upstream, Some(Policy::RoundRobin), 4), [0, 1, 0, 1]);
        assert_eq!(picks(&upstream, Some(Policy::Random), 4), [0, 1, 0, 1]);
    }

    #[test]
    fn a_change_does_not_restart_the_round() {
        let instances: Vec<_> = weighted(&[1, 1]).into_iter().map(Arc::new).collect();
        let name = || ServiceName::new("web").unwrap();
        let before = Upstream::new(name(), Policy::RoundRobin, &instances, None);
        assert_eq!(picks(&before, None, 1), [0]);
        let after = Upstream::new(name(), Policy::RoundRobin, &instances, Some(&before));
        assert_eq!(picks(&after, None, 1), [1]);
    }
}
