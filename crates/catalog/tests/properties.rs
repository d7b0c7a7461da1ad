//! What holds after any sequence of commands.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's verdict is a panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Catalog, Command, Event, Marks, Millis, decide, evolve};
use portolan_model::{
    Change, Endpoint, Filter, Guard, Health, Incarnation, Instance, InstanceId, Interest, Owner, Phase,
    Protocol, Registration, ServiceName, View, Weight,
};
use proptest::prelude::*;

const WARM_UP: Duration = Duration::from_millis(50);

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_rules(
        history in prop::collection::vec((command(), 0u64..40), 0..80),
        warm in any::<bool>(),
    ) {
        let warm_up = if warm { WARM_UP } else { Duration::ZERO };
        let mut run = Run::new(warm_up);
        for (command, wait) in history {
            run.now.0 += wait;
            run.step(&command);
        }
        run.check_rebuilt(warm_up);
    }
}

/// A catalog, and beside it everything that must agree with it.
struct Run {
    now: Millis,
    catalog: Catalog,
    log: Vec<(Event, Marks)>,
    /// The rules, told a second time in the plainest way: by id, the instance without its revisions.
    model: BTreeMap<InstanceId, (Registration, Phase)>,
    watchers: Vec<(Interest, View)>,
}

impl Run {
    fn new(warm_up: Duration) -> Self {
        let catalog = Catalog::new(warm_up);
        let interests = [Interest::All, Interest::Service(service(0)), Interest::Service(service(1))];
        let watchers = interests.map(|interest| {
            let mut view = View::default();
            view.apply(catalog.reset(&interest));
            (interest, view)
        });
        Self { now: Millis(1000), catalog, log: vec![], model: BTreeMap::new(), watchers: watchers.into() }
    }

    fn step(&mut self, command: &Command) {
        let before = self.catalog.clone();
        let decided = decide(&self.catalog, command, self.now);
        assert_eq!(self.catalog, before, "deciding changes nothing");
        let Ok(events) = decided else { return };
        for event in &events {
            assert_eq!(event.revision(), self.catalog.revision().next(), "revisions grow one by one");
            let watched = self.watched();
            evolve(&mut self.catalog, event);
            self.watch(event, &watched);
            self.log.push((event.clone(), self.marks()));
        }
        self.follow(command);
        self.check_model();
        assert_eq!(events.is_empty(), content(&before) == content(&self.catalog), "an event is a difference");
        let again = decide(&self.catalog, command, self.now);
        match command {
            Command::Deregister { .. } => assert!(again.is_err()),
            _ => assert_eq!(again, Ok(vec![]), "what is so already is silent"),
        }
        assert!(
            self.catalog
                .next_maturity()
                .is_none_or(|due| { due > self.now || !matches!(command, Command::Mature) })
        );
    }

    fn follow(&mut self, command: &Command) {
        match command {
            Command::Register(said) => {
                let phase = self.catalog.get(&said.id).unwrap().phase;
                assert_ne!(phase, Phase::Draining, "registering ends a drain");
                self.model.insert(said.id.clone(), (said.clone(), phase));
            }
            Command::Drain { id, .. } => self.model.get_mut(id).unwrap().1 = Phase::Draining,
            Command::Deregister { id, .. } => {
                self.model.remove(id).unwrap();
            }
            Command::Mature => {
                for (id, (_, phase)) in &mut self.model {
                    let now = self.catalog.get(id).unwrap().phase;
                    assert!(*phase == now || (*phase, now) == (Phase::Young, Phase::Adult));
                    *phase = now;
                }
            }
        }
    }

    fn check_model(&self) {
        let mut listed = BTreeMap::new();
        for (name, instances) in self.catalog.list().services {
            assert!(!instances.is_empty());
            let newest = instances.iter().map(|instance| instance.modified).max().unwrap();
            assert!(self.catalog.modified(&name).unwrap() >= newest);
            for instance in instances {
                assert_eq!(*instance.service(), name);
                assert_eq!(self.catalog.get(instance.id()), Some(&instance));
                assert!(instance.created <= instance.modified);
                listed.insert(instance.id().clone(), (instance.registration.clone(), instance.phase));
            }
        }
        assert_eq!(listed, self.model);
        assert_eq!(self.catalog.len(), self.model.len());
        let youngest = self.model.values().any(|(_, phase)| *phase == Phase::Young);
        assert_eq!(self.catalog.next_maturity().is_some(), youngest);
    }

