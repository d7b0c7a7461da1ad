//! What this process knows of a backend's book, and who watches it.
//!
//! A backend's driver feeds it: [`Mirror::reset`] after a full read, [`Mirror::apply`] for one change. Everybody else
//! reads it: a backend that is away answers from here, and nobody's subscription ends or empties because of it.
//!
//! A watcher is *behind* (it is told the whole truth when it asks) or *following* (it has a bounded queue). A reset with
//! a known state before it reaches followers as the difference, so that nobody sees a list shrink and grow again only
//! because the backend was read anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portolan_model::{
    Change, ChangeSource, Filter, Instance, Interest, Listing, Pending, Revision, ServiceName, ServiceView,
    Subscription, View,
};
use tokio::sync::{Notify, watch};

/// How many changes may wait for one watcher.
const QUEUE_LIMIT: usize = 4096;

/// See the module's head. Cheap to clone; clones share the book.
#[derive(Debug, Clone)]
pub(crate) struct Mirror(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    /// The revision reached; `None` until the first reset.
    reached: watch::Sender<Option<Revision>>,
}

#[derive(Debug, Default)]
struct Book {
    view: View,
    /// The newest change of each service that has instances.
    changed: BTreeMap<ServiceName, Revision>,
    /// The newest change that left a service without instances.
    extinction: Revision,
    filled: bool,
    ended: bool,
    next: u64,
    watchers: BTreeMap<u64, Arc<Slot>>,
}

#[derive(Debug)]
struct Slot {
    interest: Interest,
    wake: Notify,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    following: bool,
    queue: VecDeque<Change>,
}

impl Default for Mirror {
    fn default() -> Self {
        Self(Arc::new(Shared { book: Mutex::default(), reached: watch::Sender::new(None) }))
    }
}

impl Mirror {
    /// Takes the whole truth as read at `revision`.
    pub(crate) fn reset(&self, revision: Revision, instances: Vec<Arc<Instance>>) {
        let mut book = self.lock();
        let mut fresh: BTreeMap<_, _> = instances.into_iter().map(|i| (i.id().clone(), i)).collect();
        let mut changes = Vec::new();
        for known in book.all() {
            match fresh.get(known.id()) {
                Some(same) if same.service() == known.service() => {}
                _ => changes.push(removal(revision, &known)),
            }
        }
        for known in book.all() {
            if fresh.get(known.id()).is_some_and(|fresh| *fresh == known) {
                fresh.remove(known.id());
            }
        }
        changes.extend(fresh.into_values().map(|instance| Change::Upsert { revision, instance }));
        let first = !std::mem::replace(&mut book.filled, true);
        for change in changes {
            book.take(&change);
        }
        if first {
            book.watchers.values().for_each(|slot| slot.wake.notify_one());
        }
        drop(book);
        self.reach(revision);
    }

    /// Takes one change.
    pub(crate) fn apply(&self, change: Change) {
        let revision = change.revision();
        match change {
            Change::Reset { revision, instances } => return self.reset(revision, instances),
            change @ (Change::Upsert { .. } | Change::Remove { .. }) => self.lock().take(&change),
        }
        self.reach(revision);
    }

    /// What is known of a service.
    pub(crate) fn find(&self, service: &ServiceName, filter: &Filter) -> ServiceView {
        let book = self.lock();
        let instances =
            book.view.instances(service.as_str()).filter(|i| filter.accepts(i)).cloned().collect();
        ServiceView { revision: book.revision_of(service), instances }
    }

    /// Everything known.
    pub(crate) fn list(&self) -> Listing {
        let book = self.lock();
        let of = |service: &ServiceName| book.view.instances(service.as_str()).cloned().collect();
        let services = book.view.services().map(|service| (service.clone(), of(service))).collect();
        Listing { revision: book.view.revision(), services }
    }

