//! Instances that report by themselves, in virtual time.

use std::time::Duration;

use portolan_model::Health::{Critical, Passing, Warning};
use portolan_model::Reported;
use registrator::container::Signal;
use registrator::source::EventKind;

use super::doubles::{container, pass};
use super::running::{Running, asking};

const AT_ONCE: Duration = Duration::from_millis(20);
const TTL: Duration = Duration::from_secs(30);
const REPORTS: &str = "SERVICE_CHECK_TTL=30s";

#[tokio::test(start_paused = true)]
async fn a_report_holds_for_its_time_and_silence_is_critical() {
    let running = Running::start();
    assert_eq!(running.says("web", Passing, ""), Reported::Unknown);
    running.engine.start(asking("web", &[REPORTS]));
    running.holds(&["H:web:80 critical adult"]).await;
    // At once: whoever sees an instance can report for it.
    assert_eq!(running.says("web", Passing, "all is well"), Reported::Taken);
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    running.registry.calls();
    for _ in 0..10 {
        pass(TTL / 2).await;
        assert_eq!(running.says("web", Passing, ""), Reported::Taken);
    }
    assert!(running.registry.calls().is_empty(), "the same again is no news");
    assert!(running.engine.executed().is_empty());

    let silent = running.holds(&["H:web:80 critical adult"]).await;
    assert!(silent > TTL - AT_ONCE && silent <= TTL + AT_ONCE, "{silent:?}");
    pass(AT_ONCE).await;
    let first = "1 check runs, 1 not passing, first: H:web:80: ";
    assert_eq!(running.report().detail, format!("1 instances registered; {first}no report within 30s"));
    running.says("web", Warning, "the disk\nis full");
    assert!(running.holds(&["H:web:80 warning adult"]).await <= AT_ONCE);
    pass(AT_ONCE).await;
    let detail = running.report().detail;
    assert_eq!(detail, format!("1 instances registered; {first}it reports warning: the disk"));
    running.says("web", Critical, "");
    assert!(running.holds(&["H:web:80 critical adult"]).await <= AT_ONCE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_report_may_take_as_long() {
    let running = Running::start();
    running.engine.start(asking("web", &[REPORTS, "SERVICE_CHECK_INITIAL_STATUS=passing"]));
    running.holds(&["H:web:80 passing adult"]).await;
    let silent = running.holds(&["H:web:80 critical adult"]).await;
    assert!(silent > TTL - AT_ONCE && silent <= TTL + AT_ONCE, "{silent:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn silent_for_too_long_is_registered_no_more_and_comes_back() {
    let running = Running::start();
    running.engine.start(asking("web", &[REPORTS, "SERVICE_CHECK_DEREGISTER_AFTER=15s"]));
    running.holds(&["H:web:80 critical adult"]).await;
    running.says("web", Passing, "");
    running.holds(&["H:web:80 passing adult"]).await;
    running.holds(&["H:web:80 critical adult"]).await;
    let gone = running.holds(&[]).await;
    assert!(gone > Duration::from_secs(14) && gone <= Duration::from_secs(15) + AT_ONCE, "{gone:?}");
    assert_eq!(running.says("web", Passing, ""), Reported::Taken);
    assert!(running.holds(&["H:web:80 passing adult"]).await <= AT_ONCE);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_reports_says_so() {
    let running = Running::start();
    running.engine.commands("asked", Some((0, "")));
    running.engine.start(asking("asked", &["SERVICE_CHECK_SCRIPT=well"]));
    running.engine.start(asking("plain", &[]));
    running.engine.start(asking("web", &[REPORTS]));
    running.holds(&["H:asked:80 passing adult", "H:plain:80 passing adult", "H:web:80 critical adult"]).await;
    assert_eq!(running.says("asked", Passing, ""), Reported::Asked);
    assert_eq!(running.says("plain", Passing, ""), Reported::Unknown);
    // One that ends may go on reporting; nothing comes of it.
    running.engine.tell(&container("web").id, EventKind::Killed(Signal(15)), 1_000);
    let drained = ["H:asked:80 passing adult", "H:plain:80 passing adult", "H:web:80 critical draining"];
    running.holds(&drained).await;
    assert_eq!(running.says("web", Critical, ""), Reported::Taken);
    pass(TTL * 2).await;
    running.stop().await;
}
