//! A service instance as it is read: in the agent's list, inside a health entry, and flat in the catalog.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lenient::{decimal, lenient_names, or_default};

/// One instance, as `GET /v1/agent/services` and `ServiceEntry.Service` show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentService {
    /// Identifies the instance on its agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service's name.
    pub service: String,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Attributes, the user's own only.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// Port; Consul checks no range.
    pub port: i64,
    /// Address; Consul leaves it empty when it is the node's.
    pub address: String,
    /// Addresses by network (`lan_ipv4`, `wan_ipv4`, …).
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Shares of traffic.
    pub weights: Weights,
    /// Whether others may change the tags in the catalog.
    pub enable_tag_override: bool,
    /// The index at which it appeared; only inside a health entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_index: Option<u64>,
    /// The index of its last change; only inside a health entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modify_index: Option<u64>,
    /// What Portolan adds; Consul never sends it and Consul's clients skip it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portolan: Option<Particulars>,
}

/// One instance with its node, flat, as `GET /v1/catalog/service/:name` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CatalogService {
    /// The node's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// The node's data centre.
    pub datacenter: String,
    /// The node's addresses by network.
    #[serde(deserialize_with = "or_default")]
    pub tagged_addresses: BTreeMap<String, String>,
    /// The node's attributes.
    #[serde(deserialize_with = "or_default")]
    pub node_meta: BTreeMap<String, String>,
    /// Identifies the instance on its agent.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The service's name.
    pub service_name: String,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub service_tags: Vec<String>,
    /// Address; Consul leaves it empty when it is the node's.
    pub service_address: String,
    /// Addresses by network.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub service_tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Shares of traffic.
    pub service_weights: Weights,
    /// Attributes, the user's own only.
    #[serde(deserialize_with = "or_default")]
    pub service_meta: BTreeMap<String, String>,
    /// Port; Consul checks no range.
    pub service_port: i64,
    /// Whether others may change the tags in the catalog.
    pub service_enable_tag_override: bool,
    /// The index at which it appeared.
    pub create_index: u64,
    /// The index of its last change.
    pub modify_index: u64,
    /// What Portolan adds; Consul never sends it and Consul's clients skip it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portolan: Option<Particulars>,
}

/// An address and port on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, remote = "Self")]
pub struct TaggedAddress {
    /// Address.
    #[serde(deserialize_with = "or_default")]
    pub address: String,
    /// Port.
    #[serde(deserialize_with = "or_default")]
    pub port: i64,
}

/// Shares of traffic by health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, remote = "Self")]
pub struct Weights {
    /// While all is well.
    pub passing: i64,
    /// While something is amiss.
    pub warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// What Portolan knows of an instance and Consul has no word for: the object `Portolan` beside Consul's own fields. On
/// the way in every field may be left out; `Phase` is for reading only and is ignored there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, remote = "Self")]
pub struct Particulars {
    /// `young`, `adult` or `draining`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// `passing`, `warning`, `critical` or `maintenance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Who registered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The failure domain it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// `tcp` or `udp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Which life of its id it is; a JSON text of digits, since as a number it would lose some in JavaScript.
    #[serde(with = "decimal", skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
}

lenient_names!(TaggedAddress, Weights, Particulars);
