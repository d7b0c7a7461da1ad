//! The JSON of what `ip:port` cannot hold. All layouts share it; a golden row of each is in the tests.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::{
    Endpoint, Health, Incarnation, InstanceId, Owner, Phase, Protocol, Registration, Weight, Zone,
};
use serde::{Deserialize, Serialize};

use super::{Kept, Place};

/// The version that is written. A greater one is not read: it may mean something else.
const VERSION: u32 = 1;

/// What is said of an instance beside its place and endpoint. Everything but the version may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Extras {
    #[serde(rename = "v")]
    version: u32,
    owner: Owner,
    #[serde(default, skip_serializing_if = "is_default")]
    incarnation: Incarnation,
    #[serde(default, skip_serializing_if = "is_default")]
    protocol: Protocol,
    #[serde(default, skip_serializing_if = "is_default")]
    health: Health,
    phase: Phase,
    #[serde(default, skip_serializing_if = "is_default")]
    weight: Weight,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Zone>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    tags: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<String, String>,
}

impl Extras {
    pub(super) fn of(kept: &Kept) -> Self {
        let Kept { registration, phase } = kept;
        // The place says the first two, the layout's own members the third.
        let Registration {
            id: _,
            service: _,
            endpoint: _,
            protocol,
            tags,
            meta,
            weight,
            zone,
            owner,
            incarnation,
            health,
        } = registration.clone();
        Self {
            version: VERSION,
            owner,
            incarnation,
            protocol,
            health,
            phase: *phase,
            weight,
            zone,
            tags,
            meta,
        }
    }

    /// Whether this version is understood.
    pub(super) fn is_known(&self) -> bool {
        self.version <= VERSION
    }

    pub(super) fn with(self, place: &Place, id: InstanceId, endpoint: Endpoint) -> Option<Kept> {
        let Self { version: _, owner, incarnation, protocol, health, phase, weight, zone, tags, meta } = self;
        let service = place.service.clone();
        let registration = Registration {
            id,
            service,
            endpoint,
            protocol,
            tags,
            meta,
            weight,
            zone,
            owner,
            incarnation,
            health,
        };
        registration.check_limits().ok()?;
        Some(Kept { registration, phase })
    }
}

/// What is to be assumed of an instance of which only the endpoint is known.
pub(super) fn bare(place: &Place, id: InstanceId, endpoint: Endpoint) -> Option<Kept> {
    let extras = Extras {
        version: VERSION,
        owner: Owner::new(Owner::UNKNOWN).ok()?,
        incarnation: Incarnation::default(),
        protocol: if place.rest.ends_with(":udp") { Protocol::Udp } else { Protocol::Tcp },
        health: Health::default(),
        phase: Phase::Adult,
        weight: Weight::default(),
        zone: None,
        tags: BTreeSet::new(),
        meta: BTreeMap::new(),
    };
    extras.with(place, id, endpoint)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
