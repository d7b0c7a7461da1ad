//! The nine steps by which the book on KIM tests its `Naming` interface, and what it waits for by sleeping is waited for
//! by condition. Every registry takes them, as part of [`crate::registry_battery`].

#![expect(clippy::expect_used, reason = "a check's verdict is a panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Endpoint, Filter, Guard, Health, Incarnation, InstanceId, Interest, Owner, Protocol, Registration,
    Registry, ServiceName, View, Weight,
};
use tokio::time::timeout;

/// How long any one answer may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(10);

/// `register`, `find` by tags, `subscribe`, `unsubscribe` by drop, `deregister`, in the order of KIM's `Test_Naming`.
pub async fn kims_nine_steps(registry: Arc<dyn Registry>) {
    let mut one = registration("for-test", "test_1");
    let mut two = registration("for-test", "test_2");
    (one.endpoint.port, two.endpoint.port) = (8000, 8001);
    one.tags = ["tab1", "gate"].map(str::to_owned).into();
    two.tags = ["tab2", "gate"].map(str::to_owned).into();
    let protocol = BTreeMap::from([("protocol".to_owned(), "ws".to_owned())]);
    (one.meta, two.meta) = (protocol.clone(), protocol);
    let service = one.service.clone();
    // Before: nothing of an earlier run.
    for id in [&one.id, &two.id] {
        let _nothing_there = timely(registry.deregister(id.clone(), Guard::Anyone)).await;
    }

    // 1. Register the first. 2. It is found.
    timely(registry.register(one.clone())).await.expect("1: registered");
    assert_eq!(found(&registry, &service, &[]).await, [one.clone()], "2");
    // 3. Subscribe. 4. Register the second: the subscriber sees both, in order.
    let mut subscription = registry.subscribe(Interest::Service(service.clone()));
    let mut view = View::default();
    view.apply(timely(subscription.next()).await.expect("3: a first value"));
    assert_eq!(ids(&view, &service), [one.id.clone()], "3");
    timely(registry.register(two.clone())).await.expect("4: registered");
    view.apply(timely(subscription.next()).await.expect("4: a change"));
    assert_eq!(ids(&view, &service), [one.id.clone(), two.id.clone()], "4");
    drop(subscription);
    // 5. Both have this tag. 6. One has that.
    assert_eq!(found(&registry, &service, &["gate"]).await, [one.clone(), two.clone()], "5");
    assert_eq!(found(&registry, &service, &["tab2"]).await, [two.clone()], "6");
    assert_eq!(found(&registry, &service, &["tab1", "tab2"]).await, [], "6: all tags must be there");
    // 7. Deregister the second. 8. Only the first is found. 9. Deregister the first.
    timely(registry.deregister(two.id, Guard::Anyone)).await.expect("7: deregistered");
    assert_eq!(found(&registry, &service, &[]).await, [one.clone()], "8");
    timely(registry.deregister(one.id, Guard::Anyone)).await.expect("9: deregistered");
    assert_eq!(found(&registry, &service, &[]).await, [], "9");
}

/// An instance `which` of `service`, like any other. Ids are unique in a whole registry, so it carries the service's name.
pub fn registration(service: &str, which: &str) -> Registration {
    Registration {
        id: InstanceId::new(format!("kim-{service}:{which}")).expect("an id"),
        service: ServiceName::new(format!("kim-{service}")).expect("a service name"),
        endpoint: Endpoint { host: "localhost".parse().expect("a name"), port: 80 },
        protocol: Protocol::Tcp,
        tags: [].into(),
        meta: BTreeMap::new(),
        weight: Weight::default(),
        zone: None,
        owner: Owner::new("kim").expect("an owner"),
        incarnation: Incarnation::default(),
        health: Health::Passing,
    }
}

async fn found(registry: &Arc<dyn Registry>, service: &ServiceName, tags: &[&str]) -> Vec<Registration> {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let found = timely(registry.find(service.clone(), Filter { tags, ..Filter::usable() })).await;
    found.expect("a view").instances.iter().map(|instance| instance.registration.clone()).collect()
}

fn ids(view: &View, service: &ServiceName) -> Vec<InstanceId> {
    view.instances(service.as_str()).map(|instance| instance.id().clone()).collect()
}

async fn timely<T>(answer: impl Future<Output = T>) -> T {
    timeout(PATIENCE, answer).await.expect("an answer in time")
}
