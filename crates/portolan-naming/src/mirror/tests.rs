use super::*;
use crate::fixture::{ids, instance};
use portolan_model::InstanceId;

fn remove(service: &str, id: &str, at: u64) -> Change {
    let (service, id) = (ServiceName::new(service).unwrap(), InstanceId::new(id).unwrap());
    Change::Remove { revision: Revision(at), service, id }
}

fn upsert(service: &str, id: &str, at: u64) -> Change {
    Change::Upsert { revision: Revision(at), instance: instance(service, id, at) }
}

/// One line for each change that waits.
async fn told(subscription: &mut Subscription) -> Vec<String> {
    let mut lines = Vec::new();
    while let Ok(Some(change)) = tokio::time::timeout(std::time::Duration::ZERO, subscription.next()).await {
        lines.push(match change {
            Change::Reset { revision, instances } => {
                format!("reset {revision} {}", ids(&instances).join(" "))
            }
            Change::Upsert { revision, instance } => format!("upsert {revision} {}", instance.id()),
            Change::Remove { revision, id, .. } => format!("remove {revision} {id}"),
        });
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn watchers_are_reset_and_then_follow() {
    let mirror = Mirror::default();
    let mut all = mirror.subscribe(Interest::All);
    let mut web = mirror.subscribe(Interest::Service(ServiceName::new("web").unwrap()));
    assert!(told(&mut all).await.is_empty(), "nothing is known yet");
    mirror.reset(Revision(5), vec![instance("web", "w1", 3), instance("db", "d1", 4)]);
    assert_eq!(told(&mut all).await, ["reset 5 d1 w1"]);
    assert_eq!(told(&mut web).await, ["reset 5 w1"]);
    mirror.apply(upsert("db", "d2", 6));
    mirror.apply(upsert("db", "d2", 6));
    mirror.apply(remove("web", "w1", 7));
    assert_eq!(told(&mut all).await, ["upsert 6 d2", "remove 7 w1"]);
    assert_eq!(told(&mut web).await, ["remove 7 w1"]);
    mirror.end();
    assert_eq!(all.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn reading_anew_tells_only_the_difference() {
    let mirror = Mirror::default();
    mirror
        .reset(Revision(1), vec![instance("web", "a", 1), instance("web", "b", 1), instance("web", "m", 1)]);
    let mut web = mirror.subscribe(Interest::All);
    told(&mut web).await;
    mirror.reset(Revision(9), vec![instance("web", "b", 1), instance("web", "c", 8), instance("db", "m", 8)]);
    assert_eq!(told(&mut web).await, ["upsert 9 c", "remove 9 m", "upsert 9 m", "remove 9 a"]);
    mirror
        .reset(Revision(10), vec![instance("web", "b", 1), instance("web", "c", 8), instance("db", "m", 8)]);
    assert!(told(&mut web).await.is_empty(), "an equal book wakes nobody");
}

#[tokio::test(start_paused = true)]
async fn a_laggard_is_reset() {
    let mirror = Mirror::default();
    mirror.reset(Revision(1), vec![]);
    let mut all = mirror.subscribe(Interest::All);
    told(&mut all).await;
    for n in 0..=QUEUE_LIMIT as u64 {
        mirror.apply(upsert("web", "a", 2 + n));
    }
    assert_eq!(told(&mut all).await, [format!("reset {} a", 2 + QUEUE_LIMIT)]);
}

#[tokio::test(start_paused = true)]
async fn revisions_are_per_service_and_survive_extinction() {
    let mirror = Mirror::default();
    mirror.reset(Revision(3), vec![instance("web", "w", 3)]);
    mirror.apply(upsert("db", "d", 5));
    let of = |service: &str| mirror.find(&ServiceName::new(service).unwrap(), &Filter::default()).revision.0;
    assert_eq!((of("web"), of("db"), of("none")), (3, 5, 0));
    mirror.apply(remove("db", "d", 8));
    assert_eq!((of("web"), of("db"), of("none")), (3, 8, 8));
    assert_eq!(mirror.list().revision, Revision(8));
    mirror.reached(Revision(8)).await;
}
