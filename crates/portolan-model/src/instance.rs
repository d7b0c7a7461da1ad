//! What an owner says of an instance, and what a registry holds of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{IdError, Incarnation, InstanceId, Owner, Revision, ServiceName, Zone};

/// What an owner says of one instance. Registering it again with the same content changes nothing and wakes nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Identifies the instance in the whole registry.
    pub id: InstanceId,
    /// The service it is an instance of.
    pub service: ServiceName,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The transport it listens on.
    pub protocol: Protocol,
    /// Labels to select by; a set, their order is no contract.
    pub tags: BTreeSet<String>,
    /// Free-form attributes.
    pub meta: BTreeMap<String, String>,
    /// Its share of traffic beside its siblings.
    pub weight: Weight,
    /// The failure domain it runs in.
    pub zone: Option<Zone>,
    /// Who registered it.
    pub owner: Owner,
    /// Which life of the id this is.
    pub incarnation: Incarnation,
    /// How it fares, as far as its owner knows.
    pub health: Health,
}

/// What a registry holds of one instance: what its owner said, and what the registry adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What its owner said last.
    pub registration: Registration,
    /// Where it is in its life.
    pub phase: Phase,
    /// The revision at which it appeared (Consul's `CreateIndex`).
    pub created: Revision,
    /// The revision at which anything of it changed last (Consul's `ModifyIndex`).
    pub modified: Revision,
}

impl Instance {
    /// Its id.
    pub fn id(&self) -> &InstanceId {
        &self.registration.id
    }

    /// The service it belongs to.
    pub fn service(&self) -> &ServiceName {
        &self.registration.service
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.registration.endpoint
    }

    /// Whether new work may be sent to it: healthy enough and not on its way out.
    pub fn takes_new_work(&self) -> bool {
        self.registration.health.takes_traffic() && self.phase != Phase::Draining
    }
}

/// The transport an instance listens on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A byte stream; what the gateway can route to.
    #[default]
    Tcp,
    /// Datagrams; registered and found, never routed to.
    Udp,
}

/// How an instance fares, worst last, so that `max` aggregates (Consul's `AggregatedStatus`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// All is well.
    #[default]
    Passing,
    /// It works, but something is amiss; it still takes traffic.
    Warning,
    /// It does not work.
    Critical,
    /// Somebody took it out on purpose.
    Maintenance,
}

impl Health {
    /// Whether an instance in this state may be sent requests.
    pub fn takes_traffic(self) -> bool {
        match self {
            Self::Passing | Self::Warning => true,
            Self::Critical | Self::Maintenance => false,
        }
    }

    /// The word used on every face (`passing`, `warning`, `critical`, `maintenance`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Just arrived; takes a smaller share until it is warm.
    Young,
    /// Takes its full share.
    Adult,
    /// On its way out: finishes what it has, gets nothing new.
    Draining,
}

impl Phase {
    /// The word used on every face (`young`, `adult`, `draining`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Young => "young",
            Self::Adult => "adult",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An instance's share of traffic relative to its siblings; 1 unless said, 0 takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

/// Where an instance listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address or host name.
    pub host: Host,
    /// Port; zero where the service has none (Consul allows it).
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// An address, or a name that the caller resolves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A host name.
    Name(Arc<str>),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why a text is neither an address nor a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither an IP address nor a host name")]
pub struct EndpointError {
    text: String,
}

impl FromStr for Host {
    type Err = EndpointError;

    /// Accepts IPv4, IPv6 (bare or in brackets) and host names of letters, digits, `-`, `_` and `.` (RFC 1123, and the
    /// underscores that container engines put into names).
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self::Ip(ip));
        }
        let fits = (1..=253).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !text.starts_with(['-', '.']);
        if fits { Ok(Self::Name(Arc::from(text))) } else { Err(EndpointError { text: text.to_owned() }) }
    }
}

impl TryFrom<String> for Host {
    type Error = EndpointError;
    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> String {
        host.to_string()
    }
}

/// How much an owner may say of one instance. Every face applies it before a registration reaches a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// Too many tags.
    #[error("{count} tags; at most {} are allowed", Registration::TAGS_LIMIT)]
    Tags {
        /// How many there were.
        count: usize,
    },
    /// Too many attributes.
    #[error("{count} meta entries; at most {} are allowed", Registration::META_LIMIT)]
    Meta {
        /// How many there were.
        count: usize,
    },
    /// A tag, a meta key or a meta value is too long.
    #[error("{what} has {length} bytes; at most {limit} are allowed")]
    Text {
        /// Which text it was.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// An id is malformed.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl Registration {
    /// The most tags one instance may carry.
    pub const TAGS_LIMIT: usize = 256;
    /// The most meta entries one instance may carry.
    pub const META_LIMIT: usize = 256;
    /// The longest tag or meta key, in bytes.
    pub const KEY_LIMIT: usize = 512;
    /// The longest meta value, in bytes.
    pub const VALUE_LIMIT: usize = 4096;

    /// Checks the limits that types alone do not.
    ///
    /// # Errors
    /// Names the first limit that is passed.
    pub fn check_limits(&self) -> Result<(), Limit> {
        if self.tags.len() > Self::TAGS_LIMIT {
            return Err(Limit::Tags { count: self.tags.len() });
        }
        if self.meta.len() > Self::META_LIMIT {
            return Err(Limit::Meta { count: self.meta.len() });
        }
        let within = |what, text: &str, limit| match text.len() {
            length if length > limit => Err(Limit::Text { what, length, limit }),
            _ => Ok(()),
        };
        self.tags.iter().try_for_each(|tag| within("a tag", tag, Self::KEY_LIMIT))?;
        self.meta.iter().try_for_each(|(key, value)| {
            within("a meta key", key, Self::KEY_LIMIT)?;
            within("a meta value", value, Self::VALUE_LIMIT)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let got = text.parse::<Host>().map(|h| Endpoint { host: h, port: 80 }.to_string());
            assert_eq!(got.unwrap_or_else(|e| e.to_string()), expect);
        }
        check("10.0.0.1", "10.0.0.1:80");
        check("::1", "[::1]:80");
        check("[fe80::1]", "[fe80::1]:80");
        check("web_1.app", "web_1.app:80");
        check("", "\"\" is neither an IP address nor a host name");
        check("a b", "\"a b\" is neither an IP address nor a host name");
        check("@evil", "\"@evil\" is neither an IP address nor a host name");
    }

    #[test]
    fn health_aggregates_to_the_worst() {
        assert_eq!([Health::Warning, Health::Passing].into_iter().max(), Some(Health::Warning));
        assert_eq!([Health::Maintenance, Health::Critical].into_iter().max(), Some(Health::Maintenance));
    }
}
