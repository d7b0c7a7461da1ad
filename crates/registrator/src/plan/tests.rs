use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_model::{Change, Health, Instance, Phase, Revision};

use super::*;
use crate::container::{CheckStatus, Container};
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

/// As it is when this run registered what is ours and serves.
fn book_of_this_run(held: Vec<Held>) -> Book {
    let mut book = book(held);
    let mine: Vec<_> = book.mine().map(|(id, mine)| (id.clone(), mine.clone())).collect();
    for (id, mine) in mine.into_iter().filter(|(_, mine)| !mine.draining) {
        book.wrote(id, Some(Entry::Mine(mine)), Revision(1));
    }
    book
}

#[track_caller]
fn check(containers: &[(&str, u64, Standing)], held: Vec<Held>, expect: &[&str]) {
    check_with(&config(), containers, &book_of_this_run(held), expect);
}

#[track_caller]
fn check_with(config: &Config, containers: &[(&str, u64, Standing)], book: &Book, expect: &[&str]) {
    let seen: Vec<_> = containers
        .iter()
        .map(|(name, life, standing)| seen(container(name).started(*life), *standing))
        .collect();
    let plan = plan(&desired(&seen, config), true, book, config);
    assert_eq!(plan.to_string().lines().collect::<Vec<_>>(), expect);
}

const PORT: &str = "port 80/tcp is published on every address of this host";

