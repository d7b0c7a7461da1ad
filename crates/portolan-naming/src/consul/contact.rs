//! How the agent that registrations go to fares; pure.
//!
//! An agent can live and be of no use: one that has handed something to a leader which vanished waits for that
//! leader's connection to break, for half a minute, and answers nobody who asks about its registrations meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// How long an agent may leave all that it was asked without an answer although it reaches a leader.
const STUCK: Duration = Duration::from_millis(1500);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Contact {
    /// How many calls are under way.
    waiting: usize,
    /// When it answered last, or was first asked after it owed nothing.
    since: Instant,
    /// Since when it reaches a leader, if it does.
    led: Option<Instant>,
}

impl Contact {
    /// It has just been met.
    pub(super) fn met(now: Instant) -> Self {
        Self { waiting: 0, since: now, led: Some(now) }
    }

    /// It is asked something.
    pub(super) fn asked(&mut self, now: Instant) {
        if self.waiting == 0 {
            self.since = now;
        }
        self.waiting += 1;
    }

    /// What it was asked has an answer, or never will.
    pub(super) fn ended(&mut self, answered: bool, now: Instant) {
        self.waiting = self.waiting.saturating_sub(1);
        if answered {
            self.since = now;
        }
    }

    /// Whether it reaches a leader.
    pub(super) fn led(&mut self, led: bool, now: Instant) {
        self.led = led.then(|| self.led.unwrap_or(now));
    }

    /// Whether it reaches a leader, as far as known.
    pub(super) fn is_led(&self) -> bool {
        self.led.is_some()
    }

    /// When to leave it, unless it answers before.
    pub(super) fn stuck_at(&self) -> Option<Instant> {
        Some(self.led?.max(self.since) + STUCK).filter(|_| self.waiting > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_stuck_when_it_owes_all_and_has_a_leader() {
        let (begun, s) = (Instant::now(), Duration::from_secs);
        let stuck = |contact: &Contact| contact.stuck_at().map(|at| at - begun);
        let mut contact = Contact::met(begun);
        assert_eq!(stuck(&contact), None, "it owes nothing");
        contact.asked(begun + s(10));
        contact.asked(begun + s(11));
        assert_eq!(stuck(&contact), Some(s(10) + STUCK));
        contact.ended(true, begun + s(11));
        assert_eq!(stuck(&contact), Some(s(11) + STUCK), "it answers");
        contact.led(false, begun + s(12));
        assert_eq!(stuck(&contact), None, "nobody could answer");
        contact.led(true, begun + s(13));
        contact.led(true, begun + s(14));
        assert_eq!(stuck(&contact), Some(s(13) + STUCK));
        contact.ended(false, begun + s(15));
        assert_eq!(stuck(&contact), None, "it was given up");
        contact.asked(begun + s(20));
        assert_eq!(stuck(&contact), Some(s(20) + STUCK));
    }
}
