//! What to do about the difference between what should be and what is. Pure; the plan has no choice left and can be
//! printed.

use std::fmt;

use portolan_model::{Health, Incarnation, InstanceId, Owner, Registration};

use crate::book::{Book, Entry, Mine};
use crate::config::Config;
use crate::desired::{Desired, Origin, Wanted, Withheld, WithheldWhy};

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
        /// Whose it is.
        owner: Owner,
        /// The life of it that is meant.
        incarnation: Incarnation,
        /// Why.
        why: Why,
    },
}

/// An id that is wanted here and left as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The id.
    pub id: InstanceId,
    /// Who has it.
    pub holder: Holder,
}

/// Who has an id that is wanted here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// Somebody else.
    Other(Owner),
    /// Somebody under our own name, who says otherwise as often as it is said.
    Namesake(Owner),
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
    /// A life of its container that is over, and began later by a clock that has gone back since. A registry takes only
    /// later lives: this one is registered once that is gone.
    Outlived(Origin),
    /// A run before this one left it.
    Left(Origin),
    /// It is shown as this owner's, who is nobody.
    Nobodys(Owner, Origin),
    /// Its container failed, and its instances stay.
    Failed,
    /// Nobody owns it, it has the name of this host, and no container that runs stands for it.
    Dangling,
}

/// Says what to do so that `book` comes to hold what is `desired`. Unless `whole`, nothing is taken for a ghost: it may
/// belong to a container that was not read yet.
pub fn plan(desired: &Desired, whole: bool, book: &Book, config: &Config) -> Plan {
    let mut plan = Plan::default();
    let (mut registers, mut removals) = (Vec::new(), Vec::new());
    for (id, wanted) in &desired.wanted {
        match book.get(id) {
            Some(Entry::Foreign(holder)) if is_nobodys(id, holder, config) => {
                let why = Why::Nobodys(holder.clone(), wanted.origin.clone());
                registers.extend((!wanted.draining).then(|| register(wanted, why)));
            }
            Some(Entry::Foreign(holder)) => {
                plan.conflicts.push(Conflict { id: id.clone(), holder: Holder::Other(holder.clone()) });
            }
            Some(Entry::Mine(mine)) if wanted.draining => {
                if !mine.draining {
                    let incarnation = mine.registration.incarnation;
                    let why = Why::Stopping(wanted.origin.clone());
                    plan.actions.push(Action::Drain { id: id.clone(), incarnation, why });
                }
            }
            Some(Entry::Mine(_)) if book.is_contradicted(&wanted.registration) => {
                let holder = Holder::Namesake(config.owner.clone());
                plan.conflicts.push(Conflict { id: id.clone(), holder });
            }
            Some(Entry::Mine(mine)) if wanted.unhealthy && !is_this_life(wanted, mine) => {
                let container = wanted.origin.container.clone();
                let why = Why::Withheld(Withheld { container, why: WithheldWhy::NotYetHealthy });
                removals.push(deregister(id, mine, config, why));
            }
            Some(Entry::Mine(mine)) if is_outlived(wanted, mine, book) => {
                removals.push(deregister(id, mine, config, Why::Outlived(wanted.origin.clone())));
            }
            Some(Entry::Mine(mine)) => registers.extend(amend(wanted, mine, book)),
            None if wanted.draining || wanted.unhealthy => {}
            None => registers.push(register(wanted, Why::New(wanted.origin.clone()))),
        }
    }
    plan.actions.append(&mut registers);
    plan.actions.append(&mut removals);
    for (id, mine) in book.mine().filter(|(id, _)| !desired.wanted.contains_key(*id)) {
        if desired.kept.holds(id) {
            plan.actions.extend(keep(mine, book));
            continue;
        }
        let why = match desired.withheld.get(id) {
            Some(withheld) => Why::Withheld(withheld.clone()),
            None if whole => Why::Ghost,
            None => continue,
        };
        plan.actions.push(deregister(id, mine, config, why));
    }
    if config.cleanup && whole {
        let dangling = book.nobodys().filter(|(id, owner)| is_dangling(id, owner, desired, &config.hostname));
        plan.actions.extend(dangling.map(|(id, owner)| Action::Deregister {
            id: id.clone(),
            owner: owner.clone(),
            incarnation: Incarnation::default(),
            why: Why::Dangling,
        }));
    }
    plan
}

