//! Selecting instances by what is known of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::instance::{Health, Instance};

/// Which instances of a service a caller wants. The default wants all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Every one of these tags must be there.
    pub tags: BTreeSet<String>,
    /// Every one of these attributes must be there with this value.
    pub meta: BTreeMap<String, String>,
    /// No worse than this health; `None` takes any.
    pub worst: Option<Health>,
    /// Leave out instances that are draining.
    pub without_draining: bool,
}

impl Filter {
    /// Instances that may be sent new work: passing or warning, and not draining.
    #[must_use]
    pub fn usable() -> Self {
        Self { worst: Some(Health::Warning), without_draining: true, ..Self::default() }
    }

    /// Whether `instance` is wanted.
    pub fn accepts(&self, instance: &Instance) -> bool {
        let said = &instance.registration;
        self.tags.is_subset(&said.tags)
            && self.meta.iter().all(|(key, value)| said.meta.get(key) == Some(value))
            && self.worst.is_none_or(|worst| said.health <= worst)
            && !(self.without_draining && instance.phase == crate::Phase::Draining)
    }
}
