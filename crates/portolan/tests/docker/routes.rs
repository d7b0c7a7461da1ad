//! One label on a container gives it a route.

use serde_json::Value;

use super::process::{self, Up, until};
use super::rig::{PORT, Rig};

/// A second port; nobody listens there.
const OTHER: u16 = 9090;

/// A GET for `host` through the gateway.
fn get(up: &Up, host: &str, path: &str) -> (u16, String) {
    process::get(&format!("{}{path}", up.gateway), &[("host".to_owned(), host.to_owned())])
}

#[track_caller]
fn answers(up: &Up, host: &str, path: &str, expect: u16) {
    until(&format!("{host}{path} answers {expect}"), || (get(up, host, path).0 == expect).then_some(()));
}

/// What the gateway says of itself.
fn status(up: &Up) -> String {
    let (_, said) = process::get(&format!("{}/v1/portolan/status", up.http), &[]);
    serde_json::from_str::<Value>(&said).unwrap().to_string()
}

#[test]
fn a_label_makes_a_route() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    let host = |name: &str| format!("{}.test", rig.name(name));
    let (shop, admin) = (host("shop"), host("admin"));
    let labelled = rig
        .sample("shop")
        .publish(OTHER)
        .label("portolan.host", &format!("{shop},*.{shop}"))
        .label("portolan.path", "/api")
        .label("portolan.strip", "true")
        .label("portolan.weight", "3")
        .label("portolan.9090.host", &admin)
        .label("portolan.9090.path", "/")
        .label("portolan.9090.strip", "false");
    rig.run("one", &labelled);
    answers(&up, &shop, "/api/user?id=1", 200);
    assert_eq!(get(&up, &shop, "/api/user?id=1"), (200, "It's user 1.\n".to_owned()));
    assert_eq!(get(&up, &format!("eu.{shop}"), "/api/user?id=2").1, "It's user 2.\n");
    assert_eq!(get(&up, &shop, "/else").0, 404);
    let found = rig.registered(&up).remove(&rig.id("one", PORT)).unwrap();
    assert_eq!(found.meta["portolan_host"], format!("{shop},*.{shop}"));
    assert_eq!(found.weights.passing, 3);
    // The other port is a service of its own, with its own route; nobody listens there.
    answers(&up, &admin, "/x", 502);

    let told = up.ask(&["explain", "--host", &shop, "--path", "/api/user"]);
    let service = format!("{}-{PORT}", rig.name("shop"));
    let expect = format!(
        "route \"{shop}/api\" from labels of service {service} (instance {}) sends it to service \"{service}\"",
        rig.id("one", PORT)
    );
    assert!(told.starts_with(&expect) && told.contains("the instance sees path /user"), "{told}");

    // A restart is no time without a route.
    rig.stop("one");
    answers(&up, &shop, "/api/user", 503);
    rig.start("one");
    answers(&up, &shop, "/api/user?id=3", 200);
}

#[test]
fn labels_that_do_not_hold_together_are_said() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    let host = format!("{}.test", rig.name("host"));
    rig.run("a", &rig.sample("a").label("portolan.host", &host));
    answers(&up, &host, "/", 200);
    rig.run("b", &rig.sample("b").label("portolan.host", &host));
    rig.run("c", &rig.sample("c").label("portolan.path", "no-slash"));
    rig.run("d", &rig.sample("d").label("portolan.host", &host).label("portolan.enable", "false"));
    rig.serves(&up, &["a", "b", "c"]);
    let told = until("it is said", || {
        let told = status(&up);
        told.contains("2 broken routes").then_some(told)
    });
    let first = format!(
        "first: labels of service {}: {host}: service {} asks for the same and comes first by name",
        rig.name("b"),
        rig.name("a")
    );
    assert!(told.contains(&first), "{told}");
    assert_eq!(get(&up, &host, "/").1, "This is a.\n");
    // Who asked second is ready when the first is gone for good.
    rig.run("a2", &rig.sample("a"));
    rig.remove("a");
    until("b has the route", || (get(&up, &host, "/").1 == "This is b.\n").then_some(()));
}
