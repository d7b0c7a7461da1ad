//! The wiring: every role is built from the config, spawned by name, and ended in order. Roles meet here and nowhere
//! else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use access::http;
use portolan_model::{KeyValue, Registry, Reports};
use registrator::Registrator;
use registrator::docker::Engine;
use runtime::StatusBoard;

use crate::book::{self, Book, Keeper};
use crate::explain;
use crate::failure::{Failure, in_use};
use crate::settings::Config;
use crate::signals::{End, Signals};
use crate::stage::Stage;

/// How much longer than their own deadlines tasks may take to end before they are left behind.
const MARGIN: Duration = Duration::from_secs(5);

/// Which roles a process plays. All of them share one registry; the HTTP API comes with whatever its setting says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roles {
    /// Everything that the settings do not turn off.
    All,
    /// Only the gateway, which follows a registry that others write to.
    Gateway,
    /// Only the registrator.
    Registrator,
}

/// The roles, built: sockets are bound, nothing runs yet.
pub(crate) struct App {
    config: Config,
    board: StatusBoard,
    registry: Arc<dyn Registry>,
    keeper: Keeper,
    gateway: Option<gateway::Gateway>,
    http: Option<http::Server>,
    registrator: Option<Registrator>,
    found: Found,
}

/// Where everything really is.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Where the gateway listens, if there is one.
    pub(crate) gateway: Option<SocketAddr>,
    /// Where the HTTP API listens, if it does.
    pub(crate) http: Option<SocketAddr>,
    /// Where the registry keeps what it knows.
    pub(crate) book: String,
    /// The container engine, if one is followed.
    pub(crate) engine: Option<String>,
}

/// All roles, running.
pub(crate) struct Running {
    front: Stage,
    back: Stage,
    drain: Duration,
    /// Where everything really is.
    pub(crate) found: Found,
    /// The registry, for whoever registers in-process.
    pub(crate) registry: Arc<dyn Registry>,
    /// What every part says of itself.
    pub(crate) board: StatusBoard,
}

/// Builds the roles.
pub(crate) async fn build(config: Config, roles: Roles) -> Result<App, Failure> {
    let board = StatusBoard::default();
    let Book { registry, keys, keeper, place } = book::open(&config, &board).await?;
    let (gateway_handle, gateway) = match roles.route() {
        true => Some(listen_for_requests(&config, &registry, &board)?).unzip(),
        false => (None, None),
    };
    let gateway_address = gateway_handle.as_ref().map(gateway::Handle::local_addr);
    let extra = gateway_handle.map_or_else(axum::Router::new, explain::router);
    let (engine, registrator) = match roles.register() && config.docker.enabled {
        true => Some(follow_engine(&config, &registry, &board)?).unzip(),
        false => (None, None),
    };
    let reports = registrator.as_ref().and_then(Registrator::reports);
    let (http_address, http) = match config.http.listen {
        Some(listen) => {
            let both = (&registry, keys);
            Some(listen_for_questions(&config, listen, extra, both, reports, &board)?).unzip()
        }
        None => (None, None),
    };
    let found = Found { gateway: gateway_address, http: http_address, book: place, engine };
    Ok(App { config, board, registry, keeper, gateway, http, registrator, found })
}

impl Roles {
    fn route(self) -> bool {
        matches!(self, Self::All | Self::Gateway)
    }

    fn register(self) -> bool {
        matches!(self, Self::All | Self::Registrator)
    }
}

impl App {
    /// Spawns every task. Must be called on the runtime that is to run them.
    pub(crate) fn start(self) -> Running {
        let Self { config, board, registry, keeper, gateway, http, registrator, found } = self;
        let (front, back) = (Stage::new(&board), Stage::new(&board));
        back.spawn("registry", |shutdown| keeper.run(shutdown));
        if let Some(gateway) = gateway {
            front.spawn("gateway", |shutdown| gateway.run(shutdown));
        }
        if let Some(http) = http {
            front.spawn("http", |shutdown| http.run(shutdown));
        }
        if let Some(registrator) = registrator {
            front.spawn("registrator", |shutdown| registrator.run(shutdown));
        }
        Running { front, back, drain: config.proxy.timeouts.drain, found, registry, board }
    }
}

impl Running {
    /// The stage that ends last, for what the gateway depends on.
    pub(crate) fn back(&self) -> &Stage {
        &self.back
    }

    /// Ends the roles that clients see, then the registry.
    pub(crate) async fn stop(self) {
        self.front.stop(self.drain + MARGIN).await;
        self.back.stop(MARGIN).await;
    }

