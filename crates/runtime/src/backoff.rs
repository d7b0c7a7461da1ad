//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with full jitter in the upper half, so that many who failed together do not return together.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from `least` on, doubling up to `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, next: least }
    }

    /// The next wait: between half and the whole of the current step. `dice` is any number; its low bits count.
    pub fn next(&mut self, dice: u64) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.most);
        step / 2 + (step / 2).mul_f64((dice % 1000) as f64 / 1000.0)
    }

    /// It worked: the next failure starts from the least wait.
    pub fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most_and_resets() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(300));
        let waits: Vec<_> = (0..4).map(|_| backoff.next(0)).collect();
        assert_eq!(waits, [ms(50), ms(100), ms(150), ms(150)]);
        assert!(backoff.next(999) > ms(299) && backoff.next(999) <= ms(300));
        backoff.reset();
        assert_eq!(backoff.next(0), ms(50));
    }
}
