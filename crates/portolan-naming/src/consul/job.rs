//! One write that a caller waits for.

use std::sync::Arc;

use portolan_model::{Guard, Instance, InstanceId, Registration, RegistryError, Revision};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wanted::Wanted;

/// What is to be written.
#[derive(Debug)]
pub(super) enum Goal {
    Register(Box<Registration>),
    Drain(Guard),
    Deregister(Guard),
}

/// A write, until when it is of use, and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: InstanceId,
    pub(super) goal: Goal,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Revision, RegistryError>>,
    /// Filled when it begins: one write of an id waits for the other.
    pub(super) begun: Option<Begun>,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Begun {
    /// What this handle wanted of the id before.
    pub(super) before: Option<Wanted>,
    /// When the instance went, if it has.
    pub(super) gone: Option<Revision>,
    pub(super) proof: Proof,
    /// Nobody had the instance registered when it began, as far as is known; but for what was disowned.
    pub(super) fresh: bool,
    /// An agent may have been told to register it.
    pub(super) sent: bool,
}

/// What makes it certain that a write which seems to be done is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It was not done when it began, so that it is by what came after.
    Given,
    /// It seemed done when it began, by what may be old.
    Needed,
    /// It is done if it still seems so once its service is read at this index.
    At(u64),
}

impl Job {
    pub(super) fn new(
        id: InstanceId,
        goal: Goal,
        deadline: Instant,
    ) -> (Self, oneshot::Receiver<Result<Revision, RegistryError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { id, goal, deadline, reply, begun: None }, answer)
    }

    /// Tells the caller. One that has given up does not hear it.
    pub(super) fn finish(self, outcome: Result<Revision, RegistryError>) {
        let _ = self.reply.send(outcome);
    }

    /// Whether the instance that is shown allows it: compared with what was read last, for Consul's agents have no
    /// compare-and-set. What somebody else writes in the milliseconds until it is read is not protected.
    pub(super) fn allowed(&self, shown: Option<&Arc<Instance>>) -> Result<(), RegistryError> {
        let id = || self.id.clone();
        let unknown = || RegistryError::UnknownInstance(id());
        match &self.goal {
            Goal::Register(said) => match shown.map(|shown| &shown.registration) {
                Some(known) if known.owner == said.owner && known.incarnation > said.incarnation => {
                    Err(RegistryError::StaleIncarnation { id: id() })
                }
                Some(_) | None => Ok(()),
            },
            Goal::Drain(Guard::Anyone) | Goal::Deregister(Guard::Anyone) => {
                shown.map(|_| ()).ok_or_else(unknown)
            }
            Goal::Drain(Guard::OwnedBy { owner, incarnation })
            | Goal::Deregister(Guard::OwnedBy { owner, incarnation }) => {
                let known = &shown.ok_or_else(unknown)?.registration;
                if known.owner != *owner {
                    return Err(RegistryError::NotOwner { id: id(), owner: known.owner.clone() });
                }
                if known.incarnation > *incarnation {
                    return Err(RegistryError::StaleIncarnation { id: id() });
                }
                Ok(())
            }
        }
    }
}
