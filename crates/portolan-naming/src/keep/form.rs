//! The form of a table on disk. A change of meaning is a new version; every version has a golden file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use portolan_model::{
    Endpoint, EndpointError, Health, IdError, Incarnation, Instance, InstanceId, Owner, Phase, Protocol,
    Registration, Revision, ServiceName, Weight, Zone,
};
use serde::{Deserialize, Serialize};

use crate::mirror::Seed;

/// Why a file is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it is larger than any table")]
    TooLarge,
    #[error("it has version {0}, but this program knows version {VERSION}")]
    Version(u32),
    #[error("it is malformed: {0}")]
    Malformed(String),
    #[error("it is of another registry, {0}")]
    Foreign(String),
}

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableV1 {
    version: u32,
    registry: String,
    revision: u64,
    known_at_ms: u64,
    instances: Vec<InstanceV1>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceV1 {
    id: String,
    service: String,
    host: String,
    port: u16,
    protocol: KeptProtocol,
    tags: BTreeSet<String>,
    meta: BTreeMap<String, String>,
    weight: u16,
    zone: Option<String>,
    owner: String,
    incarnation: u64,
    health: KeptHealth,
    phase: KeptPhase,
    created: u64,
    modified: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptProtocol {
    Tcp,
    Udp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptHealth {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptPhase {
    Young,
    Adult,
    Draining,
}

/// Only as much of any version as tells which one it is.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The bytes of a table of `registry`.
pub(super) fn write(table: &Seed, registry: &str) -> Vec<u8> {
    let Seed { revision: Revision(revision), known_at, instances } = table;
    let since = known_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let table = TableV1 {
        version: VERSION,
        registry: registry.to_owned(),
        revision: *revision,
        known_at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        instances: instances.iter().map(|instance| InstanceV1::from_domain(instance)).collect(),
    };
    #[expect(
        clippy::expect_used,
        reason = "strings, numbers and maps with string keys always serialize to memory"
    )]
    serde_json::to_vec(&table).expect("plain data serializes")
}

/// The table in `bytes`, if it is one of `registry`.
pub(super) fn read(bytes: &[u8], registry: &str) -> Result<Seed, Unusable> {
    let malformed = |why: String| Unusable::Malformed(why);
    let Versioned { version } = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    let table: TableV1 = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
    let TableV1 { version: _, registry: of, revision, known_at_ms, instances } = table;
    if of != registry {
        return Err(Unusable::Foreign(of));
    }
    let known_at = UNIX_EPOCH.checked_add(Duration::from_millis(known_at_ms));
    Ok(Seed {
        revision: Revision(revision),
        known_at: known_at.ok_or_else(|| malformed(format!("no moment: {known_at_ms}")))?,
        instances: instances
            .into_iter()
            .map(|instance| instance.into_domain().map(Arc::new).map_err(|e| malformed(e.to_string())))
            .collect::<Result<_, _>>()?,
    })
}

#[derive(Debug, thiserror::Error)]
enum NounError {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl InstanceV1 {
    fn from_domain(instance: &Instance) -> Self {
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
        Self {
            id: id.to_string(),
            service: service.to_string(),
            host: host.to_string(),
            port: *port,
            protocol: match protocol {
                Protocol::Tcp => KeptProtocol::Tcp,
                Protocol::Udp => KeptProtocol::Udp,
            },
            tags: tags.clone(),
            meta: meta.clone(),
            weight: *weight,
            zone: zone.as_ref().map(ToString::to_string),
            owner: owner.to_string(),
            incarnation: *incarnation,
            health: match health {
                Health::Passing => KeptHealth::Passing,
                Health::Warning => KeptHealth::Warning,
                Health::Critical => KeptHealth::Critical,
                Health::Maintenance => KeptHealth::Maintenance,
            },
            phase: match phase {
                Phase::Young => KeptPhase::Young,
                Phase::Adult => KeptPhase::Adult,
                Phase::Draining => KeptPhase::Draining,
            },
            created: *created,
            modified: *modified,
        }
    }

    fn into_domain(self) -> Result<Instance, NounError> {
        let Self {
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
        } = self;
        let registration = Registration {
            id: InstanceId::new(id)?,
            service: ServiceName::new(service)?,
            endpoint: Endpoint { host: host.parse()?, port },
            protocol: match protocol {
                KeptProtocol::Tcp => Protocol::Tcp,
                KeptProtocol::Udp => Protocol::Udp,
            },
            tags,
            meta,
            weight: Weight(weight),
            zone: zone.map(Zone::new).transpose()?,
            owner: Owner::new(owner)?,
            incarnation: Incarnation(incarnation),
            health: match health {
                KeptHealth::Passing => Health::Passing,
                KeptHealth::Warning => Health::Warning,
                KeptHealth::Critical => Health::Critical,
                KeptHealth::Maintenance => Health::Maintenance,
            },
        };
        let phase = match phase {
            KeptPhase::Young => Phase::Young,
            KeptPhase::Adult => Phase::Adult,
            KeptPhase::Draining => Phase::Draining,
        };
        Ok(Instance { registration, phase, created: Revision(created), modified: Revision(modified) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../tests/golden/table_v1.json");
    const REGISTRY: &str = "etcd://a:2379,b:2379/services";

    fn every_field() -> Seed {
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
        let known_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        Seed { revision: Revision(43), known_at, instances: vec![Arc::new(instance)] }
    }

    #[test]
    fn version_1_is_what_it_was() {
        let table = every_field();
        let written: serde_json::Value = serde_json::from_slice(&write(&table, REGISTRY)).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(GOLDEN).unwrap());
        assert_eq!(read(GOLDEN.as_bytes(), REGISTRY), Ok(table));
    }

    #[test]
    fn what_is_of_no_use_says_why() {
        #[track_caller]
        fn check(change: (&str, &str), expect: &str) {
            let text = GOLDEN.replacen(change.0, change.1, 1);
            assert_ne!(text, GOLDEN);
            assert_eq!(read(text.as_bytes(), REGISTRY).unwrap_err().to_string(), expect);
        }
        check(
            ("\"version\": 1", "\"version\": 2, \"new\": 1"),
            "it has version 2, but this program knows version 1",
        );
        check(("//a:2379,b", "//c"), "it is of another registry, etcd://c:2379/services");
        check(
            ("\"fe80::1\"", "\"fe80: :1\""),
            "it is malformed: \"fe80: :1\" is neither an IP address nor a host name",
        );
        check(("\"订单\"", "\"\""), "it is malformed: service name is empty");
        check((GOLDEN, ""), "it is malformed: EOF while parsing a value at line 1 column 0");
    }
}
