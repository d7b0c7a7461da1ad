//! Checks of instances: what `SERVICE_CHECK_*` asks for, run by the registrator itself, whichever registry is behind it.
//!
//! [`spec`] reads what is asked, [`judge`] makes verdicts out of results, [`verdict`] puts them into what is desired: all
//! pure. `run` keeps the checks going; `probe` asks over the network and inside containers, `letterbox` takes what instances
//! report by themselves.

pub(crate) mod duration;
pub mod judge;
mod letterbox;
mod probe;
pub(crate) mod run;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::net::{IpAddr, Ipv4Addr};

use portolan_model::{Endpoint, Host, Incarnation};

use crate::container::{Container, ContainerId, NetworkMode, Port};
pub use spec::{Flaw, Probe, Spec, Trust};
pub use verdict::{Verdict, Verdicts};

/// The most checks that one registrator runs.
pub const CHECKS_LIMIT: usize = 4096;

/// A check of one instance. Another value is another check: it begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is asked, and how often.
    pub spec: Spec,
    /// Where it is asked: where the instance is registered, which is where clients go.
    pub endpoint: Endpoint,
    /// The container, for commands inside it.
    pub container: ContainerId,
    /// Where such a command finds the instance.
    pub inside: Endpoint,
    /// The life that is checked: another has to prove itself.
    pub life: Incarnation,
}

impl Check {
    pub(crate) fn new(
        spec: Spec,
        container: &Container,
        port: Port,
        endpoint: &Endpoint,
        life: Incarnation,
    ) -> Self {
        // Loopback inside a container is the container's own, where the service listens on its own port.
        let own_loopback = match &endpoint.host {
            Host::Ip(ip) => ip.is_loopback() && container.network_mode != NetworkMode::Host,
            Host::Name(_) => false,
        };
        let inside = if own_loopback {
            Endpoint { host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: port.number }
        } else {
            endpoint.clone()
        };
        Self { spec, endpoint: endpoint.clone(), container: container.id.clone(), inside, life }
    }
}
