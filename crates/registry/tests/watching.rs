//! Who watches, is woken for what concerns them and ends where everybody ends.

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use portolan_model::{Change, Guard, Health, Interest, Phase, Registry, RegistryError, Revision, View};
use runtime::{Shutdown, StatusBoard};
use support::{Running, assert_alike, fresh, id, next, open, ready, said, service};

/// Watchers that look now and then, that leave and come back, that hardly ever look, and one that always does.
#[tokio::test]
async fn away_and_present_end_alike() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    let registry = &running.registry;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let interest = |n: usize| match n % 3 {
        0 => Interest::All,
        n => Interest::Service(service(&format!("service-{n}"))),
    };
    let mut watchers: Vec<_> =
        (0..9).map(|n| (interest(n), registry.subscribe(interest(n)), View::default())).collect();
    let (mut present, mut everything) = (registry.subscribe(Interest::All), View::default());
    everything.apply(next(&mut present).await);

    for _ in 0..4000 {
        let which = id(&format!("i{}", dice.u8(..12)));
        let name = format!("service-{}", dice.u8(..4));
        let outcome = match dice.u8(..4) {
            0 => registry.deregister(which, Guard::Anyone).await,
            1 => registry.drain(which, Guard::Anyone).await,
            _ => {
                let health = if dice.bool() { Health::Passing } else { Health::Critical };
                registry
                    .register(portolan_model::Registration { health, ..said(&name, which.as_str()) })
                    .await
            }
        };
        if let Ok(revision) = outcome {
            while everything.revision() < revision {
                let before = everything.revision();
                let change = next(&mut present).await;
                assert_eq!(change.revision(), before.next(), "nothing lost, nothing doubled");
                everything.apply(change);
            }
        }
        let n = dice.usize(..watchers.len());
        let (interest, watcher, view) = &mut watchers[n];
        match n {
            0..3 => {
                for _ in 0..dice.u8(..4) {
                    if let Some(change) = ready(watcher.next()) {
                        view.apply(change.expect("a running registry"));
                    }
                }
            }
            3..6 if dice.u8(..20) == 0 => {
                *watcher = registry.subscribe(interest.clone());
                view.apply(next(watcher).await);
            }
            // The others sleep until the end; some fall behind.
            _ => {}
        }
    }

    for (interest, watcher, view) in &mut watchers {
        while let Some(change) = ready(watcher.next()) {
            view.apply(change.expect("a running registry"));
        }
        let fresh = fresh(registry, interest).await;
        assert_alike(view, &fresh);
        assert!(view.revision() <= everything.revision());
    }
    assert_alike(&everything, &fresh(registry, &Interest::All).await);
    running.stop().await;
}

/// While many write, watchers come at any moment: after its reset each sees every later change once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_reset_and_deltas_nothing_is_lost_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    let writers: Vec<_> = (0..4u16)
        .map(|writer| {
            let registry = Arc::clone(&running.registry);
            tokio::spawn(async move {
                let mut last = Revision::default();
                for n in 0..400u16 {
                    let mut said = said("web", &format!("{writer}-{}", n % 7));
                    said.endpoint.port = n;
                    last = registry.register(said).await.unwrap();
                }
                last
            })
        })
        .collect();
    let watchers: Vec<_> = (0..4u64)
        .map(|seed| {
            let registry = Arc::clone(&running.registry);
            tokio::spawn(async move {
                let mut dice = fastrand::Rng::with_seed(seed);
                let end = Revision(1600);
                let mut view = View::default();
                while view.revision() < end {
                    let mut watcher = registry.subscribe(Interest::All);
                    view.apply(next(&mut watcher).await);
                    for _ in 0..dice.u8(..30) {
                        if view.revision() >= end {
                            break;
                        }
                        let change = next(&mut watcher).await;
                        assert_eq!(change.revision(), view.revision().next());
                        view.apply(change);
                    }
                }
                view
            })
        })
        .collect();
    let mut last = Revision::default();
    for writer in writers {
        last = last.max(writer.await.unwrap());
    }
    assert_eq!(last, Revision(1600));
    let fresh = fresh(&running.registry, &Interest::All).await;
    for watcher in watchers {
        assert_alike(&watcher.await.unwrap(), &fresh);
    }
    running.stop().await;
}

