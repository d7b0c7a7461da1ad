//! Whether a server lives, who leads, and whether that leader answers it.
//!
//! A query that waits at a server whose leader has changed may wait for an answer that never comes, so whoever waits
//! there begins anew then. And a server may name a leader whom it does not reach: one that was parted from the others
//! knows the name long before it knows the way, or has sent its questions into a connection that takes its time to find
//! out. So a leader counts once it has answered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::config::Flavour;
use super::desk::At;
use super::line::{Ask, Line, Lines, Server, Trouble};
use super::wanted::encoded;

/// How often, and how long, to ask.
const PROBE: Duration = Duration::from_millis(500);
const PROBE_LIMIT: Duration = Duration::from_millis(1500);
/// How long a leader may take to answer.
const LED_LIMIT: Duration = Duration::from_secs(1);
/// How soon to ask again whether a server reaches a leader.
const LED_PAUSE: Duration = Duration::from_millis(100);
/// How much later than the server before it the next is tried.
const TURN: Duration = Duration::from_millis(250);

/// See the module's head.
pub(super) struct LeaderWatch {
    flavour: Flavour,
    line: Line,
    lines: Lines,
    ticks: Interval,
    known: Option<String>,
    led: bool,
}

/// What has happened.
pub(super) enum Lead {
    /// No leader answers any more; or one does again.
    Led(bool),
    /// There is another leader than before: its address.
    Moved(String),
    /// The server does not answer.
    Gone(Trouble),
}

impl LeaderWatch {
    pub(super) fn new(flavour: Flavour, server: Arc<Server>) -> Self {
        let mut ticks = interval(PROBE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lines = Lines::new(Arc::clone(&server));
        Self { flavour, line: Line::new(server), lines, ticks, known: None, led: true }
    }

    /// The next thing to happen.
    pub(super) async fn next(&mut self) -> Lead {
        let ask = Ask::get("/v1/status/leader");
        loop {
            self.ticks.tick().await;
            let leader: String = match self.line.ask(&ask, PROBE_LIMIT).await {
                Ok(answer) => answer.json().unwrap_or_default(),
                Err(Trouble::Refused { .. } | Trouble::Nonsense(_)) => String::new(),
                Err(trouble @ Trouble::Unreachable(_)) => return Lead::Gone(trouble),
            };
            let named = !leader.is_empty();
            if named && self.known.as_ref() != Some(&leader) {
                let first = self.known.replace(leader.clone()).is_none();
                if !first {
                    return Lead::Moved(leader);
                }
            }
            let led = named && is_led(self.flavour, &self.lines).await;
            if self.led != led {
                self.led = led;
                return Lead::Led(led);
            }
        }
    }
}

/// Whether a server's leader answers it. Each Portolan is its own.
pub(super) async fn is_led(flavour: Flavour, server: &Lines) -> bool {
    if flavour == Flavour::Portolan {
        return true;
    }
    let nothing = encoded("Service.ID == \"\"");
    let ask = Ask::get(format!("/v1/health/service/consul?filter={nothing}"));
    match server.ask(&ask, LED_LIMIT).await {
        // Who may not ask has been heard by a leader all the same.
        Ok(_) | Err(Trouble::Refused { status: 400..=499, .. }) => true,
        Err(Trouble::Refused { .. } | Trouble::Unreachable(_) | Trouble::Nonsense(_)) => false,
    }
}

/// Waits until a leader answers a server of Consul's.
pub(super) async fn until_led(server: &Lines) {
    while !is_led(Flavour::Consul, server).await {
        sleep(LED_PAUSE).await;
    }
}

/// Does something at all servers at once, until it is done at one; those later in turn begin a little later, so that the first has
/// it unless it is late. Nothing comes of no servers.
pub(super) async fn first<'a, T, F: Future<Output = T>>(
    servers: &'a [Lines],
    from: At,
    task: impl Fn(At, &'a Lines) -> F,
) -> Option<T> {
    let in_turn = servers.iter().enumerate().cycle().skip(from).take(servers.len());
    let tasks = (0u32..).zip(in_turn).map(|(turn, (at, server))| {
        let task = task(at, server);
        async move {
            sleep(TURN * turn).await;
            task.await
        }
    });
    tasks.collect::<FuturesUnordered<_>>().next().await
}
