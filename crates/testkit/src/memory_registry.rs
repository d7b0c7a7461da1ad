//! A registry that lives and dies with the test: honest about revisions, resets and wake-ups, silent about durability.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portolan_model::{
    Change, ChangeSource, Filter, Guard, Instance, InstanceId, Interest, Listing, Pending, Phase,
    Registration, Registry, RegistryError, Revision, ServiceName, ServiceView, Subscription,
};
use tokio::sync::broadcast;

/// A [`Registry`] in memory. Cheap to clone; clones share the book.
#[derive(Debug, Clone)]
pub struct MemoryRegistry {
    book: Arc<Mutex<Book>>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct Book {
    revision: Revision,
    instances: BTreeMap<InstanceId, Arc<Instance>>,
    /// The newest change of each service that has instances.
    services: BTreeMap<ServiceName, Revision>,
    /// The newest change that left a service without instances.
    extinction: Revision,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self { book: Arc::default(), changes: broadcast::Sender::new(64) }
    }
}

impl MemoryRegistry {
    /// How many subscriptions there are right now.
    pub fn subscriptions(&self) -> usize {
        self.changes.receiver_count()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one step in the history and tells the watchers, under the lock so that no one sees it out of order.
    fn step(&self, book: &mut Book, change: impl FnOnce(Revision, &mut Book) -> Change) -> Revision {
        book.revision = book.revision.next();
        let change = change(book.revision, book);
        // Nobody may be watching.
        let _ = self.changes.send(change);
        book.revision
    }

    fn put(&self, book: &mut Book, registration: Registration, phase: Phase) -> Revision {
        let before = book.instances.get(&registration.id).cloned();
        let same = before.as_ref().is_some_and(|b| b.registration == registration && b.phase == phase);
        if same {
            return book.revision;
        }
        // An instance that changes its service leaves the old one.
        if let Some(before) = before.as_ref().filter(|before| before.service() != &registration.service) {
            self.remove(book, before);
        }
        self.step(book, |revision, book| {
            let created = before.map_or(revision, |before| before.created);
            let instance = Arc::new(Instance { registration, phase, created, modified: revision });
            book.services.insert(instance.service().clone(), revision);
            book.instances.insert(instance.id().clone(), Arc::clone(&instance));
            Change::Upsert { revision, instance }
        })
    }

    fn remove(&self, book: &mut Book, instance: &Instance) -> Revision {
        let (id, service) = (instance.id().clone(), instance.service().clone());
        self.step(book, |revision, book| {
            book.instances.remove(&id);
            if book.instances.values().any(|other| other.service() == &service) {
                book.services.insert(service.clone(), revision);
            } else {
                book.services.remove(&service);
                book.extinction = revision;
            }
            Change::Remove { revision, service, id }
        })
    }
}

impl Book {
    fn guarded(&self, id: &InstanceId, guard: &Guard) -> Result<Arc<Instance>, RegistryError> {
        let known = self.instances.get(id).ok_or_else(|| RegistryError::UnknownInstance(id.clone()))?;
        let Guard::OwnedBy { owner, incarnation } = guard else { return Ok(Arc::clone(known)) };
        if known.registration.owner != *owner {
            return Err(RegistryError::NotOwner { id: id.clone(), owner: known.registration.owner.clone() });
        }
        if known.registration.incarnation > *incarnation {
            return Err(RegistryError::StaleIncarnation { id: id.clone() });
        }
        Ok(Arc::clone(known))
    }

    fn of(&self, interest: &Interest) -> (Revision, Vec<Arc<Instance>>) {
        match interest {
            Interest::All => (self.revision, self.instances.values().cloned().collect()),
            Interest::Service(name) => {
                let instances = self.instances.values().filter(|instance| instance.service() == name);
                let revision = self.services.get(name).copied().unwrap_or(self.extinction);
                (revision, instances.cloned().collect())
            }
        }
    }
}

impl Registry for MemoryRegistry {
    fn register(&self, registration: Registration) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(async move {
            registration.check_limits()?;
            let mut book = self.book();
            let known = book.instances.get(&registration.id).map(|known| &known.registration);
            if known
                .is_some_and(|k| k.owner == registration.owner && k.incarnation > registration.incarnation)
            {
                return Err(RegistryError::StaleIncarnation { id: registration.id });
            }
            Ok(self.put(&mut book, registration, Phase::Adult))
        })
    }

    fn drain(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(async move {
            let mut book = self.book();
            let known = book.guarded(&id, &guard)?;
            Ok(self.put(&mut book, known.registration.clone(), Phase::Draining))
        })
    }

    fn deregister(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(async move {
            let mut book = self.book();
            let known = book.guarded(&id, &guard)?;
            Ok(self.remove(&mut book, &known))
        })
    }

    fn find(&self, service: ServiceName, filter: Filter) -> Pending<'_, Result<ServiceView, RegistryError>> {
        Box::pin(async move {
            let (revision, mut instances) = self.book().of(&Interest::Service(service));
            instances.retain(|instance| filter.accepts(instance));
            Ok(ServiceView { revision, instances })
        })
    }

    fn list(&self) -> Pending<'_, Result<Listing, RegistryError>> {
        Box::pin(async move {
            let (revision, instances) = self.book().of(&Interest::All);
            let mut listing = Listing { revision, ..Listing::default() };
            for instance in instances {
                listing.services.entry(instance.service().clone()).or_default().push(instance);
            }
            Ok(listing)
        })
    }

    fn subscribe(&self, interest: Interest) -> Subscription {
        // The lock is held over both, so that no change falls between the reset and the deltas.
        let book = self.book();
        let changes = self.changes.subscribe();
        let first = Some(reset(&book, &interest));
        Subscription::new(Source { registry: Arc::clone(&self.book), changes, interest, first })
    }
}

fn reset(book: &Book, interest: &Interest) -> Change {
    let (revision, instances) = book.of(interest);
    Change::Reset { revision, instances }
}

struct Source {
    registry: Arc<Mutex<Book>>,
    changes: broadcast::Receiver<Change>,
    interest: Interest,
    first: Option<Change>,
}

impl Source {
    fn concerns(&self, change: &Change) -> bool {
        match (&self.interest, change) {
            (Interest::All, _) | (_, Change::Reset { .. }) => true,
            (Interest::Service(name), Change::Upsert { instance, .. }) => instance.service() == name,
            (Interest::Service(name), Change::Remove { service, .. }) => service == name,
        }
    }

    /// Everything anew, and nothing of what came before it again.
    fn start_over(&mut self) -> Change {
        let book = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.changes = self.changes.resubscribe();
        reset(&book, &self.interest)
    }
}

impl ChangeSource for Source {
    fn next(&mut self) -> Pending<'_, Option<Change>> {
        Box::pin(async move {
            if let Some(first) = self.first.take() {
                return Some(first);
            }
            loop {
                match self.changes.recv().await {
                    Ok(change) if self.concerns(&change) => return Some(change),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => return Some(self.start_over()),
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_registry() {
        crate::registry_battery::run(Arc::new(MemoryRegistry::default())).await;
    }
}