#[tokio::test]
async fn only_what_concerns_a_watcher_wakes_it() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    let registry = &running.registry;
    registry.register(said("web", "a")).await.unwrap();
    let mut watcher = registry.subscribe(Interest::Service(service("web")));
    next(&mut watcher).await;

    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut wait = pin!(watcher.next());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let commits = registry.counts().commits;
    registry.register(said("web", "a")).await.unwrap();
    assert_eq!(registry.counts().commits, commits, "what is so already is not even written");
    registry.register(said("shop", "b")).await.unwrap();
    registry.drain(id("b"), Guard::Anyone).await.unwrap();
    registry.deregister(id("b"), Guard::Anyone).await.unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    let drained = registry.drain(id("a"), Guard::Anyone).await.unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!(wait.await.map(|change| change.revision()), Some(drained));
    running.stop().await;
}

#[tokio::test]
async fn dropping_a_subscription_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    let interests = [Interest::All, Interest::Service(service("web")), Interest::Service(service("web"))];
    let mut watchers: Vec<_> = interests.map(|interest| running.registry.subscribe(interest)).into();
    while let Some(watcher) = watchers.pop() {
        assert_eq!(running.registry.counts().subscriptions, watchers.len() + 1);
        drop(watcher);
    }
    assert_eq!(running.registry.counts().subscriptions, 0);
    running.stop().await;
}

#[tokio::test]
async fn shutdown_finishes_what_waits_and_ends_the_watching() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, task) = open(dir.path(), Duration::ZERO, &StatusBoard::default());
    let (trigger, shutdown) = Shutdown::new();
    let (mut one, mut other) = (registry.subscribe(Interest::All), registry.subscribe(Interest::All));
    next(&mut one).await;
    // More than the queue takes: those that have entered are done, those that still wait to enter are not.
    let mut writes: Vec<_> =
        (0..1100).map(|n| Box::pin(registry.register(said("web", &n.to_string())))).collect();
    assert!(writes.iter_mut().all(|write| ready(write).is_none()));
    trigger.trigger();
    task.run(shutdown).await;
    let mut done = 0;
    for write in writes {
        match write.await {
            Ok(_) => done += 1,
            Err(error) => {
                assert_eq!(error, RegistryError::Unavailable("the registry is shut down".into()));
            }
        }
    }
    assert_eq!(done, 1024);
    assert_eq!(registry.counts().instances, 1024, "reading goes on");

    let mut told = 0;
    while let Some(change) = one.next().await {
        assert!(matches!(change, Change::Upsert { .. }));
        told += 1;
    }
    assert_eq!(told, 1024, "what was published before the end is told");
    assert_eq!(other.next().await, None);
    assert_eq!(registry.subscribe(Interest::All).next().await, None);
    assert!(matches!(registry.register(said("web", "x")).await, Err(RegistryError::Unavailable(_))));
}

#[tokio::test]
async fn a_writer_that_never_ran_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, task) = open(dir.path(), Duration::ZERO, &StatusBoard::default());
    let mut watcher = registry.subscribe(Interest::Service(service("web")));
    next(&mut watcher).await;
    let mut write = registry.register(said("web", "a"));
    assert!(ready(&mut write).is_none());
    drop(task);
    assert!(matches!(write.await, Err(RegistryError::Unavailable(_))));
    assert_eq!(watcher.next().await, None);
}

#[tokio::test]
async fn the_young_grow_up_unasked_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let grown = |change: Change| match change {
        Change::Upsert { instance, .. } => instance.phase,
        other => panic!("{other:?}"),
    };
    let running = Running::start(dir.path(), Duration::from_millis(30));
    let mut watcher = running.registry.subscribe(Interest::All);
    next(&mut watcher).await;
    running.registry.register(said("web", "a")).await.unwrap();
    assert_eq!(grown(next(&mut watcher).await), Phase::Young);
    assert_eq!(grown(next(&mut watcher).await), Phase::Adult);
    running.stop().await;

    let running = Running::start(dir.path(), Duration::from_secs(3600));
    running.registry.register(said("web", "b")).await.unwrap();
    running.stop().await;

    let running = Running::start(dir.path(), Duration::ZERO);
    let mut watcher = running.registry.subscribe(Interest::All);
    let mut view = View::default();
    while view.instances("web").filter(|instance| instance.phase == Phase::Adult).count() < 2 {
        view.apply(next(&mut watcher).await);
    }
    running.stop().await;
}
