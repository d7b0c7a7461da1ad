//! What templates compute with, and the fields of a container they can name.

use std::collections::BTreeMap;
use std::fmt;

use super::Failure;
use crate::container::{Binding, Container, NetworkMode};

/// Anything that a template can name or compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    Truth(bool),
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

/// A fact about a container, under the name that Docker's API gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Name,
    Image,
    Labels,
    Env,
    Hostname,
    NetworkMode,
    IpAddress,
    Networks,
    Ports,
}

/// Every field, by its path.
pub(super) const FIELDS: [(&str, Field); 10] = [
    ("ID", Field::Id),
    ("Name", Field::Name),
    ("Config.Image", Field::Image),
    ("Config.Labels", Field::Labels),
    ("Config.Env", Field::Env),
    ("Config.Hostname", Field::Hostname),
    ("HostConfig.NetworkMode", Field::NetworkMode),
    ("NetworkSettings.IPAddress", Field::IpAddress),
    ("NetworkSettings.Networks", Field::Networks),
    ("NetworkSettings.Ports", Field::Ports),
];

impl Field {
    pub(super) fn of(self, container: &Container) -> Value {
        let text = |text: &str| Value::Text(text.to_owned());
        match self {
            Self::Id => text(container.id.as_str()),
            // As in Docker's API: templates that people have cut the slash off.
            Self::Name => Value::Text(format!("/{}", container.name)),
            Self::Image => text(&container.image),
            Self::Labels => Value::Map(container.labels.iter().map(|(k, v)| (k.clone(), text(v))).collect()),
            Self::Env => Value::List(container.env.iter().map(|line| text(line)).collect()),
            Self::Hostname => text(&container.hostname),
            Self::NetworkMode => match &container.network_mode {
                NetworkMode::Bridge => text("bridge"),
                NetworkMode::Host => text("host"),
                NetworkMode::None => text("none"),
                NetworkMode::Container(other) => Value::Text(format!("container:{other}")),
                NetworkMode::User(name) => text(name),
            },
            // Docker's API fills it for its default network alone.
            Self::IpAddress => {
                Value::Text(container.networks.get("bridge").map(ToString::to_string).unwrap_or_default())
            }
            Self::Networks => {
                let network = |ip: &std::net::IpAddr| {
                    let (v4, v6) = if ip.is_ipv4() {
                        (ip.to_string(), String::new())
                    } else {
                        (String::new(), ip.to_string())
                    };
                    map([("IPAddress", Value::Text(v4)), ("GlobalIPv6Address", Value::Text(v6))])
                };
                Value::Map(container.networks.iter().map(|(name, ip)| (name.clone(), network(ip))).collect())
            }
            Self::Ports => {
                let one = |binding: &Binding| {
                    let host = binding.host.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
                    map([("HostIP", Value::Text(host)), ("HostPort", Value::Text(binding.port.to_string()))])
                };
                let all = |bindings: &Vec<Binding>| Value::List(bindings.iter().map(one).collect());
                Value::Map(container.bindings.iter().map(|(port, b)| (port.to_string(), all(b))).collect())
            }
        }
    }
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

impl Value {
    /// As Go's `if` sees it.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Truth(truth) => *truth,
            Self::Number(number) => *number != 0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    /// What a map holds under `key`; nothing when it does not.
    pub(super) fn under(self, key: &str) -> Result<Self, Failure> {
        match self {
            Self::Map(mut map) => Ok(map.remove(key).unwrap_or(Self::Nothing)),
            Self::Nothing => Ok(Self::Nothing),
            other => Err(Failure(format!("{} has no field {key}", other.kind()))),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Truth(_) => "a truth",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// What is not there is no text.
    pub(super) fn text(&self) -> Result<&str, Failure> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Nothing => Ok(""),
            other => Err(other.wrong("a text")),
        }
    }

    pub(super) fn number(&self) -> Result<i64, Failure> {
        match self {
            Self::Number(number) => Ok(*number),
            other => Err(other.wrong("a number")),
        }
    }

    pub(super) fn list(&self) -> Result<&[Self], Failure> {
        match self {
            Self::List(list) => Ok(list),
            Self::Nothing => Ok(&[]),
            other => Err(other.wrong("a list")),
        }
    }

    pub(super) fn map(&self) -> Result<&BTreeMap<String, Self>, Failure> {
        match self {
            Self::Map(map) => Ok(map),
            other => Err(other.wrong("a map")),
        }
    }

    fn wrong(&self, wanted: &str) -> Failure {
        Failure(format!("{} where {wanted} belongs", self.kind()))
    }
}

/// As Go prints it; what is not there is no text (Go's `<no value>` would become a tag).
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spaced = |f: &mut fmt::Formatter<'_>, at: usize| if at > 0 { f.write_str(" ") } else { Ok(()) };
        match self {
            Self::Nothing => Ok(()),
            Self::Truth(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(list) => {
                f.write_str("[")?;
                for (at, value) in list.iter().enumerate() {
                    spaced(f, at)?;
                    value.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("map[")?;
                for (at, (key, value)) in map.iter().enumerate() {
                    spaced(f, at)?;
                    write!(f, "{key}:{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}
