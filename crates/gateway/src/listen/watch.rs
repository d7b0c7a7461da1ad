//! Client connections of one core, and the clock that ends idle and slow ones.
//!
//! A timer per request would cost more than routing it: instead every connection notes when it began to wait for a
//! request, and a sweep twice a second looks at all of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::Config;
use crate::stream::Traffic;

/// All client connections of one core.
pub(crate) struct Connections {
    open: RefCell<Vec<Rc<Watched>>>,
    count: Cell<usize>,
    limit: usize,
    head: Duration,
    idle: Duration,
    closed: Notify,
    /// The time of the last sweep: fine enough to measure waiting by, and free to read.
    clock: Rc<Cell<Instant>>,
}

/// One connection as the sweep sees it.
pub(crate) struct Watched {
    traffic: Arc<Traffic>,
    clock: Rc<Cell<Instant>>,
    waiting: Cell<Option<Waiting>>,
    waker: RefCell<Option<Waker>>,
    overdue: Cell<bool>,
    gone: Cell<bool>,
}

/// Held by an answer's body: when the body ends, however it ends, the connection waits for the next request.
pub(crate) struct InUse(Rc<Watched>);

/// A connection without a request in work.
#[derive(Clone, Copy)]
struct Waiting {
    since: Instant,
    /// Bytes read when it began: more than these are part of a request's head.
    read: u64,
    /// When the first byte of the head was noticed.
    head_since: Option<Instant>,
}

impl Connections {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            open: RefCell::default(),
            count: Cell::new(0),
            limit: config.limits.connections,
            head: config.timeouts.request_head,
            idle: config.timeouts.client_idle,
            closed: Notify::new(),
            clock: Rc::new(Cell::new(Instant::now())),
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.count.get() < self.limit
    }

    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    pub(crate) fn add(&self, traffic: Arc<Traffic>) -> Rc<Watched> {
        let watched = Rc::new(Watched {
            traffic,
            clock: Rc::clone(&self.clock),
            waiting: Cell::new(Some(Waiting { since: Instant::now(), read: 0, head_since: None })),
            waker: RefCell::default(),
            overdue: Cell::new(false),
            gone: Cell::new(false),
        });
        self.open.borrow_mut().push(Rc::clone(&watched));
        self.count.set(self.count.get() + 1);
        watched
    }

    /// The connection has ended; the next sweep forgets it.
    pub(crate) fn remove(&self, watched: &Watched) {
        watched.gone.set(true);
        self.count.set(self.count.get() - 1);
        self.closed.notify_one();
    }

    /// Ends connections that have waited too long.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.clock.set(now);
        self.open.borrow_mut().retain(|watched| {
            if watched.gone.get() {
                return false;
            }
            if let Some(waiting) = watched.waiting.get() {
                let waiting = waiting.look(watched.traffic.read(), now);
                watched.waiting.set(Some(waiting));
                if waiting.overdue(now, self.head, self.idle) {
                    watched.end();
                }
            }
            true
        });
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_closed(&self) {
        while self.count.get() > 0 {
            self.closed.notified().await;
        }
    }
}

impl Watched {
    /// A request's head has arrived whole; its answer's body holds what is returned.
    pub(crate) fn begin(self: &Rc<Self>) -> InUse {
        self.waiting.set(None);
        InUse(Rc::clone(self))
    }

    /// Who to wake when the connection has waited too long.
    pub(crate) fn wake(&self, waker: &Waker) {
        self.waker.replace(Some(waker.clone()));
    }

    /// Whether the connection has waited too long.
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.get()
    }

    fn end(&self) {
        self.overdue.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Self(watched) = self;
        let waiting = Waiting { since: watched.clock.get(), read: watched.traffic.read(), head_since: None };
        watched.waiting.set(Some(waiting));
    }
}

impl Waiting {
    fn look(mut self, read: u64, now: Instant) -> Self {
        if read > self.read {
            self.head_since.get_or_insert(now);
        }
        self
    }

    fn overdue(&self, now: Instant, head: Duration, idle: Duration) -> bool {
        match self.head_since {
            Some(since) => now.duration_since(since) >= head,
            None => now.saturating_duration_since(self.since) >= idle,
        }
    }
}
