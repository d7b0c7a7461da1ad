//! What was known before this run, and what becomes of it when the backend is read for the first time; pure.
//!
//! Most of what the first reading lacks has gone while nobody looked. But a cluster may come back without its memory, or
//! with sessions ended that are about to begin again: what is missing is *doubtful* when the cluster's history is another,
//! or when a service would be left without anybody to send work to. Not so when its endpoint is somebody else's by now:
//! whoever sent work there would reach the wrong one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use portolan_model::{Change, Endpoint, Instance, InstanceId, Protocol, Revision, ServiceName};

/// What was known before this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seed {
    /// The revision of the newest change.
    pub(crate) revision: Revision,
    /// When it was true.
    pub(crate) known_at: SystemTime,
    /// All there was.
    pub(crate) instances: Vec<Arc<Instance>>,
}

/// Those of `known` that `found` lacks and that are not believed to be gone.
pub(super) fn doubtful(
    known: &[Arc<Instance>],
    found: &[Arc<Instance>],
    another_history: bool,
) -> Vec<Arc<Instance>> {
    let there: BTreeSet<_> = found.iter().map(|instance| instance.id()).collect();
    let places: BTreeSet<_> = found.iter().filter_map(|instance| place(instance)).collect();
    let served: BTreeSet<_> = found
        .iter()
        .filter(|instance| instance.takes_new_work())
        .map(|instance| instance.service())
        .collect();
    let is_doubtful = |instance: &&Arc<Instance>| {
        let last = instance.takes_new_work() && !served.contains(instance.service());
        let taken = place(instance).is_some_and(|place| places.contains(&place));
        !there.contains(instance.id()) && !taken && (another_history || last)
    };
    known.iter().filter(is_doubtful).cloned().collect()
}

/// Whether `new` stands where `old` stood.
pub(super) fn replaces(new: &Instance, old: &Instance) -> bool {
    place(new).is_some_and(|new| Some(new) == place(old))
}

/// Where nobody else can be; `None` for an instance without a port.
fn place(instance: &Instance) -> Option<(&Endpoint, bool)> {
    let endpoint = instance.endpoint();
    (endpoint.port != 0).then_some((endpoint, instance.registration.protocol == Protocol::Udp))
}

/// What a watcher who knows `before` is to be told so that he knows `after`, and of which service. Instances that differ
/// in nothing but revisions are as they were: another run, or another history, has counted them.
pub(super) fn differences(
    revision: Revision,
    before: Vec<Arc<Instance>>,
    after: Vec<Arc<Instance>>,
) -> Vec<(ServiceName, Change)> {
    let before: BTreeMap<InstanceId, Arc<Instance>> =
        before.into_iter().map(|instance| (instance.id().clone(), instance)).collect();
    let now: BTreeMap<_, _> = after.iter().map(|instance| (instance.id(), instance.service())).collect();
    let gone = before.values().filter(|known| now.get(known.id()) != Some(&known.service()));
    let gone = gone.cloned().collect();
    let is_news = |instance: &Arc<Instance>| {
        let same = |known: &Arc<Instance>| {
            known.registration == instance.registration && known.phase == instance.phase
        };
        !before.get(instance.id()).is_some_and(same)
    };
    in_order(revision, gone, after.into_iter().filter(is_news).collect())
}