    fn watched(&self) -> Vec<Change> {
        self.watchers.iter().map(|(interest, _)| self.catalog.reset(interest)).collect()
    }

    /// Who never left knows what one who comes now is told, and a service's revision moves only with it.
    fn watch(&mut self, event: &Event, before: &[Change]) {
        for ((interest, view), before) in self.watchers.iter_mut().zip(before) {
            let reset = self.catalog.reset(interest);
            let concerned = match interest {
                Interest::All => true,
                Interest::Service(name) => name == event.service(),
            };
            if concerned {
                view.apply(event.change());
                assert_eq!(reset.revision(), event.revision());
            } else if self.catalog.modified(interested_in(interest)).is_some() {
                assert_eq!(&reset, before, "another service's event touches nothing here");
            }
            let mut fresh = View::default();
            fresh.apply(reset);
            assert!(view.services().eq(fresh.services()));
            assert!(view.services().all(|n| view.instances(n.as_str()).eq(fresh.instances(n.as_str()))));
        }
    }

    fn marks(&self) -> Marks {
        let names = (0..3).map(service);
        let services = names.filter_map(|name| Some((name.clone(), self.catalog.modified(&name)?)));
        let last_extinction = self.catalog.find(&"never".parse().unwrap(), &Filter::default()).revision;
        Marks { revision: self.catalog.revision(), last_extinction, services: services.collect() }
    }

    /// Events alone rebuild the catalog; so do the last event of each id and the marks.
    fn check_rebuilt(&self, warm_up: Duration) {
        let mut replayed = Catalog::new(warm_up);
        self.log.iter().for_each(|(event, _)| evolve(&mut replayed, event));
        assert_eq!(replayed, self.catalog);

        let mut kept: BTreeMap<InstanceId, (Arc<Instance>, Millis)> = BTreeMap::new();
        for (event, _) in &self.log {
            match event {
                Event::Put { instance, since } => {
                    kept.insert(event.id().clone(), (Arc::clone(instance), *since));
                }
                Event::Removed { id, .. } => {
                    kept.remove(id);
                }
            }
        }
        let marks = self.log.last().map(|(_, marks)| marks.clone()).unwrap_or_default();
        assert_eq!(Catalog::restore(warm_up, kept.into_values(), marks), self.catalog);
    }
}

fn interested_in(interest: &Interest) -> &ServiceName {
    match interest {
        Interest::Service(name) => name,
        Interest::All => panic!("everything is concerned by any event"),
    }
}

/// What the catalog says of the world, without when it learnt it.
fn content(catalog: &Catalog) -> Vec<(Registration, Phase)> {
    let instances = catalog.list().services.into_values().flatten();
    instances.map(|instance| (instance.registration.clone(), instance.phase)).collect()
}

fn service(n: u8) -> ServiceName {
    ServiceName::new(format!("service-{n}")).unwrap()
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => registration().prop_map(Command::Register),
        2 => (id(), guard()).prop_map(|(id, guard)| Command::Drain { id, guard }),
        2 => (id(), guard()).prop_map(|(id, guard)| Command::Deregister { id, guard }),
        1 => Just(Command::Mature),
    ]
}

fn id() -> impl Strategy<Value = InstanceId> {
    (0..5u8).prop_map(|n| InstanceId::new(format!("i{n}")).unwrap())
}

fn owner() -> impl Strategy<Value = Owner> {
    (0..2u8).prop_map(|n| Owner::new(format!("owner-{n}")).unwrap())
}

fn guard() -> impl Strategy<Value = Guard> {
    let owned =
        (owner(), 0..3u64).prop_map(|(owner, life)| Guard::OwnedBy { owner, incarnation: Incarnation(life) });
    prop_oneof![Just(Guard::Anyone), owned]
}

fn registration() -> impl Strategy<Value = Registration> {
    (id(), 0..3u8, owner(), 0..3u64, any::<bool>()).prop_map(|(id, name, owner, life, well)| Registration {
        id,
        service: service(name),
        endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: 80 },
        protocol: Protocol::Tcp,
        tags: [].into(),
        meta: [].into(),
        weight: Weight::default(),
        zone: None,
        owner,
        incarnation: Incarnation(life),
        health: if well { Health::Passing } else { Health::Critical },
    })
}
