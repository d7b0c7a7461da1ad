//! What to do about the difference between what should be and what is. Pure; the plan has no choice left and can be
//! printed.

use std::fmt;

use portolan_model::{Incarnation, InstanceId, Owner, Registration};

use crate::book::{Book, Entry, Mine};
use crate::desired::{Desired, Origin, Wanted, Withheld};

#[cfg(test)]
mod tests;

/// What to do, most urgent first, and what must be left undone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do: drains, then registrations, then removals, so that a change of id leaves no gap.
    pub actions: Vec<Action>,
    /// Ids that are wanted here but belong to somebody else.
    pub conflicts: Vec<Conflict>,
}

/// One write to the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stop giving it new work.
    Drain {
        /// Which.
        id: InstanceId,
        /// The life of it that is meant.
        incarnation: Incarnation,
        /// Why.
        why: Why,
    },
    /// Say this of it.
    Register {
        /// All there is to say.
        registration: Box<Registration>,
        /// Why.
        why: Why,
    },
    /// Remove it.
    Deregister {
        /// Which.
        id: InstanceId,
        /// The life of it that is meant.
        incarnation: Incarnation,
        /// Why.
        why: Why,
    },
}

/// An id that is wanted here but belongs to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The id.
    pub id: InstanceId,
    /// Who has it.
    pub holder: Owner,
}

/// Why an action is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is not in the registry.
    New(Origin),
    /// The registry holds something else of it.
    Different(&'static str, Origin),
    /// Its container still runs long after it was asked to end.
    StillRuns(Origin),
    /// Its container was asked to end.
    Stopping(Origin),
    /// Its container is known, and must not be registered now.
    Withheld(Withheld),
    /// No container that runs stands for it.
    Ghost,
}

/// Says what to do so that `book` comes to hold what is `desired`. Unless `whole`, nothing is taken for a ghost: it may
/// belong to a container that was not read yet.
pub fn plan(desired: &Desired, whole: bool, book: &Book) -> Plan {
    let mut plan = Plan::default();
    let mut registers = Vec::new();
    for (id, wanted) in &desired.wanted {
        match book.get(id) {
            Some(Entry::Foreign(holder)) => {
                plan.conflicts.push(Conflict { id: id.clone(), holder: holder.clone() });
            }
            Some(Entry::Mine(mine)) if wanted.draining => {
                if !mine.draining {
                    let incarnation = mine.registration.incarnation;
                    let why = Why::Stopping(wanted.origin.clone());
                    plan.actions.push(Action::Drain { id: id.clone(), incarnation, why });
                }
            }
            Some(Entry::Mine(mine)) => registers.extend(amend(wanted, mine, book.drained_here(id))),
            None if wanted.draining => {}
            None => registers.push(register(wanted, Why::New(wanted.origin.clone()))),
        }
    }
    plan.actions.append(&mut registers);
    for (id, mine) in book.mine().filter(|(id, _)| !desired.wanted.contains_key(*id)) {
        let why = match desired.withheld.get(id) {
            Some(withheld) => Why::Withheld(withheld.clone()),
            None if whole => Why::Ghost,
            None => continue,
        };
        let incarnation = mine.registration.incarnation;
        plan.actions.push(Action::Deregister { id: id.clone(), incarnation, why });
    }
    plan
}

/// What makes the registry's `mine` what is `wanted`, if anything. A drain by somebody else is respected for the life
/// it was asked for.
fn amend(wanted: &Wanted, mine: &Mine, drained_here: bool) -> Option<Action> {
    let (new, old) = (&wanted.registration, &mine.registration);
    let same_life = new.incarnation == old.incarnation;
    if mine.draining && same_life {
        return drained_here.then(|| register(wanted, Why::StillRuns(wanted.origin.clone())));
    }
    let what = if !same_life {
        "life"
    } else if new.health != old.health {
        "health"
    } else if new.endpoint != old.endpoint {
        "address"
    } else if new != old {
        "description"
    } else {
        return None;
    };
    Some(register(wanted, Why::Different(what, wanted.origin.clone())))
}

fn register(wanted: &Wanted, why: Why) -> Action {
    Action::Register { registration: Box::new(wanted.registration.clone()), why }
}

impl Action {
    /// The instance it is about.
    pub fn id(&self) -> &InstanceId {
        match self {
            Self::Register { registration, .. } => &registration.id,
            Self::Drain { id, .. } | Self::Deregister { id, .. } => id,
        }
    }

    /// Why it is planned.
    pub fn why(&self) -> &Why {
        match self {
            Self::Register { why, .. } | Self::Drain { why, .. } | Self::Deregister { why, .. } => why,
        }
    }

    /// What it does, in one word.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Drain { .. } => "drain",
            Self::Deregister { .. } => "deregister",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.actions.iter().try_for_each(|action| writeln!(f, "{action}"))?;
        self.conflicts.iter().try_for_each(|conflict| writeln!(f, "{conflict}"))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb(), self.id())?;
        if let Self::Register { registration, .. } = self {
            let Registration { service, endpoint, health, .. } = registration.as_ref();
            write!(f, " as {service} at {endpoint} ({health})")?;
        }
        write!(f, ": {}", self.why())
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leave {}: it belongs to {}", self.id, self.holder)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(origin) => write!(f, "{origin}"),
            Self::Different(what, origin) => write!(f, "its {what} is another; {origin}"),
            Self::StillRuns(origin) => write!(f, "it still runs after it was asked to end; {origin}"),
            Self::Stopping(origin) => write!(f, "container {} was asked to end", origin.container),
            Self::Withheld(withheld) => write!(f, "{withheld}"),
            Self::Ghost => f.write_str("no container that runs stands for it"),
        }
    }
}
