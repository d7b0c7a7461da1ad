//! What checks say of instances, and what that makes of what is desired. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use portolan_model::{Health, InstanceId};

use super::spec::Probe;
use super::{CHECKS_LIMIT, Check};
use crate::book::{Book, Entry};
use crate::desired::{Desired, Wanted, Withheld, WithheldWhy};

/// What a check says of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which check. What another one says, of an earlier life maybe, does not count.
    pub check: Check,
    /// How the instance fares.
    pub health: Health,
    /// It has been critical for so long that it is to be registered no more.
    pub expired: bool,
    /// What the last run found, for people.
    pub finding: String,
}

/// Verdicts by instance.
pub type Verdicts = BTreeMap<InstanceId, Verdict>;

/// Which checks are to run, and how those fare that do.
#[derive(Debug, Default)]
pub struct Docket {
    /// The checks to run.
    pub checks: BTreeMap<InstanceId, Check>,
    /// Instances that may report, but of which nothing is made at present.
    pub idle: BTreeSet<InstanceId>,
    /// How many have a verdict other than passing.
    pub failing: usize,
    /// The first of those, and why.
    pub first: Option<String>,
    /// How many are too many, and do not run.
    pub refused: usize,
}

/// Puts `verdicts` into what is `desired`, and says which checks are to run. Of an instance's own HEALTHCHECK and its
/// check the worse counts. Until there is a verdict, an instance that `book` holds already keeps its health: a
/// registrator that begins anew takes nothing out of service.
pub fn judge(desired: &mut Desired, verdicts: &Verdicts, book: &Book) -> Docket {
    let mut docket = Docket::default();
    let mut expired = Vec::new();
    for (id, wanted) in &mut desired.wanted {
        // What gets no new work is not asked either: it ends, or somebody froze it.
        let idle = wanted.draining || wanted.registration.health == Health::Maintenance;
        let Some(check) = &wanted.check else { continue };
        if idle {
            if matches!(check.spec.probe, Probe::Reports { .. }) {
                docket.idle.insert(id.clone());
            }
            continue;
        }
        if docket.checks.len() == CHECKS_LIMIT {
            docket.refused += 1;
            continue;
        }
        docket.checks.insert(id.clone(), check.clone());
        let verdict = verdicts.get(id).filter(|verdict| verdict.check == *check);
        let health = verdict.map_or_else(|| unproven(id, wanted, check, book), |verdict| verdict.health);
        wanted.registration.health = wanted.registration.health.max(health);
        let Some(verdict) = verdict else { continue };
        if verdict.expired {
            expired.push(id.clone());
        }
        if verdict.health != Health::Passing {
            docket.failing += 1;
            docket.first.get_or_insert_with(|| format!("{id}: {}", verdict.finding));
        }
    }
    for id in expired {
        if let Some(Wanted { origin, .. }) = desired.wanted.remove(&id) {
            let why = WithheldWhy::CriticalTooLong;
            desired.withheld.insert(id, Withheld { container: origin.container, why });
        }
    }
    docket
}

/// What an instance is taken for that was not checked yet.
fn unproven(id: &InstanceId, wanted: &Wanted, check: &Check, book: &Book) -> Health {
    match book.get(id) {
        Some(Entry::Mine(mine))
            if mine.registration.incarnation == wanted.registration.incarnation
                // Frozen until now: what it was before that is not known any more.
                && mine.registration.health != Health::Maintenance =>
        {
            mine.registration.health
        }
        Some(Entry::Mine(_) | Entry::Foreign(_)) | None => check.spec.initial,
    }
}

/// Nothing when no check runs.
impl fmt::Display for Docket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.checks.len() {
            0 => return Ok(()),
            1 => f.write_str("1 check runs")?,
            count => write!(f, "{count} checks run")?,
        }
        if let Some(first) = &self.first {
            write!(f, ", {} not passing, first: {first}", self.failing)?;
        }
        Ok(())
    }
}
