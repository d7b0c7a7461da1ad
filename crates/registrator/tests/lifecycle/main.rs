//! The driver against an engine and a registry that fail on demand, in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../doubles/mod.rs"]
mod doubles;
mod others;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use doubles::{FakeEngine, Recorder, container, holds, pass};
use portolan_model::{Guard, Incarnation, InstanceId, Owner, Registry};
use registrator::Config;
use registrator::container::{CheckStatus, EngineTime};
use registrator::source::EventKind;
use runtime::{Report, Shutdown, ShutdownTrigger, State, StatusBoard, Tasks};

/// "At once": no virtual time passes but the waiting's own step.
const AT_ONCE: Duration = Duration::from_millis(1);
const PERIOD: Duration = Duration::from_secs(15);

/// A registrator that runs.
struct Running {
    engine: FakeEngine,
    registry: Recorder,
    board: StatusBoard,
    tasks: Tasks,
    trigger: ShutdownTrigger,
}

fn config() -> Config {
    Config::new("H").unwrap()
}

fn run(engine: &FakeEngine, registry: &Recorder, config: Config) -> Running {
    let board = StatusBoard::default();
    let tasks = Tasks::new(board.clone());
    let (trigger, shutdown) = Shutdown::new();
    let registrator =
        registrator::build(config, Arc::new(engine.clone()), Arc::new(registry.clone()), &board);
    tasks.spawn("registrator", registrator.run(shutdown));
    Running { engine: engine.clone(), registry: registry.clone(), board, tasks, trigger }
}

impl Running {
    /// Follows an engine without containers, into an empty registry.
    async fn start() -> Self {
        let running = run(&FakeEngine::default(), &Recorder::default(), config());
        running.reaches(State::Running).await;
        running
    }

    /// With one container `web` that is registered.
    async fn with_web() -> Self {
        let running = Self::start().await;
        running.engine.start(container("web"));
        assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
        running.registry.calls();
        running
    }

    #[track_caller]
    fn holds(&self, expect: &[&str]) -> impl Future<Output = Duration> {
        holds(&self.registry, expect)
    }

    fn report(&self) -> Report {
        self.board.snapshot()["registrator"].clone()
    }

    async fn reaches(&self, state: State) {
        while self.report().state != state {
            pass(AT_ONCE).await;
        }
    }