    /// Waits for a signal, then ends the roles that clients see, then the registry. A second signal ends it all at
    /// once.
    pub(crate) async fn until_told(self, mut signals: Signals) {
        let told = signals.next().await;
        self.told(told, signals).await;
    }

    /// Does what `signal` says: ends the roles as [`until_told`](Self::until_told) does.
    pub(crate) async fn told(self, signal: End, mut signals: Signals) {
        tracing::info!(signal = signal.name(), deadline = ?self.drain, "stopping: finishing requests in flight");
        tokio::select! {
            () = self.stop() => tracing::info!("stopped"),
            again = signals.next() => {
                tracing::warn!(signal = again.name(), "told twice: ending at once");
                std::process::exit(again.code());
            }
        }
    }
}

impl Found {
    /// One line for each listener and role.
    pub(crate) fn lines(&self) -> [String; 4] {
        let or_off = |line: Option<String>| line.unwrap_or_else(|| "off".to_owned());
        let engine = or_off(self.engine.as_ref().map(|engine| format!("following {engine}")));
        let listener =
            |address: Option<SocketAddr>| or_off(address.map(|at| format!("listening on http://{at}")));
        [
            format!("registry     {}", self.book),
            format!("registrator  {engine}"),
            format!("http         {}", listener(self.http)),
            format!("gateway      {}", listener(self.gateway)),
        ]
    }
}

fn listen_for_requests(
    config: &Config,
    registry: &Arc<dyn Registry>,
    board: &StatusBoard,
) -> Result<(gateway::Handle, gateway::Gateway), Failure> {
    gateway::build(gateway_config(config), Arc::clone(registry), board).map_err(|error| match error {
        gateway::BuildError::Listen { address, source } => in_use("--proxy", address, &source),
    })
}

fn listen_for_questions(
    config: &Config,
    listen: SocketAddr,
    extra: axum::Router,
    (registry, keys): (&Arc<dyn Registry>, Arc<dyn KeyValue>),
    reports: Option<Arc<dyn Reports>>,
    board: &StatusBoard,
) -> Result<(SocketAddr, http::Server), Failure> {
    let told = http::Config {
        listen,
        node: config.http.node.clone(),
        node_address: node_address(config, listen.ip()),
        datacenter: config.http.datacenter.clone(),
        extra,
        limits: http::Limits::default(),
        reports,
    };
    let (handle, server) = http::build(told, Arc::clone(registry), keys, board.clone())
        .map_err(|error| in_use("--http", listen, &error))?;
    Ok((handle.local_addr(), server))
}

fn gateway_config(config: &Config) -> gateway::Config {
    let proxy = &config.proxy;
    gateway::Config {
        listen: proxy.listen,
        cores: proxy.cores,
        routing: config.routing(),
        timeouts: proxy.timeouts,
        limits: proxy.limits,
        trusted_proxies: proxy.trusted_proxies.clone(),
    }
}

fn follow_engine(
    config: &Config,
    registry: &Arc<dyn Registry>,
    board: &StatusBoard,
) -> Result<(String, Registrator), Failure> {
    let docker = &config.docker;
    let certificates = docker.tls.then_some(docker.certificates.as_path());
    let engine = Engine::new(Some(&docker.host), certificates).map_err(Failure::failed)?;
    let mut told = registrator::Config::new(&config.http.node)
        .map_err(|error| Failure::failed(format_args!("--node {:?}: {error}", config.http.node)))?;
    told.ip = docker.ip;
    told.own_name.clone_from(&docker.own_name);
    told.force_ip = docker.force_ip;
    told.internal = docker.internal;
    told.explicit = docker.explicit;
    told.tags.clone_from(&docker.tags);
    told.network.clone_from(&docker.network);
    told.ip_label.clone_from(&docker.ip_label);
    told.period = docker.period;
    told.deregister = docker.deregister;
    told.cleanup = docker.cleanup;
    told.reports = config.http.listen.is_some();
    told.origin = book::tells_origins(config);
    let registrator = registrator::build(told, Arc::new(engine), Arc::clone(registry), board);
    Ok((docker.host.clone(), registrator))
}

/// What clients of the HTTP face take for this node's address: where it listens, unless that is "everywhere".
fn node_address(config: &Config, listen: IpAddr) -> IpAddr {
    match listen {
        ip if !ip.is_unspecified() => ip,
        _ if !config.docker.ip.is_unspecified() => config.docker.ip,
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}
