//! Whether a server lives, and who leads. A query that waits at a server whose leader has changed may wait for an answer
//! that never comes, so whoever waits there begins anew then.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::line::{Ask, Line, Server, Trouble};

/// How often, and how long, to ask.
const PROBE: Duration = Duration::from_millis(500);
const PROBE_LIMIT: Duration = Duration::from_millis(1500);

/// See the module's head.
pub(super) struct LeaderWatch {
    line: Line,
    ticks: Interval,
    known: Option<String>,
    led: bool,
}

/// What has happened.
pub(super) enum Lead {
    /// There is no leader any more; or one again.
    Led(bool),
    /// There is another leader than before: its address.
    Moved(String),
    /// The server does not answer.
    Gone(Trouble),
}

impl LeaderWatch {
    pub(super) fn new(server: Arc<Server>) -> Self {
        let mut ticks = interval(PROBE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { line: Line::new(server), ticks, known: None, led: true }
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
            if self.led == leader.is_empty() {
                self.led = !leader.is_empty();
                return Lead::Led(self.led);
            }
            if !leader.is_empty() && self.known.as_ref() != Some(&leader) {
                let first = self.known.replace(leader.clone()).is_none();
                if !first {
                    return Lead::Moved(leader);
                }
            }
        }
    }
}