/// What makes the registry's `mine` what is `wanted`, if anything. A drain by somebody else is respected for the life
/// it was asked for.
fn amend(wanted: &Wanted, mine: &Mine, book: &Book) -> Option<Action> {
    let (new, old) = (&wanted.registration, &mine.registration);
    let same_life = is_this_life(wanted, mine);
    if mine.draining && same_life {
        return book.drained_here(&new.id).then(|| register(wanted, Why::StillRuns(wanted.origin.clone())));
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
        let left = !book.is_kept_alive(&new.id);
        return left.then(|| register(wanted, Why::Left(wanted.origin.clone())));
    };
    Some(register(wanted, Why::Different(what, wanted.origin.clone())))
}

/// What keeps the instance of a container that failed registered, and requests away from it.
fn keep(mine: &Mine, book: &Book) -> Option<Action> {
    let registration = Registration { health: Health::Critical, ..mine.registration.clone() };
    let due = mine.registration != registration || !book.is_kept_alive(&registration.id);
    let futile = book.is_contradicted(&registration);
    (due && !futile).then(|| Action::Register { registration: Box::new(registration), why: Why::Failed })
}

/// Whether `id` may be taken from its holder. Whoever registers by hand says no owner either: only an id that no hand
/// would choose is taken from those.
fn is_nobodys(id: &InstanceId, holder: &Owner, config: &Config) -> bool {
    let by_hand = holder.as_str() == Owner::UNSAID;
    holder.is_nobody() && (!by_hand || made_here(id.as_str(), &config.hostname))
}

/// Whether a registrator of this host made `id`, for a container port that is no more. A Consul agent's ids are shown
/// with their node before them.
fn is_dangling(id: &InstanceId, owner: &Owner, desired: &Desired, hostname: &str) -> bool {
    let text = id.as_str();
    let node = owner.as_str().split_once(':').map(|(_, node)| node);
    let bare = node.and_then(|node| text.strip_prefix(node)?.strip_prefix('/')).unwrap_or(text);
    let known = |id: &InstanceId| desired.wanted.contains_key(id) || desired.kept.holds(id);
    made_here(bare, hostname) && InstanceId::new(bare).is_ok_and(|id| !known(&id))
}

/// Whether `id` is `<hostname>:<container>:<port>[:udp]`.
fn made_here(id: &str, hostname: &str) -> bool {
    let Some(rest) = id.strip_prefix(hostname).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let rest = rest.strip_suffix(":udp").unwrap_or(rest);
    rest.rsplit_once(':').is_some_and(|(container, port)| {
        let mut bytes = container.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
            && bytes.len() > 0
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            && !port.is_empty()
            && port.bytes().all(|b| b.is_ascii_digit())
    })
}

fn is_this_life(wanted: &Wanted, mine: &Mine) -> bool {
    wanted.registration.incarnation == mine.registration.incarnation
}

/// Whether `mine` is of a life that began later than the one `wanted`, and is certainly over. Containers are read one
/// time after the other: what this run said of it, or found at its beginning, is older than what it sees now. What another
/// of the same name says is not.
fn is_outlived(wanted: &Wanted, mine: &Mine, book: &Book) -> bool {
    mine.registration.incarnation > wanted.registration.incarnation && book.is_before_now(mine)
}

fn deregister(id: &InstanceId, mine: &Mine, config: &Config, why: Why) -> Action {
    let incarnation = mine.registration.incarnation;
    Action::Deregister { id: id.clone(), owner: config.owner.clone(), incarnation, why }
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

    /// Whether there is more to do once this is done.
    pub fn is_half(&self) -> bool {
        matches!(self.why(), Why::Outlived(_))
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
        match &self.holder {
            Holder::Other(owner) => write!(f, "leave {}: it belongs to {owner}", self.id),
            Holder::Namesake(owner) => write!(
                f,
                "leave {}: another {owner} says otherwise each time; two registrators of one host must be told the \
                 same, or have different node names",
                self.id
            ),
        }
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
            Self::Outlived(origin) => {
                write!(f, "it is of a life that is over, by a clock that has gone back; {origin}")
            }
            Self::Left(origin) => write!(f, "a run before this one left it; {origin}"),
            Self::Nobodys(owner, origin) => write!(f, "it is there as {owner}'s, which is nobody; {origin}"),
            Self::Failed => f.write_str("its container failed; it stays until that is removed"),
            Self::Dangling => f.write_str("nobody owns it, and no container of this host stands for it"),
        }
    }
}
