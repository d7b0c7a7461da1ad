//! Servers in turn, until one lasts.

use std::time::Duration;

use runtime::Backoff;

/// Whose turn it is among a store's servers, and how long to wait when none of them is of use. Pure.
#[derive(Debug)]
pub(crate) struct Turns {
    servers: usize,
    at: usize,
    /// A server that was of use for so long was no failure to connect.
    lasting: Duration,
    /// How many have failed in a row.
    failures: usize,
    backoff: Backoff,
}

impl Turns {
    pub(crate) fn new(servers: usize, lasting: Duration, backoff: Backoff) -> Self {
        Self { servers: servers.max(1), at: 0, lasting, failures: 0, backoff }
    }

    /// Whose turn it is, in the order of the servers.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Whose turn it was is of no use (any more), after it was for so long. Tells how long to wait before the next one's turn: not at
    /// all as long as there is one that was not tried. `dice` is any number.
    pub(crate) fn next(&mut self, lasted: Duration, dice: u64) -> Duration {
        self.at = (self.at + 1) % self.servers;
        self.failures = if lasted > self.lasting { 1 } else { self.failures + 1 };
        if self.failures == 1 {
            self.backoff.reset();
        }
        if self.failures.is_multiple_of(self.servers) { self.backoff.next(dice) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_at_once_and_then_after_a_while() {
        let ms = Duration::from_millis;
        let mut turns = Turns::new(3, ms(800), Backoff::new(ms(50), ms(1000)));
        let mut check = |lasted: u64, expect: (usize, u64)| {
            let wait = turns.next(ms(lasted), 0);
            assert_eq!((turns.at(), wait), (expect.0, ms(expect.1)));
        };
        check(0, (1, 0));
        check(800, (2, 0));
        check(0, (0, 25));
        check(0, (1, 0));
        check(0, (2, 0));
        check(0, (0, 50));
        // One that lasted is the first that failed: the others have their turns before any wait.
        check(801, (1, 0));
        check(0, (2, 0));
        check(0, (0, 25));
    }

    #[test]
    fn alone_it_is_waited_for() {
        let ms = Duration::from_millis;
        let mut turns = Turns::new(1, Duration::ZERO, Backoff::new(ms(50), ms(1000)));
        let waits = [0, 0, 9, 0].map(|lasted| turns.next(ms(lasted), 0).as_millis());
        assert_eq!((waits, turns.at()), ([25, 50, 25, 50], 0));
    }
}
