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
use runtime::{Backoff, Shutdown, StatusBoard};
use tokio::time::Instant;

pub use config::{Config, SCHEMES};

use super::key_value::Follower;
use super::line::Server;
use crate::leased::{Counterpart, Traits};
use crate::mirror::Mirror;
use crate::turns::Turns;
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
    let times = [config.grace, config.timeout];
    let (registry, counterpart) = Counterpart::new(TRAITS, config.layout.clone(), times, mirror, board);
    let keys = Follower::new(&config.reach, None);
    (registry, Driver { config, counterpart, keys })
}

/// Keeps a handle's promises until shutdown.
pub struct Driver {
    config: Config,
    counterpart: Counterpart,
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
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut turns = Turns::new(servers.len(), LASTING, backoff);
        loop {
            let (server, begun) = (Arc::clone(&servers[turns.at()]), Instant::now());
            let Counterpart { state, orders, reporter, .. } = &mut self.counterpart;
            let (config, shutdown) = (&self.config, &shutdown);
            let mut desk =
                Desk { config, state, orders, reporter, shutdown, since, server: Arc::clone(&server) };
            let ended = Box::pin(desk.sit()).await;
            self.counterpart.state.disconnected();
            let Ended::Lost(reason) = ended else { break };
            let wait = turns.next(begun.elapsed(), fastrand::u64(..));
            if !self.counterpart.lost(&server, &reason, wait, shutdown).await {
                break;
            }
        }
        self.counterpart.end();
    }
}
