//! The gateway's brain: config and views in, a route table out; a request in, an instance out.
//!
//! **Purpose**: decide which service a request is for, with which path, on which instance, and whether a failed
//! attempt may go elsewhere.
//! **Knows**: routes, the articles' routing contracts, balancing policies, what is safe to retry.
//! **Must not know**: sockets, clocks, dice, logs, where instances come from. Randomness is an argument.
//! **Start at**: [`RouteTable::new`] (compile), [`RouteTable::find`] (match), [`Upstream::pick`] (balance).

mod balance;
mod claims;
mod config;
mod explain;
mod labels;
mod matching;
mod path;
mod retry;
mod route;
mod services;
mod table;

pub use balance::{Candidate, Parked, Policy, Tried, Upstream};
pub use config::{Config, RouteSpec};
pub use explain::{Explanation, InstanceNote, Verdict, explain};
pub use matching::{Matched, Miss, Question, Rewrite, Rule};
pub use path::{BadPath, normalise};
pub use retry::{Failure, RetryRule};
pub use route::{BrokenRoute, Origin, Route};
pub use table::RouteTable;
