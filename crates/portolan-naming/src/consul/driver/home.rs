//! Finding, keeping and leaving the agent that registrations go to.

use std::collections::BTreeMap;
use std::sync::Arc;

use consul_api::AgentSelf;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::super::config::Flavour;
use super::super::contact::Contact;
use super::super::desk::{At, Home};
use super::super::errands::{meet, pulse, revisit, seek, unled_pulse};
use super::Loop;

impl Loop {
    pub(super) fn stuck_at(&self) -> Option<Instant> {
        self.contact.as_ref().filter(|_| self.servers.len() > 1)?.stuck_at()
    }

    pub(super) fn leave_if_stuck(&mut self, now: Instant) {
        if self.stuck_at().is_some_and(|at| at <= now)
            && let Some(home) = self.desk.home().map(|home| home.at)
        {
            let server = Arc::clone(self.servers[home].server());
            self.lost(home, format!("{server}: lives, but answers nothing that it is asked"));
        }
    }

    /// The cluster holds the home to have failed, and another not.
    pub(super) fn leave_if_failed(&mut self, now: Instant) {
        if let Some(better) = self.desk.better_home(now)
            && let Some(home) = self.desk.home()
        {
            let (server, other) = (self.servers[home.at].server(), self.servers[better].server());
            let why = format!(
                "{server}: the cluster holds its node {:?} to have failed, and that of {other} not",
                home.node
            );
            self.leave(home.at, why, better);
        }
    }

    /// The home lives, and reaches a leader or does not.
    pub(super) fn home_led(&mut self, at: At, led: bool) {
        if self.desk.home().is_none_or(|home| home.at != at) {
            return;
        }
        tracing::info!(server = %self.servers[at].server(), led, "whether a leader answers the agent to register with");
        if let Some(contact) = &mut self.contact {
            contact.led(led, Instant::now());
        }
        self.desk.hold(!led);
        self.take_pulse(at);
        if led {
            self.read_where_led(at);
        }
    }

    /// A leader answers this server; whom it is read from, perhaps not.
    fn read_where_led(&mut self, at: At) {
        if self.reading != at && !self.reads() {
            self.read_from(at);
        }
    }

    /// Reading goes along with the home where a leader answers that alone.
    pub(super) fn read_where_home_is_led(&mut self) {
        if let Some(home) = self.led_home() {
            self.read_where_led(home);
        }
    }

    fn led_home(&self) -> Option<At> {
        let home = self.desk.home().map(|home| home.at)?;
        self.contact.as_ref().is_some_and(Contact::is_led).then_some(home)
    }

    /// Whom to read from once reading has ended where it was.
    pub(super) fn next_to_read(&self) -> At {
        let home = self.led_home().filter(|at| *at != self.reading);
        home.unwrap_or((self.reading + 1) % self.servers.len())
    }

    /// What a server that is away was asked is waited for no more.
    pub(super) fn mark_away(&self, at: At, away: bool) {
        self.away.send_modify(|all| {
            if away {
                all.insert(at);
            } else {
                all.remove(&at);
            }
        });
    }

    fn take_pulse(&mut self, at: At) {
        let servers = self.servers.clone();
        let pulse = match self.contact.as_ref().is_none_or(Contact::is_led) {
            true => self.tasks.spawn(pulse(servers, self.config.flavour, at)),
            false => self.tasks.spawn(unled_pulse(servers, at)),
        };
        let before = self.pulse.replace(pulse);
        before.inspect(AbortHandle::abort);
    }

    /// The home does not answer, or not as one should.
    pub(super) fn lost(&mut self, at: At, why: String) {
        self.leave(at, why, at + 1);
    }

    /// The home is given up, unless it was already, and another looked for, beginning with `next`.
    fn leave(&mut self, at: At, why: String, next: At) {
        if self.desk.home().is_none_or(|home| home.at != at) {
            return;
        }
        tracing::warn!(server = %self.servers[at].server(), why, "the agent to register with is left");
        self.desk.unsettle();
        self.contact = None;
        self.mark_away(at, true);
        self.seek(next);
        if self.config.flavour == Flavour::Consul {
            self.tasks.spawn(revisit(self.servers[at].clone(), at));
        }
        // Whoever is of no use as an agent tells no changes either.
        if self.reading == at && self.session.is_some() && self.servers.len() > 1 {
            return self.broken(why, false);
        }
        self.trouble = Some(why);
        self.report();
    }

    pub(super) fn met(&mut self, at: At, about: Box<AgentSelf>, home: bool) {
        let (node, foreign) = match self.config.flavour {
            Flavour::Portolan => (String::new(), None),
            Flavour::Consul => {
                let there = about.config.datacenter;
                let wanted = self.config.datacenter.as_ref().filter(|wanted| **wanted != there);
                let why = |dc: &String| format!("data centre {dc:?} is read, but the agent is in {there:?}");
                (about.config.node_name, wanted.map(why))
            }
        };
        if !home {
            return self.desk.met(at, node);
        }
        tracing::info!(server = %self.servers[at].server(), node, "registering here");
        self.mark_away(at, false);
        self.desk.settle(Home { at, node, foreign });
        self.contact = Some(Contact::met(Instant::now()));
        self.take_pulse(at);
        for other in (0..self.servers.len()).filter(|other| *other != at) {
            self.tasks.spawn(meet(self.servers[other].clone(), other));
        }
        self.read_where_led(at);
        self.report();
    }

    /// Why there is no agent to register with, once all were asked.
    pub(super) fn homeless(&self) -> Option<String> {
        let unmet = self.unmet.borrow();
        let whys = || unmet.values().map(String::as_str).collect::<Vec<_>>().join("; ");
        (unmet.len() == self.servers.len()).then(whys)
    }

    /// Looks for an agent to register with, beginning with server `from`.
    pub(super) fn seek(&mut self, from: At) {
        self.unmet.send_modify(BTreeMap::clear);
        let from = from % self.servers.len();
        self.tasks.spawn(seek(self.servers.clone(), self.config.flavour, from, self.unmet.clone()));
    }
}
