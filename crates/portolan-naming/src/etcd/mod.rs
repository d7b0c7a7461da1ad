//! etcd, by its v3 API.
//!
//! **What is registered** hangs on a lease that is kept alive (`ttl`), see [`leased`](crate::leased). **What is known** is
//! a full read and a watch from its revision on; when the connection is lost, what was known stays, and another server is
//! asked.
//!
//! Start at `session` (one connection's life); `opening` chooses the member, `life` says when it is left; `form`
//! makes etcd's transactions and events of ours and back.

mod config;
mod dial;
mod form;
mod grpc;
mod key_value;
mod life;
mod opening;
mod proto;
mod session;

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{KeyValue, Registry};
use runtime::{Backoff, Shutdown, StatusBoard};
use tokio::sync::watch;
use tokio::time::Instant;

pub use config::Config;

use self::grpc::{Client, Fault};
use self::key_value::Follower;
use self::opening::{Opened, open};
use self::session::{Desk, Ended};
use crate::leased::{Counterpart, Traits};
use crate::mirror::Mirror;

/// etcd takes 128 operations in a transaction, and a layout has up to two keys; and requests of 1.5 MiB.
const TRAITS: Traits = Traits { name: "etcd", at_once: 128, chunk: 50, chunk_bytes: 512 << 10 };

/// How soon there is another connection when one was lost: more slowly each time, until one lasts.
const AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
const LASTING: Duration = Duration::from_secs(2);

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
        let all = authorities.join(",");
        let (mut at, mut backoff) = (0, Backoff::new(AGAIN[0], AGAIN[1]));
        loop {
            let away = |why: &str| self.counterpart.away(&all, why);
            let opened = tokio::select! {
                opened = open(&self.config, &authorities, at, away) => opened,
                () = shutdown.triggered() => break,
            };
            at = opened.at;
            let (begun, server) = (Instant::now(), authorities[at].as_str());
            let Counterpart { state, orders, reporter, .. } = &mut self.counterpart;
            let (config, line, shutdown) = (&self.config, &self.line, &shutdown);
            let desk = Desk { config, state, orders, reporter, shutdown, line, since, server };
            let ended = Box::pin(live(desk, opened)).await;
            self.line.send_replace(None);
            self.counterpart.state.disconnected();
            let Ended::Lost(fault) = ended else { break };
            if begun.elapsed() > LASTING {
                backoff.reset();
            }
            at = (at + 1) % authorities.len();
            let wait = backoff.next(fastrand::u64(..));
            if !self.counterpart.lost(&server, &format!("{server}: {fault}"), wait, shutdown).await {
                break;
            }
        }
        self.counterpart.end();
    }
}

/// One connection, from first to last.
async fn live(mut desk: Desk<'_>, opened: Opened) -> Ended {
    let Opened { client, connection, .. } = opened;
    let witness = client.clone();
    tokio::select! {
        ended = desk.sit(client) => ended,
        ended = connection => Ended::Lost(Fault::of_end(ended)),
        fault = witness.listen_for_life() => Ended::Lost(fault),
    }
}
