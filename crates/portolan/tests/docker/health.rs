//! Containers with a HEALTHCHECK: in once healthy, out of rotation when not.

use super::process::{Up, until};
use super::rig::{PORT, Rig};

/// Passes while the container has this file, and it is right: the test decides when.
const CHECK: [&str; 5] = ["/portolan", "config", "check", "--config", "/well.toml"];

/// What the registry says of the instance's health.
fn health(rig: &Rig, up: &Up, name: &str) -> Option<String> {
    let found = rig.registered(up).remove(&rig.id(name, PORT))?;
    found.portolan.unwrap().health
}

/// What the engine says of the container's.
fn engine_says(rig: &Rig, name: &str, expect: &str) {
    until(&format!("the engine finds {name} {expect}"), || {
        let found = rig.inspect(name);
        (found["State"]["Health"]["Status"] == expect).then_some(())
    });
}

#[test]
fn in_once_healthy_and_out_of_rotation_when_not() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    let url = format!("/{}/", rig.name("web"));
    let answers = |expect: u16| {
        until(&format!("it answers {expect}"), || (up.get(&url).0 == expect).then_some(()));
    };
    rig.run("checked", &rig.sample("web").checked(&CHECK));
    until("it was checked, in vain", || {
        let found = rig.inspect("checked");
        found["State"]["Health"]["Log"].as_array().is_some_and(|log| !log.is_empty()).then_some(())
    });
    // One that started later is there already: the other is not merely late.
    rig.run("plain", &rig.sample("other"));
    rig.serves(&up, &["plain"]);
    assert_eq!(rig.inspect("checked")["State"]["Health"]["Status"], "starting");
    assert_eq!(up.get(&url).0, 404);

    rig.put("checked", "well.toml", "");
    rig.serves(&up, &["checked", "plain"]);
    engine_says(&rig, "checked", "healthy");
    assert_eq!(health(&rig, &up, "checked").as_deref(), Some("passing"));
    answers(200);

    rig.put("checked", "well.toml", "nonsense");
    until("it is critical", || (health(&rig, &up, "checked")? == "critical").then_some(()));
    answers(503);
    let told = up.ask(&["explain", "--path", &url]);
    assert!(told.contains("critical: its owner says it does not work"), "{told}");

    rig.put("checked", "well.toml", "");
    until("it passes", || (health(&rig, &up, "checked")? == "passing").then_some(()));
    answers(200);

    // A new life begins unproven, and the file of the old one proves it.
    rig.restart("checked");
    rig.serves(&up, &["checked", "plain"]);
    answers(200);
}
