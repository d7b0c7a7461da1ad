//! What a command means as a transaction, given what is known; pure.
//!
//! A transaction holds only if the keys it is about are as known when it was decided; if not, it is decided again once
//! more is known. So nobody's write is lost, and guards hold however many write at once.

use bytes::Bytes;
use portolan_model::{Guard, Instance, InstanceId, Phase, Registration, RegistryError, Revision};

use super::book::{Book, Present, revision_of};
use super::layout::{Kept, Place};
use super::{LeaseId, Transaction, Write};

/// What a caller wants.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Register(Registration),
    Drain(InstanceId, Guard),
    Deregister(InstanceId, Guard),
}

/// What to do about it.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// It is so already.
    Done(Revision),
    /// It cannot be.
    Refused(RegistryError),
    /// Write this.
    Write(Transaction),
    /// It is in the store no more; stop showing it.
    Forget,
    /// Its key is gone, perhaps for a moment: see then.
    Later,
}

impl Command {
    pub(crate) fn id(&self) -> &InstanceId {
        match self {
            Self::Register(registration) => &registration.id,
            Self::Drain(id, _) | Self::Deregister(id, _) => id,
        }
    }
}

/// `lease` is ours. `tried`: the command may have been done already by a transaction whose answer was lost.
pub(crate) fn decide(book: &Book, command: &Command, lease: LeaseId, tried: bool) -> Decision {
    let shown = book.shown(command.id());
    match (command, shown) {
        (Command::Register(said), shown) => register(book, said, shown.map(|shown| &**shown), lease),
        (Command::Deregister(..), None) if tried => Decision::Done(revision_of(book.revision())),
        (Command::Drain(id, _) | Command::Deregister(id, _), None) => {
            Decision::Refused(RegistryError::UnknownInstance(id.clone()))
        }
        (Command::Drain(id, guard) | Command::Deregister(id, guard), Some(shown)) => {
            if let Err(refused) = guarded(shown, guard) {
                return Decision::Refused(refused);
            }
            let drains = matches!(command, Command::Drain(..));
            match book.present(id) {
                None if drains => Decision::Later,
                None => Decision::Forget,
                Some(present) if drains && present.kept.phase == Phase::Draining => {
                    Decision::Done(revision_of(book.revision()))
                }
                Some(present) if drains => Decision::Write(drain(book, &present)),
                Some(_) => Decision::Write(erase(book, [id])),
            }
        }
    }
}

/// Writes all of `kept` anew under `lease`: what was registered is registered again.
pub(crate) fn restore<'a>(
    book: &Book,
    kept: impl IntoIterator<Item = (&'a Place, &'a Kept)>,
    lease: LeaseId,
) -> Transaction {
    let mut txn = Transaction::default();
    for (place, kept) in kept {
        txn.compare.push(as_known(book, place));
        txn.writes.extend(puts(book, place, kept, lease));
    }
    txn
}

/// Deletes `ids` wherever they are.
pub(crate) fn erase<'a>(book: &Book, ids: impl IntoIterator<Item = &'a InstanceId>) -> Transaction {
    let mut txn = Transaction::default();
    for place in ids.into_iter().flat_map(|id| book.places_of(id)) {
        txn.compare.push(as_known(book, place));
        txn.writes.extend(deletes(book, place));
    }
    txn
}

/// How many bytes of values a transaction carries.
pub(crate) fn weight(values: &[Bytes]) -> usize {
    values.iter().map(Bytes::len).sum()
}

fn register(book: &Book, said: &Registration, shown: Option<&Instance>, lease: LeaseId) -> Decision {
    if let Err(limit) = said.check_limits() {
        return Decision::Refused(limit.into());
    }
    let place = match book.layout().place(said) {
        Ok(place) => place,
        Err(limit) => return Decision::Refused(limit.into()),
    };
    if let Some(Instance { registration: known, .. }) = shown
        && known.owner == said.owner
        && said.incarnation < known.incarnation
    {
        return Decision::Refused(RegistryError::StaleIncarnation { id: said.id.clone() });
    }
    let elsewhere = || book.places_of(&said.id).filter(|other| **other != place);
    // Whoever registers does not know of warm-up; a registry over a store of keys has no clock that all agree on.
    let kept = Kept { registration: said.clone(), phase: Phase::Adult };
    if let Some(present) = book.present(&said.id)
        && *present.kept == kept
        && present.stored.lease == lease
        && elsewhere().next().is_none()
    {
        return Decision::Done(revision_of(book.revision()));
    }
    let mut txn = restore(book, [(&place, &kept)], lease);
    for other in elsewhere() {
        txn.compare.push(as_known(book, other));
        txn.writes.extend(deletes(book, other));
    }
    Decision::Write(txn)
}

/// It stays under the lease of whoever registered it.
fn drain(book: &Book, present: &Present<'_>) -> Transaction {
    let kept = Kept { phase: Phase::Draining, ..present.kept.clone() };
    Transaction {
        compare: vec![as_known(book, present.place)],
        writes: puts(book, present.place, &kept, present.stored.lease),
    }
}

fn puts(book: &Book, place: &Place, kept: &Kept, lease: LeaseId) -> Vec<Write> {
    let keys = book.layout().keys(place).into_iter();
    let put = |((part, key), value)| Write::Put { key, value, lease, before: book.lease_of(place, part) };
    keys.zip(book.layout().write(kept)).map(put).collect()
}

fn deletes(book: &Book, place: &Place) -> impl Iterator<Item = Write> {
    book.layout().keys(place).into_iter().map(|(_, key)| Write::Delete(key))
}

fn as_known(book: &Book, place: &Place) -> (Bytes, i64) {
    let (_, key) = book.layout().keys(place).swap_remove(0);
    (key, book.stored(place).map_or(0, |stored| stored.modified))
}

fn guarded(shown: &Instance, guard: &Guard) -> Result<(), RegistryError> {
    let held = &shown.registration;
    match guard {
        Guard::Anyone => Ok(()),
        Guard::OwnedBy { owner, .. } if *owner != held.owner => {
            Err(RegistryError::NotOwner { id: held.id.clone(), owner: held.owner.clone() })
        }
        Guard::OwnedBy { incarnation, .. } if held.incarnation > *incarnation => {
            Err(RegistryError::StaleIncarnation { id: held.id.clone() })
        }
        Guard::OwnedBy { .. } => Ok(()),
    }
}