#[test]
fn plans() {
    use Standing::{Failed, Serving, Stopped, Stopping};
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
    check(&[("a", 7, Failed)], vec![mine("a", 7)], &["deregister H:a:80: container a has ended"]);
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
fn leftovers_are_taken_over() {
    use Standing::{Serving, Stopping};
    let all = [("web", 7, Serving), ("old", 7, Stopping)];
    let register =
        format!("register H:web:80 as nginx at 10.0.0.9:32768 (passing): {{}}; container web {PORT}");
    // Of the run before: nobody keeps it alive any more. What ends is only drained.
    check_with(
        &config(),
        &all,
        &book(vec![mine("web", 7), mine("old", 7)]),
        &[
            "drain H:old:80: container old was asked to end",
            &register.replace("{}", "a run before this one left it"),
        ],
    );
    // Of nobody: gliderlabs/registrator's, as each registry shows them. Not of somebody.
    let of = |name, owner: &str| Held(name, Owner::new(owner).unwrap(), 0, Phase::Adult, Health::Passing);
    for owner in ["unknown", "consul:n1", "http"] {
        let expect = register.replace("{}", &format!("it is there as {owner}'s, which is nobody"));
        check_with(&config(), &all, &book(vec![of("web", owner), of("old", owner)]), &[&expect]);
    }
    // By hand, under an id that a hand would choose.
    let mut chosen = container("web");
    chosen.env = vec!["SERVICE_ID=chosen".to_owned()];
    let mut held = book(vec![]);
    let registration = Registration { owner: Owner::new("http").unwrap(), ..registration("chosen") };
    let instance =
        Instance { registration, phase: Phase::Adult, created: Revision(1), modified: Revision(1) };
    held.apply(Change::Reset { revision: Revision(1), instances: vec![Arc::new(instance)] });
    let plan = plan(&desired(&[seen(chosen, Serving)], &config()), true, &held, &config());
    assert_eq!(plan.to_string(), "leave chosen: it belongs to http\n");
}

#[test]
fn a_failure_keeps_its_instances_as_critical_when_asked() {
    use Standing::{Failed, Serving, Stopped};
    let config = Config { deregister: crate::Deregister::OnSuccess, ..config() };
    let held = |health| book_of_this_run(vec![Held("a", config.owner.clone(), 7, Phase::Adult, health)]);
    let stays = "register H:a:80 as nginx at 10.0.0.9:32768 (critical): its container failed; it stays until that is removed";
    check_with(&config, &[("a", 7, Failed)], &held(Health::Passing), &[stays]);
    check_with(&config, &[("a", 7, Failed)], &held(Health::Critical), &[]);
    let left = book(vec![Held("a", config.owner.clone(), 7, Phase::Adult, Health::Critical)]);
    check_with(&config, &[("a", 7, Failed)], &left, &[stays]);
    check_with(&config, &[("a", 7, Failed)], &book(vec![]), &[]);
    check_with(&config, &[("a", 7, Failed)], &book(vec![foreign("a")]), &[]);
    let ended = ["deregister H:a:80: container a has ended"];
    check_with(&config, &[("a", 7, Stopped)], &held(Health::Critical), &ended);
    let gone = ["deregister H:a:80: no container that runs stands for it"];
    check_with(&config, &[], &held(Health::Critical), &gone);
    let again = format!(
        "register H:a:80 as nginx at 10.0.0.9:32768 (passing): its life is another; container a {PORT}"
    );
    check_with(&config, &[("a", 8, Serving)], &held(Health::Critical), &[&again]);
    // Nobody remembers its ports: its usual ids stay.
    let mut forgotten = container("a");
    forgotten.bindings.clear();
    let desired = desired(&[seen(forgotten, Failed)], &config);
    assert_eq!(plan(&desired, true, &held(Health::Critical), &config), Plan::default());
}

#[test]
fn cleaning_up_after_another_registrator() {
    #[track_caller]
    fn check(id: &str, owner: &str, removed: bool) {
        let config = Config { cleanup: true, ..config() };
        let registration = Registration { owner: Owner::new(owner).unwrap(), ..registration(id) };
        let instance =
            Instance { registration, phase: Phase::Adult, created: Revision(1), modified: Revision(1) };
        let mut book = book(vec![]);
        book.apply(Change::Reset { revision: Revision(1), instances: vec![Arc::new(instance)] });
        let desired = desired(&[seen(container("web").started(7), Standing::Serving)], &config);
        let expect = format!("deregister {id}: nobody owns it, and no container of this host stands for it");
        let lines = |whole, config: &Config| {
            let plan = plan(&desired, whole, &book, config).to_string();
            plan.lines().filter(|line| !line.starts_with("register")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(true, &config), if removed { vec![expect] } else { vec![] }, "{id} of {owner}");
        assert!(lines(false, &config).is_empty(), "not all was seen");
        assert!(lines(true, &Config { cleanup: false, ..config }).is_empty(), "nobody asked");
    }
    check("H:gone:80", "unknown", true);
    check("H:gone:53:udp", "unknown", true);
    check("H:web:81", "unknown", true);
    check("n1/H:gone:80", "consul:n1", true);
    check("H:gone:80", "consul:n1", true);
    check("H:gone:80", "http", true);
    // Those of containers that run are taken over instead.
    check("n1/H:web:80", "consul:n1", false);
    // Other hosts', free-form ids, and other owners'.
    check("I:gone:80", "unknown", false);
    check("n2/I:gone:80", "consul:n2", false);
    check("free", "unknown", false);
    check("H:gone", "unknown", false);
    check("H:x:80", "unknown", false);
    check("H:-gone:80", "unknown", false);
    check("H:gone:http", "unknown", false);
    check("H:gone:80", "registrator:I", false);
    check("web/10.0.0.9:80", "unknown", false);
}

#[test]
fn whoever_is_contradicted_each_time_says_so_and_stops() {
    let id = InstanceId::new("H:a:80").unwrap();
    let want = |life| desired(&[seen(container("a").started(life), Standing::Serving)], &config());
    let mut book = book_of_this_run(vec![mine("a", 7)]);
    let mut answers = 0;
    let mut revision = 1;
    let mut contradict = |book: &mut Book| {
        revision += 1;
        let mut instance = instance(mine("a", 7)).as_ref().clone();
        instance.registration.endpoint.port = 1;
        book.apply(Change::Upsert { revision: Revision(revision), instance: Arc::new(instance) });
        Revision(revision)
    };
    let last = loop {
        let revision = contradict(&mut book);
        let plan = plan(&want(7), true, &book, &config());
        let [Action::Register { registration, .. }] = plan.actions.as_slice() else { break plan };
        answers += 1;
        let mine = Mine { registration: registration.as_ref().clone(), draining: false };
        book.wrote(id.clone(), Some(Entry::Mine(mine)), revision);
    };
    assert_eq!(answers, 3);
    assert_eq!(
        last.to_string(),
        "leave H:a:80: another registrator:H says otherwise each time; two registrators of one host must be told the \
         same, or have different node names\n"
    );
    // Something new to say is said.
    assert_eq!(plan(&want(8), true, &book, &config()).actions.len(), 1);
}

#[test]
fn a_drain_by_somebody_else_is_respected_for_that_life() {
    let mut book = book(vec![mine("a", 7)]);
    let instance = instance(draining("a", 7));
    book.apply(Change::Upsert { revision: Revision(2), instance });
    let want = |life| desired(&[seen(container("a").started(life), Standing::Serving)], &config());
    assert_eq!(plan(&want(7), true, &book, &config()), Plan::default());
    assert_eq!(plan(&want(8), true, &book, &config()).actions.len(), 1);
}

#[test]
fn who_was_never_healthy_is_not_registered() {
    let mut unhealthy = container("a");
    unhealthy.life.check = Some(CheckStatus::Unhealthy);
    let desired = desired(&[seen(unhealthy, Standing::Serving)], &config());
    let check = |held, expect: &str| {
        let plan = plan(&desired, true, &book_of_this_run(held), &config());
        assert_eq!(plan.to_string(), expect);
    };
    check(vec![], "");
    // Registered it stays: who was healthy is known to be critical.
    let critical =
        "register H:a:80 as nginx at 10.0.0.9:32768 (critical): its health is another; container a";
    check(vec![mine("a", 7)], &format!("{critical} {PORT}\n"));
    check(vec![mine("a", 6)], "deregister H:a:80: container a has not passed its health check yet\n");
}

#[test]
fn a_later_life_that_is_over_makes_way() {
    let containers = [("a", 7, Standing::Serving)];
    let gone = format!(
        "deregister H:a:80: it is of a life that is over, by a clock that has gone back; container a {PORT}"
    );
    // Said by this run, and found at its beginning.
    check(&containers, vec![mine("a", 8)], &[&gone]);
    let mut found = book(vec![mine("a", 8)]);
    check_with(&config(), &containers, &found, &[&gone]);
    // Said again by another of the same name, which is refused and not fought.
    found.wrote(InstanceId::new("H:a:80").unwrap(), None, Revision(2));
    found.apply(Change::Upsert { revision: Revision(3), instance: instance(mine("a", 8)) });
    let refused = format!(
        "register H:a:80 as nginx at 10.0.0.9:32768 (passing): its life is another; container a {PORT}"
    );
    check_with(&config(), &containers, &found, &[&refused]);
}

#[test]
fn what_was_not_seen_whole_has_no_ghosts() {
    let book = book(vec![mine("a", 7), mine("b", 7), mine("c", 7)]);
    let ended: Container = container("c");
    let desired = desired(&[seen(ended, Standing::Stopped)], &config());
    let ids = |whole| {
        let plan = plan(&desired, whole, &book, &config());
        plan.actions.iter().map(|action| action.id().to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(false), BTreeSet::from(["H:c:80".to_owned()]), "its end was seen");
    assert_eq!(ids(true).len(), 3);
}
