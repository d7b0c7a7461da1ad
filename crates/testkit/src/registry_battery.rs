//! The conformance battery of [`Registry`]: what every implementation promises, told from outside.
//!
//! Each check uses services and ids of its own and asks nothing of the rest of the book, so all of them may run, in any
//! order or at once, over one registry that others use too. A check panics where a promise is broken.

#![expect(clippy::expect_used, clippy::panic, reason = "a check's verdict is a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Change, Endpoint, Filter, Guard, Health, Incarnation, Instance, InstanceId, Interest, Limit, Owner,
    Phase, Protocol, Registration, Registry, RegistryError, Revision, ServiceName, Subscription, View,
    Weight, Zone,
};
use tokio::time::timeout;

/// How long any one answer may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many changes a watcher sleeps through in [`a_laggard_ends_like_everyone`].
const LAG: u16 = 1500;

/// How many of them are made at a time.
const CROWD: usize = 250;

/// Runs every check, one after the other.
pub async fn run(registry: Arc<dyn Registry>) {
    what_is_registered_is_found(Arc::clone(&registry)).await;
    find_selects_by_tags_and_meta(Arc::clone(&registry)).await;
    find_selects_by_health_and_drain(Arc::clone(&registry)).await;
    list_holds_everything(Arc::clone(&registry)).await;
    unknown_services_are_empty(Arc::clone(&registry)).await;
    an_id_moves_between_services(Arc::clone(&registry)).await;
    registering_ends_a_drain(Arc::clone(&registry)).await;
    guards_protect_owners_and_lives(Arc::clone(&registry)).await;
    another_owner_takes_over(Arc::clone(&registry)).await;
    an_older_life_is_refused(Arc::clone(&registry)).await;
    limits_are_enforced(Arc::clone(&registry)).await;
    a_subscription_sees_add_change_and_remove(Arc::clone(&registry)).await;
    a_subscription_to_everything_sees_every_service(Arc::clone(&registry)).await;
    unchanged_writes_are_silent(Arc::clone(&registry)).await;
    a_subscription_is_about_its_service_only(Arc::clone(&registry)).await;
    a_wait_given_up_loses_nothing(Arc::clone(&registry)).await;
    crate::naming_battery::kims_nine_steps(Arc::clone(&registry)).await;
    a_laggard_ends_like_everyone(registry).await;
}

/// Every field comes back as it was said; the revision is the one the write returned.
pub async fn what_is_registered_is_found(registry: Arc<dyn Registry>) {
    let mut said = said("found", "a");
    said.endpoint = Endpoint { host: "fe80::1".parse().expect("an address"), port: 65535 };
    said.protocol = Protocol::Udp;
    said.meta = BTreeMap::from([("path".to_owned(), "/a \"b\" 订单".to_owned())]);
    said.weight = Weight(7);
    said.zone = Some(Zone::new("rack-1").expect("a zone"));
    said.incarnation = Incarnation(1_700_000_000_123_456_789);
    said.health = Health::Warning;
    let first = register(&registry, &said).await;
    let found = find(&registry, &said.service, Filter::default()).await;
    assert_eq!(found.revision, first);
    let [instance] = &found.instances[..] else { panic!("one instance, not {:?}", found.instances) };
    assert_eq!(instance.registration, said);
    assert_eq!((instance.created, instance.modified), (first, first));

    said.health = Health::Critical;
    said.endpoint = Endpoint { host: "web_1.internal".parse().expect("a name"), port: 0 };
    let second = register(&registry, &said).await;
    assert!(second > first, "revisions grow: {first} then {second}");
    let found = find(&registry, &said.service, Filter::default()).await;
    assert_eq!(found.revision, second);
    assert_eq!(found.instances[0].registration, said);
    assert_eq!((found.instances[0].created, found.instances[0].modified), (first, second));
}

/// All tags and all meta entries of a filter must be there; the view's revision does not depend on the filter.
pub async fn find_selects_by_tags_and_meta(registry: Arc<dyn Registry>) {
    let rows = [("a", "blue v1", "cn"), ("b", "blue v2", "cn"), ("c", "green v2", "eu")];
    let mut newest = Revision::default();
    for (id, tags, region) in rows {
        let mut said = said("select", id);
        said.tags = words(tags);
        said.meta = BTreeMap::from([("region".to_owned(), region.to_owned())]);
        newest = register(&registry, &said).await;
    }
    let expect = [
        ("", None, "a b c"),
        ("blue", None, "a b"),
        ("blue v2", None, "b"),
        ("blue v3", None, ""),
        ("", Some(("region", "cn")), "a b"),
        ("v2", Some(("region", "eu")), "c"),
        ("", Some(("region", "")), ""),
        ("", Some(("absent", "cn")), ""),
    ];
    for (tags, meta, ids) in expect {
        let meta = meta.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let filter = Filter { tags: words(tags), meta, ..Filter::default() };
        let found = find(&registry, &service("select"), filter).await;
        assert_eq!((names(&found.instances), found.revision), (ids.to_owned(), newest), "{tags:?}");
    }
}

