//! The Consul HTTP API over any registry and the keys beside it.
//!
//! What differs from Consul on purpose: unknown fields of a registration are ignored, every listed instance is "of this
//! agent", checks are not run (a registration that asks for one is refused; reports are handed to whoever runs checks), an index from another life of the server is
//! answered at once, and a `Portolan` object beside Consul's fields tells what Consul has no word for. How keys differ is
//! said in `keys`.

mod agent;
mod blocking;
mod catalog;
mod changes;
mod check;
mod error;
mod keys;
mod own;
mod query;
mod register;
mod render;
mod request;
mod routes;
mod serve;
mod stall;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use portolan_model::{KeyValue, Registry, Reports};
use runtime::{Shutdown, StatusBoard};
use tokio::sync::Semaphore;

pub use serve::Server;

/// What the face is told.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// The name of this node, as clients see it.
    pub node: String,
    /// The address of this node, as clients see it; instances registered without an address have this one.
    pub node_address: IpAddr,
    /// The data centre that clients may ask for.
    pub datacenter: String,
    /// Endpoints of others on the same listener. They may not overlap with the ones here, nor bring a fallback.
    pub extra: Router,
    /// How much is taken on.
    pub limits: Limits,
    /// Who takes what instances report; without one no check is known.
    pub reports: Option<Arc<dyn Reports>>,
}

/// How much the face takes on from its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. One more is answered 503.
    pub connections: usize,
    /// Waiting blocking queries. One more is answered 429. Less than `connections`, so that there is always room to
    /// register and deregister.
    pub blocking: usize,
    /// The longest request body in bytes. A longer one is answered 413.
    pub body: usize,
    /// The time a client has to send its next request head; also how long an idle connection is kept.
    pub head_time: Duration,
    /// The time a client has to send a request body.
    pub body_time: Duration,
    /// The time a client may leave an answer untaken.
    pub stall_time: Duration,
    /// The time that running requests get at shutdown.
    pub finish_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            blocking: 7168,
            body: 512 * 1024,
            head_time: Duration::from_secs(60),
            body_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(30),
            finish_time: Duration::from_secs(5),
        }
    }
}

/// What others may know of the running face.
#[derive(Debug, Clone)]
pub struct Handle {
    local_addr: SocketAddr,
}

impl Handle {
    /// Where it really listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// Binds the socket and puts the face together; nothing is accepted before [`Server::run`].
///
/// # Errors
/// The address cannot be listened on; the message names it.
pub fn build(
    config: Config,
    registry: Arc<dyn Registry>,
    keys: Arc<dyn KeyValue>,
    board: StatusBoard,
) -> io::Result<(Handle, Server)> {
    let listener = serve::bind(config.listen).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.listen))
    })?;
    let local_addr = listener.local_addr()?;
    let (end, shutdown) = Shutdown::new();
    let face = Face {
        site: render::Site::new(config.node, config.node_address, config.datacenter),
        port: local_addr.port(),
        registry,
        keys,
        board,
        shutdown,
        reports: config.reports,
        seats: Arc::new(Semaphore::new(config.limits.blocking)),
        limits: config.limits.clone(),
    };
    let router = routes::router(Arc::new(face), config.extra);
    Ok((Handle { local_addr }, Server::new(listener, router, config.limits, end)))
}

/// What every request sees.
struct Face {
    site: render::Site,
    port: u16,
    registry: Arc<dyn Registry>,
    keys: Arc<dyn KeyValue>,
    board: StatusBoard,
    reports: Option<Arc<dyn Reports>>,
    /// Ends blocking queries. Triggered by the server once it has stopped accepting.
    shutdown: Shutdown,
    /// One for every blocking query that may wait, and for everybody who follows all changes.
    seats: Arc<Semaphore>,
    limits: Limits,
}
