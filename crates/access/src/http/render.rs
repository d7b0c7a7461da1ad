//! How instances look in Consul's forms.
//!
//! `Meta` is the user's own, so that what was read can be registered again without change (what a registrator says of
//! containers for other readers is not in it); what else Portolan knows is in the object `Portolan` beside it. Draining looks like Consul's maintenance mode: clients that know nothing of
//! draining stop using the instance at once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use consul_api::{
    AgentConfig, AgentMember, AgentSelf, AgentService, CatalogService, CheckDefinition, CheckStatus,
    HealthCheck, Node, Particulars, ServiceEntry, TaggedAddress, Weights,
};
use portolan_model::origin_meta::Origin;
use portolan_model::{Endpoint, Health, Host, Instance, Phase, Protocol, Registration, Revision, Weight};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::blocking::index_of;
use super::error::Error;
use super::query::{Asked, Params};

/// The one node that all instances seem to run on.
pub(super) struct Site {
    pub(super) node: String,
    pub(super) address: IpAddr,
    pub(super) datacenter: String,
    id: String,
}

impl Site {
    pub(super) fn new(node: String, address: IpAddr, datacenter: String) -> Self {
        let id = uuid_of(&node);
        Self { node, address, datacenter, id }
    }

    /// Who answers.
    pub(super) fn about(&self, port: u16) -> AgentSelf {
        let version = env!("CARGO_PKG_VERSION");
        AgentSelf {
            config: AgentConfig {
                datacenter: self.datacenter.clone(),
                primary_datacenter: self.datacenter.clone(),
                node_name: self.node.clone(),
                node_id: self.id.clone(),
                revision: "portolan".to_owned(),
                server: true,
                version: version.to_owned(),
            },
            member: AgentMember {
                name: self.node.clone(),
                addr: self.address.to_string(),
                port,
                tags: [("dc", &*self.datacenter), ("id", &self.id), ("role", "consul"), ("build", version)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                status: 1,
                protocol_min: 1,
                protocol_max: 5,
                protocol_cur: 2,
                delegate_min: 2,
                delegate_max: 5,
                delegate_cur: 4,
            },
            meta: BTreeMap::new(),
        }
    }

    /// One instance in the agent's list.
    pub(super) fn service(&self, instance: &Instance) -> AgentService {
        let Instance { registration, phase, created: _, modified: _ } = instance;
        let Registration { id, service, endpoint, tags, meta, weight, .. } = registration;
        let Registration { protocol: _, zone: _, owner: _, incarnation: _, health: _, .. } = registration;
        let mut shown = meta.clone();
        Origin::take(&mut shown);
        AgentService {
            id: id.to_string(),
            service: service.to_string(),
            tags: tags.iter().cloned().collect(),
            meta: shown,
            port: endpoint.port.into(),
            address: endpoint.host.to_string(),
            tagged_addresses: tagged_addresses(endpoint),
            weights: weights(*weight),
            enable_tag_override: false,
            create_index: None,
            modify_index: None,
            portolan: Some(particulars(registration, *phase)),
        }
    }

    /// One instance with its node and checks.
    pub(super) fn entry(&self, instance: &Instance) -> ServiceEntry {
        ServiceEntry {
            node: Node {
                id: self.id.clone(),
                node: self.node.clone(),
                address: self.address.to_string(),
                datacenter: self.datacenter.clone(),
                tagged_addresses: self.tagged_addresses(),
                meta: BTreeMap::new(),
                create_index: 1,
                modify_index: 1,
            },
            service: AgentService {
                create_index: Some(index_of(instance.created)),
                modify_index: Some(index_of(instance.modified)),
                ..self.service(instance)
            },
            checks: self.checks(instance),
        }
    }

    /// One instance with its node, flat.
    pub(super) fn row(&self, instance: &Instance) -> CatalogService {
        let service = self.service(instance);
        CatalogService {
            id: self.id.clone(),
            node: self.node.clone(),
            address: self.address.to_string(),
            datacenter: self.datacenter.clone(),
            tagged_addresses: self.tagged_addresses(),
            node_meta: BTreeMap::new(),
            service_id: service.id,
            service_name: service.service,
            service_tags: service.tags,
            service_address: service.address,
            service_tagged_addresses: service.tagged_addresses,
            service_weights: service.weights,
            service_meta: service.meta,
            service_port: service.port,
            service_enable_tag_override: service.enable_tag_override,
            create_index: index_of(instance.created),
            modify_index: index_of(instance.modified),
            portolan: service.portolan,
        }
    }

    /// The node is alive, since it answers; an instance has checks only for what speaks against it.
    fn checks(&self, instance: &Instance) -> Vec<HealthCheck> {
        let id = instance.id();
        let health = instance.registration.health;
        let mut checks = vec![HealthCheck {
            node: self.node.clone(),
            check_id: "serfHealth".to_owned(),
            name: "Serf Health Status".to_owned(),
            status: CheckStatus::Passing,
            output: "Agent alive and reachable".to_owned(),
            create_index: 1,
            modify_index: 1,
            ..HealthCheck::default()
        }];
        let status = match health {
            Health::Passing | Health::Maintenance => None,
            Health::Warning => Some(CheckStatus::Warning),
            Health::Critical => Some(CheckStatus::Critical),
        };
        checks.extend(status.map(|status| HealthCheck {
            check_id: format!("service:{id}"),
            name: format!("Service '{}' check", instance.service()),
            status,
            ..self.check_of(instance)
        }));
        let reason = match (instance.phase, health) {
            (Phase::Draining, _) => Some("draining: finishes what it has, gets no new work"),
            (Phase::Young | Phase::Adult, Health::Maintenance) => Some("in maintenance"),
            (Phase::Young | Phase::Adult, Health::Passing | Health::Warning | Health::Critical) => None,
        };
        checks.extend(reason.map(|reason| HealthCheck {
            check_id: format!("_service_maintenance:{id}"),
            name: "Service Maintenance Mode".to_owned(),
            status: CheckStatus::Critical,
            notes: reason.to_owned(),
            kind: "maintenance".to_owned(),
            ..self.check_of(instance)
        }));
        checks
    }

    fn check_of(&self, instance: &Instance) -> HealthCheck {
        HealthCheck {
            node: self.node.clone(),
            service_id: instance.id().to_string(),
            service_name: instance.service().to_string(),
            service_tags: instance.registration.tags.iter().cloned().collect(),
            definition: CheckDefinition::default(),
            create_index: index_of(instance.modified),
            modify_index: index_of(instance.modified),
            ..HealthCheck::default()
        }
    }

    fn tagged_addresses(&self) -> BTreeMap<String, String> {
        let address = self.address.to_string();
        let family = family(self.address);
        ["lan".to_owned(), format!("lan_{family}"), "wan".to_owned(), format!("wan_{family}")]
            .map(|network| (network, address.clone()))
            .into()
    }
}

/// As Consul derives them from the address.
fn tagged_addresses(endpoint: &Endpoint) -> BTreeMap<String, TaggedAddress> {
    match endpoint.host {
        Host::Name(_) => BTreeMap::new(),
        Host::Ip(ip) => {
            let tagged = TaggedAddress { address: ip.to_string(), port: endpoint.port.into() };
            let family = family(ip);
            [(format!("lan_{family}"), tagged.clone()), (format!("wan_{family}"), tagged)].into()
        }
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// The share does not depend on health here.
fn weights(weight: Weight) -> Weights {
    Weights { passing: weight.0.into(), warning: weight.0.into() }
}

fn particulars(registration: &Registration, phase: Phase) -> Particulars {
    let Registration { protocol, zone, owner, incarnation, health, .. } = registration;
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    Particulars {
        phase: Some(phase.as_str().to_owned()),
        health: Some(health.as_str().to_owned()),
        owner: Some(owner.to_string()),
        zone: zone.as_ref().map(ToString::to_string),
        protocol: Some(protocol.to_owned()),
        incarnation: Some(incarnation.0),
    }
}

/// A UUID (version 8) that stands for a name: the same name has the same one, on every start and in every build.
fn uuid_of(name: &str) -> String {
    // FNV-1a with 128 bits.
    let hash = name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    let marked = hash & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{marked:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// An answer in JSON.
pub(super) fn json(params: &Params, value: &impl Serialize) -> Result<Response, Error> {
    let written = if params.pretty() {
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(b"    ");
        let outcome = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
        bytes.push(b'\n');
        outcome.map(|()| bytes)
    } else {
        serde_json::to_vec(value)
    };
    let bytes = written.map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response())
}

/// An answer in JSON that a client can wait upon.
pub(super) fn indexed_json(
    params: &Params,
    asked: &Asked,
    revision: Revision,
    value: &impl Serialize,
) -> Result<Response, Error> {
    Ok(indexed(json(params, value)?, asked, index_of(revision)))
}

/// An answer that a client can wait upon.
pub(super) fn indexed(mut response: Response, asked: &Asked, index: u64) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(HeaderName::from_static("x-consul-index"), HeaderValue::from(index));
    for (name, value) in [
        ("x-consul-knownleader", "true"),
        ("x-consul-lastcontact", "0"),
        ("x-consul-effective-consistency", asked.consistency.as_str()),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_uuid() {
        let id = uuid_of("host-1");
        assert_eq!(id, uuid_of("host-1"));
        assert_ne!(id, uuid_of("host-2"));
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!((&id[14..15], matches!(&id[19..20], "8" | "9" | "a" | "b")), ("8", true));
    }
}
