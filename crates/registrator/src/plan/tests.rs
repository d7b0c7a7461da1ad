use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_model::{Change, Health, Instance, Phase, Revision};

use super::*;
use crate::container::Container;
use crate::desired::desired;
use crate::desired::tests::{config, container, registration, seen};
use crate::world::Standing;

/// What the registry holds of id `H:<name>:80`, by whom, in which life, how.
struct Held(&'static str, Owner, u64, Phase, Health);

fn mine(name: &'static str, life: u64) -> Held {
    Held(name, config().owner, life, Phase::Adult, Health::Passing)
}

fn draining(name: &'static str, life: u64) -> Held {
    Held(name, config().owner, life, Phase::Draining, Health::Passing)
}

fn foreign(name: &'static str) -> Held {
    Held(name, Owner::new("registrator:other").unwrap(), 7, Phase::Adult, Health::Passing)
}

fn instance(Held(name, owner, life, phase, health): Held) -> Arc<Instance> {
    let registration = Registration {
        owner,
        incarnation: Incarnation(life),
        health,
        ..registration(&format!("H:{name}:80"))
    };
    Arc::new(Instance { registration, phase, created: Revision(1), modified: Revision(1) })
}

fn book(held: Vec<Held>) -> Book {
    let mut book = Book::new(config().owner);
    let instances = held.into_iter().map(instance).collect();
    book.apply(Change::Reset { revision: Revision(1), instances });
    book
}

#[track_caller]
fn check(containers: &[(&str, u64, Standing)], held: Vec<Held>, expect: &[&str]) {
    let seen: Vec<_> = containers
        .iter()
        .map(|(name, life, standing)| seen(container(name).started(*life), *standing))
        .collect();
    let plan = plan(&desired(&seen, &config()), true, &book(held));
    assert_eq!(plan.to_string().lines().collect::<Vec<_>>(), expect);
}

const PORT: &str = "port 80/tcp is published on every address of this host";

#[test]
fn plans() {
    use Standing::{Serving, Stopped, Stopping};
    let as_nginx = "as nginx at 10.0.0.9:32768 (passing)";
    check(&[], vec![], &[]);
    check(&[("a", 7, Serving)], vec![], &[&format!("register H:a:80 {as_nginx}: container a {PORT}")]);
    check(&[("a", 7, Serving)], vec![mine("a", 7)], &[]);
    // Another life.
    check(
        &[("a", 8, Serving)],
        vec![mine("a", 7)],
        &[&format!("register H:a:80 {as_nginx}: its life is another; container a {PORT}")],
    );
    check(
        &[("a", 8, Serving)],
        vec![draining("a", 7)],
        &[&format!("register H:a:80 {as_nginx}: its life is another; container a {PORT}")],
    );
    // Another health.
    check(
        &[("a", 7, Serving)],
        vec![Held("a", config().owner, 7, Phase::Adult, Health::Critical)],
        &[&format!("register H:a:80 {as_nginx}: its health is another; container a {PORT}")],
    );
    // Asked to end: drained once, and not registered if it was not.
    check(&[("a", 7, Stopping)], vec![mine("a", 7)], &["drain H:a:80: container a was asked to end"]);
    check(&[("a", 7, Stopping)], vec![draining("a", 7)], &[]);
    check(&[("a", 7, Stopping)], vec![], &[]);
    // A drain of the run before, of a container that serves.
    check(
        &[("a", 7, Serving)],
        vec![draining("a", 7)],
        &[&format!(
            "register H:a:80 {as_nginx}: it still runs after it was asked to end; container a {PORT}"
        )],
    );
    // Ended, or nowhere.
    check(&[("a", 7, Stopped)], vec![mine("a", 7)], &["deregister H:a:80: container a has ended"]);
    check(&[], vec![mine("a", 7)], &["deregister H:a:80: no container that runs stands for it"]);
    // Others' are left alone: unwanted, wanted, asked to end.
    check(&[], vec![foreign("a")], &[]);
    let conflict = "leave H:a:80: it belongs to registrator:other";
    check(&[("a", 7, Serving)], vec![foreign("a")], &[conflict]);
    check(&[("a", 7, Stopping)], vec![foreign("a")], &[conflict]);
    check(&[("a", 7, Stopped)], vec![foreign("a")], &[]);
    // All at once, most urgent first.
    check(
        &[("a", 7, Serving), ("b", 7, Stopping), ("c", 7, Stopped)],
        vec![mine("b", 7), mine("c", 7), mine("d", 7)],
        &[
            "drain H:b:80: container b was asked to end",
            &format!("register H:a:80 {as_nginx}: container a {PORT}"),
            "deregister H:c:80: container c has ended",
            "deregister H:d:80: no container that runs stands for it",
        ],
    );
}

#[test]
fn a_drain_by_somebody_else_is_respected_for_that_life() {
    let mut book = book(vec![mine("a", 7)]);
    let instance = instance(draining("a", 7));
    book.apply(Change::Upsert { revision: Revision(2), instance });
    let want = |life| desired(&[seen(container("a").started(life), Standing::Serving)], &config());
    assert_eq!(plan(&want(7), true, &book), Plan::default());
    assert_eq!(plan(&want(8), true, &book).actions.len(), 1);
}

#[test]
fn what_was_not_seen_whole_has_no_ghosts() {
    let book = book(vec![mine("a", 7), mine("b", 7), mine("c", 7)]);
    let ended: Container = container("c");
    let desired = desired(&[seen(ended, Standing::Stopped)], &config());
    let ids = |whole| {
        let plan = plan(&desired, whole, &book);
        plan.actions.iter().map(|action| action.id().to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(false), BTreeSet::from(["H:c:80".to_owned()]), "its end was seen");
    assert_eq!(ids(true).len(), 3);
}
