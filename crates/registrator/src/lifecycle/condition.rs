//! How the registrator fares: said on the status board whenever it changes, logged once per change.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime::{Reporter, State};

/// How the registrator fares.
pub(super) struct Condition {
    reporter: Reporter,
    location: String,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    engine: Engine,
    registry_failure: Option<String>,
    instances: usize,
    checked: String,
    complaints: BTreeSet<String>,
}

#[derive(Default)]
enum Engine {
    #[default]
    NotYet,
    There,
    Away(String),
}

impl Condition {
    pub(super) fn new(reporter: Reporter, location: String) -> Self {
        Self { reporter, location, facts: Mutex::default() }
    }

    pub(super) fn engine_there(&self) {
        let mut facts = self.facts();
        match std::mem::replace(&mut facts.engine, Engine::There) {
            Engine::There => return,
            Engine::NotYet => tracing::info!(engine = self.location, "following the container engine"),
            Engine::Away(_) => tracing::info!(engine = self.location, "the container engine is back"),
        }
        self.say(&facts);
    }

    pub(super) fn engine_away(&self, why: &str) {
        let mut facts = self.facts();
        match std::mem::replace(&mut facts.engine, Engine::Away(why.to_owned())) {
            Engine::Away(_) => {
                tracing::debug!(engine = self.location, why, "the container engine is still away");
            }
            Engine::NotYet => tracing::warn!(
                engine = self.location,
                why,
                "cannot reach the container engine: containers are not registered. start it, name another one or \
                 allow access to it; trying on"
            ),
            Engine::There => tracing::warn!(
                engine = self.location,
                why,
                "lost the container engine: what is registered stays as it is. trying on"
            ),
        }
        self.say(&facts);
    }

    pub(super) fn registry_unavailable(&self, why: &str) {
        let mut facts = self.facts();
        if facts.registry_failure.replace(why.to_owned()).is_none() {
            tracing::warn!(why, "cannot write to the registry; trying on");
        }
        self.say(&facts);
    }

    pub(super) fn registry_available(&self) {
        let mut facts = self.facts();
        if facts.registry_failure.take().is_some() {
            tracing::info!("the registry can be written to again");
            self.say(&facts);
        }
    }

    /// Everything was compared: so many instances are registered, so their checks fare (nothing when there are none), and
    /// these are what somebody should mend.
    pub(super) fn reconciled(&self, instances: usize, checked: String, complaints: BTreeSet<String>) {
        let mut facts = self.facts();
        for complaint in complaints.difference(&facts.complaints) {
            tracing::warn!(complaint, "not everything is registered as asked");
        }
        if facts.instances != instances || facts.checked != checked || facts.complaints != complaints {
            facts.instances = instances;
            facts.checked = checked;
            facts.complaints = complaints;
            self.say(&facts);
        }
    }

    pub(super) fn stopped(&self) {
        self.reporter.say(State::Stopped, "");
    }

    fn say(&self, facts: &Facts) {
        let Facts { engine, registry_failure, instances, checked, complaints } = facts;
        let (mut state, mut detail) = match (engine, registry_failure) {
            (Engine::Away(why), _) => {
                (State::Degraded, format!("no container engine at {}: {why}; ", self.location))
            }
            (_, Some(why)) => (State::Degraded, format!("cannot write to the registry: {why}; ")),
            (Engine::NotYet, None) => (State::Starting, String::new()),
            (Engine::There, None) => (State::Running, String::new()),
        };
        detail.push_str(&format!("{instances} instances registered"));
        if !checked.is_empty() {
            detail.push_str(&format!("; {checked}"));
        }
        if let Some(first) = complaints.first() {
            state = state.max(State::Degraded);
            detail.push_str(&format!("; {} not as asked, first: {first}", complaints.len()));
        }
        self.reporter.say(state, detail);
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
