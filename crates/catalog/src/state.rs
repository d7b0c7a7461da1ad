//! The state, and what can be asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Change, Filter, Instance, InstanceId, Interest, Listing, Phase, Revision, ServiceName, ServiceView,
};

use crate::millis::Millis;

/// All that is known of all services. Only [`evolve`](crate::evolve) changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    warm_up: Duration,
    revision: Revision,
    last_extinction: Revision,
    services: BTreeMap<ServiceName, Service>,
    /// Under which service each id is found.
    index: BTreeMap<InstanceId, ServiceName>,
    /// The young, by the time they arrived: the first is the next to mature.
    young: BTreeSet<(Millis, InstanceId)>,
}

/// The revisions that instances alone do not tell, because what they mark is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Of the newest change to anything.
    pub revision: Revision,
    /// Of the newest removal of any service's last instance.
    pub last_extinction: Revision,
    /// Of the newest change to each service, if newer than the newest of its instances.
    pub services: BTreeMap<ServiceName, Revision>,
}

/// One service that has instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Service {
    modified: Revision,
    instances: BTreeMap<InstanceId, Entry>,
}

/// One instance, and when its life began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) instance: Arc<Instance>,
    pub(crate) since: Millis,
}

impl Catalog {
    /// An empty catalog at revision zero. New lives stay young for `warm_up`; zero means they are adult at once.
    pub fn new(warm_up: Duration) -> Self {
        Self {
            warm_up,
            revision: Revision::default(),
            last_extinction: Revision::default(),
            services: BTreeMap::new(),
            index: BTreeMap::new(),
            young: BTreeSet::new(),
        }
    }

    /// The catalog that was: its instances, each with the time its life began, and its marks.
    pub fn restore(
        warm_up: Duration,
        instances: impl IntoIterator<Item = (Arc<Instance>, Millis)>,
        marks: Marks,
    ) -> Self {
        let mut catalog = Self::new(warm_up);
        for (instance, since) in instances {
            catalog.put(instance, since);
        }
        let Marks { revision, last_extinction, services } = marks;
        for (name, modified) in services {
            if let Some(service) = catalog.services.get_mut(&name) {
                service.modified = service.modified.max(modified);
            }
        }
        catalog.revision = catalog.revision.max(revision);
        catalog.last_extinction = last_extinction;
        catalog
    }

    /// The revision of the newest change to anything.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision of the newest change to one service; `None` if it has no instances.
    pub fn modified(&self, service: &ServiceName) -> Option<Revision> {
        self.services.get(service).map(|service| service.modified)
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no instances.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The instance with this id.
    pub fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.entry(id).map(|entry| &entry.instance)
    }

    /// The instances of one service that pass `filter`.
    pub fn find(&self, service: &ServiceName, filter: &Filter) -> ServiceView {
        let instances = self.instances(service).filter(|instance| filter.accepts(instance));
        ServiceView { revision: self.view_revision(service), instances: instances.cloned().collect() }
    }

    /// Everything.
    pub fn list(&self) -> Listing {
        let services = self.services.iter().map(|(name, service)| {
            let instances = service.instances.values().map(|entry| Arc::clone(&entry.instance));
            (name.clone(), instances.collect())
        });
        Listing { revision: self.revision, services: services.collect() }
    }

    /// The whole truth within `interest`, as a watcher starts from it.
    pub fn reset(&self, interest: &Interest) -> Change {
        match interest {
            Interest::All => Change::Reset {
                revision: self.revision,
                instances: self.services.keys().flat_map(|name| self.instances(name)).cloned().collect(),
            },
            Interest::Service(name) => Change::Reset {
                revision: self.view_revision(name),
                instances: self.instances(name).cloned().collect(),
            },
        }
    }

    /// When the next of the young has been warm long enough, if any is young.
    pub fn next_maturity(&self) -> Option<Millis> {
        self.young.first().map(|(since, _)| *since + self.warm_up)
    }

    fn instances(&self, service: &ServiceName) -> impl Iterator<Item = &Arc<Instance>> {
        let service = self.services.get(service);
        service.into_iter().flat_map(|service| service.instances.values()).map(|entry| &entry.instance)
    }

    /// See [`ServiceView::revision`].
    fn view_revision(&self, service: &ServiceName) -> Revision {
        self.modified(service).unwrap_or(self.last_extinction)
    }

    pub(crate) fn entry(&self, id: &InstanceId) -> Option<&Entry> {
        self.services.get(self.index.get(id)?)?.instances.get(id)
    }

    /// Whether a life that began at `since` is over its youth. A clock that went back past `since` says nothing of how
    /// long ago that was; then it is, rather than staying young for as long as the clock was wrong.
    pub(crate) fn is_warm(&self, since: Millis, now: Millis) -> bool {
        now.since(since).is_none_or(|age| age >= self.warm_up)
    }

    /// The young that are warm by now, longest first; see [`Self::is_warm`] for those from the future.
    pub(crate) fn warm(&self, now: Millis) -> impl Iterator<Item = &Entry> {
        let aged = self.young.iter().take_while(move |(since, _)| *since <= now && self.is_warm(*since, now));
        let ahead = self.young.iter().rev().take_while(move |(since, _)| *since > now);
        aged.chain(ahead).filter_map(|(_, id)| self.entry(id))
    }

    pub(crate) fn put(&mut self, instance: Arc<Instance>, since: Millis) {
        let (id, name, modified) = (instance.id().clone(), instance.service().clone(), instance.modified);
        let young = instance.phase == Phase::Young;
        self.revision = self.revision.max(modified);
        let service = self.services.entry(name.clone()).or_default();
        service.modified = service.modified.max(modified);
        if let Some(before) = service.instances.insert(id.clone(), Entry { instance, since }) {
            self.young.remove(&(before.since, id.clone()));
        }
        if young {
            self.young.insert((since, id.clone()));
        }
        self.index.insert(id, name);
    }

    pub(crate) fn remove(&mut self, name: &ServiceName, id: &InstanceId, revision: Revision) {
        self.revision = self.revision.max(revision);
        let Some(service) = self.services.get_mut(name) else { return };
        service.modified = service.modified.max(revision);
        if let Some(before) = service.instances.remove(id) {
            self.young.remove(&(before.since, id.clone()));
            self.index.remove(id);
        }
        if service.instances.is_empty() {
            self.services.remove(name);
            self.last_extinction = self.last_extinction.max(revision);
        }
    }
}
