//! What a command means, given what is known.

use std::sync::Arc;

use portolan_model::{Guard, Instance, InstanceId, Phase, Registration, RegistryError, Revision};

use crate::event::Event;
use crate::millis::Millis;
use crate::state::{Catalog, Entry};

/// What somebody wants to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Make this the state of its id.
    Register(Registration),
    /// Give the instance no new work.
    Drain {
        /// Which instance.
        id: InstanceId,
        /// Under which condition.
        guard: Guard,
    },
    /// Remove the instance.
    Deregister {
        /// Which instance.
        id: InstanceId,
        /// Under which condition.
        guard: Guard,
    },
    /// Let the young that have warmed up be adult.
    Mature,
}

/// The events that make `command` so: none if it already is. Changes nothing itself.
///
/// # Errors
/// Says why the command cannot be; nothing may then be changed.
pub fn decide(catalog: &Catalog, command: &Command, now: Millis) -> Result<Vec<Event>, RegistryError> {
    match command {
        Command::Register(registration) => register(catalog, registration, now),
        Command::Drain { id, guard } => drain(catalog, id, guard),
        Command::Deregister { id, guard } => deregister(catalog, id, guard),
        Command::Mature => Ok(mature(catalog, now)),
    }
}

fn register(catalog: &Catalog, said: &Registration, now: Millis) -> Result<Vec<Event>, RegistryError> {
    said.check_limits()?;
    let known = catalog.entry(&said.id);
    if let Some(Entry { instance, .. }) = known {
        let before = &instance.registration;
        if before.owner == said.owner && said.incarnation < before.incarnation {
            return Err(RegistryError::StaleIncarnation { id: said.id.clone() });
        }
    }
    let (since, phase) = life(catalog, known, said, now);
    let next = catalog.revision().next();
    let put = |created: Revision, modified: Revision| Event::Put {
        instance: Arc::new(Instance { registration: said.clone(), phase, created, modified }),
        since,
    };
    Ok(match known.map(|entry| &entry.instance) {
        None => vec![put(next, next)],
        Some(known) if known.registration == *said && known.phase == phase => vec![],
        Some(known) if *known.service() == said.service => vec![put(known.created, next)],
        Some(known) => vec![removed(known, next), put(next.next(), next.next())],
    })
}

/// When the life that is registered began, and its phase. The same incarnation is the same life, whoever says it.
fn life(catalog: &Catalog, known: Option<&Entry>, said: &Registration, now: Millis) -> (Millis, Phase) {
    let same = known.filter(|entry| entry.instance.registration.incarnation == said.incarnation);
    let since = same.map_or(now, |entry| entry.since);
    let phase = match same.map(|entry| entry.instance.phase) {
        Some(phase @ (Phase::Young | Phase::Adult)) => phase,
        Some(Phase::Draining) | None if catalog.is_warm(since, now) => Phase::Adult,
        Some(Phase::Draining) | None => Phase::Young,
    };
    (since, phase)
}

fn drain(catalog: &Catalog, id: &InstanceId, guard: &Guard) -> Result<Vec<Event>, RegistryError> {
    let entry = guarded(catalog, id, guard)?;
    Ok(match entry.instance.phase {
        Phase::Draining => vec![],
        Phase::Young | Phase::Adult => {
            vec![in_phase(entry, Phase::Draining, catalog.revision().next())]
        }
    })
}

fn deregister(catalog: &Catalog, id: &InstanceId, guard: &Guard) -> Result<Vec<Event>, RegistryError> {
    let entry = guarded(catalog, id, guard)?;
    Ok(vec![removed(&entry.instance, catalog.revision().next())])
}

fn mature(catalog: &Catalog, now: Millis) -> Vec<Event> {
    let mut revision = catalog.revision();
    let grown = catalog.warm(now).map(|entry| {
        revision = revision.next();
        in_phase(entry, Phase::Adult, revision)
    });
    grown.collect()
}

fn guarded<'a>(catalog: &'a Catalog, id: &InstanceId, guard: &Guard) -> Result<&'a Entry, RegistryError> {
    let entry = catalog.entry(id).ok_or_else(|| RegistryError::UnknownInstance(id.clone()))?;
    let held = &entry.instance.registration;
    match guard {
        Guard::Anyone => Ok(entry),
        Guard::OwnedBy { owner, .. } if *owner != held.owner => {
            Err(RegistryError::NotOwner { id: id.clone(), owner: held.owner.clone() })
        }
        Guard::OwnedBy { incarnation, .. } if held.incarnation > *incarnation => {
            Err(RegistryError::StaleIncarnation { id: id.clone() })
        }
        Guard::OwnedBy { .. } => Ok(entry),
    }
}

fn in_phase(entry: &Entry, phase: Phase, modified: Revision) -> Event {
    let instance = Instance { phase, modified, ..(*entry.instance).clone() };
    Event::Put { instance: Arc::new(instance), since: entry.since }
}

fn removed(instance: &Instance, revision: Revision) -> Event {
    Event::Removed { service: instance.service().clone(), id: instance.id().clone(), revision }
}
