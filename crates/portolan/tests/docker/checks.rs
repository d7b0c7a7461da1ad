//! Containers that ask to be checked: out of rotation within an interval, and back.

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
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    assert_eq!(agent.put(&url).send_empty().unwrap().status().as_u16(), 204);
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
