//! Idle upstream connections of one core, by endpoint; the most recently used is taken first, so that surplus ones
//! grow old and are closed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use portolan_model::Endpoint;

use super::connection::{Connection, Settings};
use crate::body::Sent;
use crate::config::Config;

/// See the module's head.
pub(crate) struct Pool {
    idle: RefCell<HashMap<Endpoint, Vec<Idle>>>,
    settings: Settings,
    limit: usize,
    idle_timeout: Duration,
    /// The time of the last sweep: fine enough to measure idleness by, and free to read.
    clock: Cell<Instant>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection in use by one request. Given back, it is kept for the next one; dropped, it is closed, which tells the
/// instance that nobody waits for its answer.
pub(crate) struct Lease {
    connection: Connection,
    endpoint: Endpoint,
    pool: Weak<Pool>,
    sent: Sent,
    reusable: bool,
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            idle: RefCell::default(),
            settings: Settings::new(config),
            limit: config.limits.idle_per_instance,
            idle_timeout: config.timeouts.upstream_idle,
            clock: Cell::new(Instant::now()),
        }
    }

    /// An idle connection, if one is left that has not been closed meanwhile.
    pub(crate) fn take(&self, endpoint: &Endpoint) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(endpoint)?;
        std::iter::from_fn(|| list.pop()).map(|i| i.connection).find(|connection| !connection.is_closed())
    }

    /// A new connection.
    ///
    /// # Errors
    /// When none comes about within the connect timeout.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> std::io::Result<Connection> {
        Connection::open(endpoint, &self.settings).await
    }

    /// Ties a connection to the answer that arrives on it.
    pub(crate) fn lease(
        self: &Rc<Self>,
        connection: Connection,
        endpoint: &Endpoint,
        sent: Sent,
        reusable: bool,
    ) -> Lease {
        Lease { connection, endpoint: endpoint.clone(), pool: Rc::downgrade(self), sent, reusable }
    }

    /// Closes what has been idle for too long, and forgets what the instance has closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.clock.set(now);
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|i| !i.connection.is_closed() && now.duration_since(i.since) < self.idle_timeout);
            !list.is_empty()
        });
    }

    fn keep(&self, endpoint: Endpoint, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(endpoint).or_default();
        if list.len() < self.limit {
            list.push(Idle { connection, since: self.clock.get() });
        }
    }
}

impl Lease {
    /// The answer is through. A connection whose request body is not (the instance answered early), or whose instance
    /// said it would close it, carries nothing more.
    pub(crate) fn give_back(self) {
        let Self { connection, endpoint, pool, sent, reusable } = self;
        if let Some(pool) = pool.upgrade()
            && reusable
            && sent.is_through()
        {
            pool.keep(endpoint, connection);
        }
    }
}