/// The worst health wanted, and leaving out who drains.
pub async fn find_selects_by_health_and_drain(registry: Arc<dyn Registry>) {
    let healths = [
        ("a", Health::Passing),
        ("b", Health::Warning),
        ("c", Health::Critical),
        ("d", Health::Maintenance),
        ("e", Health::Passing),
    ];
    for (id, health) in healths {
        register(&registry, &Registration { health, ..said("fit", id) }).await;
    }
    let drained = drain(&registry, "fit", "e", Guard::Anyone).await.expect("drained");
    let worst = |health| Filter { worst: Some(health), ..Filter::default() };
    let expect = [
        (Filter::default(), "a b c d e"),
        (worst(Health::Maintenance), "a b c d e"),
        (worst(Health::Critical), "a b c e"),
        (worst(Health::Warning), "a b e"),
        (worst(Health::Passing), "a e"),
        (Filter::usable(), "a b"),
        (Filter { without_draining: true, ..Filter::default() }, "a b c d"),
    ];
    for (filter, ids) in expect {
        let found = find(&registry, &service("fit"), filter.clone()).await;
        assert_eq!((names(&found.instances), found.revision), (ids.to_owned(), drained), "{filter:?}");
    }
}

/// A listing has every service that has instances, and no other.
pub async fn list_holds_everything(registry: Arc<dyn Registry>) {
    for (name, id) in [("list-1", "a"), ("list-1", "b"), ("list-2", "c"), ("list-3", "d")] {
        register(&registry, &said(name, id)).await;
    }
    let gone = deregister(&registry, "list-3", "d", Guard::Anyone).await.expect("removed");
    let listing = registry.list().await.expect("a listing");
    assert!(listing.revision >= gone);
    let listed = |name| listing.services.get(&service(name)).map(|instances| names(instances));
    assert_eq!(listed("list-1").as_deref(), Some("a b"));
    assert_eq!(listed("list-2").as_deref(), Some("c"));
    assert_eq!(listed("list-3"), None);
    assert!(listing.services.values().all(|instances| !instances.is_empty()));
}

/// A service nobody registered, and one whose last instance went, are empty views; the going is seen in the revision.
pub async fn unknown_services_are_empty(registry: Arc<dyn Registry>) {
    assert_eq!(find(&registry, &service("never"), Filter::default()).await.instances, []);
    register(&registry, &said("extinct", "a")).await;
    let gone = deregister(&registry, "extinct", "a", Guard::Anyone).await.expect("removed");
    let found = find(&registry, &service("extinct"), Filter::default()).await;
    assert_eq!(found.instances, []);
    assert!(found.revision >= gone, "a watcher of an extinct service must learn of it");
    let again = deregister(&registry, "extinct", "a", Guard::Anyone).await;
    assert_eq!(again, Err(RegistryError::UnknownInstance(id("extinct", "a"))));
    let drained = drain(&registry, "extinct", "a", Guard::Anyone).await;
    assert_eq!(drained, Err(RegistryError::UnknownInstance(id("extinct", "a"))));
}

/// An id is in one service at a time.
pub async fn an_id_moves_between_services(registry: Arc<dyn Registry>) {
    let mut said = said("move-from", "a");
    register(&registry, &said).await;
    let mut from = subscribe(&registry, "move-from").await;
    let mut to = subscribe(&registry, "move-to").await;
    said.service = service("move-to");
    let moved = register(&registry, &said).await;
    assert_eq!(step(&mut from).await.1, Seen::Gone(said.id.clone()));
    let (revision, seen) = step(&mut to).await;
    let instance = Arc::clone(seen.here());
    assert_eq!((instance.registration.clone(), revision), (said, moved));
    assert_eq!(find(&registry, &service("move-from"), Filter::default()).await.instances, []);
    assert_eq!(find(&registry, &service("move-to"), Filter::default()).await.instances, [instance]);
}

