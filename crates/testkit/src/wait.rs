//! Waiting for a condition. It is looked at again and again, and whoever gives up says what was seen last.

#![expect(clippy::panic, reason = "a test that waits in vain has failed")]

use std::fmt::Debug;
use std::panic::Location;
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

/// What a look at something comes to: what is waited for, or what is seen instead.
pub trait Look {
    /// What is waited for.
    type Found;
    /// What is seen while it is not there.
    type Seen: Debug;

    /// Which of them it is.
    ///
    /// # Errors
    /// What is waited for is not there.
    fn found(self) -> Result<Self::Found, Self::Seen>;
}

/// A condition that holds, or does not.
impl Look for bool {
    type Found = ();
    type Seen = bool;

    fn found(self) -> Result<(), bool> {
        if self { Ok(()) } else { Err(false) }
    }
}

/// Something that is there, or is not.
impl<T> Look for Option<T> {
    type Found = T;
    type Seen = Option<()>;

    fn found(self) -> Result<T, Option<()>> {
        self.ok_or(None)
    }
}

impl<T, S: Debug> Look for Result<T, S> {
    type Found = T;
    type Seen = S;

    fn found(self) -> Result<T, S> {
        self
    }
}

/// Waits until `look` finds `what`; panics after `limit`.
#[track_caller]
pub fn until<L: Look>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> L,
) -> impl Future<Output = L::Found> {
    let from = Location::caller();
    async move {
        let begun = Instant::now();
        let mut last = None;
        loop {
            match timeout(limit.saturating_sub(begun.elapsed()), look()).await.map(Look::found) {
                Ok(Ok(found)) => return found,
                Ok(Err(seen)) if begun.elapsed() >= limit => give_up(from, limit, what, Some(seen)),
                Ok(Err(seen)) => last = Some(seen),
                Err(_) => give_up(from, limit, what, last),
            }
            sleep(pause(begun.elapsed())).await;
        }
    }
}

/// The same, for those who have a thread to wait with.
#[track_caller]
pub fn until_blocking<L: Look>(limit: Duration, what: &str, mut look: impl FnMut() -> L) -> L::Found {
    let begun = Instant::now();
    loop {
        match look().found() {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() >= limit => give_up(Location::caller(), limit, what, Some(seen)),
            Err(_) => thread::sleep(pause(begun.elapsed())),
        }
    }
}

/// Until the next look: short at first, for times that are measured, and then in proportion, for looks are not for nothing.
fn pause(waited: Duration) -> Duration {
    (waited / 10).clamp(Duration::from_millis(1), Duration::from_millis(20))
}

fn give_up(from: &Location<'_>, limit: Duration, what: &str, last: Option<impl Debug>) -> ! {
    match last {
        Some(seen) => panic!("{from}: not within {limit:?}: {what}; seen last: {seen:?}"),
        None => panic!("{from}: not within {limit:?}: {what}; no look came to an end"),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[track_caller]
    fn verdict(waits: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(waits)).expect_err("a panic");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn it_finds_what_comes() {
        let mut looks = 0;
        let found = until_blocking(Duration::from_secs(60), "the third", || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(looks) }
        });
        assert_eq!(found, 3);
    }

    #[test]
    fn it_says_what_it_saw_instead() {
        let told = verdict(|| until_blocking(MS, "a dozen", || Err::<(), _>("eleven")));
        assert!(told.ends_with(r#": not within 1ms: a dozen; seen last: "eleven""#), "{told}");
        assert!(told.starts_with(file!()), "{told}");
    }

    #[test]
    fn it_does_not_wait_for_a_look_without_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let never =
            || runtime.block_on(until(MS, "an answer", async || std::future::pending::<bool>().await));
        let told = verdict(never);
        assert!(told.ends_with(": not within 1ms: an answer; no look came to an end"), "{told}");
        let told = verdict(|| runtime.block_on(until(MS, "the sun", async || false)));
        assert!(told.ends_with(": not within 1ms: the sun; seen last: false"), "{told}");
    }
}
