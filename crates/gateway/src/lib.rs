//! The reverse proxy that follows a registry.
//!
//! **Purpose**: take a request, pick an instance by the route table, carry both bodies, answer for what fails.
//! **Knows**: HTTP, sockets, one single-threaded runtime per core, pooled upstream connections.
//! **Must not know**: where instances come from, how the registry stores them; deciding is `routing`'s.
//! **Start at**: [`build`], then `request` (the life of a request), `control` (how the table follows the registry).
//!
//! The request path takes no lock and waits for nothing of the control plane: a request loads one immutable route
//! table and keeps it to its end. hyper's types stay inside `listen`, `upstream` and `body`.

mod body;
mod config;
mod control;
mod listen;
mod request;
mod stream;
mod trusted;
mod upstream;

#[cfg(test)]
extern crate self as gateway;
#[cfg(test)]
#[path = "../tests/gateway/rig.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use all of it")]
mod rig;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use arc_swap::ArcSwap;
use http::HeaderMap;
use portolan_model::Registry;
use routing::{BrokenRoute, Explanation, RouteTable};
use runtime::{Reporter, Shutdown, State, StatusBoard};
use tokio::sync::oneshot;

pub use config::{Config, Limits, Timeouts};
pub use trusted::{Cidr, CidrError};

/// The published route table: one atomic swap makes a new one current.
pub(crate) type Published = ArcSwap<RouteTable>;

/// Why the gateway could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The listener's address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A built gateway: its sockets are bound, nothing is accepted yet.
pub struct Gateway {
    config: Arc<Config>,
    table: Arc<Published>,
    listeners: Vec<std::net::TcpListener>,
    registry: Arc<dyn Registry>,
    reporter: Reporter,
}

/// Asks a gateway about itself. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    address: SocketAddr,
    table: Arc<Published>,
}

/// A request that has not been sent, to be explained.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The `Host` header.
    pub host: Option<String>,
    /// The path; a query is ignored.
    pub path: String,
    /// Other headers.
    pub headers: HeaderMap,
}

/// Binds the listeners and compiles the routes.
///
/// # Errors
/// When the listener's address cannot be had.
pub fn build(
    config: Config,
    registry: Arc<dyn Registry>,
    board: &StatusBoard,
) -> Result<(Handle, Gateway), BuildError> {
    let reporter = board.reporter("gateway");
    let listeners = listen::socket::bind(config.listen, config.cores.max(1))
        .map_err(|source| BuildError::Listen { address: config.listen, source })?;
    let address = listeners.first().map_or(Ok(config.listen), std::net::TcpListener::local_addr);
    let address = address.map_err(|source| BuildError::Listen { address: config.listen, source })?;
    let table = RouteTable::new(&config.routing);
    for broken in table.broken() {
        control::tell(broken);
    }
    let table = Arc::new(ArcSwap::from_pointee(table));
    let handle = Handle { address, table: Arc::clone(&table) };
    Ok((handle, Gateway { config: Arc::new(config), table, listeners, registry, reporter }))
}

impl Handle {
    /// Where the gateway really listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where a request would go right now, and why.
    pub fn explain(&self, question: &Question) -> Explanation {
        let table = self.table.load();
        routing::explain(&table, question.host.as_deref(), &question.path, &question.headers)
    }

    /// Routes that route nothing, configured or asked for by instances, with the reason.
    pub fn broken_routes(&self) -> Vec<BrokenRoute> {
        self.table.load().all_broken()
    }
}

impl Gateway {
    /// Serves until shutdown, then finishes what runs, up to [`Timeouts::drain`]. Every core is a thread of its own.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { config, table, listeners, registry, reporter } = self;
        let mut follower = control::Follower::new(Arc::clone(&table), &*registry, reporter.clone());
        follower.begin().await;
        let mut cores = Vec::new();
        for (number, listener) in listeners.into_iter().enumerate() {
            let core = listen::Core::new(Arc::clone(&config), Arc::clone(&table), listener, shutdown.clone());
            let (ended, end) = oneshot::channel::<()>();
            let name = format!("gateway-{number}");
            let thread = thread::Builder::new().name(name.clone()).spawn(move || {
                let _ended = ended; // dropped at the end of the thread, also by a panic
                core.run()
            });
            match thread {
                Ok(thread) => cores.push((name, thread, end)),
                Err(error) => tracing::error!(core = name, %error, "cannot start a core"),
            }
        }
        if cores.is_empty() {
            reporter.say(State::Failed, "no core could be started");
            return;
        }
        follower.run(&shutdown).await;
        for (core, thread, end) in cores {
            // Whatever is received: the sender's end is the signal.
            let _ = end.await;
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(core, %error, "core ended with an error"),
                Err(_) => tracing::error!(core, "core panicked"),
            }
        }
        reporter.say(State::Stopped, "");
    }
}
