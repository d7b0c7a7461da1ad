//! The seam to whoever runs the checks that live by reports: an instance says how it fares, over whichever face.

use std::fmt;

use crate::id::InstanceId;
use crate::instance::Health;

/// Takes what instances say of themselves. It answers at once and holds no more than the last report of each.
pub trait Reports: fmt::Debug + Send + Sync + 'static {
    /// Hands over what the instance `id` says.
    fn report(&self, id: &InstanceId, report: Report) -> Reported;
}

/// What an instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it fares.
    pub health: Health,
    /// Its words about that, for people.
    pub note: String,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// It counts.
    Taken,
    /// Nobody checks that instance.
    Unknown,
    /// Its check asks by itself.
    Asked,
}
