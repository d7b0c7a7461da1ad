//! Which ports of a container can be reached, and at which address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use portolan_model::{Endpoint, Host};

use crate::config::Config;
use crate::container::{Binding, Container, NetworkMode, Port};
use crate::desired::ProblemKind;
use crate::world::Seen;

/// The ports to register, by number. Without `internal` only published ones; of several bindings the first counts.
pub(super) fn ports(container: &Container, internal: bool) -> Vec<(Port, Option<Binding>)> {
    let mut ports: BTreeMap<Port, Option<Binding>> = BTreeMap::new();
    for port in &container.exposed {
        // Whoever shares a network stack publishes nothing: what it listens on is there under the same number.
        let shares = matches!(container.network_mode, NetworkMode::Host | NetworkMode::Container(_));
        ports.insert(*port, shares.then_some(Binding { host: None, port: port.number }));
    }
    for (port, bindings) in &container.bindings {
        ports.insert(*port, bindings.first().copied());
    }
    ports.into_iter().filter(|(_, binding)| internal || binding.is_some()).collect()
}

/// Finds addresses; knows the other containers, whose network one may share.
pub(super) struct Addresses<'a> {
    config: &'a Config,
    seen: &'a [Seen],
}

/// How an address was chosen, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// Published on every address: this host's own.
    Published,
    /// Published on one address.
    PublishedOn(IpAddr),
    /// This host's address in place of the one it is published on.
    Forced(IpAddr),
    /// It shares the host's network.
    HostNetwork,
    /// The container's own address, on this network.
    Network(String),
    /// The address of the container whose network it shares.
    Shared(String),
    /// A label says so.
    Label(String),
}

impl<'a> Addresses<'a> {
    pub(super) fn new(seen: &'a [Seen], config: &'a Config) -> Self {
        Self { config, seen }
    }

    /// Where `port` of `container` is reached, how that was chosen, and what was wrong with a better choice.
    pub(super) fn of(
        &self,
        container: &Container,
        port: Port,
        binding: Option<Binding>,
    ) -> Result<(Endpoint, Choice, Option<ProblemKind>), ProblemKind> {
        let (host, number, choice) = match (&container.network_mode, binding) {
            (NetworkMode::Container(other), _) => {
                let (ip, choice) = self.shared(other)?;
                return Ok((Endpoint { host: Host::Ip(ip), port: port.number }, choice, None));
            }
            (_, Some(binding)) if !self.config.internal => self.published(container, binding),
            _ => {
                let (ip, choice) = self.own(container)?;
                (ip, port.number, choice)
            }
        };
        let (host, choice, problem) = match self.labelled(container) {
            Some(Ok((host, label))) => (host, Choice::Label(label), None),
            Some(Err(problem)) => (Host::Ip(host), choice, Some(problem)),
            None => (Host::Ip(host), choice, None),
        };
        Ok((Endpoint { host, port: number }, choice, problem))
    }

    fn published(&self, container: &Container, binding: Binding) -> (IpAddr, u16, Choice) {
        let (ip, choice) = match binding.host {
            Some(on) if self.config.force_ip => (self.config.ip, Choice::Forced(on)),
            Some(on) => (on, Choice::PublishedOn(on)),
            None if container.network_mode == NetworkMode::Host => (self.config.ip, Choice::HostNetwork),
            None => (self.config.ip, Choice::Published),
        };
        (ip, binding.port, choice)
    }

    /// A container's own address: on the network its mode names, else on the first it has one on.
    fn own(&self, container: &Container) -> Result<(IpAddr, Choice), ProblemKind> {
        let named = match &container.network_mode {
            NetworkMode::Host => return Ok((self.config.ip, Choice::HostNetwork)),
            NetworkMode::User(name) => name.as_str(),
            NetworkMode::Bridge | NetworkMode::None | NetworkMode::Container(_) => "bridge",
        };
        let found = container.networks.get_key_value(named).or_else(|| container.networks.iter().next());
        let (network, ip) = found.ok_or(ProblemKind::NoAddress("it is on no network"))?;
        Ok((*ip, Choice::Network(network.clone())))
    }

    fn shared(&self, other: &str) -> Result<(IpAddr, Choice), ProblemKind> {
        let other = self
            .seen
            .iter()
            .map(|seen| &seen.container)
            .find(|container| container.id.as_str() == other || container.name == other)
            .ok_or(ProblemKind::NoAddress("the container whose network it shares does not run"))?;
        let (ip, _) = self.own(other)?;
        Ok((ip, Choice::Shared(other.name.clone())))
    }

    fn labelled(&self, container: &Container) -> Option<Result<(Host, String), ProblemKind>> {
        let label = self.config.ip_label.as_ref()?;
        let text = container.labels.get(label).filter(|text| !text.is_empty())?;
        let address = text.rsplit_once('/').map_or(text.as_str(), |(address, _)| address);
        Some(match address.parse() {
            Ok(host) => Ok((host, label.clone())),
            Err(_) => Err(ProblemKind::AddressLabel { label: label.clone(), text: text.clone() }),
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published => f.write_str("is published on every address of this host"),
            Self::PublishedOn(ip) => write!(f, "is published on {ip}"),
            Self::Forced(ip) => write!(f, "is published on {ip}, which the configured address replaces"),
            Self::HostNetwork => f.write_str("is on the host's network"),
            Self::Network(name) => write!(f, "is reached on network {name}"),
            Self::Shared(name) => write!(f, "is reached through the network of container {name}"),
            Self::Label(label) => write!(f, "is reached where label {label} says"),
        }
    }
}