    async fn stop(self) {
        self.trigger.trigger();
        assert_eq!(self.tasks.finish(Duration::from_secs(30)).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_starts_stops_and_is_gone() {
    let running = Running::with_web().await;
    running.engine.kill("web", 15);
    assert!(running.holds(&["H:web:80 passing draining"]).await <= AT_ONCE);
    // The engine answers no reads while it takes the network down; the event is enough.
    let gate = running.engine.hold("web");
    running.engine.die("web");
    assert!(running.holds(&[]).await <= AT_ONCE);
    gate.add_permits(100);
    pass(PERIOD * 2).await;
    assert_eq!(running.registry.calls(), ["drain H:web:80", "deregister H:web:80"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_nothing_changes_and_nothing_removed_at_the_end() {
    let running = Running::with_web().await;
    pass(PERIOD * 10).await;
    running.engine.tell(&container("web").id, EventKind::Changed, 1);
    pass(PERIOD).await;
    let registry = running.registry.clone();
    assert_eq!(running.report().detail, "1 instances registered");
    running.stop().await;
    assert!(registry.calls().is_empty());
    assert_eq!(registry.lines().await, ["H:web:80 passing adult"]);
}

#[tokio::test(start_paused = true)]
async fn lost_events_cost_time_only() {
    let running = Running::start().await;
    running.engine.lose_events(true);
    running.engine.start(container("web"));
    assert!(running.holds(&["H:web:80 passing adult"]).await <= PERIOD + AT_ONCE);
    running.engine.die("web");
    assert!(running.holds(&[]).await <= PERIOD + AT_ONCE);
    // A restart of which only the `kill` was heard.
    running.engine.start(container("web"));
    running.holds(&["H:web:80 passing adult"]).await;
    running.engine.lose_events(false);
    running.engine.kill("web", 15);
    running.holds(&["H:web:80 passing draining"]).await;
    running.engine.lose_events(true);
    running.engine.start(container("web"));
    assert!(running.holds(&["H:web:80 passing adult"]).await <= PERIOD + AT_ONCE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_late_end_of_an_old_life_does_not_touch_the_new() {
    let running = Running::with_web().await;
    let id = container("web").id;
    let old = running.engine.tick();
    running.engine.lose_events(true);
    running.engine.die("web");
    running.engine.lose_events(false);
    running.engine.start(container("web"));
    let incarnation = |running: &Running| {
        let registry = running.registry.clone();
        async move { registry.instances().await[0].registration.incarnation }
    };
    let first = incarnation(&running).await;
    while incarnation(&running).await == first {
        pass(AT_ONCE).await;
    }
    running.engine.tell(&id, EventKind::Killed(registrator::container::Signal(15)), old);
    running.engine.tell(&id, EventKind::Died(None), old + 1);
    pass(PERIOD * 3).await;
    assert_eq!(running.registry.calls(), ["register H:web:80"]);
    assert_eq!(running.registry.lines().await, ["H:web:80 passing adult"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restarts() {
    let running = Running::with_web().await;
    for _ in 0..10 {
        running.engine.kill("web", 15);
        running.engine.die("web");
        running.engine.start(container("web"));
        pass(AT_ONCE * 2).await;
        assert_eq!(running.registry.lines().await, ["H:web:80 passing adult"]);
    }
    pass(Duration::from_secs(60)).await;
    assert_eq!(running.registry.lines().await, ["H:web:80 passing adult"]);
    let Incarnation(life) = running.registry.instances().await[0].registration.incarnation;
    assert!(life > 300, "the last one: {life}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn other_signals_do_not_drain_and_an_ignored_one_not_for_ever() {
    let running = Running::with_web().await;
    running.engine.kill("web", 1);
    pass(PERIOD).await;
    assert!(running.registry.calls().is_empty());

    // Its stop signal may be the beginning of a stop that takes longer than it says itself.
    let margins = config().margins;
    for (signal, margin) in [(2, margins.signal), (15, margins.stop)] {
        running.engine.kill("web", signal);
        running.holds(&["H:web:80 passing draining"]).await;
        pass(margin).await;
        let limit = container("web").stop_timeout;
        let took = running.holds(&["H:web:80 passing adult"]).await;
        assert!(took > limit - AT_ONCE * 3 && took <= limit + AT_ONCE, "{took:?}");
        assert_eq!(running.registry.calls(), ["drain H:web:80", "register H:web:80"]);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_overdue_end_is_not_doubted_while_the_engine_is_away() {
    let running = Running::with_web().await;
    running.engine.kill("web", 15);
    running.holds(&["H:web:80 passing draining"]).await;
    running.engine.away(true);
    pass(config().margins.stop * 2).await;
    assert_eq!(running.registry.lines().await, ["H:web:80 passing draining"]);
    running.engine.away(false);
    running.holds(&["H:web:80 passing adult"]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn health_pause_and_rename() {
    let running = Running::with_web().await;
    let check = |status| running.engine.change("web", |c| c.life.check = Some(status));
    check(CheckStatus::Unhealthy);
    assert!(running.holds(&["H:web:80 critical adult"]).await <= AT_ONCE);
    check(CheckStatus::Healthy);
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    running.engine.change("web", |c| c.life.paused = true);
    assert!(running.holds(&["H:web:80 maintenance adult"]).await <= AT_ONCE);
    running.engine.change("web", |c| c.life.paused = false);
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    running.registry.calls();
    running.engine.change("web", |c| c.name = "shop".to_owned());
    assert!(running.holds(&["H:shop:80 passing adult"]).await <= AT_ONCE);
    assert_eq!(running.registry.calls(), ["register H:shop:80", "deregister H:web:80"], "without a gap");
    running.engine.destroy("web");
    running.holds(&[]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn waits_for_the_first_healthy_check() {
    let running = Running::start().await;
    let mut slow = container("web");
    slow.life.check = Some(CheckStatus::Starting);
    running.engine.start(slow.clone());
    pass(PERIOD * 2).await;
    assert!(running.registry.calls().is_empty());
    running.engine.change("web", |c| c.life.check = Some(CheckStatus::Healthy));
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    // And again in its next life.
    running.engine.die("web");
    running.engine.start(slow);
    assert!(running.holds(&[]).await <= AT_ONCE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn removes_its_own_ghosts_and_only_those_it_can_tell() {
    let (engine, registry) = (FakeEngine::default(), Recorder::default());
    let before = run(&engine, &registry, config());
    for name in ["web", "ghost", "shy"] {
        engine.start(container(name));
    }
    let all = ["H:ghost:80 passing adult", "H:shy:80 passing adult", "H:web:80 passing adult"];
    before.holds(&all).await;
    before.stop().await;
    let mut other = registry.instances().await[0].registration.clone();
    other.id = InstanceId::new("H:other:80").unwrap();
    other.owner = Owner::new("somebody").unwrap();
    registry.register(other).await.unwrap();
    registry.calls();

    engine.away(true);
    engine.destroy("ghost");
    engine.break_reads("shy", true);
    let running = run(&engine, &registry, config());
    running.reaches(State::Degraded).await;
    assert_eq!(
        running.report().detail,
        "no container engine at fake://engine: nobody there; 3 instances registered"
    );
    pass(PERIOD * 4).await;
    engine.away(false);
    // One container cannot be read: who knows which instances are its own.
    pass(PERIOD * 4).await;
    assert_eq!(
        running.report().detail,
        "3 instances registered; 1 not as asked, first: the engine does not describe container shy-01234567"
    );
    assert_eq!(registry.calls(), ["register H:web:80"], "whoever registered it keeps it alive no more");
    engine.break_reads("shy", false);
    running.holds(&["H:other:80 passing adult", "H:shy:80 passing adult", "H:web:80 passing adult"]).await;
    assert_eq!(registry.calls(), ["register H:shy:80", "deregister H:ghost:80"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_failed_stays_as_critical_until_it_is_removed() {
    let config = || Config { deregister: registrator::Deregister::OnSuccess, ..config() };
    let running = run(&FakeEngine::default(), &Recorder::default(), config());
    running.reaches(State::Running).await;
    for name in ["bad", "well"] {
        running.engine.start(container(name));
    }
    running.holds(&["H:bad:80 passing adult", "H:well:80 passing adult"]).await;
    running.engine.exit("bad", 1);
    running.engine.exit("well", 0);
    assert!(running.holds(&["H:bad:80 critical adult"]).await <= AT_ONCE);
    pass(PERIOD * 3).await;
    let (engine, registry) = (running.engine.clone(), running.registry.clone());
    running.stop().await;
    // The next run never saw its ports.
    let running = run(&engine, &registry, config());
    running.reaches(State::Running).await;
    pass(PERIOD * 3).await;
    assert_eq!(registry.lines().await, ["H:bad:80 critical adult"]);
    engine.start(container("bad"));
    running.holds(&["H:bad:80 passing adult"]).await;
    engine.exit("bad", 127);
    running.holds(&["H:bad:80 critical adult"]).await;
    engine.destroy("bad");
    assert!(running.holds(&[]).await <= AT_ONCE);
    // By a signal: nobody failed.
    engine.start(container("web"));
    running.holds(&["H:web:80 passing adult"]).await;
    engine.exit("web", 137);
    assert!(running.holds(&[]).await <= AT_ONCE);
    running.stop().await;
}
