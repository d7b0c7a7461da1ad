//! What this process knows of a backend's book, and who watches it.
//!
//! A backend's driver feeds it: [`Mirror::reset`] after a full read, [`Mirror::apply`] for one change. Everybody else
//! reads it: a backend that is away answers from here, and nobody's subscription ends or empties because of it.
//!
//! A watcher is *behind* (it is told the whole truth when it asks) or *following* (it has a bounded queue). A reset with
//! a known state before it reaches followers as the difference, so that nobody sees a list shrink and grow again only
//! because the backend was read anew.
//!
//! Before the backend is read for the first time there may be a [`Seed`]: what was known before this run. It is served as
//! if it had been read, and the first reading tells the difference to it.

mod seed;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use portolan_model::{
    Change, ChangeSource, Filter, Instance, Interest, Listing, Pending, Revision, ServiceName, ServiceView,
    Subscription, View,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub(crate) use self::seed::Seed;
use crate::absence::Absences;

/// How many changes may wait for one watcher.
const QUEUE_LIMIT: usize = 4096;
/// How long what was known before this run is kept when the first reading lacks it, and that is doubtful. When a cluster
/// comes back without its memory, whoever lives has registered again by then.
const RETURN: Duration = Duration::from_secs(30);

/// See the module's head. Cheap to clone; clones share the book.
#[derive(Debug, Clone)]
pub(crate) struct Mirror(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    /// The revision reached; `None` until the first reset.
    reached: watch::Sender<Option<Revision>>,
    /// Something is known differently.
    touched: Notify,
    since: Instant,
}

#[derive(Debug, Default)]
struct Book {
    view: View,
    /// The newest change of each service that has instances.
    changed: BTreeMap<ServiceName, Revision>,
    /// The newest change that left a service without instances.
    extinction: Revision,
    filled: bool,
    /// Of when and where what is known is, until the backend is read for the first time.
    seed: Option<Origin>,
    /// What was known before this run and is missing in the backend, and kept all the same.
    kept: Absences,
    ended: bool,
    next: u64,
    watchers: BTreeMap<u64, Arc<Slot>>,
}

/// Of when a seed is.
#[derive(Debug, Clone, Copy)]
struct Origin {
    revision: Revision,
    known_at: SystemTime,
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
        Self(Arc::new(Shared {
            book: Mutex::default(),
            reached: watch::Sender::new(None),
            touched: Notify::new(),
            since: Instant::now(),
        }))
    }
}

impl Mirror {
    /// Takes what was known before this run. To be called before anything else.
    pub(crate) fn seed(&self, seed: Seed) {
        let mut book = self.lock();
        let Seed { revision, known_at, instances } = seed;
        book.reread(revision, instances, Duration::ZERO);
        book.seed = Some(Origin { revision, known_at });
        book.kept = Absences::new(RETURN);
        book.filled = true;
    }

    /// Takes the whole truth as read at `revision`.
    pub(crate) fn reset(&self, revision: Revision, instances: Vec<Arc<Instance>>) {
        let (mut book, now) = (self.lock(), self.now());
        match book.seed.take() {
            Some(seed) => book.catch_up(seed, revision, instances, now),
            None => book.reread(revision, instances, now),
        }
        if !std::mem::replace(&mut book.filled, true) {
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
            change @ (Change::Upsert { .. } | Change::Remove { .. }) => {
                let mut book = self.lock();
                let replaced = book.settle(&change);
                book.take_over(&change, replaced);
            }
        }
        self.reach(revision);
    }

    /// Lets go of what was kept long enough.
    pub(crate) fn expire(&self) {
        let (mut book, now) = (self.lock(), self.now());
        for gone in book.kept.expired(now) {
            let removed = removal(book.view.revision().next(), &gone);
            book.take(&removed);
        }
        drop(book);
        self.0.touched.notify_one();
    }

