//! Containers that ask to be checked, or report by themselves: out of rotation within an interval, and back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::process::{self, Up, until};
use super::rig::{PORT, Recipe, Rig};

/// How the registry says that an instance fares.
fn health(rig: &Rig, up: &Up, name: &str) -> Option<String> {
    rig.registered(up).remove(&rig.id(name, PORT))?.portolan?.health
}

/// What `/health` of a container answers from now on.
fn answers(rig: &Rig, name: &str, status: u16) {
    let url = format!("http://127.0.0.1:{}/health?status={status}", rig.published(name, PORT));
    assert_eq!(put(&url), 204);
}

/// A PUT, whatever the status.
fn put(url: &str) -> u16 {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent: ureq::Agent = config.build().into();
    agent.put(url).send_empty().unwrap().status().as_u16()
}

/// Who answers so many requests in a row: none of them may fail.
fn who(up: &Up, path: &str, requests: usize) -> BTreeSet<String> {
    let ask = |_| {
        let (status, said) = up.get(path);
        assert_eq!(status, 200, "{said}");
        said
    };
    (0..requests).map(ask).collect()
}

#[test]
fn an_endpoint_that_fails_is_out_of_rotation_within_an_interval_and_returns() {
    const INTERVAL: Duration = Duration::from_secs(2);
    // What a busy machine may add.
    const MARGIN: Duration = Duration::from_secs(2);
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    let path = format!("/{}/", rig.name("web"));
    // Each says its own name.
    let named = |name: &str| {
        let web = Recipe::unnamed(name).label("SERVICE_NAME", &rig.name("web"));
        let checked = web.label("SERVICE_CHECK_HTTP", "/health").label("SERVICE_CHECK_INTERVAL", "2s");
        rig.run(name, &checked);
        format!("This is {name}.\n")
    };
    let (one, other) = (named("one"), named("other"));
    let both = BTreeSet::from([one, other.clone()]);
    until("both pass", || {
        let passes = |name| health(&rig, &up, name).as_deref() == Some("passing");
        (passes("one") && passes("other")).then_some(())
    });
    until("both take requests", || (who(&up, &path, 10) == both).then_some(()));

    answers(&rig, "one", 500);
    let failed = Instant::now();
    until("one is out of rotation", || {
        (who(&up, &path, 10) == BTreeSet::from([other.clone()])).then_some(())
    });
    let noticed = failed.elapsed();
    println!("out of rotation {noticed:?} after its check began to fail; its interval is {INTERVAL:?}");
    assert!(noticed < INTERVAL + MARGIN, "{noticed:?}");
    assert_eq!(health(&rig, &up, "one").as_deref(), Some("critical"));
    let (_, status) = process::get(&format!("{}/v1/portolan/status", up.http), &[]);
    assert!(status.contains("it answers 500 Internal Server Error"), "{status}");
    let told = up.ask(&["explain", "--path", &path]);
    assert!(told.contains("critical: its owner says it does not work"), "{told}");

    answers(&rig, "one", 200);
    let mended = Instant::now();
    until("one is back", || (who(&up, &path, 10) == both).then_some(()));
    let noticed = mended.elapsed();
    println!("back {noticed:?} after its check began to pass");
    assert!(noticed < INTERVAL + MARGIN, "{noticed:?}");
}

#[test]
fn a_script_where_there_is_no_shell_says_so() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    rig.run("web", &rig.sample("web").label("SERVICE_CHECK_SCRIPT", "exit 0"));
    let status = until("the status says why", || {
        let (_, status) = process::get(&format!("{}/v1/portolan/status", up.http), &[]);
        let ours = status.contains(&rig.id("web", PORT)) && status.contains("/bin/sh");
        ours.then_some(status)
    });
    assert_eq!(health(&rig, &up, "web").as_deref(), Some("critical"), "{status}");
}

#[test]
fn an_instance_that_reports_serves_for_as_long_as_it_does() {
    const TTL: Duration = Duration::from_secs(2);
    // What a busy machine may add.
    const MARGIN: Duration = Duration::from_secs(2);
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    let path = format!("/{}/", rig.name("web"));
    let is = |expect: &str, status: u16| {
        until(&format!("it is {expect}"), || {
            let is = health(&rig, &up, "web").as_deref() == Some(expect);
            (is && up.get(&path).0 == status).then_some(())
        });
    };
    let says = |verb: &str| {
        put(&format!("{}/v1/agent/check/{verb}/service:{}?note=disk", up.http, rig.id("web", PORT)))
    };
    let says_why = |why: &str| {
        until(&format!("the status says {why}"), || {
            let (_, status) = process::get(&format!("{}/v1/portolan/status", up.http), &[]);
            status.contains(why).then_some(())
        });
    };
    assert_eq!(says("pass"), 404, "nobody can report for it yet");
    rig.run("web", &rig.sample("web").label("SERVICE_CHECK_TTL", "2s"));
    is("critical", 503);
    let told = up.ask(&["explain", "--path", &path]);
    assert!(told.contains("critical: its owner says it does not work"), "{told}");

    let goes_on = |what: &str, enough: &dyn Fn() -> bool| {
        until(what, || {
            assert_eq!(says("pass"), 200);
            enough().then_some(())
        });
    };
    let first = Instant::now();
    goes_on("it serves", &|| up.get(&path).0 == 200);
    println!("served {:?} after its first report", first.elapsed());
    assert_eq!(health(&rig, &up, "web").as_deref(), Some("passing"));
    // For longer than one report holds.
    goes_on("it has reported for long enough", &|| {
        let (status, said) = up.get(&path);
        assert_eq!(status, 200, "{said}");
        first.elapsed() > TTL + TTL / 2
    });

    let silent = Instant::now();
    is("critical", 503);
    let noticed = silent.elapsed();
    println!("out of rotation after {noticed:?} of silence; its time is {TTL:?}");
    assert!(noticed > TTL / 2 && noticed < TTL + MARGIN, "{noticed:?}");
    says_why("no report within 2s");

    assert_eq!(says("warn"), 200);
    is("warning", 200);
    assert_eq!(says("fail"), 200);
    is("critical", 503);
    says_why("it reports critical: disk");
}
