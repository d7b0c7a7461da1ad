//! Blocking queries: where a follower is in the history, and how long to wait; pure.

use std::time::Duration;

/// How long a query may wait for news: at least the first, and a share of the second by lot, so that queries which began
/// together do not end together.
const WAIT: Duration = Duration::from_secs(45);
const WAIT_SPREAD: Duration = Duration::from_secs(15);

/// How long a follower's query waits; `lot` is from zero to one.
pub(super) fn long_wait(lot: f64) -> Duration {
    WAIT + WAIT_SPREAD.mul_f64(lot)
}

/// How long the answer to a query that waits so long may take: Consul adds up to a sixteenth to the wait.
pub(super) fn answer_limit(wait: Duration) -> Duration {
    wait + wait / 16 + Duration::from_secs(10)
}

/// Where in the history a follower is; zero is nowhere, and asks without waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor(u64);

/// What an answer's index says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// The wait is over without news.
    Nowhere,
    /// There is news.
    On,
    /// The server has forgotten: begin anew.
    Back,
    /// The server tells no index, so that no query waits.
    Blind,
}

impl Cursor {
    /// Whether a query from here waits.
    pub(super) fn is_somewhere(self) -> bool {
        self.0 > 0
    }

    /// Whether what happened at this index is news.
    pub(super) fn is_before(self, index: u64) -> bool {
        self.0 < index
    }

    /// What makes a query wait for news.
    pub(super) fn waiting(self, wait: Duration) -> String {
        format!("index={}&wait={}ms", self.0, wait.as_millis())
    }

    /// Consul's rules for clients: an index that goes back begins anew, and zero is no index to wait upon.
    pub(super) fn advance(&mut self, index: Option<u64>) -> Moved {
        let (before, now) = (self.0, index.unwrap_or_default());
        self.0 = if now < before { 0 } else { now };
        match now {
            0 => Moved::Blind,
            now if now == before => Moved::Nowhere,
            now if now < before => Moved::Back,
            _ => Moved::On,
        }
    }
}

/// How long to leave a server alone after an answer of this size: a service of many instances that change one by one
/// costs a bounded share of both sides' time.
pub(super) fn pause(moved: Moved, size: usize) -> Duration {
    match moved {
        Moved::On | Moved::Nowhere => Duration::from_millis(5 + (size / 65_536).min(1000) as u64),
        Moved::Back | Moved::Blind => Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_rules() {
        #[track_caller]
        fn check(cursor: u64, index: Option<u64>, expect: (Moved, u64)) {
            let mut at = Cursor(cursor);
            assert_eq!((at.advance(index), at.0), expect);
        }
        check(0, Some(7), (Moved::On, 7));
        check(7, Some(9), (Moved::On, 9));
        check(7, Some(7), (Moved::Nowhere, 7));
        check(7, Some(3), (Moved::Back, 0));
        check(0, Some(0), (Moved::Blind, 0));
        check(7, Some(0), (Moved::Blind, 0));
        check(0, None, (Moved::Blind, 0));
    }

    #[test]
    fn no_answer_is_followed_by_the_next_question_at_once() {
        assert!(pause(Moved::On, 0) >= Duration::from_millis(5));
        assert_eq!(pause(Moved::On, 1 << 20), Duration::from_millis(21));
        assert_eq!(pause(Moved::On, usize::MAX), Duration::from_millis(1005));
        assert_eq!(pause(Moved::Blind, 0), Duration::from_secs(1));
    }

    #[test]
    fn waits_are_spread() {
        assert_eq!(Cursor(7).waiting(long_wait(0.0)), "index=7&wait=45000ms");
        assert_eq!(Cursor(7).waiting(long_wait(0.5)), "index=7&wait=52500ms");
        assert!(!Cursor::default().is_somewhere());
    }
}
