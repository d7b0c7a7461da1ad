//! What this handle wants registered, by id and by service.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::{InstanceId, ServiceName};

use super::super::wanted::Wanted;

/// All instances that are kept registered.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    all: BTreeMap<InstanceId, Wanted>,
    /// Services that have any, and which.
    services: BTreeMap<ServiceName, BTreeSet<InstanceId>>,
}

impl Wishes {
    pub(super) fn get(&self, id: &InstanceId) -> Option<&Wanted> {
        self.all.get(id)
    }

    /// Its service stays the same: another is another wish.
    pub(super) fn get_mut(&mut self, id: &InstanceId) -> Option<&mut Wanted> {
        self.all.get_mut(id)
    }

    pub(super) fn contains(&self, id: &InstanceId) -> bool {
        self.all.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn insert(&mut self, id: InstanceId, wanted: Wanted) {
        self.remove(&id);
        self.services.entry(wanted.registration.service.clone()).or_default().insert(id.clone());
        self.all.insert(id, wanted);
    }

    pub(super) fn remove(&mut self, id: &InstanceId) {
        let Some(Wanted { registration, .. }) = self.all.remove(id) else { return };
        if let Some(ids) = self.services.get_mut(&registration.service) {
            ids.remove(id);
            if ids.is_empty() {
                self.services.remove(&registration.service);
            }
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.all.keys()
    }

    pub(super) fn into_ids(self) -> impl Iterator<Item = InstanceId> {
        self.all.into_keys()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Wanted> {
        self.all.values_mut()
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    pub(super) fn of_service(&self, service: &ServiceName) -> impl Iterator<Item = &InstanceId> {
        self.services.get(service).into_iter().flatten()
    }
}
