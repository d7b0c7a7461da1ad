//! What templates compute with, and the fields of a container they can name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Failure;
use crate::container::{Binding, Container, NetworkMode};

/// Anything that a template can name or compute. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    Truth(bool),
    Number(i64),
    Text(Arc<str>),
    List(Arc<[Value]>),
    Map(Arc<BTreeMap<Arc<str>, Value>>),
    /// Fields with names that are known beforehand.
    Record(Arc<[(&'static str, Value)]>),
    Part(Part),
}

/// A part of a container that is no value, but has fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Container,
    Config,
    HostConfig,
    NetworkSettings,
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

/// Every field, by its part and name; in the order of the enum.
pub(super) const FIELDS: [(Part, &str, Field); 10] = [
    (Part::Container, "ID", Field::Id),
    (Part::Container, "Name", Field::Name),
    (Part::Config, "Image", Field::Image),
    (Part::Config, "Labels", Field::Labels),
    (Part::Config, "Env", Field::Env),
    (Part::Config, "Hostname", Field::Hostname),
    (Part::HostConfig, "NetworkMode", Field::NetworkMode),
    (Part::NetworkSettings, "IPAddress", Field::IpAddress),
    (Part::NetworkSettings, "Networks", Field::Networks),
    (Part::NetworkSettings, "Ports", Field::Ports),
];

/// Every part within the container.
const PARTS: [(&str, Part); 3] =
    [("Config", Part::Config), ("HostConfig", Part::HostConfig), ("NetworkSettings", Part::NetworkSettings)];

impl Part {
    /// What `name` is in it: a part or a field.
    pub(super) fn member(self, name: &str) -> Option<Result<Part, Field>> {
        let mut parts = PARTS.iter().filter(|_| self == Self::Container);
        let field = || FIELDS.iter().find(|(part, known, _)| *part == self && *known == name);
        let part = parts.find(|(known, _)| *known == name).map(|(_, part)| Ok(*part));
        part.or_else(|| field().map(|(.., field)| Err(*field)))
    }

    /// Its path, with a dot before each name.
    pub(super) fn path(self) -> String {
        let found = PARTS.iter().find(|(_, part)| *part == self);
        found.map(|(name, _)| format!(".{name}")).unwrap_or_default()
    }
}

impl Field {
    pub(super) fn of(self, container: &Container) -> Value {
        let text = Value::text_of;
        match self {
            Self::Id => text(container.id.as_str()),
            // As in Docker's API: templates that people have cut the slash off.
            Self::Name => text(&format!("/{}", container.name)),
            Self::Image => text(&container.image),
            Self::Labels => {
                Value::map_of(container.labels.iter().map(|(key, value)| (key.as_str().into(), text(value))))
            }
            Self::Env => Value::List(container.env.iter().map(|line| text(line)).collect()),
            Self::Hostname => text(&container.hostname),
            Self::NetworkMode => match &container.network_mode {
                NetworkMode::Bridge => text("bridge"),
                NetworkMode::Host => text("host"),
                NetworkMode::None => text("none"),
                NetworkMode::Container(other) => text(&format!("container:{other}")),
                NetworkMode::User(name) => text(name),
            },
            // Docker's API fills it for its default network alone.
            Self::IpAddress => {
                text(&container.networks.get("bridge").map(ToString::to_string).unwrap_or_default())
            }
            Self::Networks => {
                let network = |ip: &std::net::IpAddr| {
                    let (v4, v6) = if ip.is_ipv4() {
                        (ip.to_string(), String::new())
                    } else {
                        (String::new(), ip.to_string())
                    };
                    Value::Record([("IPAddress", text(&v4)), ("GlobalIPv6Address", text(&v6))].into())
                };
                Value::map_of(container.networks.iter().map(|(name, ip)| (name.as_str().into(), network(ip))))
            }
            Self::Ports => {
                let one = |binding: &Binding| {
                    let host = binding.host.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
                    let port = text(&binding.port.to_string());
                    Value::Record([("HostIP", text(&host)), ("HostPort", port)].into())
                };
                let all = |bindings: &Vec<Binding>| Value::List(bindings.iter().map(one).collect());
                Value::map_of(container.bindings.iter().map(|(port, b)| (port.to_string().into(), all(b))))
            }
        }
    }
}

impl Value {
    pub(super) fn text_of(text: &str) -> Self {
        Self::Text(text.into())
    }

    fn map_of(entries: impl Iterator<Item = (Arc<str>, Self)>) -> Self {
        Self::Map(Arc::new(entries.collect()))
    }

    /// As Go's `if` sees it.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Truth(truth) => *truth,
            Self::Number(number) => *number != 0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Record(_) | Self::Part(_) => true,
        }
    }

    /// About how many bytes it takes to read all of it.
    pub(super) fn size(&self) -> usize {
        let sum = |sizes: &mut dyn Iterator<Item = usize>| sizes.fold(0, usize::saturating_add);
        match self {
            Self::Nothing | Self::Truth(_) | Self::Number(_) | Self::Part(_) => 8,
            Self::Text(text) => text.len() + 8,
            Self::List(list) => sum(&mut list.iter().map(Self::size)),
            Self::Map(map) => sum(&mut map.iter().map(|(key, value)| key.len() + value.size())),
            Self::Record(fields) => sum(&mut fields.iter().map(|(_, value)| value.size())),
        }
    }

    /// What is under `key`; nothing when a map does not have it.
    pub(super) fn under(&self, key: &str) -> Result<Self, Failure> {
        let none = || Failure(format!("{} has no field {key}", self.kind()));
        match self {
            Self::Map(map) => Ok(map.get(key).cloned().unwrap_or(Self::Nothing)),
            Self::Record(fields) => {
                let found = fields.iter().find(|(name, _)| *name == key);
                found.map(|(_, value)| value.clone()).ok_or_else(none)
            }
            Self::Nothing => Ok(Self::Nothing),
            Self::Truth(_) | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Part(_) => Err(none()),
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
            Self::Record(_) => "a record",
            Self::Part(_) => "a part of the container",
        }
    }

    /// What it prints.
    pub(super) fn shown(&self) -> Result<String, Failure> {
        match self {
            Self::Part(_) => Err(self.wrong("a value")),
            _ => Ok(self.to_string()),
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

    pub(super) fn map(&self) -> Result<&BTreeMap<Arc<str>, Self>, Failure> {
        match self {
            Self::Map(map) => Ok(map),
            other => Err(other.wrong("a map")),
        }
    }

    pub(super) fn wrong(&self, wanted: &str) -> Failure {
        Failure(format!("{} where {wanted} belongs", self.kind()))
    }
}

/// As Go prints it; what is not there is no text (Go's `<no value>` would become a tag).
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spaced = |f: &mut fmt::Formatter<'_>, at: usize| if at > 0 { f.write_str(" ") } else { Ok(()) };
        match self {
            Self::Nothing | Self::Part(_) => Ok(()),
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
            Self::Record(fields) => {
                f.write_str("{")?;
                for (at, (_, value)) in fields.iter().enumerate() {
                    spaced(f, at)?;
                    value.fmt(f)?;
                }
                f.write_str("}")
            }
        }
    }
}
