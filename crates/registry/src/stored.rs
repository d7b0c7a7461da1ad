//! The form in which an instance lies in the store. What was once written must stay readable: a change of meaning is a
//! new version beside the old one, and every version has a golden file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catalog::Millis;
use portolan_model::{
    Endpoint, EndpointError, Health, IdError, Incarnation, Instance, InstanceId, Owner, Phase, Protocol,
    Registration, Revision, ServiceName, Weight, Zone,
};
use serde::{Deserialize, Serialize};

/// Why an entry of the store cannot be read. It names the entry; nothing is ever skipped in silence.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// No program of this version writes such a key.
    #[error("unknown key {0:?}")]
    Key(String),
    /// A newer program wrote it.
    #[error("entry {key:?} has version {found}, but this program knows versions up to {VERSION}")]
    Version {
        /// The entry.
        key: String,
        /// Its version.
        found: u32,
    },
    /// It is not in the form it should be.
    #[error("entry {key:?} is malformed: {why}")]
    Malformed {
        /// The entry.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The version that is written.
const VERSION: u32 = 1;

/// An instance as version 1 writes it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceV1 {
    version: u32,
    id: String,
    service: String,
    host: String,
    port: u16,
    protocol: StoredProtocol,
    tags: BTreeSet<String>,
    meta: BTreeMap<String, String>,
    weight: u16,
    zone: Option<String>,
    owner: String,
    incarnation: u64,
    health: StoredHealth,
    phase: StoredPhase,
    created: u64,
    modified: u64,
    since_ms: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredProtocol {
    Tcp,
    Udp,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredHealth {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredPhase {
    Young,
    Adult,
    Draining,
}

/// Only as much of any version as tells which one it is.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The bytes of an instance whose life began at `since`.
pub(crate) fn write(instance: &Instance, since: Millis) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "strings, numbers and maps with string keys always serialize to memory"
    )]
    serde_json::to_vec(&InstanceV1::from_domain(instance, since)).expect("plain data serializes")
}

/// The instance in `bytes`, and when its life began. `key` names it in errors.
pub(crate) fn read(key: &str, bytes: &[u8]) -> Result<(Arc<Instance>, Millis), StoredError> {
    let malformed = |why: String| StoredError::Malformed { key: key.to_owned(), why };
    let stored = serde_json::from_slice::<InstanceV1>(bytes);
    let found = match &stored {
        Ok(stored) => stored.version,
        // Tens of thousands may be read at every start, so only what is amiss is looked at twice.
        Err(_) => serde_json::from_slice(bytes).map_or(VERSION, |Versioned { version }| version),
    };
    if found != VERSION {
        return Err(StoredError::Version { key: key.to_owned(), found });
    }
    let stored = stored.map_err(|e| malformed(e.to_string()))?;
    stored.into_domain().map_err(|e| malformed(e.to_string()))
}

/// A text in an entry is not the noun it should be.
#[derive(Debug, thiserror::Error)]
enum NounError {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl InstanceV1 {
    fn from_domain(instance: &Instance, since: Millis) -> Self {
        let Instance { registration, phase, created: Revision(created), modified: Revision(modified) } =
            instance;
        let Registration {
            id,
            service,
            endpoint: Endpoint { host, port },
            protocol,
            tags,
            meta,
            weight: Weight(weight),
            zone,
            owner,
            incarnation: Incarnation(incarnation),
            health,
        } = registration;
        let Millis(since_ms) = since;
        Self {
            version: VERSION,
            id: id.to_string(),
            service: service.to_string(),
            host: host.to_string(),
            port: *port,
            protocol: match protocol {
                Protocol::Tcp => StoredProtocol::Tcp,
                Protocol::Udp => StoredProtocol::Udp,
            },
            tags: tags.clone(),
            meta: meta.clone(),
            weight: *weight,
            zone: zone.as_ref().map(ToString::to_string),
            owner: owner.to_string(),
            incarnation: *incarnation,
            health: match health {
                Health::Passing => StoredHealth::Passing,
                Health::Warning => StoredHealth::Warning,
                Health::Critical => StoredHealth::Critical,
                Health::Maintenance => StoredHealth::Maintenance,
            },
            phase: match phase {
                Phase::Young => StoredPhase::Young,
                Phase::Adult => StoredPhase::Adult,
                Phase::Draining => StoredPhase::Draining,
            },
            created: *created,
            modified: *modified,
            since_ms,
        }
    }

