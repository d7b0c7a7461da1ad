//! Apache Curator's service discovery: `<base>/<service>/<id>`, a `ServiceInstance` as JSON.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::{Endpoint, Health, InstanceId, Phase, Registration};
use serde::{Deserialize, Serialize};

use super::extras::{Extras, Plain};
use super::{Place, Said, names};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    name: &'a str,
    id: &'a str,
    address: String,
    port: u16,
    ssl_port: Option<u16>,
    payload: Payload<'a>,
    #[serde(rename = "registrationTimeUTC")]
    registration_time_utc: u64,
    service_type: &'static str,
    uri_spec: Option<()>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Payload<'a> {
    tags: &'a BTreeSet<String>,
    attrs: &'a BTreeMap<String, String>,
    portolan: Extras,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    address: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    ssl_port: Option<u16>,
    #[serde(default)]
    payload: Option<serde_json::Value>,
    /// Newer Curators write it.
    #[serde(default)]
    enabled: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct FoundPayload {
    tags: BTreeSet<String>,
    attrs: BTreeMap<String, String>,
    portolan: Option<serde_json::Value>,
}

pub(super) fn body(registration: &Registration, phase: Phase, now_ms: u64) -> Vec<u8> {
    let written = Written {
        name: registration.service.as_str(),
        id: registration.id.as_str(),
        address: registration.endpoint.host.to_string(),
        port: registration.endpoint.port,
        ssl_port: None,
        payload: Payload {
            tags: &registration.tags,
            attrs: &registration.meta,
            portolan: Extras::of(registration, phase),
        },
        registration_time_utc: now_ms,
        service_type: "DYNAMIC",
        uri_spec: None,
    };
    // Nothing in it can fail to be written.
    serde_json::to_vec(&written).unwrap_or_default()
}

pub(super) fn read(place: &Place<'_>, body: &[u8]) -> Option<Said> {
    let found: Found = serde_json::from_slice(body).ok()?;
    let port = found.port.or(found.ssl_port).unwrap_or_default();
    let endpoint = Endpoint { host: found.address.parse().ok()?, port };
    let payload = found.payload.and_then(|payload| serde_json::from_value(payload).ok());
    let FoundPayload { tags, attrs: meta, portolan } = payload.unwrap_or_default();
    let plain = Plain { service: place.service.clone(), endpoint, tags, meta };
    if let Some(extras) = Extras::parse(portolan) {
        return Some(extras.with(plain));
    }
    let health = if found.enabled == Some(false) { Health::Maintenance } else { Health::Passing };
    // Others' ids need only differ within a service, and ours within the whole registry.
    let id = format!("{}/{}", place.service, names::decoded(place.name));
    plain.alone(InstanceId::new(id).ok()?, health)
}
