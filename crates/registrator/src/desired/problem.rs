//! What somebody should mend: values, so that they can be shown, compared and counted, not only logged.

use std::fmt;
use std::net::IpAddr;

use portolan_model::{IdError, InstanceId};

use crate::check::Flaw;
use crate::container::{Container, Port};
use crate::desired::PORTS_LIMIT;

/// What is wrong with one port of one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The container's name.
    pub container: String,
    /// The port; `None` when it concerns the whole container.
    pub port: Option<Port>,
    /// What is wrong, and what was done about it.
    pub kind: ProblemKind,
}

/// What is wrong, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The name is none; not registered.
    #[error("{0}: not registered")]
    Name(IdError),
    /// The id is none; registered under the usual one.
    #[error("{0}: registered under its usual id")]
    Id(IdError),
    /// Another instance has the id.
    #[error("id {id:?} belongs to container {holder}: {}", registered_as(.instead.as_ref()))]
    IdTaken {
        /// The id asked for.
        id: InstanceId,
        /// The container that has it.
        holder: String,
        /// The id given in its place.
        instead: Option<InstanceId>,
    },
    /// The weight is not a number; registered with the usual one.
    #[error("weight {0:?} is not a whole number up to 65535: registered with weight 1")]
    Weight(String),
    /// Its check, or a part of it, cannot be used; registered without that.
    #[error("{0}")]
    Check(Flaw),
    /// The address label holds no address; registered as without it.
    #[error("label {label:?} holds {text:?}, which is no address: not used")]
    AddressLabel {
        /// The label.
        label: String,
        /// What it holds.
        text: String,
    },
    /// The label that chooses a network names one it is not on; registered as without it.
    #[error("label portolan.network names {network:?}, which it is not on: not used")]
    OtherNetwork {
        /// The network.
        network: String,
    },
    /// It is published for one family of addresses, this host's address is of the other; registered all the same.
    #[error("it is published on every address, but not of the family of {ip}, where it is registered")]
    OtherFamily {
        /// The address of this host.
        ip: IpAddr,
    },
    /// The label that says which port the container's route leads to names none; registered without the route.
    #[error(
        "label portolan.port names {0:?}, which is no TCP port that is registered: no route is asked for"
    )]
    RoutePort(String),
    /// The template of tags made none; registered without them.
    #[error("the tags template {0}: registered without its tags")]
    Tags(String),
    /// There is no address to reach it at; not registered.
    #[error("it has no address ({0}): not registered")]
    NoAddress(&'static str),
    /// Neither TCP nor UDP; not registered.
    #[error("only tcp and udp can be registered")]
    Transport,
    /// Tags or meta entries are too many or too long; registered without them.
    #[error("{count} tags or meta entries pass a limit: registered without them")]
    LeftOut {
        /// How many were left out.
        count: usize,
    },
    /// More ports than one container may have instances.
    #[error("{count} ports; the first {PORTS_LIMIT} are registered")]
    TooManyPorts {
        /// How many there are.
        count: usize,
    },
}

fn registered_as(instead: Option<&InstanceId>) -> String {
    instead.map_or_else(|| "not registered".to_owned(), |id| format!("registered as {id:?}"))
}

impl Problem {
    pub(super) fn of(container: &Container, port: Option<Port>, kind: ProblemKind) -> Self {
        Self { container: container.name.clone(), port, kind }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {}", self.container)?;
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl PartialOrd for ProblemKind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By their words: only a stable order is wanted.
impl Ord for ProblemKind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}
