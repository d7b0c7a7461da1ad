//! Every rule of the catalog as a row: what is known, what is asked, what comes of it.

#![allow(clippy::unwrap_used, reason = "a test's verdict is a panic")]

use std::time::Duration;

use catalog::{Catalog, Command, Event, Millis, decide, evolve};
use portolan_model::{
    Filter, Guard, Health, Incarnation, Interest, Owner, Phase, Registration, RegistryError, Revision,
    ServiceName,
};

/// Runs a story: each line is `time command`, and its outcome in words.
#[track_caller]
fn check(warm_up: u64, story: &[(u64, Command, &str)]) -> Catalog {
    let mut catalog = Catalog::new(Duration::from_millis(warm_up));
    for (line, (now, command, expect)) in story.iter().enumerate() {
        let got = match decide(&catalog, command, Millis(*now)) {
            Ok(events) => {
                events.iter().for_each(|event| evolve(&mut catalog, event));
                events.iter().map(in_words).collect::<Vec<_>>().join(", ")
            }
            Err(error) => in_short(&error).to_owned(),
        };
        assert_eq!(got, *expect, "line {line}: {command:?}");
    }
    catalog
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Put { instance, .. } => format!(
            "{}: {}/{} {} by {} life {} from {}",
            instance.modified,
            instance.service(),
            instance.id(),
            instance.phase,
            instance.registration.owner,
            instance.registration.incarnation.0,
            instance.created,
        ),
        Event::Removed { service, id, revision } => format!("{revision}: {service}/{id} gone"),
    }
}

fn in_short(error: &RegistryError) -> &'static str {
    match error {
        RegistryError::UnknownInstance(_) => "unknown",
        RegistryError::NotOwner { .. } => "not owner",
        RegistryError::StaleIncarnation { .. } => "stale",
        RegistryError::Limit(_) => "limit",
        RegistryError::Unavailable(_) => "unavailable",
    }
}

fn said(service: &str, id: &str, owner: &str, life: u64) -> Registration {
    Registration {
        id: id.parse().unwrap(),
        service: service.parse().unwrap(),
        endpoint: portolan_model::Endpoint { host: "10.0.0.1".parse().unwrap(), port: 80 },
        protocol: portolan_model::Protocol::Tcp,
        tags: ["blue".to_owned()].into(),
        meta: [("version".to_owned(), "1".to_owned())].into(),
        weight: portolan_model::Weight::default(),
        zone: None,
        owner: owner.parse().unwrap(),
        incarnation: Incarnation(life),
        health: Health::Passing,
    }
}

fn register(service: &str, id: &str, owner: &str, life: u64) -> Command {
    Command::Register(said(service, id, owner, life))
}

fn anyone(id: &str) -> (portolan_model::InstanceId, Guard) {
    (id.parse().unwrap(), Guard::Anyone)
}

fn owned(id: &str, owner: &str, life: u64) -> (portolan_model::InstanceId, Guard) {
    let guard = Guard::OwnedBy { owner: Owner::new(owner).unwrap(), incarnation: Incarnation(life) };
    (id.parse().unwrap(), guard)
}

fn drain((id, guard): (portolan_model::InstanceId, Guard)) -> Command {
    Command::Drain { id, guard }
}

fn deregister((id, guard): (portolan_model::InstanceId, Guard)) -> Command {
    Command::Deregister { id, guard }
}

#[test]
fn what_is_already_so_is_silent() {
    let mut worse = said("web", "a", "me", 1);
    worse.health = Health::Critical;
    let catalog = check(
        0,
        &[
            (0, register("web", "a", "me", 1), "1: web/a adult by me life 1 from 1"),
            (1, register("web", "a", "me", 1), ""),
            (2, Command::Register(worse.clone()), "2: web/a adult by me life 1 from 1"),
            (3, Command::Register(worse), ""),
            (4, drain(anyone("a")), "3: web/a draining by me life 1 from 1"),
            (5, drain(anyone("a")), ""),
            (6, Command::Mature, ""),
        ],
    );
    assert_eq!(catalog.revision(), Revision(3));
}

#[test]
fn a_move_to_another_service_is_a_removal_and_a_put() {
    let catalog = check(
        0,
        &[
            (0, register("web", "a", "me", 1), "1: web/a adult by me life 1 from 1"),
            (0, register("shop", "a", "me", 1), "2: web/a gone, 3: shop/a adult by me life 1 from 3"),
        ],
    );
    assert_eq!((catalog.len(), catalog.modified(&ServiceName::new("web").unwrap())), (1, None));
}