/// A drain stays until the owner registers again; draining twice changes nothing.
pub async fn registering_ends_a_drain(registry: Arc<dyn Registry>) {
    let said = said("drain", "a");
    register(&registry, &said).await;
    let drained = drain(&registry, "drain", "a", Guard::Anyone).await.expect("drained");
    let view = find(&registry, &said.service, Filter::default()).await;
    assert_eq!((view.revision, view.instances[0].phase), (drained, Phase::Draining));
    assert!(!view.instances[0].takes_new_work());
    drain(&registry, "drain", "a", Guard::Anyone).await.expect("drained already");
    assert_eq!(find(&registry, &said.service, Filter::default()).await, view);
    let back = register(&registry, &said).await;
    let view = find(&registry, &said.service, Filter::usable()).await;
    assert_eq!((names(&view.instances), view.revision), ("a".to_owned(), back));
    assert!(back > drained);
}

/// Only the owner, only the life meant or an older one; an operator always.
pub async fn guards_protect_owners_and_lives(registry: Arc<dyn Registry>) {
    let said = Registration { incarnation: Incarnation(5), ..said("guard", "a") };
    register(&registry, &said).await;
    let before = find(&registry, &said.service, Filter::default()).await;
    let not_owner = RegistryError::NotOwner { id: said.id.clone(), owner: said.owner.clone() };
    let stale = RegistryError::StaleIncarnation { id: said.id.clone() };
    for (guard, error) in [(owned("other", 9), not_owner), (owned("battery", 4), stale)] {
        let drained = drain(&registry, "guard", "a", guard.clone()).await;
        assert_eq!(drained, Err(error.clone()), "drain {guard:?}");
        let removed = deregister(&registry, "guard", "a", guard.clone()).await;
        assert_eq!(removed, Err(error), "deregister {guard:?}");
    }
    assert_eq!(find(&registry, &said.service, Filter::default()).await, before);
    drain(&registry, "guard", "a", owned("battery", 5)).await.expect("the owner drains this life");
    deregister(&registry, "guard", "a", owned("battery", 6)).await.expect("the owner removes lives up to 6");
    assert_eq!(find(&registry, &said.service, Filter::default()).await.instances, []);
}

/// Whoever registers an id owns it from then on, whatever the lives' numbers: they are each owner's own.
pub async fn another_owner_takes_over(registry: Arc<dyn Registry>) {
    let first = Registration { incarnation: Incarnation(5), ..said("takeover", "a") };
    let second = Registration { owner: owner("other"), incarnation: Incarnation(3), ..first.clone() };
    register(&registry, &first).await;
    register(&registry, &second).await;
    let found = find(&registry, &first.service, Filter::default()).await;
    assert_eq!(found.instances.iter().map(|i| i.registration.clone()).collect::<Vec<_>>(), [second]);
    let late = deregister(&registry, "takeover", "a", owned("battery", 5)).await;
    assert_eq!(late, Err(RegistryError::NotOwner { id: first.id, owner: owner("other") }));
    deregister(&registry, "takeover", "a", owned("other", 3)).await.expect("the new owner removes it");
}

/// A late word about an old life does not replace the new one.
pub async fn an_older_life_is_refused(registry: Arc<dyn Registry>) {
    let old = Registration { incarnation: Incarnation(1), ..said("lives", "a") };
    let new = Registration { incarnation: Incarnation(2), ..old.clone() };
    register(&registry, &old).await;
    register(&registry, &new).await;
    let late = registry.register(old.clone()).await;
    assert_eq!(late, Err(RegistryError::StaleIncarnation { id: old.id }));
    let found = find(&registry, &new.service, Filter::default()).await;
    assert_eq!(found.instances[0].registration, new);
}

/// What is too much is refused, whichever face let it through.
pub async fn limits_are_enforced(registry: Arc<dyn Registry>) {
    let mut said = said("limits", "a");
    said.tags = (0..=Registration::TAGS_LIMIT).map(|n| n.to_string()).collect();
    let refused = registry.register(said.clone()).await;
    assert_eq!(refused, Err(RegistryError::Limit(Limit::Tags { count: Registration::TAGS_LIMIT + 1 })));
    assert_eq!(find(&registry, &said.service, Filter::default()).await.instances, []);
}

