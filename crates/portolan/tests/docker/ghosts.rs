//! What happens while nobody watches: Portolan is dead, or the engine is away.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::process::{Up, until};
use super::rig::{PORT, Rig};

/// How soon after its start a registry must be what runs.
const RECONCILED: Duration = Duration::from_secs(2);

/// An instance that somebody registered through the HTTP face, under an id like a container's.
fn register_by_hand(rig: &Rig, up: &Up) -> String {
    let id = rig.id("by-hand", PORT);
    let service = rig.name("manual");
    up.ask(&["register", &service, "--address", "127.0.0.1", "--port", "9", "--id", &id]);
    id
}

/// The ids of what is registered.
fn ids(rig: &Rig, up: &Up) -> BTreeSet<String> {
    rig.registered(up).into_keys().collect()
}

fn ids_of<'a>(rig: &Rig, containers: impl IntoIterator<Item = &'a str>, more: &str) -> BTreeSet<String> {
    containers.into_iter().map(|name| rig.id(name, PORT)).chain([more.to_owned()]).collect()
}

#[test]
fn after_a_crash_the_registry_is_what_runs() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let up = rig.up(&dir);
    ["a", "b", "c", "d"].iter().for_each(|name| rig.run(name, &rig.sample("web")));
    rig.serves(&up, &["a", "b", "c", "d"]);
    let by_hand = register_by_hand(&rig, &up);
    let before = rig.registered(&up);
    up.process.kill();

    rig.remove("a");
    rig.stop("b");
    rig.restart("c");
    rig.run("e", &rig.sample("web"));
    assert_eq!(rig.running(), ["c", "d", "e"].map(str::to_owned).into());

    let started = Instant::now();
    let up = rig.up(&dir);
    let expect = ids_of(&rig, rig.running().iter().map(String::as_str), &by_hand);
    // The restarted one has another port, and another life.
    let port = i64::from(rig.published("c", PORT));
    until("the registry is what runs", || {
        let found = rig.registered(&up);
        let same = found.keys().eq(&expect) && found[&rig.id("c", PORT)].port == port;
        same.then_some(())
    });
    assert!(started.elapsed() < RECONCILED, "{:?}", started.elapsed());
    let after = rig.registered(&up);
    let untouched = [by_hand, rig.id("d", PORT)];
    for id in untouched {
        assert_eq!(after[&id], before[&id]);
    }
    let web = rig.name("web");
    until("those that run answer", || (up.get(&format!("/{web}/")).0 == 200).then_some(()));
}

#[test]
fn an_engine_that_is_away_costs_a_line_and_nothing_else() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let mut gate = Gate::new();
    rig.run("a", &rig.sample("web"));
    rig.run("b", &rig.sample("web"));

    // Not there at the start: it says so, and serves.
    let mut up = rig.up_with(&dir, &["--docker", &gate.uri()]);
    let said = up.process.complaint();
    assert!(said.contains("cannot reach the container engine") && said.contains(&gate.uri()), "{said}");
    let by_hand = register_by_hand(&rig, &up);
    assert_eq!(ids(&rig, &up), ids_of(&rig, [], &by_hand));
    gate.slam(2);

    // There.
    gate.open(&rig.engine);
    let all = ids_of(&rig, ["a", "b"], &by_hand);
    until("it follows", || (ids(&rig, &up) == all).then_some(()));
    let web = format!("/{}/", rig.name("web"));
    let serves = |up: &Up| until("it serves", || (up.get(&web).0 == 200).then_some(()));
    serves(&up);

    // Lost: what is registered stays, though half of it is gone, and requests find the other half.
    gate.close();
    let said = up.process.complaint();
    assert!(said.contains("lost the container engine"), "{said}");
    rig.remove("a");
    rig.run("c", &rig.sample("web"));
    gate.slam(1);
    assert_eq!(ids(&rig, &up), all);
    (0..10).for_each(|_| assert_eq!(up.get(&web).0, 200));

    // Back.
    gate.open(&rig.engine);
    let expect = ids_of(&rig, ["b", "c"], &by_hand);
    until("it has caught up", || (ids(&rig, &up) == expect).then_some(()));
    serves(&up);
    assert_eq!(up.process.last_words(), "", "each was said once");
}
