//! Does what a plan says, and remembers what was done.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use portolan_model::{Guard, InstanceId, Owner, Registry, RegistryError, Revision};

use crate::book::{Book, Entry, Mine};
use crate::plan::Action;

/// How many writes are under way at once. They are begun in the plan's order; a registry may commit them together.
const WRITES_LIMIT: usize = 64;

/// What came of a plan.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many writes are durable.
    pub(crate) done: usize,
    /// Why the registry could not be written to, if it could not.
    pub(crate) unavailable: Option<String>,
    /// What the registry will not do.
    pub(crate) refused: Vec<String>,
}

/// Carries out `actions` on behalf of `owner`.
pub(crate) async fn execute(
    actions: Vec<Action>,
    registry: &dyn Registry,
    owner: &Owner,
    book: &Mutex<Book>,
    answer_timeout: Duration,
) -> Outcome {
    let writes = stream::iter(actions).map(|action| async move {
        if let Action::Drain { id, .. } = &action {
            book.lock().unwrap_or_else(PoisonError::into_inner).will_drain(id.clone());
        }
        let answer = tokio::time::timeout(answer_timeout, write(&action, registry, owner)).await;
        let late = || RegistryError::Unavailable("no answer in time".into());
        (action, answer.unwrap_or_else(|_| Err(late())))
    });
    let mut writes = std::pin::pin!(writes.buffer_unordered(WRITES_LIMIT));
    let mut outcome = Outcome::default();
    while let Some((action, answer)) = writes.next().await {
        match answer {
            Ok(revision) => {
                outcome.done += 1;
                tracing::info!(action = action.verb(), id = %action.id(), why = %action.why(), "instance written");
                remember(action, revision, &mut book.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Err(RegistryError::Unavailable(why)) => outcome.unavailable = Some(why.to_string()),
            // It is gone already; the subscription says so, or has said so.
            Err(RegistryError::UnknownInstance(_)) => {}
            Err(
                error @ (RegistryError::NotOwner { .. }
                | RegistryError::StaleIncarnation { .. }
                | RegistryError::Limit(_)),
            ) => outcome.refused.push(format!("{} {}: {error}", action.verb(), action.id())),
        }
    }
    outcome
}

async fn write(action: &Action, registry: &dyn Registry, owner: &Owner) -> Result<Revision, RegistryError> {
    let guard = |owner: &Owner, incarnation| Guard::OwnedBy { owner: owner.clone(), incarnation };
    match action {
        Action::Register { registration, .. } => registry.register(registration.as_ref().clone()).await,
        Action::Drain { id, incarnation, .. } => registry.drain(id.clone(), guard(owner, *incarnation)).await,
        Action::Deregister { id, owner, incarnation, .. } => {
            registry.deregister(id.clone(), guard(owner, *incarnation)).await
        }
    }
}

fn remember(action: Action, revision: Revision, book: &mut Book) {
    let (id, entry): (InstanceId, Option<Entry>) = match action {
        Action::Register { registration, .. } => (
            registration.id.clone(),
            Some(Entry::Mine(Mine { registration: *registration, draining: false })),
        ),
        Action::Drain { id, .. } => {
            let Some(Entry::Mine(mine)) = book.get(&id).cloned() else { return };
            (id, Some(Entry::Mine(Mine { draining: true, ..mine })))
        }
        Action::Deregister { id, .. } => (id, None),
    };
    book.wrote(id, entry, revision);
}
