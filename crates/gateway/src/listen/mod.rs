//! One core: a thread with its own runtime, listener, client connections and upstream connections. Nothing on the
//! request path is shared with another core but the published table and the turns of an upstream.

mod connection;
pub(crate) mod socket;
mod watch;

pub(crate) use watch::InUse;

use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Published;
use crate::config::Config;
use crate::upstream::Pool;
use watch::Connections;

/// How often idle and slow connections are looked for; their timeouts are this coarse, and cost a request nothing.
const SWEEP: Duration = Duration::from_millis(500);

/// How long accepting pauses after an error, typically "too many open files": others may close theirs meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a core thread is started with.
pub(crate) struct Core {
    config: Arc<Config>,
    table: Arc<Published>,
    listener: StdListener,
    shutdown: Shutdown,
}

/// What every request on a core shares.
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) table: Arc<Published>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) connections: Connections,
}

impl Core {
    pub(crate) fn new(
        config: Arc<Config>,
        table: Arc<Published>,
        listener: StdListener,
        shutdown: Shutdown,
    ) -> Self {
        Self { config, table, listener, shutdown }
    }

    /// Serves until shutdown and the end of the last connection, or the drain timeout.
    pub(crate) fn run(self) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            // Look for new events after few tasks: with short tasks, fairness beats batching.
            .event_interval(31)
            .build_local(LocalOptions::default())?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        let Self { config, table, listener, shutdown } = self;
        let listener = TcpListener::from_std(listener)?;
        let pool = Rc::new(Pool::new(&config));
        let connections = Connections::new(&config);
        let shared = Rc::new(Shared { config, table, pool, connections });
        let connections = &shared.connections;
        let mut refused = false;
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.triggered() => break,
                _ = sweep.tick() => {
                    connections.sweep();
                    shared.pool.sweep();
                }
                accepted = listener.accept(), if connections.has_room() => match accepted {
                    Ok((stream, peer)) => {
                        refused = false;
                        open(&shared, &shutdown, stream, peer.ip());
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut refused, true) {
                            tracing::warn!(%error, "cannot accept connections; trying on");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // Connections that the kernel has completed belong to clients that were told nothing: serve them, too.
        let listener = listener.into_std()?;
        while let Ok((stream, peer)) = listener.accept() {
            stream.set_nonblocking(true)?;
            open(&shared, &shutdown, TcpStream::from_std(stream)?, peer.ip());
        }
        drop(listener);
        if timeout(shared.config.timeouts.drain, connections.all_closed()).await.is_err() {
            tracing::warn!(connections = connections.count(), "drain timeout: closing connections in use");
        }
        Ok(())
    }
}

fn open(shared: &Rc<Shared>, shutdown: &Shutdown, stream: TcpStream, peer: std::net::IpAddr) {
    // Answers are written whole; waiting for more to send with them only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "client went away before its connection was set up");
        return;
    }
    let serving = connection::serve(Rc::clone(shared), shutdown.clone(), stream, peer);
    tokio::task::spawn_local(serving);
}
