//! What the settings mean: plain typed values, all of them present.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use registrator::desired::TagsTemplate;
use routing::{Policy, RouteSpec};

/// `registry.uri` of the registry in this process.
pub(crate) const EMBEDDED: &str = "embedded:";

/// All that `portolan up` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) log: String,
    pub(crate) proxy: Proxy,
    pub(crate) http: Http,
    pub(crate) registry: Registry,
    pub(crate) docker: Docker,
    pub(crate) routes: Vec<RouteSpec>,
}

/// The gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) listen: SocketAddr,
    pub(crate) domain: Option<String>,
    pub(crate) balance: Policy,
    pub(crate) cores: usize,
    pub(crate) timeouts: gateway::Timeouts,
    pub(crate) limits: gateway::Limits,
    pub(crate) trusted_proxies: Vec<gateway::Cidr>,
}

/// The registry's HTTP face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    /// `None`: there is none.
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) node: String,
    pub(crate) datacenter: String,
}

/// The registry itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    pub(crate) uri: String,
    pub(crate) warm_up: Duration,
    pub(crate) on_exit: OnExit,
}

/// What becomes of instances in a cluster that this process registered, when it ends well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OnExit {
    /// They stay for as long as the cluster keeps what gives no sign of life: containers outlive whoever watches them.
    #[default]
    Leave,
    /// They are removed.
    Deregister,
}

/// The registrator and its container source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Docker {
    pub(crate) enabled: bool,
    pub(crate) host: String,
    pub(crate) tls: bool,
    /// The folder with the certificates for that.
    pub(crate) certificates: PathBuf,
    pub(crate) internal: bool,
    pub(crate) explicit: bool,
    pub(crate) ip: IpAddr,
    /// No setting: the name that `ip` was found by, where nobody said `ip`.
    pub(crate) own_name: Option<String>,
    pub(crate) force_ip: bool,
    pub(crate) ip_label: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) tags: TagsTemplate,
    pub(crate) period: Duration,
    pub(crate) deregister: registrator::Deregister,
    pub(crate) cleanup: bool,
}

impl Config {
    /// A config that says nothing yet. The settings table fills every field, defaults included.
    pub(super) fn blank() -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let none = Duration::ZERO;
        Self {
            data_dir: PathBuf::new(),
            log: String::new(),
            proxy: Proxy {
                listen: nowhere,
                domain: None,
                balance: Policy::default(),
                cores: 0,
                timeouts: gateway::Timeouts::default(),
                limits: gateway::Limits::default(),
                trusted_proxies: Vec::new(),
            },
            http: Http { listen: None, node: String::new(), datacenter: String::new() },
            registry: Registry { uri: String::new(), warm_up: none, on_exit: OnExit::default() },
            docker: Docker {
                enabled: false,
                host: String::new(),
                tls: false,
                certificates: PathBuf::new(),
                internal: false,
                explicit: false,
                ip: nowhere.ip(),
                own_name: None,
                force_ip: false,
                ip_label: None,
                network: None,
                tags: TagsTemplate::default(),
                period: none,
                deregister: registrator::Deregister::default(),
                cleanup: false,
            },
            routes: Vec::new(),
        }
    }

    /// What the gateway's brain is told.
    pub(crate) fn routing(&self) -> routing::Config {
        routing::Config {
            domain: self.proxy.domain.clone(),
            balance: self.proxy.balance,
            routes: self.routes.clone(),
        }
    }
}
