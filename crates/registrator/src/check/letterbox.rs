//! Where instances report to: for each check that lives by reports, the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use portolan_model::{InstanceId, Report, Reported, Reports};
use tokio::sync::watch;

use super::Check;
use super::probe::Finding;
use super::spec::Probe;

/// Has a slot for every check that runs, so that it is bounded as they are.
#[derive(Debug, Default)]
pub(super) struct Letterbox {
    slots: Mutex<BTreeMap<InstanceId, Slot>>,
}

#[derive(Debug)]
enum Slot {
    /// The check asks by itself.
    Asked,
    /// Nothing is made of reports at present: the instance ends, or is frozen. They are no mistake either.
    Idle,
    /// Reports to this very check; another one begins anew.
    Open(Box<Check>, watch::Sender<Option<Finding>>),
}

impl Letterbox {
    /// Takes reports for exactly `checks`, and forgets those for `idle` ones.
    pub(super) fn serve(&self, checks: &BTreeMap<InstanceId, Check>, idle: &BTreeSet<InstanceId>) {
        let mut slots = self.slots();
        slots.retain(|id, slot| matches!(slot, Slot::Open(check, _) if checks.get(id) == Some(&**check)));
        for (id, check) in checks {
            slots.entry(id.clone()).or_insert_with(|| match check.spec.probe {
                Probe::Reports { .. } => Slot::Open(Box::new(check.clone()), watch::Sender::default()),
                Probe::Http { .. } | Probe::Tcp | Probe::Grpc { .. } | Probe::Command { .. } => Slot::Asked,
            });
        }
        slots.extend(idle.iter().map(|id| (id.clone(), Slot::Idle)));
    }

    /// The reports to `check`; `None` when it is not that of `id` any more. One that is there already counts as new.
    pub(super) fn open(&self, id: &InstanceId, check: &Check) -> Option<watch::Receiver<Option<Finding>>> {
        let slots = self.slots();
        let Some(Slot::Open(served, sender)) = slots.get(id) else { return None };
        let mut reports = (**served == *check).then(|| sender.subscribe())?;
        if reports.borrow().is_some() {
            reports.mark_changed();
        }
        Some(reports)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports for Letterbox {
    fn report(&self, id: &InstanceId, Report { health, note }: Report) -> Reported {
        match self.slots().get(id) {
            None => Reported::Unknown,
            Some(Slot::Asked) => Reported::Asked,
            Some(Slot::Idle) => Reported::Taken,
            Some(Slot::Open(_, sender)) => {
                let colon = if note.trim().is_empty() { "" } else { ": " };
                sender.send_replace(Some(Finding::new(
                    health,
                    &format!("it reports {health}{colon}{}", note.trim()),
                )));
                Reported::Taken
            }
        }
    }
}