/// `Reset` with what is there, then each change as it comes, with the revision its write returned.
pub async fn a_subscription_sees_add_change_and_remove(registry: Arc<dyn Registry>) {
    let first = said("watched", "a");
    let start = register(&registry, &first).await;
    let mut watcher = registry.subscribe(Interest::Service(service("watched")));
    let Change::Reset { revision, instances } = next(&mut watcher).await else { panic!("a reset first") };
    assert_eq!((revision, names(&instances)), (start, "a".to_owned()));

    let mut second = said("watched", "b");
    let added = register(&registry, &second).await;
    let (revision, seen) = step(&mut watcher).await;
    assert_eq!((revision, seen.here().registration.clone()), (added, second.clone()));

    second.health = Health::Critical;
    let worse = register(&registry, &second).await;
    let (revision, seen) = step(&mut watcher).await;
    assert_eq!((revision, seen.here().registration.clone()), (worse, second.clone()));

    let drained = drain(&registry, "watched", "a", Guard::Anyone).await.expect("drained");
    let (revision, seen) = step(&mut watcher).await;
    assert_eq!((revision, seen.here().phase), (drained, Phase::Draining));

    for id in [first.id, second.id] {
        let removed = registry.deregister(id.clone(), Guard::Anyone).await.expect("removed");
        assert_eq!(step(&mut watcher).await, (removed, Seen::Gone(id)));
    }
}

/// One subscription over all services, also those that come later.
pub async fn a_subscription_to_everything_sees_every_service(registry: Arc<dyn Registry>) {
    register(&registry, &said("all-1", "a")).await;
    let mut watcher = registry.subscribe(Interest::All);
    let mut view = View::default();
    view.apply(next(&mut watcher).await);
    assert_eq!(view.instances(service("all-1").as_str()).count(), 1);
    register(&registry, &said("all-2", "b")).await;
    let last = deregister(&registry, "all-1", "a", Guard::Anyone).await.expect("removed");
    while view.revision() < last {
        view.apply(next(&mut watcher).await);
    }
    assert_eq!(view.instances(service("all-1").as_str()).count(), 0);
    assert_eq!(view.instances(service("all-2").as_str()).count(), 1);
}

/// A write that changes nothing wakes nobody and moves no revision.
pub async fn unchanged_writes_are_silent(registry: Arc<dyn Registry>) {
    let said = said("silent", "a");
    register(&registry, &said).await;
    let mut watcher = subscribe(&registry, "silent").await;
    let before = find(&registry, &said.service, Filter::default()).await;
    for _ in 0..3 {
        register(&registry, &said).await;
    }
    assert_eq!(find(&registry, &said.service, Filter::default()).await, before);
    let removed = deregister(&registry, "silent", "a", Guard::Anyone).await.expect("removed");
    let seen = step(&mut watcher).await;
    assert_eq!(seen, (removed, Seen::Gone(said.id)), "the first thing seen is the removal");
}

/// What happens to other services is not told.
pub async fn a_subscription_is_about_its_service_only(registry: Arc<dyn Registry>) {
    let mut watcher = subscribe(&registry, "only").await;
    register(&registry, &said("other", "a")).await;
    register(&registry, &said("only", "b")).await;
    assert_eq!(step(&mut watcher).await.1.here().id(), &id("only", "b"));
    deregister(&registry, "other", "a", Guard::Anyone).await.expect("removed");
    deregister(&registry, "only", "b", Guard::Anyone).await.expect("removed");
    assert_eq!(step(&mut watcher).await.1, Seen::Gone(id("only", "b")));
}

/// `next` may be dropped while it waits, as in a `select!`, and nothing is lost by it.
pub async fn a_wait_given_up_loses_nothing(registry: Arc<dyn Registry>) {
    let mut watcher = subscribe(&registry, "impatient").await;
    let mut view = View::default();
    for n in 0..20 {
        let said = numbered("impatient", n);
        let write = register(&registry, &said);
        tokio::pin!(write);
        // Whichever is ready first, the other is dropped or goes on.
        let written = tokio::select! {
            written = &mut write => written,
            change = watcher.next() => {
                view.apply(change.expect("a running registry"));
                write.await
            }
        };
        while view.revision() < written {
            view.apply(next(&mut watcher).await);
        }
    }
    assert_eq!(view.instances(service("impatient").as_str()).count(), 20);
}

