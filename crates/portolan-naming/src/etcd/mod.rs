//! etcd, by its v3 API.
//!
//! **What is registered** hangs on a lease that is kept alive (`ttl`), see [`leased`](crate::leased). **What is known** is
//! a full read and a watch from its revision on; when the connection is lost, what was known stays, and another server is
//! asked.
//!
//! Start at `session` (one connection's life); `form` makes etcd's transactions and events of ours and back.

mod config;
mod dial;
mod form;
mod grpc;
mod key_value;
mod proto;
mod session;

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{KeyValue, Registry};
use runtime::{Shutdown, StatusBoard};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub use config::Config;

use self::grpc::Client;
use self::key_value::Follower;
use self::session::{Desk, Ended};
use crate::leased::{Counterpart, Traits, Turns};
use crate::mirror::Mirror;

/// etcd takes 128 operations in a transaction, and a layout has up to two keys; and requests of 1.5 MiB.
const TRAITS: Traits = Traits { name: "etcd", at_once: 128, chunk: 50, chunk_bytes: 512 << 10 };

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(2);
/// How often the other end is asked for life, and how long it may take to answer: together well below the 2 s after
/// which everything is to be right again. A server answers this by itself, without the others and without a disk.
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const PING: Duration = Duration::from_millis(500);
const PONG: Duration = Duration::from_millis(800);

/// Makes a registry over etcd and what drives it. Nothing is connected before [`Driver::run`].
pub fn build(config: Config, board: &StatusBoard) -> (Arc<dyn Registry>, Driver) {
    build_over(config, Mirror::default(), board)
}

/// The same, with a mirror that may know something already.
pub(crate) fn build_over(config: Config, mirror: Mirror, board: &StatusBoard) -> (Arc<dyn Registry>, Driver) {
    let times = [config.grace, config.timeout];
    let (registry, counterpart) = Counterpart::new(TRAITS, config.layout.clone(), times, mirror, board);
    let (line, shared) = watch::channel(None);
    let keys = Follower::new(&config, shared);
    (registry, Driver { config, counterpart, line, keys })
}

/// The owner of the connection. Ends on shutdown only.
pub struct Driver {
    config: Config,
    counterpart: Counterpart,
    line: watch::Sender<Option<Client>>,
    keys: Follower,
}

impl Driver {
    /// Connects, follows and writes until shutdown, whatever etcd goes through. Then removes what was registered through
    /// the handle; should etcd be away, the lease will do that.
    pub async fn run(self, shutdown: Shutdown) {
        let keys = self.keys.clone();
        tokio::select! {
            () = self.drive(shutdown) => {}
            never = keys.run() => match never {},
        }
    }

    /// The keys that are kept in the same etcd, below `portolan-keys`. They are read once somebody asks for them.
    pub fn key_value(&self) -> Arc<dyn KeyValue> {
        self.keys.handle()
    }

    async fn drive(mut self, shutdown: Shutdown) {
        let since = Instant::now();
        let authorities = self.config.authorities();
        // Whoever answered a question of life was no failure to connect.
        let mut turns = Turns::new(authorities.len(), PONG);
        loop {
            let (at, begun) = (turns.at(), Instant::now());
            let server = authorities[at].as_str();
            let Counterpart { state, orders, reporter, .. } = &mut self.counterpart;
            let (config, line, shutdown) = (&self.config, &self.line, &shutdown);
            let mut desk = Desk { config, state, orders, reporter, shutdown, line, since, server };
            let ended = Box::pin(attempt(&mut desk, at)).await;
            self.line.send_replace(None);
            self.counterpart.state.disconnected();
            let reason = match ended {
                Ok(Ended::Shutdown) => break,
                Ok(Ended::Lost(fault)) => fault.to_string(),
                Err(reason) => reason,
            };
            let wait = turns.next(begun.elapsed(), fastrand::u64(..));
            if !self.counterpart.lost(&server, &format!("{server}: {reason}"), wait, shutdown).await {
                break;
            }
        }
        self.counterpart.end();
    }
}

/// One connection, from first to last.
async fn attempt(desk: &mut Desk<'_>, at: usize) -> Result<Ended, String> {
    let (config, server, shutdown) = (desk.config, desk.server, desk.shutdown);
    let (host, tls) = (config.servers[at].host.as_str(), config.tls.as_ref());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let opened = async {
        let stream = dial::dial(server, host, tls).await?;
        grpc::open(stream, scheme, server.to_owned()).await.map_err(|fault| fault.to_string())
    };
    let opened = tokio::select! {
        () = shutdown.triggered() => return Ok(Ended::Shutdown),
        opened = timeout(CONNECT, opened) => opened,
    };
    let (client, connection) = opened.map_err(|_| format!("no connection within {CONNECT:?}"))??;
    let witness = client.clone();
    tokio::select! {
        ended = desk.sit(client) => Ok(ended),
        ended = connection => Err(ended.map_or_else(|e| e.to_string(), |()| "connection closed".to_owned())),
        fault = witness.listen_for_life(STATUS, PING, PONG) => Err(fault.to_string()),
    }
}
