//! The member `Portolan`: what the formats of others have no place for.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::{
    Endpoint, Health, Incarnation, InstanceId, Owner, Phase, Protocol, Registration, ServiceName, Weight,
    Zone,
};
use serde::{Deserialize, Serialize};

use super::Said;

/// The version that is written. A greater one is not read: it may mean something else.
const VERSION: u32 = 1;

/// See the module's head. A golden row is in the tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Extras {
    #[serde(rename = "v")]
    version: u32,
    id: InstanceId,
    owner: Owner,
    #[serde(default)]
    incarnation: Incarnation,
    phase: Phase,
    #[serde(default)]
    weight: Weight,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Zone>,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    health: Health,
    /// The format's own members say what the instance is inside its container, because its owner said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) origin: bool,
}

/// What a format's own members say, and the path.
pub(super) struct Plain {
    pub(super) service: ServiceName,
    pub(super) endpoint: Endpoint,
    pub(super) tags: BTreeSet<String>,
    pub(super) meta: BTreeMap<String, String>,
}

impl Extras {
    pub(super) fn of(registration: &Registration, phase: Phase) -> Self {
        let Registration {
            id,
            service: _,
            endpoint: _,
            protocol,
            tags: _,
            meta: _,
            weight,
            zone,
            owner,
            incarnation,
            health,
        } = registration;
        Self {
            version: VERSION,
            id: id.clone(),
            owner: owner.clone(),
            incarnation: *incarnation,
            phase,
            weight: *weight,
            zone: zone.clone(),
            protocol: *protocol,
            health: *health,
            origin: false,
        }
    }

    /// The member as found, if it is one that we understand.
    pub(super) fn parse(member: Option<serde_json::Value>) -> Option<Self> {
        let extras: Self = serde_json::from_value(member?).ok()?;
        (extras.version <= VERSION).then_some(extras)
    }

    pub(super) fn with(self, plain: Plain) -> Said {
        let Self { version: _, id, owner, incarnation, phase, weight, zone, protocol, health, origin: _ } =
            self;
        let Plain { service, endpoint, tags, meta } = plain;
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
        Said { registration, phase, ours: true }
    }
}

impl Plain {
    /// What is to be assumed of an instance that others wrote.
    pub(super) fn alone(self, id: InstanceId, health: Health) -> Option<Said> {
        let Self { service, endpoint, tags, meta } = self;
        let registration = Registration {
            id,
            service,
            endpoint,
            protocol: if tags.contains("udp") { Protocol::Udp } else { Protocol::Tcp },
            tags,
            meta,
            weight: Weight::default(),
            zone: None,
            owner: Owner::new(Owner::UNKNOWN).ok()?,
            incarnation: Incarnation::default(),
            health,
        };
        Some(Said { registration, phase: Phase::Adult, ours: false })
    }
}
