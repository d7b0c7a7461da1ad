//! The registry's brain: what a command means, and what is known after it.
//!
//! **Purpose**: decide commands into events, evolve the state by them, answer queries.
//! **Knows**: the rules of ownership, incarnations, phases and revisions.
//! **Must not know**: disks, networks, watchers, the clock (time is an argument), logs.
//! **Start at**: [`decide`] (command → events), [`evolve`] (event → state), [`Catalog`] (the state and its queries).
//!
//! The way of a write: `decide` looks at the state and changes nothing; the caller makes the events durable, then lets
//! `evolve` apply them. Events alone rebuild an equal state, so whoever holds them holds everything.

mod decide;
mod event;
mod millis;
mod state;

pub use decide::{Command, decide};
pub use event::{Event, evolve};
pub use millis::Millis;
pub use state::{Catalog, Marks};