/// Changes in an order in which nobody sees a service without instances whose instances were replaced: who is new comes
/// before who is gone. An instance that is in another service now leaves the one before it enters the other.
pub(super) fn in_order(
    revision: Revision,
    gone: Vec<Arc<Instance>>,
    fresh: Vec<Arc<Instance>>,
) -> Vec<(ServiceName, Change)> {
    let mut gone: BTreeMap<InstanceId, Arc<Instance>> =
        gone.into_iter().map(|instance| (instance.id().clone(), instance)).collect();
    let removal = |known: &Instance| {
        let (service, id) = (known.service().clone(), known.id().clone());
        (service.clone(), Change::Remove { revision, service, id })
    };
    let upsert =
        |instance: Arc<Instance>| (instance.service().clone(), Change::Upsert { revision, instance });
    let (movers, fresh): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|new| gone.contains_key(new.id()));
    let mut changes: Vec<_> = fresh.into_iter().map(upsert).collect();
    for mover in movers {
        changes.extend(gone.remove(mover.id()).map(|known| removal(&known)));
        changes.push(upsert(mover));
    }
    changes.extend(gone.values().map(|known| removal(known)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ids, instance, moved};
    use crate::mirror::Mirror;
    use portolan_model::{Filter, Health, Interest, Phase};
    use std::time::Duration;

    fn at(port: u16, service: &str, id: &str) -> Arc<Instance> {
        moved(&instance(service, id, 1), port)
    }

    /// One line for each change that waits.
    async fn told(subscription: &mut portolan_model::Subscription) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(Some(change)) = tokio::time::timeout(Duration::ZERO, subscription.next()).await {
            lines.push(match change {
                Change::Reset { revision, instances } => format!("={revision} {}", ids(&instances).join(" ")),
                Change::Upsert { revision, instance } => format!("+{revision} {}", instance.id()),
                Change::Remove { revision, id, .. } => format!("-{revision} {id}"),
            });
        }
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_reading_tells_the_difference_to_what_was_known() {
        let all = |ids: &[&str], at: u64| {
            let each = ids.iter().map(|id| instance(&id[..1], id, at));
            each.enumerate().map(|(n, i)| moved(&i, n as u16 + 1)).collect::<Vec<_>>()
        };
        let seed = Seed {
            revision: Revision(500),
            known_at: SystemTime::UNIX_EPOCH,
            instances: all(&["a1", "a2", "b1", "c1"], 400),
        };
        let mirror = Mirror::default();
        mirror.seed(seed);
        let mut watcher = mirror.subscribe(Interest::All);
        assert_eq!(told(&mut watcher).await, ["=500 a1 a2 b1 c1"]);
        assert!(mirror.is_filled() && !mirror.is_read());
        // A newer state of the same history: what is gone from a service that others serve is gone.
        mirror.reset(Revision(510), all(&["a1", "a3", "b1"], 510));
        assert_eq!(told(&mut watcher).await, ["+510 a3", "-510 a2"]);
        assert!(mirror.is_read());
        let of = |service: &str| mirror.find(&ServiceName::new(service).unwrap(), &Filter::default());
        assert_eq!((of("a").revision, of("b").revision), (Revision(510), Revision(500)));
        assert_eq!(of("b").instances[0].modified, Revision(510), "revisions are the backend's");
        assert_eq!((ids(&of("c").instances), mirror.kept()), (vec!["c1"], 1), "the last one is doubted");
        // Another reading changes nothing of it; whoever stands in its place does.
        mirror.reset(Revision(511), all(&["a1", "a3", "b1"], 510));
        assert!(told(&mut watcher).await.is_empty());
        mirror
            .apply(Change::Upsert { revision: Revision(512), instance: moved(&instance("d", "d1", 512), 4) });
        assert_eq!(told(&mut watcher).await, ["+512 d1", "-512 c1"]);
        assert_eq!(mirror.kept(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_without_its_memory_empties_nothing() {
        let mirror = Mirror::default();
        let instances = vec![at(1, "web", "a"), at(2, "web", "b")];
        mirror.seed(Seed { revision: Revision(500), known_at: SystemTime::UNIX_EPOCH, instances });
        let mut watcher = mirror.subscribe(Interest::All);
        assert_eq!(told(&mut watcher).await, ["=500 a b"]);
        mirror.reset(Revision(2), vec![]);
        assert_eq!(told(&mut watcher).await, [""; 0]);
        // They register again; revisions are those of the new history.
        mirror.apply(Change::Upsert { revision: Revision(3), instance: at(1, "web", "a") });
        let view = mirror.find(&ServiceName::new("web").unwrap(), &Filter::default());
        assert_eq!((ids(&view.instances), mirror.kept()), (vec!["a", "b"], 1));
        assert!(view.revision <= Revision(3), "{}", view.revision);
        tokio::time::advance(Duration::from_secs(31)).await;
        mirror.expire();
        assert_eq!(told(&mut watcher).await, ["-4 b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_kept_and_comes_back_in_another_service_is_in_that_one_only() {
        let mirror = Mirror::default();
        let instances = vec![at(1, "web", "x")];
        mirror.seed(Seed { revision: Revision(500), known_at: SystemTime::UNIX_EPOCH, instances });
        mirror.reset(Revision(501), vec![]);
        let mut watcher = mirror.subscribe(Interest::All);
        assert_eq!(told(&mut watcher).await, ["=501 x"]);
        // Somebody's word about the other service says nothing of this one.
        let (service, id) = (ServiceName::new("shop").unwrap(), InstanceId::new("x").unwrap());
        mirror.apply(Change::Remove { revision: Revision(502), service, id });
        assert_eq!(mirror.kept(), 1);
        mirror.apply(Change::Upsert { revision: Revision(503), instance: at(1, "shop", "x") });
        assert_eq!(told(&mut watcher).await, ["-503 x", "+503 x"]);
        let of = |service: &str| mirror.find(&ServiceName::new(service).unwrap(), &Filter::default());
        assert_eq!((of("web").instances.len(), of("shop").instances.len(), mirror.kept()), (0, 1, 0));
    }

    #[test]
    fn what_is_missing_is_doubtful_or_gone() {
        #[track_caller]
        fn check(known: &[Arc<Instance>], found: &[Arc<Instance>], another_history: bool, expect: &[&str]) {
            assert_eq!(ids(&doubtful(known, found, another_history)), expect);
        }
        let (a, b, d) = (at(1, "web", "a"), at(2, "web", "b"), at(3, "db", "d"));
        let all = [a.clone(), b.clone(), d.clone()];
        check(&all, &all, false, &[]);
        // Scaled down; a service that has ended, or whose last one is about to return.
        check(&all, &[a.clone(), d], false, &[]);
        check(&all, &[a.clone(), b], false, &["d"]);
        check(&all, &[], false, &["a", "b", "d"]);
        // Another history: nothing that it lacks was deleted in it.
        check(&all, std::slice::from_ref(&a), true, &["b", "d"]);
        // The place is taken.
        check(&all, &[at(3, "other", "x"), at(2, "web", "y")], true, &["a"]);
        // Those that are there take no work; those that are missing took none.
        let mut sick = Arc::unwrap_or_clone(a);
        sick.registration.health = Health::Critical;
        let sick = Arc::new(sick);
        check(&all, std::slice::from_ref(&sick), false, &["b", "d"]);
        check(&[sick], &[], false, &[]);
    }

    #[test]
    fn revisions_alone_are_no_difference() {
        let told = |before: &[Arc<Instance>], after: &[Arc<Instance>]| {
            let line = |(service, change): (ServiceName, Change)| match change {
                Change::Upsert { instance, .. } => format!("+{service}/{}", instance.id()),
                Change::Remove { id, .. } => format!("-{service}/{id}"),
                Change::Reset { .. } => "reset".to_owned(),
            };
            let changes = differences(Revision(9), before.to_vec(), after.to_vec());
            changes.into_iter().map(line).collect::<Vec<_>>().join(" ")
        };
        let (old, new) = (instance("web", "a", 5), instance("web", "a", 2));
        assert_eq!(told(std::slice::from_ref(&old), &[new]), "");
        let mut draining = Arc::unwrap_or_clone(old.clone());
        draining.phase = Phase::Draining;
        let (b, moved) = (instance("web", "b", 1), instance("db", "b", 1));
        assert_eq!(
            told(&[old, b], &[Arc::new(draining), moved, instance("web", "c", 1)]),
            "+web/a +web/c -web/b +db/b"
        );
    }
}