    fn into_domain(self) -> Result<(Arc<Instance>, Millis), NounError> {
        let Self {
            version: _,
            id,
            service,
            host,
            port,
            protocol,
            tags,
            meta,
            weight,
            zone,
            owner,
            incarnation,
            health,
            phase,
            created,
            modified,
            since_ms,
        } = self;
        let registration = Registration {
            id: InstanceId::new(id)?,
            service: ServiceName::new(service)?,
            endpoint: Endpoint { host: host.parse()?, port },
            protocol: match protocol {
                StoredProtocol::Tcp => Protocol::Tcp,
                StoredProtocol::Udp => Protocol::Udp,
            },
            tags,
            meta,
            weight: Weight(weight),
            zone: zone.map(Zone::new).transpose()?,
            owner: Owner::new(owner)?,
            incarnation: Incarnation(incarnation),
            health: match health {
                StoredHealth::Passing => Health::Passing,
                StoredHealth::Warning => Health::Warning,
                StoredHealth::Critical => Health::Critical,
                StoredHealth::Maintenance => Health::Maintenance,
            },
        };
        let phase = match phase {
            StoredPhase::Young => Phase::Young,
            StoredPhase::Adult => Phase::Adult,
            StoredPhase::Draining => Phase::Draining,
        };
        let (created, modified) = (Revision(created), Revision(modified));
        Ok((Arc::new(Instance { registration, phase, created, modified }), Millis(since_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../tests/golden/instance_v1.json");

    fn every_field() -> (Arc<Instance>, Millis) {
        let registration = Registration {
            id: InstanceId::new("host-1:web:8080:udp").unwrap(),
            service: ServiceName::new("订单").unwrap(),
            endpoint: Endpoint { host: "fe80::1".parse().unwrap(), port: 8080 },
            protocol: Protocol::Udp,
            tags: ["blue", "v=2"].map(str::to_owned).into(),
            meta: [("path".to_owned(), "/a \"b\"".to_owned())].into(),
            weight: Weight(7),
            zone: Some(Zone::new("rack-1").unwrap()),
            owner: Owner::new("registrator@host-1").unwrap(),
            incarnation: Incarnation(u64::MAX),
            health: Health::Maintenance,
        };
        let (created, modified) = (Revision(41), Revision(42));
        let instance = Instance { registration, phase: Phase::Draining, created, modified };
        (Arc::new(instance), Millis(1_700_000_000_123))
    }

    #[test]
    fn version_1_is_what_it_was() {
        let (instance, since) = every_field();
        let written: serde_json::Value = serde_json::from_slice(&write(&instance, since)).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(GOLDEN).unwrap());
        assert_eq!(read("k", GOLDEN.as_bytes()).unwrap(), (instance, since));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        #[track_caller]
        fn check(change: (&str, &str), expect: &str) {
            let text = GOLDEN.replacen(change.0, change.1, 1);
            assert_ne!(text, GOLDEN);
            assert_eq!(read("instance/x", text.as_bytes()).unwrap_err().to_string(), expect);
        }
        check(
            ("\"version\": 1", "\"version\": 2, \"new\": 1"),
            "entry \"instance/x\" has version 2, but this program knows versions up to 1",
        );
        check(
            ("\"fe80::1\"", "\"fe80: :1\""),
            "entry \"instance/x\" is malformed: \"fe80: :1\" is neither an IP address nor a host name",
        );
        check(("\"订单\"", "\"\""), "entry \"instance/x\" is malformed: service name is empty");
        check(
            ("\"weight\": 7", "\"weight\": -1"),
            "entry \"instance/x\" is malformed: invalid value: integer `-1`, expected u16 at line 10 column 14",
        );
    }
}
