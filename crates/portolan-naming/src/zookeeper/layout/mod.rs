//! How instances are written as nodes, and read back; pure.
//!
//! A service is a persistent node below the base path, an instance an ephemeral node below its service. What a format's
//! own members cannot hold is in one more, `Portolan`, that other readers pass over. What others wrote is read as far as
//! it goes; a node that cannot be read is nobody's instance, and its name is taken all the same.

mod curator;
mod extras;
pub(super) mod names;
mod registrator;
#[cfg(test)]
mod tests;

use portolan_model::{Phase, Registration, ServiceName};

use super::key_value::ROOT as KEYS;

/// The largest body that is written or read. ZooKeeper's own limit is one MiB for a whole request.
pub(super) const BODY_LIMIT: usize = 1_000_000;

/// Where instances are kept, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Starts with `/` and does not end with it; empty for the root.
    pub(super) base: String,
    pub(super) format: Format,
}

/// What a node is named, and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// gliderlabs/registrator's: named `<ip>:<port>`, JSON that its readers mostly do not look at.
    Registrator,
    /// Apache Curator's service discovery: named by its id, JSON of a `ServiceInstance`.
    Curator,
}

/// What a node says of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) registration: Registration,
    pub(super) phase: Phase,
    /// Whether one of us wrote it; what others write has less in it, and they remove nodes in their own way.
    pub(super) ours: bool,
}

/// A node that may be an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place<'a> {
    service: ServiceName,
    /// The node's name as it is.
    name: &'a str,
}

impl Layout {
    /// The node below which all services are.
    pub(super) fn root(&self) -> &str {
        if self.base.is_empty() { "/" } else { &self.base }
    }

    /// The node of a service.
    pub(super) fn directory(&self, service: &ServiceName) -> String {
        format!("{}/{}", self.base, names::encoded(service.as_str()))
    }

    /// The path of a child of the root; `None` for what is no service.
    pub(super) fn directory_named(&self, name: &str) -> Option<String> {
        // ZooKeeper's own, and our keys.
        let ours = !(self.base.is_empty() && (name == "zookeeper" || name == KEYS));
        (ours && ServiceName::new(names::decoded(name)).is_ok()).then(|| format!("{}/{name}", self.base))
    }

    /// Whether a node at `path` may be an instance: two levels below the base.
    pub(super) fn is_instance(&self, path: &str) -> bool {
        self.place(path).is_some()
    }

    /// Paths to keep `registration` at, the best first. Others than the first are for when it is taken by another id.
    pub(super) fn candidates(&self, registration: &Registration) -> Vec<String> {
        let directory = self.directory(&registration.service);
        let names = match self.format {
            Format::Registrator => registrator::names(&registration.endpoint),
            Format::Curator => vec![names::encoded(registration.id.as_str())],
        };
        names.iter().map(|name| format!("{directory}/{name}")).collect()
    }

    /// The body of a node. `now_ms` is the time since 1970.
    pub(super) fn body(&self, registration: &Registration, phase: Phase, now_ms: u64) -> Vec<u8> {
        match self.format {
            Format::Registrator => registrator::body(registration, phase),
            Format::Curator => curator::body(registration, phase, now_ms),
        }
    }

    /// What the node at `path` says; `None` if that is no instance.
    pub(super) fn read(&self, path: &str, body: &[u8]) -> Option<Said> {
        let place = self.place(path)?;
        if body.len() > BODY_LIMIT {
            return None;
        }
        let said = match self.format {
            Format::Registrator => registrator::read(&place, body),
            Format::Curator => curator::read(&place, body),
        }?;
        said.registration.check_limits().is_ok().then_some(said)
    }

    fn place<'a>(&self, path: &'a str) -> Option<Place<'a>> {
        let (directory, name) = path.strip_prefix(self.base.as_str())?.strip_prefix('/')?.split_once('/')?;
        let readable = !name.is_empty() && !name.contains('/');
        let service = ServiceName::new(names::decoded(directory)).ok()?;
        (readable && self.directory_named(directory).is_some()).then_some(Place { service, name })
    }
}

/// The path of a node's parent.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent })
}
