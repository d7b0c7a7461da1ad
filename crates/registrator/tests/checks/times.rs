//! When checks run and what their results do, in virtual time. Commands stand for all kinds: the engine that runs them
//! is a double.

use std::time::Duration;

use registrator::source::EventKind;
use runtime::State;

use super::doubles::{FakeEngine, Recorder, container, pass};
use super::running::{Running, asking};

const AT_ONCE: Duration = Duration::from_millis(20);
const INTERVAL: Duration = Duration::from_secs(10);
const SCRIPT: &str = "SERVICE_CHECK_SCRIPT=well";

/// How often a command was begun in so much time.
async fn runs(running: &Running, time: Duration) -> usize {
    running.engine.executed();
    pass(time).await;
    running.engine.executed().len()
}

#[tokio::test(start_paused = true)]
async fn health_follows_the_check_and_nothing_else_is_written() {
    let running = Running::start();
    running.engine.commands("web", Some((0, "")));
    running.engine.start(asking("web", &[SCRIPT]));
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    let (_, first) = running.engine.executed().remove(0);
    assert_eq!(first.words, ["/bin/sh", "-c", "well"]);
    assert_eq!(first.env, ["SERVICE_IP=127.0.0.1", "SERVICE_PORT=80"]);
    // Critical until the first result, as Consul has it; that came at once.
    assert_eq!(running.registry.calls(), ["register H:web:80", "register H:web:80"]);

    assert!(runs(&running, INTERVAL * 100).await >= 100);
    assert!(running.registry.calls().is_empty(), "the same verdict is no news");
    assert_eq!(running.report().detail, "1 instances registered; 1 check runs");

    running.engine.commands("web", Some((2, "the disk is full")));
    assert!(running.holds(&["H:web:80 critical adult"]).await <= INTERVAL + AT_ONCE);
    pass(AT_ONCE).await;
    let report = running.report();
    assert_eq!(
        report.detail,
        "1 instances registered; 1 check runs, 1 not passing, first: H:web:80: exit code 2: the disk is full"
    );
    assert_eq!(report.state, State::Running, "the registrator itself is well");
    running.engine.commands("web", Some((1, "")));
    assert!(running.holds(&["H:web:80 warning adult"]).await <= INTERVAL + AT_ONCE);
    running.engine.commands("web", Some((0, "")));
    assert!(running.holds(&["H:web:80 passing adult"]).await <= INTERVAL + AT_ONCE);
    assert_eq!(running.registry.calls(), ["register H:web:80"; 3]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_pass_yet_is_asked_again_soon() {
    let running = Running::start();
    running.engine.commands("web", Some((2, "")));
    running.engine.start(asking("web", &[SCRIPT]));
    running.holds(&["H:web:80 critical adult"]).await;
    pass(Duration::from_secs(1)).await;
    running.engine.commands("web", Some((0, "")));
    assert!(running.holds(&["H:web:80 passing adult"]).await <= Duration::from_secs(1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_initial_status_holds_until_the_first_result() {
    let running = Running::start();
    running.engine.start(asking("web", &[SCRIPT, "SERVICE_CHECK_INITIAL_STATUS=passing"]));
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    // The first run never ends; after its timeout that is a result.
    let late = running.holds(&["H:web:80 critical adult"]).await;
    assert!(late > Duration::from_secs(29) && late <= Duration::from_secs(30) + AT_ONCE, "{late:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_does_not_end_is_not_begun_twice() {
    let running = Running::start();
    running.engine.start(asking("web", &[SCRIPT, "SERVICE_CHECK_TIMEOUT=1s"]));
    running.holds(&["H:web:80 critical adult"]).await;
    assert_eq!(runs(&running, INTERVAL * 20).await + 1, 1);
    pass(AT_ONCE).await;
    let detail = running.report().detail;
    assert!(detail.ends_with("H:web:80: its last run has not ended yet"), "{detail}");
    running.engine.commands("web", Some((0, "")));
    running.holds(&["H:web:80 passing adult"]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn critical_for_too_long_is_registered_no_more_and_comes_back() {
    let running = Running::start();
    let after = "SERVICE_CHECK_DEREGISTER_AFTER=15s";
    running.engine.commands("web", Some((2, "")));
    running.engine.start(asking("web", &[SCRIPT, after]));
    running.holds(&["H:web:80 critical adult"]).await;
    let gone = running.holds(&[]).await;
    // By its own time, not by that of the next run.
    assert!(gone <= Duration::from_secs(15) + AT_ONCE && gone > Duration::from_secs(14), "{gone:?}");
    assert!(runs(&running, INTERVAL * 3).await >= 2, "it is asked on");
    running.engine.commands("web", Some((0, "")));
    assert!(running.holds(&["H:web:80 passing adult"]).await <= INTERVAL + AT_ONCE);
    assert_eq!(running.registry.calls(), ["register H:web:80", "deregister H:web:80", "register H:web:80"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_work_is_not_asked() {
    let running = Running::start();
    running.engine.commands("web", Some((0, "")));
    running.engine.start(asking("web", &[SCRIPT]));
    running.holds(&["H:web:80 passing adult"]).await;
    running.engine.change("web", |web| web.life.paused = true);
    running.holds(&["H:web:80 maintenance adult"]).await;
    assert_eq!(runs(&running, INTERVAL * 5).await, 0);
    running.engine.change("web", |web| web.life.paused = false);
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);

    running.engine.kill("web", 15);
    running.holds(&["H:web:80 passing draining"]).await;
    assert_eq!(runs(&running, Duration::from_secs(8)).await, 0);
    running.engine.die("web");
    running.holds(&[]).await;
    assert_eq!(runs(&running, INTERVAL * 5).await, 0);
    // Another life has to prove itself, at once.
    running.engine.commands("web", Some((2, "")));
    running.engine.start(asking("web", &[SCRIPT]));
    running.holds(&["H:web:80 critical adult"]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_registrator_that_begins_anew_takes_nothing_out_of_service() {
    let running = Running::start();
    running.engine.commands("web", Some((0, "")));
    running.engine.start(asking("web", &[SCRIPT]));
    running.holds(&["H:web:80 passing adult"]).await;
    let (engine, registry) = (running.engine.clone(), running.registry.clone());
    running.stop().await;
    registry.calls();

    // No result for as long as a run may take.
    engine.commands("web", None);
    engine.executed();
    let running = Running::with(engine.clone(), registry);
    pass(Duration::from_secs(25)).await;
    assert_eq!(engine.executed().len(), 1);
    running.holds(&["H:web:80 passing adult"]).await;
    engine.commands("web", Some((0, "")));
    pass(INTERVAL).await;
    assert_eq!(running.registry.calls(), ["register H:web:80"], "taken over as it was");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_checks_spread_out_and_ask_in_turns() {
    const COUNT: usize = 300;
    let running = Running::with(FakeEngine::default(), Recorder::default());
    for number in 0..COUNT {
        let name = format!("web{number}");
        running.engine.start(asking(&name, &[SCRIPT, "SERVICE_CHECK_TIMEOUT=1s"]));
    }
    // Nobody answers: 128 ask at a time, and the others after their timeout.
    let begun = tokio::time::Instant::now();
    pass(Duration::from_millis(900)).await;
    assert_eq!(running.engine.executed().len(), 128);
    pass(Duration::from_secs(10)).await;
    let mut late = running.engine.executed();
    late.sort_by_key(|(at, _)| *at);
    assert!(late.iter().all(|(at, _)| *at >= begun + Duration::from_secs(1)));
    assert_eq!(late.len(), COUNT - 128, "each one once");

    (0..COUNT).for_each(|number| running.engine.commands(&format!("web{number}"), Some((0, ""))));
    pass(INTERVAL * 6).await;
    running.engine.executed();
    pass(INTERVAL).await;
    let mut runs: Vec<_> = running.engine.executed().into_iter().map(|(at, _)| at).collect();
    assert!((COUNT - 1..=COUNT + 1).contains(&runs.len()), "{}", runs.len());
    runs.sort();
    // In no tenth of the interval more than twice its share.
    let most =
        runs.iter().map(|from| runs.iter().filter(|at| *at >= from && **at < *from + INTERVAL / 10).count());
    assert!(most.max().unwrap() <= COUNT / 5);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_learns_the_verdict_later() {
    let running = Running::start();
    running.engine.commands("web", Some((0, "")));
    running.engine.start(asking("web", &[SCRIPT]));
    running.holds(&["H:web:80 passing adult"]).await;
    running.registry.down.store(true, std::sync::atomic::Ordering::SeqCst);
    running.engine.commands("web", Some((2, "")));
    pass(INTERVAL * 3).await;
    running.engine.tell(&container("web").id, EventKind::Changed, 1);
    running.registry.down.store(false, std::sync::atomic::Ordering::SeqCst);
    running.holds(&["H:web:80 critical adult"]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_changes_no_verdict() {
    let running = Running::start();
    running.engine.commands("web", Some((0, "")));
    running.engine.start(asking("web", &[SCRIPT]));
    running.holds(&["H:web:80 passing adult"]).await;
    running.registry.calls();
    running.engine.away(true);
    pass(INTERVAL * 5).await;
    assert_eq!(running.report().state, State::Degraded);
    running.engine.away(false);
    pass(INTERVAL * 5).await;
    assert_eq!(running.report().detail, "1 instances registered; 1 check runs");
    assert!(running.registry.calls().is_empty());
    assert!(runs(&running, INTERVAL * 2).await >= 2);
    running.engine.commands("web", Some((2, "")));
    running.holds(&["H:web:80 critical adult"]).await;
    running.stop().await;
}
