//! Asking what the desk has found to be asked, and hearing what came of it.

use std::sync::Arc;

use portolan_model::ServiceName;
use tokio::time::Instant;

use super::super::desk::{Act, Done};
use super::super::errands::{Told, let_go};
use super::super::forgetting::{TOGETHER, asked};
use super::super::line::Trouble;
use super::super::wanted::Call;
use super::{ACTS, Loop};

impl Loop {
    /// Begins what is to be done now, as far as there is room.
    pub(super) fn act(&mut self, now: Instant) {
        let acts = self.desk.acts(now, ACTS.saturating_sub(self.acting));
        let (mut to_forget, others): (Vec<_>, Vec<_>) = acts.into_iter().partition(Act::forgets);
        others.into_iter().for_each(|act| self.begin(vec![act], now));
        while !to_forget.is_empty() {
            let rest = to_forget.split_off(TOGETHER.min(to_forget.len()));
            self.begin(std::mem::replace(&mut to_forget, rest), now);
        }
        for (id, at) in self.desk.letting_go() {
            self.tasks.spawn(let_go(self.servers[at].clone(), Arc::clone(&self.config), id, at));
        }
    }

    /// Begins an act, or several that are asked together.
    fn begin(&mut self, acts: Vec<Act>, now: Instant) {
        for act in &acts {
            self.expect(act);
            self.await_news(act);
        }
        self.acting += 1;
        let for_home = acts.iter().all(|act| self.desk.is_all_for_home(act));
        if let Some(contact) = self.contact.as_mut().filter(|_| for_home) {
            contact.asked(now);
        }
        let (servers, config) = (self.servers.clone(), Arc::clone(&self.config));
        let done = asked(servers, config, acts, self.away.subscribe());
        self.tasks.spawn(async { Told::Done(done.await) });
    }

    /// What an act brings about is looked for.
    fn await_news(&self, act: &Act) {
        if let Some(session) = &self.session
            && let Some(service) = self.desk.looks_for(act)
        {
            session.await_news(service, &act.id);
        }
    }

    /// Something of a service was read.
    pub(super) fn heard_of(&self, service: &ServiceName) {
        if let Some(session) = &self.session {
            session.await_only(service, |id| self.desk.awaits(id));
        }
    }

    /// A service that is registered is followed before anybody lists it.
    fn expect(&mut self, act: &Act) {
        for (_, call) in &act.calls {
            if let Call::Register { registration, .. } = call
                && self.services.insert(registration.service.clone())
            {
                self.follow();
            }
        }
    }

    /// What was asked in one request has ended.
    pub(super) fn done(&mut self, done: &[Done]) {
        self.acting -= 1;
        let now = Instant::now();
        done.iter().for_each(|done| self.desk.done(done, now));
        let for_home = done.iter().all(|done| self.desk.is_all_for_home(&done.act));
        if let Some(contact) = self.contact.as_mut().filter(|_| for_home) {
            let silent = |done: &Done| matches!(done.failed, Some((_, _, Trouble::Unreachable(_))));
            contact.ended(!done.iter().any(silent), now);
        }
        done.iter().for_each(|done| self.note_refusal(done));
    }

    fn note_refusal(&mut self, done: &Done) {
        let refused = match &done.failed {
            Some((_, _, trouble @ Trouble::Refused { status: 401 | 403, .. })) => Some(trouble.to_string()),
            Some(_) => return,
            None => None,
        };
        if self.refused != refused {
            self.refused = refused;
            self.report();
        }
    }
}