    /// Starts watching. The first change is a reset, as soon as anything is known.
    pub(crate) fn subscribe(&self, interest: Interest) -> Subscription {
        let mut book = self.lock();
        let number = book.next;
        book.next += 1;
        let slot = Arc::new(Slot { interest, wake: Notify::new(), waiting: Mutex::default() });
        book.watchers.insert(number, Arc::clone(&slot));
        Subscription::new(Watcher { mirror: self.clone(), number, slot })
    }

    /// Waits until what is known includes `revision`. Never resolves while the backend is away: set a deadline.
    pub(crate) async fn reached(&self, revision: Revision) {
        let mut reached = self.0.reached.subscribe();
        // The sender lives as long as the mirror.
        let _ = reached.wait_for(|reached| reached.is_some_and(|reached| reached >= revision)).await;
    }

    /// Whether anything was ever known.
    pub(crate) fn is_filled(&self) -> bool {
        self.lock().filled
    }

    /// Ends all subscriptions: the backend's driver has ended.
    pub(crate) fn end(&self) {
        let mut book = self.lock();
        book.ended = true;
        book.watchers.values().for_each(|slot| slot.wake.notify_one());
    }

    fn reach(&self, revision: Revision) {
        self.0.reached.send_if_modified(|reached| {
            let further = reached.is_none_or(|reached| reached < revision);
            if further {
                *reached = Some(revision);
            }
            further
        });
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn all(&self) -> Vec<Arc<Instance>> {
        let services = self.view.services();
        services.flat_map(|service| self.view.instances(service.as_str())).cloned().collect()
    }

    fn revision_of(&self, service: &ServiceName) -> Revision {
        self.changed.get(service).copied().unwrap_or(self.extinction)
    }

    /// Folds one change, and tells those concerned if it changed anything.
    fn take(&mut self, change: &Change) {
        let revision = change.revision();
        let touched = self.view.apply(change.clone());
        for service in touched {
            if self.view.instances(service.as_str()).next().is_some() {
                self.changed.insert(service.clone(), revision);
            } else {
                self.changed.remove(&service);
                self.extinction = self.extinction.max(revision);
            }
            let concerned = self.watchers.values().filter(|slot| slot.concerns(&service));
            concerned.for_each(|slot| slot.offer(change));
        }
    }

    fn reset_for(&self, interest: &Interest) -> Change {
        match interest {
            Interest::All => Change::Reset { revision: self.view.revision(), instances: self.all() },
            Interest::Service(service) => Change::Reset {
                revision: self.revision_of(service),
                instances: self.view.instances(service.as_str()).cloned().collect(),
            },
        }
    }
}

fn removal(revision: Revision, instance: &Instance) -> Change {
    Change::Remove { revision, service: instance.service().clone(), id: instance.id().clone() }
}

impl Slot {
    fn concerns(&self, service: &ServiceName) -> bool {
        match &self.interest {
            Interest::All => true,
            Interest::Service(name) => name == service,
        }
    }

    fn offer(&self, change: &Change) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.following && waiting.queue.len() < QUEUE_LIMIT {
            waiting.queue.push_back(change.clone());
        } else {
            *waiting = Waiting::default();
        }
        self.wake.notify_one();
    }
}

/// One watcher's end.
struct Watcher {
    mirror: Mirror,
    number: u64,
    slot: Arc<Slot>,
}

impl Watcher {
    /// The outer `None`: nothing to tell yet.
    fn take(&self) -> Option<Option<Change>> {
        // The book first: nothing is offered while a reset is made from it.
        let book = self.mirror.lock();
        let mut waiting = self.slot.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(change) = waiting.queue.pop_front() {
            return Some(Some(change));
        }
        if book.ended {
            return Some(None);
        }
        if waiting.following || !book.filled {
            return None;
        }
        waiting.following = true;
        Some(Some(book.reset_for(&self.slot.interest)))
    }
}