/// A watcher that slept through more than anybody would queue for it ends in the same state as one that never slept.
pub async fn a_laggard_ends_like_everyone(registry: Arc<dyn Registry>) {
    let name = service("lag");
    let mut laggard = subscribe(&registry, "lag").await;
    let present = tokio::spawn({
        let mut watcher = registry.subscribe(Interest::Service(name.clone()));
        async move {
            let mut view = View::default();
            while view.instances(service("lag").as_str()).all(|instance| !is_last(instance)) {
                view.apply(next(&mut watcher).await);
            }
            view
        }
    });
    // A crowd at a time: a cluster that writes them one by one still answers each in time.
    for first in (0..LAG).step_by(CROWD) {
        let writers = (first..LAG).take(CROWD).map(|n| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { register(&registry, &numbered("lag", n)).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("registered");
        }
    }
    registry.deregister(numbered("lag", 0).id, Guard::Anyone).await.expect("removed");
    let last = register(&registry, &said("lag", "last")).await;

    let present = timeout(PATIENCE, present).await.expect("in time").expect("watched");
    let mut away = View::default();
    while away.revision() < last {
        away.apply(next(&mut laggard).await);
    }
    let found = find(&registry, &name, Filter::default()).await;
    assert_eq!(found.instances.len(), usize::from(LAG));
    for view in [&present, &away] {
        assert!(view.instances(name.as_str()).eq(&found.instances));
    }
}

fn is_last(instance: &Instance) -> bool {
    *instance.id() == id("lag", "last")
}

/// One change as these checks look at it, beside its revision.
#[derive(Debug, PartialEq)]
enum Seen {
    Here(Arc<Instance>),
    Gone(InstanceId),
}

impl Seen {
    fn here(&self) -> &Arc<Instance> {
        match self {
            Self::Here(instance) => instance,
            Self::Gone(id) => panic!("{id} is gone"),
        }
    }
}

async fn step(watcher: &mut Subscription) -> (Revision, Seen) {
    match next(watcher).await {
        Change::Upsert { revision, instance } => (revision, Seen::Here(instance)),
        Change::Remove { revision, id, service: _ } => (revision, Seen::Gone(id)),
        Change::Reset { .. } => panic!("a reset where a single change was due"),
    }
}

async fn next(watcher: &mut Subscription) -> Change {
    timeout(PATIENCE, watcher.next()).await.expect("a change in time").expect("a running registry")
}

/// A subscription that has had its first reset.
async fn subscribe(registry: &Arc<dyn Registry>, name: &str) -> Subscription {
    let mut watcher = registry.subscribe(Interest::Service(service(name)));
    assert!(matches!(next(&mut watcher).await, Change::Reset { .. }), "a reset first");
    watcher
}

async fn register(registry: &Arc<dyn Registry>, said: &Registration) -> Revision {
    timeout(PATIENCE, registry.register(said.clone())).await.expect("an answer in time").expect("registered")
}

async fn drain(
    registry: &Arc<dyn Registry>,
    name: &str,
    which: &str,
    guard: Guard,
) -> Result<Revision, RegistryError> {
    timeout(PATIENCE, registry.drain(id(name, which), guard)).await.expect("an answer in time")
}

async fn deregister(
    registry: &Arc<dyn Registry>,
    name: &str,
    which: &str,
    guard: Guard,
) -> Result<Revision, RegistryError> {
    timeout(PATIENCE, registry.deregister(id(name, which), guard)).await.expect("an answer in time")
}

async fn find(
    registry: &Arc<dyn Registry>,
    service: &ServiceName,
    filter: Filter,
) -> portolan_model::ServiceView {
    let found = registry.find(service.clone(), filter);
    timeout(PATIENCE, found).await.expect("an answer in time").expect("a view")
}

fn said(name: &str, which: &str) -> Registration {
    Registration {
        id: id(name, which),
        service: service(name),
        endpoint: Endpoint { host: "10.0.0.1".parse().expect("an address"), port: 80 },
        protocol: Protocol::Tcp,
        tags: BTreeSet::new(),
        meta: BTreeMap::new(),
        weight: Weight::default(),
        zone: None,
        owner: owner("battery"),
        incarnation: Incarnation::default(),
        health: Health::Passing,
    }
}

fn numbered(name: &str, n: u16) -> Registration {
    let mut said = said(name, &format!("{n:05}"));
    said.endpoint.port = n;
    said
}

/// Ids are unique in a whole registry, so they carry the name of their check's service.
fn id(name: &str, which: &str) -> InstanceId {
    InstanceId::new(format!("battery-{name}:{which}")).expect("an id")
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(format!("battery-{name}")).expect("a service name")
}

fn owner(name: &str) -> Owner {
    Owner::new(name).expect("an owner")
}

fn owned(by: &str, incarnation: u64) -> Guard {
    Guard::OwnedBy { owner: owner(by), incarnation: Incarnation(incarnation) }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The short names of instances, in the order given.
fn names(instances: &[Arc<Instance>]) -> String {
    let short = instances.iter().map(|i| i.id().as_str().rsplit(':').next().unwrap_or_default());
    short.collect::<Vec<_>>().join(" ")
}
