//! The agent about itself: `GET /v1/agent/self`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lenient::or_default;

/// Who answers. Every member is an object: Consul's Go client reads a map of maps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentSelf {
    /// How it was started.
    pub config: AgentConfig,
    /// What the cluster knows of it.
    pub member: AgentMember,
    /// The node's attributes.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
}

/// How an agent was started. Prometheus and Fabio refuse to start without `Datacenter`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentConfig {
    /// Its data centre.
    pub datacenter: String,
    /// The data centre that others defer to.
    pub primary_datacenter: String,
    /// Its node's name.
    pub node_name: String,
    /// Its node's UUID.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Which build it is.
    pub revision: String,
    /// Whether it holds the catalog itself.
    pub server: bool,
    /// Its version.
    pub version: String,
}

/// One member of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentMember {
    /// Its node's name.
    pub name: String,
    /// Its address.
    pub addr: String,
    /// Its port for other members.
    pub port: u16,
    /// What it says of itself.
    #[serde(deserialize_with = "or_default")]
    pub tags: BTreeMap<String, String>,
    /// 1 means alive.
    pub status: u8,
    /// The oldest gossip protocol it speaks.
    pub protocol_min: u8,
    /// The newest gossip protocol it speaks.
    pub protocol_max: u8,
    /// The gossip protocol it speaks now.
    pub protocol_cur: u8,
    /// The oldest delegate protocol it speaks.
    pub delegate_min: u8,
    /// The newest delegate protocol it speaks.
    pub delegate_max: u8,
    /// The delegate protocol it speaks now.
    pub delegate_cur: u8,
}