    /// When to call [`Mirror::expire`] next.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.lock().kept.next_expiry().map(|at| self.0.since + at)
    }

    /// How many are shown because they were known before this run, although the backend lacks them.
    pub(crate) fn kept(&self) -> usize {
        self.lock().kept.count()
    }

    /// Waits until something is known differently than when this was asked last. One may wait at a time.
    pub(crate) async fn touched(&self) {
        self.0.touched.notified().await;
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

    /// Waits until what was read includes `revision`. Never resolves while the backend is away: set a deadline.
    pub(crate) async fn reached(&self, revision: Revision) {
        let mut reached = self.0.reached.subscribe();
        // The sender lives as long as the mirror.
        let _ = reached.wait_for(|reached| reached.is_some_and(|reached| reached >= revision)).await;
    }

    /// Whether anything is known, be it from before this run.
    #[cfg(any(feature = "zookeeper", feature = "consul", feature = "etcd", test))]
    pub(crate) fn is_filled(&self) -> bool {
        self.lock().filled
    }

    /// Whether the backend was read in this run.
    pub(crate) fn is_read(&self) -> bool {
        let book = self.lock();
        book.filled && book.seed.is_none()
    }

    /// Adds to what people are told of a backend that is away what is served meanwhile.
    #[cfg(any(feature = "zookeeper", feature = "consul", feature = "etcd"))]
    pub(crate) fn meanwhile(&self, away: &str) -> String {
        match self.lock().seed {
            Some(Origin { known_at, .. }) => {
                format!("{away}; not reached yet, serving what was known at {}", crate::keep::utc(known_at))
            }
            None => away.to_owned(),
        }
    }

    /// Ends all subscriptions: the backend's driver has ended.
    pub(crate) fn end(&self) {
        let mut book = self.lock();
        book.ended = true;
        book.watchers.values().for_each(|slot| slot.wake.notify_one());
    }

    fn now(&self) -> Duration {
        self.0.since.elapsed()
    }

    fn reach(&self, revision: Revision) {
        self.0.touched.notify_one();
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

    /// Takes a reading, and tells what differs.
    fn reread(&mut self, revision: Revision, found: Vec<Arc<Instance>>, now: Duration) {
        let truth = match self.kept.count() {
            0 => found,
            _ => {
                let kept: Vec<_> = self.kept.kept().cloned().collect();
                self.kept.after_reread(kept, found, now)
            }
        };
        let mut fresh: BTreeMap<_, _> = truth.into_iter().map(|i| (i.id().clone(), i)).collect();
        let mut gone = Vec::new();
        for known in self.all() {
            match fresh.get(known.id()) {
                Some(same) if *same == known => drop(fresh.remove(known.id())),
                Some(other) if other.service() == known.service() => {}
                Some(_) | None => gone.push(known),
            }
        }
        for (_, change) in seed::in_order(revision, gone, fresh.into_values().collect()) {
            self.take(&change);
        }
    }

    /// Takes the first reading, and tells what differs from what was known before this run. Revisions are the backend's
    /// from here on; that they differ is no news.
    fn catch_up(&mut self, seed: Origin, revision: Revision, found: Vec<Arc<Instance>>, now: Duration) {
        let known = self.all();
        let doubtful = seed::doubtful(&known, &found, revision < seed.revision);
        let truth = self.kept.after_reread(doubtful, found, now);
        self.view = View::default();
        self.view.apply(Change::Reset { revision, instances: truth.clone() });
        for changed in self.changed.values_mut() {
            *changed = revision.min(*changed);
        }
        self.extinction = revision.min(self.extinction);
        let changes = seed::differences(revision, known, truth);
        tracing::info!(
            differences = changes.len(),
            kept = self.kept.count(),
            "the registry is reached; what was known before is brought up to date"
        );
        for (service, change) in changes {
            self.note(&service, revision);
            self.tell(&service, &change);
        }
    }

    /// Nothing is doubted any more of whoever a change names. Returns those that were kept and are gone with it: who had the
    /// endpoint before, and the instance itself in another service.
    fn settle(&mut self, change: &Change) -> Vec<Arc<Instance>> {
        let settled: Vec<_> = match change {
            Change::Upsert { instance, .. } => {
                let of_it =
                    |kept: &&Arc<Instance>| kept.id() == instance.id() || seed::replaces(instance, kept);
                self.kept.kept().filter(of_it).cloned().collect()
            }
            Change::Remove { service, id, .. } => {
                let same = |kept: &&Arc<Instance>| kept.id() == id && kept.service() == service;
                self.kept.kept().filter(same).cloned().collect()
            }
            Change::Reset { .. } => Vec::new(),
        };
        settled.iter().for_each(|kept| self.kept.settled(kept.id()));
        let Change::Upsert { instance, .. } = change else { return Vec::new() };
        let is_as_it_was =
            |kept: &Arc<Instance>| kept.id() == instance.id() && kept.service() == instance.service();
        settled.into_iter().filter(|kept| !is_as_it_was(kept)).collect()
    }

    /// Takes a change with which `replaced` are gone, in an order that leaves no service empty between.
    fn take_over(&mut self, change: &Change, replaced: Vec<Arc<Instance>>) {
        let Change::Upsert { revision, instance } = change else { return self.take(change) };
        for (_, change) in seed::in_order(*revision, replaced, vec![Arc::clone(instance)]) {
            self.take(&change);
        }
    }

    /// Folds one change, and tells those concerned if it changed anything.
    fn take(&mut self, change: &Change) {
        let revision = change.revision();
        let touched = self.view.apply(change.clone());
        for service in touched {
            self.note(&service, revision);
            self.tell(&service, change);
        }
    }

    /// A service has changed.
    fn note(&mut self, service: &ServiceName, revision: Revision) {
        if self.view.instances(service.as_str()).next().is_some() {
            self.changed.insert(service.clone(), revision);
        } else {
            self.changed.remove(service);
            self.extinction = self.extinction.max(revision);
        }
    }

    fn tell(&self, service: &ServiceName, change: &Change) {
        let concerned = self.watchers.values().filter(|slot| slot.concerns(service));
        concerned.for_each(|slot| slot.offer(change));
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
mod tests;
