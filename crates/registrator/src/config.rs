//! What a registrator is told.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use portolan_model::{IdError, Owner};

use crate::desired::TagsTemplate;
use crate::world::Margins;

/// What a registrator is told. Start from [`Config::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whose instances it makes; it touches no others.
    pub owner: Owner,
    /// First part of the ids it makes (`hostname:container:port`).
    pub hostname: String,
    /// The address of this host: what a port published on every address is registered with.
    pub ip: IpAddr,
    /// This host's name, where `ip` is only what that resolves to: it is looked up again once a period, and `ip` complained of while
    /// no other host can reach it. `None`: somebody said `ip`.
    pub own_name: Option<String>,
    /// Register `ip` also for ports published on one particular address.
    pub force_ip: bool,
    /// Register the container's own address and port in place of the published ones; unpublished ports count then.
    pub internal: bool,
    /// Register only what was given a name.
    pub explicit: bool,
    /// Makes tags for every instance beside those its container says.
    pub tags: TagsTemplate,
    /// The network whose addresses to register when a container is on several; only with `internal`.
    pub network: Option<String>,
    /// A label that holds the address to register, up to its last `/`.
    pub ip_label: Option<String>,
    /// The longest time between two reads of everything, also when the engine tells nothing.
    pub period: Duration,
    /// Whether a container that failed keeps its instances registered.
    pub deregister: Deregister,
    /// Remove also instances that nobody owns whose ids are of this host and of containers that are no more.
    pub cleanup: bool,
    /// Whether instances can report here how they fare: [`Reports`](portolan_model::Reports) are handed over.
    pub reports: bool,
    /// Say also which port of which container an instance is ([`origin_meta`](portolan_model::origin_meta)): for registries
    /// whose readers are told.
    pub origin: bool,
    /// How long after its stop timeout a container that did not end is put back into service.
    pub margins: Margins,
    /// How long one read of the engine or one write to the registry may take.
    pub answer_timeout: Duration,
}

/// When the instances of a container that has ended are removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Deregister {
    /// However it ended.
    #[default]
    Always,
    /// When it ended well or by a signal, or is removed. While one that failed is there, its instances stay, as critical.
    OnSuccess,
}

impl Config {
    /// Registers published ports of this host on loopback, as `registrator:<hostname>`.
    ///
    /// # Errors
    /// When the host name cannot be part of an owner's name.
    pub fn new(hostname: impl Into<String>) -> Result<Self, IdError> {
        let hostname = hostname.into();
        Ok(Self {
            owner: Owner::new(format!("registrator:{hostname}"))?,
            hostname,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            own_name: None,
            force_ip: false,
            internal: false,
            explicit: false,
            tags: TagsTemplate::default(),
            network: None,
            ip_label: None,
            period: Duration::from_secs(15),
            deregister: Deregister::Always,
            cleanup: false,
            reports: false,
            origin: false,
            margins: Margins { stop: Duration::from_secs(600), signal: Duration::from_secs(10) },
            answer_timeout: Duration::from_secs(10),
        })
    }
}
