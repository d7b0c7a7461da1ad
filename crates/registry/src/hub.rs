//! Who watches what, and what each has yet to be told.
//!
//! A watcher is either *behind* (it will be told the whole truth, whatever that is when it asks) or *following* (it has
//! a queue of changes). It starts behind, and falls behind again when its queue would grow past [`QUEUE_LIMIT`]; so one
//! that never asks costs a bounded amount of memory, and one that asks again continues as if it had just come.
//!
//! Locks are taken in the order hub, slot, published catalog, and never the other way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catalog::Event;
use portolan_model::{Change, ChangeSource, Interest, Pending, Revision, ServiceName};
use tokio::sync::Notify;

use crate::embedded::Shared;

/// How many changes may wait for one watcher.
const QUEUE_LIMIT: usize = 1024;

/// All watchers of one registry.
#[derive(Debug, Default)]
pub(crate) struct Hub(Mutex<Watchers>);

#[derive(Debug, Default)]
struct Watchers {
    ended: bool,
    next: u64,
    everything: BTreeMap<u64, Arc<Slot>>,
    services: BTreeMap<ServiceName, BTreeMap<u64, Arc<Slot>>>,
}

impl Hub {
    /// Tells everybody concerned, and nobody else. The published catalog shows the events already.
    pub(crate) fn publish(&self, events: &[Event]) {
        let watchers = self.lock();
        if !watchers.everything.is_empty() {
            let changes: Arc<[Change]> = events.iter().map(Event::change).collect();
            watchers.everything.values().for_each(|slot| slot.offer(&changes));
        }
        if watchers.services.is_empty() {
            return;
        }
        let mut by_service: BTreeMap<&ServiceName, Vec<Change>> = BTreeMap::new();
        for event in events.iter().filter(|event| watchers.services.contains_key(event.service())) {
            by_service.entry(event.service()).or_default().push(event.change());
        }
        for (service, changes) in by_service {
            let changes = Arc::from(changes);
            watchers.services.get(service).into_iter().flatten().for_each(|(_, slot)| slot.offer(&changes));
        }
    }

    /// Makes everybody start over: the published catalog was replaced.
    pub(crate) fn reset(&self) {
        self.lock().slots().for_each(|slot| slot.change(|waiting| waiting.progress = Progress::Behind));
    }

    /// Nothing will ever be published again: whoever has heard all there is to hear is told so.
    pub(crate) fn end(&self) {
        let mut watchers = self.lock();
        watchers.ended = true;
        watchers.slots().for_each(|slot| slot.change(|waiting| waiting.ended = true));
    }

    /// How many watch.
    pub(crate) fn len(&self) -> usize {
        self.lock().slots().count()
    }

    fn enter(&self, interest: &Interest) -> (u64, Arc<Slot>) {
        let mut watchers = self.lock();
        let number = watchers.next;
        watchers.next += 1;
        let slot = Arc::new(Slot::new(watchers.ended));
        let siblings = match interest {
            Interest::All => &mut watchers.everything,
            Interest::Service(name) => watchers.services.entry(name.clone()).or_default(),
        };
        siblings.insert(number, Arc::clone(&slot));
        (number, slot)
    }

    fn leave(&self, interest: &Interest, number: u64) {
        let mut watchers = self.lock();
        match interest {
            Interest::All => {
                watchers.everything.remove(&number);
            }
            Interest::Service(name) => {
                let Some(siblings) = watchers.services.get_mut(name) else { return };
                siblings.remove(&number);
                if siblings.is_empty() {
                    watchers.services.remove(name);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watchers {
    fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.everything.values().chain(self.services.values().flat_map(BTreeMap::values))
    }
}

/// One watcher's end of the hub.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    interest: Interest,
    number: u64,
    slot: Arc<Slot>,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, interest: Interest) -> Self {
        let (number, slot) = shared.hub.enter(&interest);
        Self { shared, interest, number, slot }
    }
}

impl ChangeSource for Watcher {
    fn next(&mut self) -> Pending<'_, Option<Change>> {
        Box::pin(async {
            loop {
                match self.slot.take(&self.shared, &self.interest) {
                    Told::Change(change) => return Some(change),
                    Told::Ended => return None,
                    // What comes between the look and the wait leaves a permit, so it is not missed.
                    Told::Nothing => self.slot.wake.notified().await,
                }
            }
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.hub.leave(&self.interest, self.number);
    }
}

/// What waits for one watcher.
#[derive(Debug)]
struct Slot {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug)]
struct Waiting {
    progress: Progress,
    ended: bool,
}

#[derive(Debug)]
enum Progress {
    /// The next thing to be told is a reset.
    Behind,
    Following {
        /// The reset told up to here; changes up to here, which may still arrive, are known already.
        known: Revision,
        /// Changes as they were published, shared with all who watch the same.
        queue: VecDeque<Arc<[Change]>>,
        /// How many of the first in the queue have been told.
        told: usize,
        /// How many in the whole queue have not.
        left: usize,
    },
}

enum Told {
    Change(Change),
    Nothing,
    Ended,
}

impl Slot {
    fn new(ended: bool) -> Self {
        Self { waiting: Mutex::new(Waiting { progress: Progress::Behind, ended }), wake: Notify::new() }
    }

    fn offer(&self, changes: &Arc<[Change]>) {
        self.change(|waiting| match &mut waiting.progress {
            Progress::Behind => {}
            Progress::Following { left, .. } if *left + changes.len() > QUEUE_LIMIT => {
                waiting.progress = Progress::Behind;
            }
            Progress::Following { queue, left, .. } => {
                *left += changes.len();
                queue.push_back(Arc::clone(changes));
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }

    fn take(&self, shared: &Shared, interest: &Interest) -> Told {
        let waiting = &mut *self.lock();
        match &mut waiting.progress {
            Progress::Behind if waiting.ended => return Told::Ended,
            Progress::Behind => {
                let (known, reset) = shared.reset(interest);
                waiting.progress = Progress::Following { known, queue: VecDeque::new(), told: 0, left: 0 };
                return Told::Change(reset);
            }
            Progress::Following { known, queue, told, left } => {
                while let Some(changes) = queue.front() {
                    let change = changes.get(*told).cloned();
                    *told += 1;
                    match change {
                        Some(change) => {
                            *left -= 1;
                            if change.revision() > *known {
                                return Told::Change(change);
                            }
                        }
                        None => {
                            queue.pop_front();
                            *told = 0;
                        }
                    }
                }
            }
        }
        if waiting.ended { Told::Ended } else { Told::Nothing }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
