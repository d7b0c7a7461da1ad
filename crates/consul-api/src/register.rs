//! What is written: the body of `PUT /v1/agent/service/register`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::lenient::{lenient_names, or_default};
use crate::service::{Particulars, TaggedAddress, Weights};

/// A request to register one instance. Serialized, it holds only what is said, so that a real Consul, which refuses
/// fields it does not know, takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, remote = "Self")]
pub struct ServiceRegistration {
    /// Identifies the instance; the name when empty.
    #[serde(rename = "ID", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The service's name. What is read calls it `Service`; that is understood here too, so that what was read can be
    /// written back.
    #[serde(alias = "Service", deserialize_with = "or_default")]
    pub name: String,
    /// Labels.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Port; zero where there is none.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub port: i64,
    /// Address; the node's when empty.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Addresses by network.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Attributes.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// Shares of traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Whether others may change the tags in the catalog.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub enable_tag_override: bool,
    /// Empty for an ordinary service; otherwise a part of Consul's service mesh.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// A Unix socket it listens on instead of a port.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// One check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckRegistration>,
    /// More checks.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckRegistration>,
    /// What only Portolan understands; a real Consul refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portolan: Option<Particulars>,
}

/// A check that comes with a registration. Which kind it is follows from which field is filled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, remote = "Self")]
pub struct CheckRegistration {
    /// Identifies it on its node.
    #[serde(rename = "CheckID", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub check_id: String,
    /// Its name, for people.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Words about it, for people.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// The status until it has run.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The time between two runs.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub interval: GoDuration,
    /// The longest time of one run.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub timeout: GoDuration,
    /// How long a sign of life holds.
    #[serde(rename = "TTL", deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub ttl: GoDuration,
    /// A URL to ask.
    #[serde(rename = "HTTP", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub http: String,
    /// A `host:port` to connect to.
    #[serde(rename = "TCP", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub tcp: String,
    /// A `host:port` to send a datagram to.
    #[serde(rename = "UDP", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub udp: String,
    /// A `host:port[/service]` to ask by the gRPC health protocol.
    #[serde(rename = "GRPC", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub grpc: String,
    /// A `host:port` to ping by HTTP/2.
    #[serde(rename = "H2PING", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub h2ping: String,
    /// A command line to run. Old clients call it `ScriptArgs`.
    #[serde(alias = "ScriptArgs", deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// A command line to run, as one text; gone from Consul since 1.0.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub script: String,
    /// A container to run the command line in.
    #[serde(
        rename = "DockerContainerID",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub docker_container_id: String,
    /// A Windows service to look at.
    #[serde(rename = "OSService", deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub os_service: String,
    /// A node whose health to mirror.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub alias_node: String,
    /// A service whose health to mirror.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub alias_service: String,
    /// How long the instance may stay critical before it is removed.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub deregister_critical_service_after: GoDuration,
}

/// `PUT /v1/agent/check/update/:check_id`: how whatever a TTL check is about fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, remote = "Self")]
pub struct CheckUpdate {
    /// `passing`, `warning` or `critical`.
    #[serde(deserialize_with = "or_default")]
    pub status: String,
    /// Words about it, for people.
    #[serde(deserialize_with = "or_default")]
    pub output: String,
}

lenient_names!(ServiceRegistration, CheckRegistration, CheckUpdate);

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
