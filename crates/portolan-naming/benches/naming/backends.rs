//! Every backend on real servers: three of them where it is a cluster.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use access::http::{Config, Limits};
use portolan_naming::Naming;
use runtime::{Shutdown, ShutdownTrigger, StatusBoard};
use tempfile::TempDir;
use testkit::cluster::consul::Consul;
use testkit::cluster::etcd::Etcd;
use testkit::cluster::zookeeper::ZooKeeper;
use tokio::task::JoinHandle;

/// How many hosts have an agent of Consul's: an agent's work for one more registration grows with what it has, so that
/// thousands are spread over agents wherever Consul is used.
const HOSTS: usize = 4;

/// How often each of thousands of instances gives a sign of life to Consul, in thirds: two cores run all of its servers.
const CONSUL_TTL: &str = "ttl=5m";

/// How long a write may take: thousands wait for a cluster that takes them one by one.
const WRITE_LIMIT: &str = "timeout=60s";

/// Which backend.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Embedded,
    Portolan,
    Etcd,
    ZooKeeper,
    Consul,
}

/// A backend that runs.
pub(crate) enum Backend {
    /// In this process, durable on disk.
    Embedded {
        naming: Naming,
        _directory: TempDir,
    },
    /// The same behind the HTTP API.
    Portolan(Face),
    Etcd(Etcd),
    ZooKeeper(ZooKeeper),
    Consul(Consul),
}

/// An HTTP API over an embedded registry.
pub(crate) struct Face {
    port: u16,
    trigger: ShutdownTrigger,
    server: JoinHandle<()>,
    // Closed before its directory goes: fields drop in this order.
    _registry: Naming,
    _directory: TempDir,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Embedded, Self::Portolan, Self::Etcd, Self::ZooKeeper, Self::Consul];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Portolan => "portolan",
            Self::Etcd => "etcd",
            Self::ZooKeeper => "zookeeper",
            Self::Consul => "consul",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.unwrap_or_else(|| panic!("no backend is called {name:?}"))
    }
}

impl Backend {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Embedded => {
                let (naming, directory) = embedded();
                Self::Embedded { naming, _directory: directory }
            }
            Kind::Portolan => Self::Portolan(Face::start()),
            Kind::Etcd => Self::Etcd(Etcd::start(3)),
            Kind::ZooKeeper => Self::ZooKeeper(ZooKeeper::start(3)),
            Kind::Consul => Self::Consul(Consul::start_with_agents(3, HOSTS)),
        }
    }

    /// A handle that registers and one that watches, at different servers where the backend has several agents.
    pub(crate) fn open_two(&self) -> (Naming, Naming) {
        match self {
            Self::Embedded { naming, .. } => (naming.clone(), naming.clone()),
            _ => (opened(&self.uri(0)), opened(&self.uri(1))),
        }
    }

    /// One more handle; none where a process has the only one.
    pub(crate) fn open(&self) -> Option<Naming> {
        match self {
            Self::Embedded { .. } => None,
            _ => Some(opened(&self.uri(2))),
        }
    }

    /// Handles to register many with, and what they stand for where there are several; none where one does for all.
    pub(crate) fn open_many(&self) -> Option<(Vec<Naming>, String)> {
        let Self::Consul(cluster) = self else { return None };
        let hosts =
            (3..3 + HOSTS).map(|n| opened(&format!("consul://{}?{CONSUL_TTL}", cluster.authority(n))));
        Some((hosts.collect(), format!("over the agents of {HOSTS} hosts, {CONSUL_TTL}")))
    }

    pub(crate) async fn end(self) {
        if let Self::Portolan(face) = self {
            face.trigger.trigger();
            face.server.await.unwrap();
        }
    }

    fn uri(&self, agent: usize) -> String {
        match self {
            Self::Embedded { .. } => "embedded:".to_owned(),
            Self::Portolan(face) => format!("portolan://{}", face.address()),
            Self::Etcd(cluster) => format!("etcd://{}/services?{WRITE_LIMIT}", cluster.authorities()),
            Self::ZooKeeper(cluster) => {
                format!("zookeeper://{}/services?{WRITE_LIMIT}", cluster.authorities())
            }
            Self::Consul(cluster) => format!("consul://{}", cluster.authority(agent)),
        }
    }
}

impl Face {
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn start() -> Self {
        let (registry, directory) = embedded();
        let config = Config {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            node: "here".to_owned(),
            node_address: Ipv4Addr::LOCALHOST.into(),
            datacenter: "dc1".to_owned(),
            extra: Default::default(),
            reports: None,
            limits: Limits { finish_time: Duration::from_millis(100), ..Limits::default() },
        };
        let (instances, keys) = (Arc::clone(registry.registry()), registry.key_value().unwrap());
        let (handle, server) = access::http::build(config, instances, keys, StatusBoard::default()).unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let port = handle.local_addr().port();
        Self {
            port,
            trigger,
            server: tokio::spawn(server.run(shutdown)),
            _registry: registry,
            _directory: directory,
        }
    }
}

fn embedded() -> (Naming, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let naming = opened(&format!("embedded:{}", directory.path().display()));
    (naming, directory)
}

fn opened(uri: &str) -> Naming {
    Naming::open(uri).unwrap_or_else(|error| panic!("{uri}: {error}"))
}
