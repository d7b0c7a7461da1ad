//! An instance together with its node and its checks, as `GET /v1/health/service/:name` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::lenient::or_default;
use crate::service::AgentService;

/// One instance with all that speaks for or against using it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceEntry {
    /// Where it runs.
    pub node: Node,
    /// What it is.
    pub service: AgentService,
    /// How it and its node fare.
    #[serde(deserialize_with = "or_default")]
    pub checks: Vec<HealthCheck>,
}

/// A host as Consul sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// A UUID.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub node: String,
    /// Its address.
    pub address: String,
    /// Its data centre.
    pub datacenter: String,
    /// Its addresses by network.
    #[serde(deserialize_with = "or_default")]
    pub tagged_addresses: BTreeMap<String, String>,
    /// Its attributes.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// The index at which it appeared.
    pub create_index: u64,
    /// The index of its last change.
    pub modify_index: u64,
}

/// The last word of one check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    /// The node it is about.
    pub node: String,
    /// Identifies it on its node: `serfHealth`, `service:<id>`, `_service_maintenance:<id>`, …
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// Its name, for people.
    pub name: String,
    /// Its verdict.
    pub status: CheckStatus,
    /// Words of whoever defined it.
    pub notes: String,
    /// Words of its last run.
    pub output: String,
    /// The instance it is about; empty for a check of the node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The service of that instance.
    pub service_name: String,
    /// The tags of that instance.
    #[serde(deserialize_with = "or_default")]
    pub service_tags: Vec<String>,
    /// `http`, `tcp`, `ttl`, `maintenance`, …; empty for a node's.
    #[serde(rename = "Type")]
    pub kind: String,
    /// How it is run.
    #[serde(deserialize_with = "or_default")]
    pub definition: CheckDefinition,
    /// The index at which it appeared.
    pub create_index: u64,
    /// The index of its last change.
    pub modify_index: u64,
}

/// How a check is run, as far as the catalog was told. Checks that an agent runs have an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckDefinition {
    /// The URL it asks.
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The `host:port` it connects to.
    #[serde(rename = "TCP", skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// The time between two runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// The longest time of one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// How long an instance may stay critical before it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deregister_critical_service_after: Option<GoDuration>,
}

/// What a check says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum CheckStatus {
    /// All is well.
    Passing,
    /// Something is amiss.
    Warning,
    /// It does not work.
    #[default]
    Critical,
    /// A word Consul does not define; the catalog stores whatever it is given.
    Unknown(String),
}

impl CheckStatus {
    /// The word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown(word) => word,
        }
    }
}

impl From<String> for CheckStatus {
    fn from(word: String) -> Self {
        match word.as_str() {
            "passing" => Self::Passing,
            "warning" => Self::Warning,
            "critical" => Self::Critical,
            _ => Self::Unknown(word),
        }
    }
}

impl From<CheckStatus> for String {
    fn from(status: CheckStatus) -> Self {
        status.as_str().to_owned()
    }
}
