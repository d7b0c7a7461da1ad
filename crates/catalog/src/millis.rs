//! Time as the brain sees it: a number somebody hands in.

use std::time::Duration;

/// Milliseconds since 1970, by the wall clock of whoever runs the registry: it outlives restarts, and may jump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// How long after `earlier` this is; `None` if it is before.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_millis)
    }
}

impl std::ops::Add<Duration> for Millis {
    type Output = Self;

    /// The time `later` from this, or the end of time. A part of a millisecond counts as a whole one.
    fn add(self, later: Duration) -> Self {
        let whole = later.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(whole).unwrap_or(u64::MAX)))
    }
}
