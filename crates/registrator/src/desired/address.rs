//! Which ports of a container can be reached, and at which address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use portolan_model::{Endpoint, Host};

use crate::config::Config;
use crate::container::{Binding, Container, NetworkMode, Port};
use crate::desired::ProblemKind;
use crate::desired::labels::Labels;
use crate::world::Seen;

/// How many containers share the network of one that shares the network of one that…
const SHARES_LIMIT: usize = 8;

/// The ports to register, by number. Without `internal` only published ones.
pub(super) fn ports(container: &Container, config: &Config) -> Vec<(Port, Option<Binding>)> {
    let mut ports: BTreeMap<Port, Option<Binding>> = BTreeMap::new();
    for port in &container.exposed {
        // Whoever shares a network stack publishes nothing: what it listens on is there under the same number.
        let shares = matches!(container.network_mode, NetworkMode::Host | NetworkMode::Container(_));
        ports.insert(*port, shares.then_some(Binding { host: None, port: port.number }));
    }
    for (port, bindings) in &container.bindings {
        ports.insert(*port, counting(bindings, config.ip));
    }
    ports.into_iter().filter(|(_, binding)| config.internal || binding.is_some()).collect()
}

/// The binding that counts: the first, unless `ip` does not lead there and does to another. An engine that publishes on
/// every address does so once for IPv4 and once for IPv6, not always under one number.
fn counting(bindings: &[Binding], ip: IpAddr) -> Option<Binding> {
    let first = bindings.first()?;
    let better = bindings.iter().find(|binding| binding.is_everywhere() && binding.is_reached_at(ip));
    Some(*better.filter(|_| !first.is_reached_at(ip)).unwrap_or(first))
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
    Network(String, Preference),
    /// The address of the container whose network it shares.
    Shared(String),
    /// A label says so.
    Label(String),
}

/// Why that network, of those a container is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preference {
    /// It is on no other.
    Only,
    /// Its label `portolan.network` says so.
    Label,
    /// The configuration says so.
    Configured,
    /// It was started on it.
    Started,
    /// It is the first of so many by name.
    First(usize),
}

/// An address, how it was chosen, and what was wrong with a better one.
type Found<A> = (A, Choice, Option<ProblemKind>);

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
    ) -> Result<Found<Endpoint>, ProblemKind> {
        let ((host, choice, problem), number) = match (&container.network_mode, binding) {
            (NetworkMode::Container(other), _) => {
                let (ip, choice, problem) = self.shared(other)?;
                return Ok((Endpoint { host: Host::Ip(ip), port: port.number }, choice, problem));
            }
            (_, Some(binding)) if !self.config.internal => (self.published(container, binding), binding.port),
            _ => (self.own(container)?, port.number),
        };
        let (host, choice, problem) = match self.labelled(container) {
            Some(Ok((host, label))) => (host, Choice::Label(label), None),
            Some(Err(problem)) => (Host::Ip(host), choice, Some(problem)),
            None => (Host::Ip(host), choice, problem),
        };
        Ok((Endpoint { host, port: number }, choice, problem))
    }

    fn published(&self, container: &Container, binding: Binding) -> Found<IpAddr> {
        let ours = self.config.ip;
        match binding.host.filter(|_| !binding.is_everywhere()) {
            Some(on) if self.config.force_ip => (ours, Choice::Forced(on), None),
            Some(on) => (on, Choice::PublishedOn(on), None),
            None if container.network_mode == NetworkMode::Host => (ours, Choice::HostNetwork, None),
            None => {
                let unreached = ProblemKind::OtherFamily { ip: ours };
                (ours, Choice::Published, Some(unreached).filter(|_| !binding.is_reached_at(ours)))
            }
        }
    }

    /// A container's own address: on the network its label names, else on the configured one, else on the one it was
    /// started on, else on the first by name.
    fn own(&self, container: &Container) -> Result<Found<IpAddr>, ProblemKind> {
        let started = match &container.network_mode {
            NetworkMode::Host => return Ok((self.config.ip, Choice::HostNetwork, None)),
            NetworkMode::User(name) => name.as_str(),
            NetworkMode::Bridge | NetworkMode::None | NetworkMode::Container(_) => "bridge",
        };
        let networks = &container.networks;
        let label = Labels::of(container).of_all("network");
        let problem = label
            .filter(|name| !networks.contains_key(*name))
            .map(|name| ProblemKind::OtherNetwork { network: name.to_owned() });
        let named = |name: &str, why| Some((networks.get_key_value(name)?, why));
        let found = label
            .and_then(|name| named(name, Preference::Label))
            .or_else(|| named(self.config.network.as_deref()?, Preference::Configured))
            .or_else(|| named(started, Preference::Started))
            .or_else(|| Some((networks.iter().next()?, Preference::First(networks.len()))));
        let ((network, ip), why) = found.ok_or(ProblemKind::NoAddress("it is on no network"))?;
        let why = if networks.len() == 1 { Preference::Only } else { why };
        Ok((*ip, Choice::Network(network.clone(), why), problem))
    }

    /// The address of the container `other`, or of the one whose network that one shares.
    fn shared(&self, other: &str) -> Result<Found<IpAddr>, ProblemKind> {
        let mut other = other;
        for _ in 0..SHARES_LIMIT {
            let owner = self
                .seen
                .iter()
                .map(|seen| &seen.container)
                .find(|container| container.id.as_str() == other || container.name == other)
                .ok_or(ProblemKind::NoAddress("the container whose network it shares does not run"))?;
            match &owner.network_mode {
                NetworkMode::Container(next) => other = next,
                _ => {
                    let (ip, _, problem) = self.own(owner)?;
                    return Ok((ip, Choice::Shared(owner.name.clone()), problem));
                }
            }
        }
        Err(ProblemKind::NoAddress("it shares a network in a circle"))
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
            Self::Network(name, why) => {
                write!(f, "is reached on network {name}")?;
                match why {
                    Preference::Only => Ok(()),
                    Preference::Label => f.write_str(", which its label portolan.network names"),
                    Preference::Configured => f.write_str(", the configured one"),
                    Preference::Started => f.write_str(", which it was started on"),
                    Preference::First(count) => write!(f, ", the first of {count} by name"),
                }
            }
            Self::Shared(name) => write!(f, "is reached through the network of container {name}"),
            Self::Label(label) => write!(f, "is reached where label {label} says"),
        }
    }
}
