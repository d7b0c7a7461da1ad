//! What a watcher knows: the fold of its subscription.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::change::Change;
use crate::id::{InstanceId, Revision, ServiceName};
use crate::instance::Instance;

/// The state that a sequence of changes leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    revision: Revision,
    services: BTreeMap<ServiceName, BTreeMap<InstanceId, Arc<Instance>>>,
}

impl View {
    /// Takes one step and names the services that are different after it; a repeated step names none.
    pub fn apply(&mut self, change: Change) -> BTreeSet<ServiceName> {
        match change {
            Change::Reset { revision, instances } => self.reset(revision, instances),
            Change::Upsert { revision, instance } => {
                self.revision = revision;
                let service = instance.service().clone();
                let known = self.services.entry(service.clone()).or_default();
                let before = known.insert(instance.id().clone(), Arc::clone(&instance));
                if before.as_ref() == Some(&instance) { BTreeSet::new() } else { BTreeSet::from([service]) }
            }
            Change::Remove { revision, service, id } => {
                self.revision = revision;
                let Some(known) = self.services.get_mut(&service) else { return BTreeSet::new() };
                let gone = known.remove(&id).is_some();
                if known.is_empty() {
                    self.services.remove(&service);
                }
                if gone { BTreeSet::from([service]) } else { BTreeSet::new() }
            }
        }
    }

    /// The revision of the last step.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Services with at least one instance, by name.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// The instances of one service, by id; none for an unknown service.
    pub fn instances(&self, service: &str) -> impl Iterator<Item = &Arc<Instance>> {
        self.services.get(service).into_iter().flat_map(BTreeMap::values)
    }

    fn reset(&mut self, revision: Revision, instances: Vec<Arc<Instance>>) -> BTreeSet<ServiceName> {
        let mut fresh: BTreeMap<ServiceName, BTreeMap<InstanceId, Arc<Instance>>> = BTreeMap::new();
        for instance in instances {
            fresh.entry(instance.service().clone()).or_default().insert(instance.id().clone(), instance);
        }
        let before = std::mem::replace(&mut self.services, fresh);
        self.revision = revision;
        let names: BTreeSet<&ServiceName> = before.keys().chain(self.services.keys()).collect();
        names.into_iter().filter(|name| before.get(*name) != self.services.get(*name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Health, Incarnation, Owner, Phase, Protocol, Registration, Weight};

    fn instance(service: &str, id: &str, health: Health, at: u64) -> Arc<Instance> {
        Arc::new(Instance {
            registration: Registration {
                id: InstanceId::new(id).unwrap(),
                service: ServiceName::new(service).unwrap(),
                endpoint: crate::Endpoint { host: "127.0.0.1".parse().unwrap(), port: 1 },
                protocol: Protocol::Tcp,
                tags: BTreeSet::new(),
                meta: BTreeMap::new(),
                weight: Weight::default(),
                zone: None,
                owner: Owner::new("test").unwrap(),
                incarnation: Incarnation::default(),
                health,
            },
            phase: Phase::Adult,
            created: Revision(at),
            modified: Revision(at),
        })
    }

    fn touched(view: &mut View, change: Change) -> Vec<String> {
        view.apply(change).into_iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn names_only_what_differs() {
        let mut view = View::default();
        let (a, b) = (instance("a", "a1", Health::Passing, 1), instance("b", "b1", Health::Passing, 2));
        let reset = Change::Reset { revision: Revision(2), instances: vec![Arc::clone(&a), Arc::clone(&b)] };
        assert_eq!(touched(&mut view, reset.clone()), ["a", "b"]);
        assert!(touched(&mut view, reset).is_empty(), "an equal reset touches nothing");

        let worse = instance("a", "a1", Health::Critical, 3);
        let upsert = Change::Upsert { revision: Revision(3), instance: worse };
        assert_eq!(touched(&mut view, upsert.clone()), ["a"]);
        assert!(touched(&mut view, upsert).is_empty());

        let remove = |id: &str| Change::Remove {
            revision: Revision(4),
            service: ServiceName::new("b").unwrap(),
            id: InstanceId::new(id).unwrap(),
        };
        assert!(touched(&mut view, remove("other")).is_empty());
        assert_eq!(touched(&mut view, remove("b1")), ["b"]);
        assert_eq!(view.services().map(ServiceName::as_str).collect::<Vec<_>>(), ["a"]);
        assert_eq!(view.revision(), Revision(4));
    }

    #[test]
    fn away_and_present_end_alike() {
        let (a, b) = (instance("a", "a1", Health::Passing, 1), instance("b", "b1", Health::Passing, 2));
        let mut present = View::default();
        present.apply(Change::Reset { revision: Revision(0), instances: vec![] });
        present.apply(Change::Upsert { revision: Revision(1), instance: Arc::clone(&a) });
        present.apply(Change::Upsert { revision: Revision(2), instance: Arc::clone(&b) });
        present.apply(Change::Remove {
            revision: Revision(3),
            service: a.service().clone(),
            id: a.id().clone(),
        });
        let mut away = View::default();
        away.apply(Change::Reset { revision: Revision(3), instances: vec![b] });
        assert_eq!(present, away);
    }
}