impl ChangeSource for Watcher {
    fn next(&mut self) -> Pending<'_, Option<Change>> {
        Box::pin(async {
            loop {
                match self.take() {
                    Some(told) => return told,
                    // What comes between the look and the wait leaves a permit, so it is not missed.
                    None => self.slot.wake.notified().await,
                }
            }
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.mirror.lock().watchers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ids, instance};
    use portolan_model::InstanceId;

    fn remove(service: &str, id: &str, at: u64) -> Change {
        let (service, id) = (ServiceName::new(service).unwrap(), InstanceId::new(id).unwrap());
        Change::Remove { revision: Revision(at), service, id }
    }

    fn upsert(service: &str, id: &str, at: u64) -> Change {
        Change::Upsert { revision: Revision(at), instance: instance(service, id, at) }
    }

    /// One line for each change that waits.
    async fn told(subscription: &mut Subscription) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(Some(change)) =
            tokio::time::timeout(std::time::Duration::ZERO, subscription.next()).await
        {
            lines.push(match change {
                Change::Reset { revision, instances } => {
                    format!("reset {revision} {}", ids(&instances).join(" "))
                }
                Change::Upsert { revision, instance } => format!("upsert {revision} {}", instance.id()),
                Change::Remove { revision, id, .. } => format!("remove {revision} {id}"),
            });
        }
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_are_reset_and_then_follow() {
        let mirror = Mirror::default();
        let mut all = mirror.subscribe(Interest::All);
        let mut web = mirror.subscribe(Interest::Service(ServiceName::new("web").unwrap()));
        assert!(told(&mut all).await.is_empty(), "nothing is known yet");
        mirror.reset(Revision(5), vec![instance("web", "w1", 3), instance("db", "d1", 4)]);
        assert_eq!(told(&mut all).await, ["reset 5 d1 w1"]);
        assert_eq!(told(&mut web).await, ["reset 5 w1"]);
        mirror.apply(upsert("db", "d2", 6));
        mirror.apply(upsert("db", "d2", 6));
        mirror.apply(remove("web", "w1", 7));
        assert_eq!(told(&mut all).await, ["upsert 6 d2", "remove 7 w1"]);
        assert_eq!(told(&mut web).await, ["remove 7 w1"]);
        mirror.end();
        assert_eq!(all.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_anew_tells_only_the_difference() {
        let mirror = Mirror::default();
        mirror.reset(
            Revision(1),
            vec![instance("web", "a", 1), instance("web", "b", 1), instance("web", "m", 1)],
        );
        let mut web = mirror.subscribe(Interest::All);
        told(&mut web).await;
        mirror.reset(
            Revision(9),
            vec![instance("web", "b", 1), instance("web", "c", 8), instance("db", "m", 8)],
        );
        assert_eq!(told(&mut web).await, ["remove 9 a", "remove 9 m", "upsert 9 c", "upsert 9 m"]);
        mirror.reset(
            Revision(10),
            vec![instance("web", "b", 1), instance("web", "c", 8), instance("db", "m", 8)],
        );
        assert!(told(&mut web).await.is_empty(), "an equal book wakes nobody");
    }

    #[tokio::test(start_paused = true)]
    async fn a_laggard_is_reset() {
        let mirror = Mirror::default();
        mirror.reset(Revision(1), vec![]);
        let mut all = mirror.subscribe(Interest::All);
        told(&mut all).await;
        for n in 0..=QUEUE_LIMIT as u64 {
            mirror.apply(upsert("web", "a", 2 + n));
        }
        assert_eq!(told(&mut all).await, [format!("reset {} a", 2 + QUEUE_LIMIT)]);
    }

    #[tokio::test(start_paused = true)]
    async fn revisions_are_per_service_and_survive_extinction() {
        let mirror = Mirror::default();
        mirror.reset(Revision(3), vec![instance("web", "w", 3)]);
        mirror.apply(upsert("db", "d", 5));
        let of =
            |service: &str| mirror.find(&ServiceName::new(service).unwrap(), &Filter::default()).revision.0;
        assert_eq!((of("web"), of("db"), of("none")), (3, 5, 0));
        mirror.apply(remove("db", "d", 8));
        assert_eq!((of("web"), of("db"), of("none")), (3, 8, 8));
        assert_eq!(mirror.list().revision, Revision(8));
        mirror.reached(Revision(8)).await;
    }
}