#[test]
fn lives_and_owners() {
    check(
        0,
        &[
            (0, register("web", "a", "me", 5), "1: web/a adult by me life 5 from 1"),
            (0, register("web", "a", "me", 4), "stale"),
            (0, register("shop", "a", "me", 4), "stale"),
            (0, register("web", "a", "me", 6), "2: web/a adult by me life 6 from 1"),
            (0, register("web", "a", "you", 3), "3: web/a adult by you life 3 from 1"),
            (0, drain(owned("a", "me", 9)), "not owner"),
            (0, deregister(owned("a", "me", 9)), "not owner"),
            (0, drain(owned("a", "you", 2)), "stale"),
            (0, deregister(owned("a", "you", 2)), "stale"),
            (0, drain(owned("a", "you", 3)), "4: web/a draining by you life 3 from 1"),
            (0, register("web", "a", "you", 3), "5: web/a adult by you life 3 from 1"),
            (0, deregister(owned("a", "you", 4)), "6: web/a gone"),
            (0, deregister(owned("a", "you", 4)), "unknown"),
            (0, drain(anyone("a")), "unknown"),
            (0, register("web", "a", "me", 1), "7: web/a adult by me life 1 from 7"),
            (0, deregister(anyone("a")), "8: web/a gone"),
        ],
    );
}

#[test]
fn the_young_mature() {
    let catalog = check(
        100,
        &[
            (1000, register("web", "a", "me", 1), "1: web/a young by me life 1 from 1"),
            (1050, register("web", "b", "me", 1), "2: web/b young by me life 1 from 2"),
            (1060, register("web", "a", "me", 1), ""),
            (1099, Command::Mature, ""),
            (1100, Command::Mature, "3: web/a adult by me life 1 from 1"),
            (1110, register("web", "a", "me", 2), "4: web/a young by me life 2 from 1"),
            (1120, drain(anyone("a")), "5: web/a draining by me life 2 from 1"),
            (1130, register("web", "a", "me", 2), "6: web/a young by me life 2 from 1"),
            (1140, drain(anyone("b")), "7: web/b draining by me life 1 from 2"),
            (1150, register("web", "b", "me", 1), "8: web/b adult by me life 1 from 2"),
            (1150, register("shop", "a", "me", 2), "9: web/a gone, 10: shop/a young by me life 2 from 10"),
        ],
    );
    assert_eq!(catalog.next_maturity(), Some(Millis(1210)));
}

#[test]
fn many_mature_at_once_each_with_its_revision() {
    check(
        100,
        &[
            (1000, register("web", "b", "me", 1), "1: web/b young by me life 1 from 1"),
            (1000, register("web", "a", "me", 1), "2: web/a young by me life 1 from 2"),
            (1200, Command::Mature, "3: web/a adult by me life 1 from 2, 4: web/b adult by me life 1 from 1"),
        ],
    );
}

#[test]
fn a_clock_set_back_does_not_keep_anyone_young() {
    let catalog = check(
        100,
        &[
            (9000, register("web", "a", "me", 1), "1: web/a young by me life 1 from 1"),
            (1000, Command::Mature, "2: web/a adult by me life 1 from 1"),
        ],
    );
    assert_eq!(catalog.next_maturity(), None);
}

#[test]
fn limits_are_enforced() {
    let mut much = said("web", "a", "me", 1);
    much.tags = (0..=Registration::TAGS_LIMIT).map(|n| n.to_string()).collect();
    let catalog = check(0, &[(0, Command::Register(much), "limit")]);
    assert!(catalog.is_empty());
}

#[test]
fn views_carry_the_revision_of_their_service_or_the_last_extinction() {
    let catalog = check(
        0,
        &[
            (0, register("web", "a", "me", 1), "1: web/a adult by me life 1 from 1"),
            (0, register("web", "b", "me", 1), "2: web/b adult by me life 1 from 2"),
            (0, register("shop", "c", "me", 1), "3: shop/c adult by me life 1 from 3"),
            (0, deregister(anyone("b")), "4: web/b gone"),
            (0, register("mail", "d", "me", 1), "5: mail/d adult by me life 1 from 5"),
            (0, deregister(anyone("c")), "6: shop/c gone"),
            (0, drain(anyone("d")), "7: mail/d draining by me life 1 from 5"),
        ],
    );
    let expect = [("web", 4, vec!["a"]), ("mail", 7, vec![]), ("shop", 6, vec![]), ("never", 6, vec![])];
    for (name, revision, ids) in expect {
        let name = ServiceName::new(name).unwrap();
        let view = catalog.find(&name, &Filter::usable());
        let got: Vec<_> = view.instances.iter().map(|i| i.id().as_str()).collect();
        assert_eq!((view.revision, got), (Revision(revision), ids), "{name}");
        assert_eq!(catalog.reset(&Interest::Service(name)).revision(), Revision(revision));
    }
    assert_eq!(catalog.reset(&Interest::All).revision(), Revision(7));
    let listing = catalog.list();
    assert_eq!(listing.revision, Revision(7));
    let names: Vec<_> = listing.services.keys().map(ServiceName::as_str).collect();
    assert_eq!(names, ["mail", "web"]);
    assert_eq!(catalog.get(&"d".parse().unwrap()).map(|i| i.phase), Some(Phase::Draining));
}
