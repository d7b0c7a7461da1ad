//! A driver's side of a handle.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::Registry;
use runtime::{Reporter, Shutdown, State as Standing, StatusBoard};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Book, Doubts, Handle, IN_HAND, Layout, Order, State, Traits};
use crate::mirror::Mirror;

/// What outlives every connection: what is known and has to be done, and where orders come from.
pub(crate) struct Counterpart {
    store: &'static str,
    mirror: Mirror,
    pub(crate) state: State,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) reporter: Reporter,
}

impl Counterpart {
    /// A handle over `mirror`, and what drives it has of it. `grace` is how long is kept whose lease ended; `patience`, how
    /// long a write may take, or a read before anything is known.
    pub(crate) fn new(
        traits: Traits,
        layout: Layout,
        [grace, patience]: [Duration; 2],
        mirror: Mirror,
        board: &StatusBoard,
    ) -> (Arc<dyn Registry>, Self) {
        let (sender, orders) = mpsc::channel(IN_HAND);
        let handle = Handle { name: traits.name, mirror: mirror.clone(), orders: sender, patience };
        let state = State::new(traits, mirror.clone(), Book::new(layout), Doubts::new(grace));
        let reporter = board.reporter("registry");
        (Arc::new(handle), Self { store: traits.name, mirror, state, orders, reporter })
    }

    /// Says that `server` is of no use (any more), and waits. Tells whether there is to be a next one.
    pub(crate) async fn lost(
        &self,
        server: &impl Display,
        why: &str,
        wait: Duration,
        shutdown: &Shutdown,
    ) -> bool {
        self.away(server, why);
        tokio::select! {
            () = shutdown.triggered() => false,
            () = sleep(wait) => true,
        }
    }

    /// Says that `server` is of no use, or all of them.
    pub(crate) fn away(&self, server: &impl Display, why: &str) {
        let store = self.store;
        let away = self.mirror.meanwhile(&format!("{store} is away: {why}"));
        if self.reporter.say(Standing::Degraded, away) {
            tracing::warn!(%server, why, "{store} is away; trying another server");
        }
    }

    /// Nobody is told anything any more.
    pub(crate) fn end(&self) {
        self.mirror.end();
        self.reporter.say(Standing::Stopped, "");
    }
}
