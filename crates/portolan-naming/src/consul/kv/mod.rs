//! Consul's key-value store: `consulkv://`.
//!
//! **What is registered** hangs on a session that is renewed, see [`leased`](crate::leased): Consul deletes its keys when
//! it ends. It has no health checks, and so does not depend on one agent. **What is known** is a read of all keys and a
//! blocking query for the next; it costs in proportion to all of them, so that this is for hundreds of instances, not for
//! ten thousands.
//!
//! Start at `session` (one server's time); `form` makes Consul's JSON of our transactions.

mod config;
mod form;
mod session;

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{KeyValue, Registry};
use runtime::{Backoff, Reporter, Shutdown, State as Standing, StatusBoard};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

pub use config::{Config, SCHEMES};

use super::key_value::Follower;
use super::line::Server;
use crate::leased::{Book, Doubts, Handle, IN_HAND, Order, State, Traits};
use crate::mirror::Mirror;
use session::{Desk, Ended};

/// Consul takes 64 operations in a transaction and 512 KiB, in base64. An instance has two keys, of which each may have to
/// be deleted before it is locked, and a comparison. An agent takes 200 connections from one address.
const TRAITS: Traits = Traits { name: "Consul", at_once: 16, chunk: 12, chunk_bytes: 256 << 10 };
/// A server that lasted so long was no failure to connect.
const LASTING: Duration = Duration::from_secs(2);

/// A handle and what drives it; nothing is connected to before [`Driver::run`].
pub fn build(config: Config, board: &StatusBoard) -> (Arc<dyn Registry>, Driver) {
    build_over(config, Mirror::default(), board)
}

/// The same, with a mirror that may know something already.
pub(crate) fn build_over(config: Config, mirror: Mirror, board: &StatusBoard) -> (Arc<dyn Registry>, Driver) {
    let (sender, orders) = mpsc::channel(IN_HAND);
    let handle =
        Handle { name: TRAITS.name, mirror: mirror.clone(), orders: sender, patience: config.timeout };
    let state =
        State::new(TRAITS, mirror.clone(), Book::new(config.layout.clone()), Doubts::new(config.grace));
    let keys = Follower::new(&config.reach, None);
    let driver = Driver { config, mirror, state, orders, reporter: board.reporter("registry"), keys };
    (Arc::new(handle), driver)
}

/// Keeps a handle's promises until shutdown.
pub struct Driver {
    config: Config,
    mirror: Mirror,
    state: State,
    orders: mpsc::Receiver<Order>,
    reporter: Reporter,
    keys: Follower,
}

impl Driver {
    /// Follows and writes until shutdown, whatever Consul goes through. Then removes what was registered through the handle;
    /// should Consul be away, the end of the session does that.
    pub async fn run(self, shutdown: Shutdown) {
        let keys = self.keys.clone();
        tokio::select! {
            () = self.drive(shutdown) => {}
            never = keys.run() => match never {},
        }
    }

    /// The keys that are kept in the same Consul, below `portolan-keys`. They are read once somebody asks for them.
    pub fn key_value(&self) -> Arc<dyn KeyValue> {
        self.keys.handle()
    }

    async fn drive(mut self, shutdown: Shutdown) {
        let since = Instant::now();
        let servers = Server::all(&self.config.reach);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        // How many servers have failed in a row.
        let mut failures = 0;
        for server in servers.iter().cycle() {
            let begun = Instant::now();
            let mut desk = Desk {
                config: &self.config,
                state: &mut self.state,
                orders: &mut self.orders,
                reporter: &self.reporter,
                shutdown: &shutdown,
                since,
                server: Arc::clone(server),
            };
            let ended = Box::pin(desk.sit()).await;
            self.state.disconnected();
            let Ended::Lost(reason) = ended else { break };
            if self.reporter.say(Standing::Degraded, format!("Consul is away: {reason}")) {
                tracing::warn!(%server, reason, "Consul is away; trying another server");
            }
            failures = if begun.elapsed() > LASTING { 1 } else { failures + 1 };
            if failures == 1 {
                backoff.reset();
            }
            let all = failures % servers.len() == 0;
            let wait = if all { backoff.next(fastrand::u64(..)) } else { Duration::ZERO };
            tokio::select! {
                () = shutdown.triggered() => break,
                () = sleep(wait) => {}
            }
        }
        self.mirror.end();
        self.reporter.say(Standing::Stopped, "");
    }
}
