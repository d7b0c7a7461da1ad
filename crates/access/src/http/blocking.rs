//! Blocking queries: answer when there is something newer than what the client has seen, or when its time is up.
//!
//! The index that clients see is the revision plus one. An index is never 0, for clients would loop; and the empty book
//! (revision 0) must not share an index with the first change (revision 1), or a client that polls just too late would
//! wait out its time with the change already there.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Filter, Instance, Interest, Revision, ServiceName, Subscription};
use runtime::Shutdown;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::Face;
use super::catalog::tags_in_use;
use super::error::Error;
use super::query::Asked;

/// The index that stands for `revision`.
pub(super) fn index_of(revision: Revision) -> u64 {
    revision.next().0
}

/// Waits until something within `interest` is newer than what was seen, or time is up.
pub(super) async fn until_change(face: &Face, asked: &Asked, interest: Interest) -> Result<(), Error> {
    if let Some((mut wait, _)) = Wait::begin(face, asked, interest).await? {
        wait.change().await;
    }
    Ok(())
}

/// Waits until services or their tags are others than seen, or time is up. Changes that this list does not show (health,
/// drains, one more instance) wake nobody.
pub(super) async fn until_tags_change(face: &Face, asked: &Asked) -> Result<(), Error> {
    let Some((mut wait, instances)) = Wait::begin(face, asked, Interest::All).await? else { return Ok(()) };
    let seen = tags_by_service(&instances);
    drop(instances);
    while let Some(change) = wait.change().await {
        let service = match &change {
            Change::Reset { instances, .. } if tags_by_service(instances) == seen => continue,
            Change::Reset { .. } => return Ok(()),
            Change::Upsert { instance, .. } => instance.service(),
            Change::Remove { service, .. } => service,
        };
        let found = face.registry.find(service.clone(), Filter::default()).await?;
        let now = (!found.instances.is_empty()).then(|| tags_in_use(&found.instances));
        let before = seen.get(service).map(|tags| tags.iter().map(String::as_str).collect());
        if now != before {
            return Ok(());
        }
    }
    Ok(())
}

fn tags_by_service(instances: &[Arc<Instance>]) -> BTreeMap<ServiceName, BTreeSet<String>> {
    let mut tags: BTreeMap<ServiceName, BTreeSet<String>> = BTreeMap::new();
    for instance in instances {
        tags.entry(instance.service().clone())
            .or_default()
            .extend(instance.registration.tags.iter().cloned());
    }
    tags
}

/// The patience of a client that is ready to wait.
pub(super) struct Seat<'f> {
    /// The index it has seen.
    pub(super) seen: u64,
    shutdown: &'f Shutdown,
    deadline: Instant,
    _seat: SemaphorePermit<'f>,
}

impl<'f> Seat<'f> {
    /// Takes a seat for a client that has seen an index; `None` when an answer is due at once.
    pub(super) fn take(face: &'f Face, asked: &Asked) -> Result<Option<Self>, Error> {
        let Some(seen) = asked.index else { return Ok(None) };
        let seat = face.seats.try_acquire().map_err(|_| Error::Crowded(face.limits.blocking))?;
        let deadline = Instant::now() + patience(asked.wait, fastrand::u64(..));
        Ok(Some(Self { seen, shutdown: &face.shutdown, deadline, _seat: seat }))
    }

    /// What comes, unless the wait is over before.
    pub(super) async fn wait<T>(&self, coming: impl Future<Output = Option<T>>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shutdown.triggered() => None,
            () = sleep_until(self.deadline) => None,
            change = coming => change,
        }
    }
}

/// A client that waits for instances.
struct Wait<'f> {
    seat: Seat<'f>,
    subscription: Subscription,
}

impl<'f> Wait<'f> {
    /// Begins to wait, with the instances as they are; `None` when an answer is due at once. That it is as well when the
    /// client has seen an index that this server has not reached: it comes from another life of the server.
    async fn begin(
        face: &'f Face,
        asked: &Asked,
        interest: Interest,
    ) -> Result<Option<(Self, Vec<Arc<Instance>>)>, Error> {
        let Some(seat) = Seat::take(face, asked)? else { return Ok(None) };
        let mut wait = Self { subscription: face.registry.subscribe(interest), seat };
        Ok(match wait.next().await {
            Some(Change::Reset { revision, instances }) if index_of(revision) == wait.seat.seen => {
                Some((wait, instances))
            }
            _ => None,
        })
    }

    /// The next change to something other than what was seen; `None` when the wait is over.
    async fn change(&mut self) -> Option<Change> {
        loop {
            let change = self.next().await?;
            // A source that reconnects may repeat where it is.
            if index_of(change.revision()) != self.seat.seen {
                return Some(change);
            }
        }
    }

    async fn next(&mut self) -> Option<Change> {
        self.seat.wait(self.subscription.next()).await
    }
}

/// How long to wait at most. Clients that began together do not all come back together: up to a sixteenth is added, by
/// `dice`, of which the low bits count.
fn patience(wait: Option<Duration>, dice: u64) -> Duration {
    const UNLESS_SAID: Duration = Duration::from_secs(300);
    const MOST: Duration = Duration::from_secs(600);
    let wait = wait.unwrap_or(UNLESS_SAID).min(MOST);
    wait + (wait / 16).mul_f64((dice % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_has_bounds() {
        #[track_caller]
        fn check(wait: Option<u64>, dice: u64, expect_ms: u64) {
            let got = patience(wait.map(Duration::from_secs), dice);
            assert_eq!(got, Duration::from_millis(expect_ms));
        }
        check(None, 0, 300_000);
        check(None, 500, 309_375);
        check(Some(16), 0, 16_000);
        check(Some(16), 999, 16_999);
        check(Some(86_400), 0, 600_000);
    }

    #[test]
    fn an_index_is_never_zero_and_never_shared() {
        assert_eq!([0, 1, 2].map(|revision| index_of(Revision(revision))), [1, 2, 3]);
    }
}
