//! What this handle wants of one id, and what to ask of an agent so that it becomes true.
//!
//! Pure: wish and catalog in, calls out. It is asked again after every answer and every change of the catalog, until
//! there is nothing left to ask: losing an answer costs time, never correctness.

use std::time::Duration;

use bytes::Bytes;
use consul_api::ServiceRegistration;
use portolan_model::{Health, Limit, Phase, Registration, ServiceName};
use tokio::time::Instant;

use super::config::{Config, Flavour};
use super::form::{self, Marks};
use super::line::Ask;
use super::row::Row;

/// An instance that was registered through this handle, and is kept registered.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) registration: Registration,
    pub(super) draining: bool,
    /// The last sign of life that was taken.
    pub(super) renewed: Option<Instant>,
    /// The agent does not know it (any more), whatever the catalog says.
    pub(super) lost: bool,
    /// It has been in the catalog as wanted.
    pub(super) seen: bool,
}

/// What there is to do for a [`Wanted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// Ask the agent all of this, in order.
    Calls(Vec<Call>),
    /// All is well until then.
    NothingUntil(Option<Instant>),
    /// Somebody else has the id now: what of ours is left goes, and it is theirs.
    LetGo,
}

/// One thing to ask of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Register; with `replace`, checks that are there and not ours go.
    Register { registration: Box<Registration>, replace: bool },
    /// Give a sign of life.
    Renew { id: String },
    /// Say how the instance fares; with `first`, a check for it is yet to be made.
    Say { id: String, health: Health, first: bool },
    /// Enter, change or leave maintenance mode.
    Mark { service_id: String, marks: Marks },
    /// Drain (our own face only).
    Drain { id: String },
    /// Deregister.
    Deregister { service_id: String },
    /// Remove from the catalog what an agent registered that cannot be reached, or is slower than the catalog. `created` is the
    /// index of that entry's beginning: what is there again is another one.
    Forget { node: String, service: ServiceName, service_id: String, created: u64 },
    /// Say how far the catalog is with a service.
    Look { service: ServiceName },
}

impl Wanted {
    /// What to ask of the agent on `node`, given all rows of the id and the one that is shown.
    pub(super) fn need(
        &self,
        config: &Config,
        node: &str,
        rows: &[&Row],
        shown: Option<&Row>,
        now: Instant,
    ) -> Need {
        if self.seen && shown.is_some_and(|shown| self.is_taken_over(shown)) {
            return Need::LetGo;
        }
        let row = rows.iter().find(|row| row.node == node).filter(|_| !self.lost);
        let calls = match config.flavour {
            Flavour::Portolan => self.calls_to_portolan(row.copied()),
            Flavour::Consul => self.calls_to_consul(row.copied()),
        };
        if !calls.is_empty() {
            return Need::Calls(calls);
        }
        if config.flavour == Flavour::Portolan {
            return Need::NothingUntil(None);
        }
        match self.renewed.map(|renewed| renewed + config.ttl / 3) {
            Some(due) if due > now => Need::NothingUntil(Some(due)),
            _ => Need::Calls(vec![Call::Renew { id: self.id() }]),
        }
    }

    /// Whether `row` is what is wanted.
    pub(super) fn is_met_by(&self, row: &Row) -> bool {
        row.says_the_same_as(&self.registration)
            && row.registration.health == self.registration.health
            && (row.phase == Phase::Draining) == self.draining
    }

    fn is_taken_over(&self, row: &Row) -> bool {
        let (mine, theirs) = (&self.registration, &row.registration);
        row.ours && (theirs.owner != mine.owner || theirs.incarnation > mine.incarnation)
    }

    fn calls_to_portolan(&self, row: Option<&Row>) -> Vec<Call> {
        let drained = row.is_some_and(|row| row.phase == Phase::Draining);
        let same = row.is_some_and(|row| row.registration == self.registration);
        let mut calls = Vec::new();
        let register = !same || (drained && !self.draining);
        if register {
            calls.push(self.register(false));
        }
        // Registering ends a drain.
        if self.draining && (register || !drained) {
            calls.push(Call::Drain { id: self.id() });
        }
        calls
    }

    fn calls_to_consul(&self, row: Option<&Row>) -> Vec<Call> {
        let marks = self.marks();
        let Some(row) = row.filter(|row| row.ours && row.alive.is_some()) else {
            let mut calls = vec![self.register(true)];
            if marks != Marks::default() {
                calls.push(Call::Mark { service_id: self.id(), marks });
            }
            return calls;
        };
        let mut calls = Vec::new();
        if !row.says_the_same_as(&self.registration) {
            calls.push(self.register(false));
        }
        let word = form::status_word(self.registration.health);
        // An instance that fares well need not have a check that says so.
        if row.word.unwrap_or_default().as_str() != word {
            let (id, health) = (self.id(), self.registration.health);
            calls.push(Call::Say { id, health, first: row.word.is_none() });
        }
        if row.marks != marks {
            calls.push(Call::Mark { service_id: self.id(), marks });
        }
        // Bad news first: nobody should see the new state in better health than it has.
        if self.registration.health > row.registration.health || self.draining {
            calls.reverse();
        }
        if row.alive != Some(Health::Passing) {
            calls.push(Call::Renew { id: self.id() });
        }
        calls
    }

    fn marks(&self) -> Marks {
        Marks { draining: self.draining, maintenance: self.registration.health == Health::Maintenance }
    }

    fn register(&self, replace: bool) -> Call {
        Call::Register { registration: Box::new(self.registration.clone()), replace }
    }

    fn id(&self) -> String {
        self.registration.id.to_string()
    }
}

/// How soon to ask again for what was asked and is not seen in the catalog. An agent whose servers have no leader keeps
/// what it is told and tries again only after a quarter of a minute, or when it is told once more.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Call {
    /// The request that asks it.
    pub(super) fn ask(&self, config: &Config) -> Result<Ask, Limit> {
        let ask = |path: &str, id: &str, query: &str| {
            Ask::put(format!("{path}{}{query}", encoded(id)), Bytes::new())
        };
        Ok(match self {
            Self::Register { registration, replace } => {
                let body: ServiceRegistration = form::body(config, registration)?;
                let query = if *replace && config.flavour == Flavour::Consul {
                    "?replace-existing-checks=true"
                } else {
                    ""
                };
                // Maps with texts as keys always have a JSON form.
                let json = serde_json::to_vec(&body).unwrap_or_default();
                Ask::put(format!("/v1/agent/service/register{query}"), json)
            }
            Self::Renew { id } => update(&form::alive_check(id), Health::Passing),
            Self::Say { id, health, first: false } => update(&form::health_check(id), *health),
            Self::Say { id, health, first: true } => {
                let check = form::word_check(id, *health);
                // A check by itself is called `ID`, one within a service `CheckID`.
                let body = serde_json::json!({
                    "ID": check.check_id, "Name": check.name, "ServiceID": id,
                    "Status": check.status, "TTL": check.ttl,
                });
                Ask::put("/v1/agent/check/register", body.to_string())
            }
            Self::Mark { service_id, marks } => {
                let query = match marks.reason() {
                    Some(reason) => format!("?enable=true&reason={}", encoded(&reason)),
                    None => "?enable=false".to_owned(),
                };
                ask("/v1/agent/service/maintenance/", service_id, &query)
            }
            Self::Drain { id } => ask("/v1/portolan/drain/", id, ""),
            Self::Deregister { service_id } => ask("/v1/agent/service/deregister/", service_id, ""),
            Self::Forget { node, service_id, service: _, created: _ } => {
                let body = serde_json::json!({ "Node": node, "ServiceID": service_id });
                Ask::put("/v1/catalog/deregister", body.to_string())
            }
            Self::Look { service } => {
                let path = format!("/v1/health/service/{}?consistent", encoded(service.as_str()));
                Ask::get(match config.flavour {
                    // Only the index of the answer is of interest, so that it may be empty otherwise.
                    Flavour::Consul => format!("{path}&filter={}", encoded("Service.ID == \"\"")),
                    Flavour::Portolan => path,
                })
            }
        })
    }
}

fn update(check: &str, health: Health) -> Ask {
    let body = serde_json::json!({ "Status": form::status_word(health), "Output": "as Portolan says" });
    Ask::put(format!("/v1/agent/check/update/{}", encoded(check)), body.to_string())
}

/// A text as one segment of a path, or one value of a query.
pub(super) fn encoded(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use portolan_model::{Incarnation, Owner};

    const NODE: &str = "n";

    fn config(flavour: Flavour) -> Config {
        let scheme = if flavour == Flavour::Consul { "consul" } else { "portolan" };
        Config::from_uri(format!("{scheme}://a").parse().unwrap()).unwrap()
    }

    fn wanted(now: Instant) -> Wanted {
        let registration = fixture::instance("web", "a", 1).registration.clone();
        Wanted { registration, draining: false, renewed: Some(now), lost: false, seen: true }
    }

    fn row(wanted: &Wanted) -> Row {
        Row {
            node: NODE.to_owned(),
            service_id: "a".to_owned(),
            registration: wanted.registration.clone(),
            phase: Phase::Adult,
            ours: true,
            alive: Some(Health::Passing),
            word: Some(Health::Passing),
            marks: Marks::default(),
            reachable: true,
            unheard: Health::Passing,
            created: 1,
            modified: 1,
        }
    }

    fn need(flavour: Flavour, wanted: &Wanted, rows: &[Row], now: Instant) -> String {
        let rows: Vec<_> = rows.iter().collect();
        match wanted.need(&config(flavour), NODE, &rows, rows.last().copied(), now) {
            Need::LetGo => "let go".to_owned(),
            Need::NothingUntil(due) => format!("nothing for {:?}", due.map(|due| due - now)),
            Need::Calls(calls) => calls.iter().map(word).collect::<Vec<_>>().join(" "),
        }
    }

    fn word(call: &Call) -> String {
        match call {
            Call::Register { replace: true, .. } => "replace".to_owned(),
            Call::Register { replace: false, .. } => "register".to_owned(),
            Call::Renew { .. } => "renew".to_owned(),
            Call::Say { health, first: true, .. } => format!("first-{health}"),
            Call::Say { health, first: false, .. } => format!("say-{health}"),
            Call::Mark { marks, .. } => {
                format!("mark-{}", marks.reason().unwrap_or_else(|| "off".to_owned()))
            }
            Call::Drain { .. } => "drain".to_owned(),
            Call::Deregister { .. } => "deregister".to_owned(),
            Call::Forget { .. } => "forget".to_owned(),
            Call::Look { .. } => "look".to_owned(),
        }
    }

    #[test]
    fn what_consul_needs() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Wanted, &mut Row), expect: &str) {
            let now = Instant::now();
            let mut wanted = wanted(now);
            let mut row = row(&wanted);
            change(&mut wanted, &mut row);
            assert_eq!(need(Flavour::Consul, &wanted, &[row], now), expect);
        }
        check(|_, _| {}, "nothing for Some(5s)");
        check(|w, _| w.renewed = None, "renew");
        check(|_, r| r.alive = Some(Health::Critical), "renew");
        check(|_, r| r.node = "other".to_owned(), "replace");
        check(|w, _| w.lost = true, "replace");
        check(|_, r| r.ours = false, "replace");
        check(|_, r| r.alive = None, "replace");
        check(|_, r| r.word = None, "nothing for Some(5s)");
        check(
            |w, r| {
                w.registration.health = Health::Warning;
                r.word = None;
            },
            "first-warning",
        );
        check(|w, _| w.registration.tags = ["x".to_owned()].into(), "register");
        check(|w, _| w.registration.health = Health::Critical, "say-critical");
        check(|w, _| w.registration.health = Health::Maintenance, "mark-portolan: maintenance");
        check(|w, _| w.draining = true, "mark-portolan: draining");
        check(|_, r| r.marks.draining = true, "mark-off");
        check(
            |w, _| {
                w.registration.tags = ["x".to_owned()].into();
                w.registration.health = Health::Warning;
            },
            "say-warning register",
        );
        check(
            |w, r| {
                w.registration.tags = ["x".to_owned()].into();
                (r.word, r.registration.health) = (Some(Health::Warning), Health::Warning);
            },
            "register say-passing",
        );
        // A node that is away, and checks that others added, are not ours to mend.
        check(|_, r| r.registration.health = Health::Critical, "nothing for Some(5s)");
        check(|_, r| r.registration.owner = Owner::new("other").unwrap(), "let go");
        check(|_, r| r.registration.incarnation = Incarnation(9), "let go");
        check(
            |w, r| {
                w.seen = false;
                r.registration.incarnation = Incarnation(9);
            },
            "register",
        );
    }

    #[test]
    fn what_portolan_needs() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut Wanted, &mut Vec<Row>), expect: &str) {
            let now = Instant::now();
            let mut wanted = wanted(now);
            let mut rows = vec![row(&wanted)];
            change(&mut wanted, &mut rows);
            assert_eq!(need(Flavour::Portolan, &wanted, &rows, now), expect);
        }
        check(|_, _| {}, "nothing for None");
        check(|_, r| r.clear(), "register");
        check(|w, _| w.registration.health = Health::Warning, "register");
        check(|w, _| w.draining = true, "drain");
        check(
            |w, r| {
                w.draining = true;
                r.clear();
            },
            "register drain",
        );
        check(|_, r| r[0].phase = Phase::Draining, "register");
    }

    #[test]
    fn what_is_asked() {
        #[track_caller]
        fn check(call: &Call, expect: &str) {
            let ask = call.ask(&config(Flavour::Consul)).unwrap();
            assert_eq!(format!("{} {}", ask.path, String::from_utf8_lossy(&ask.body)), expect);
        }
        let id = || "h:a/b 订".to_owned();
        check(&Call::Deregister { service_id: id() }, "/v1/agent/service/deregister/h%3Aa%2Fb%20%E8%AE%A2 ");
        check(
            &Call::Mark { service_id: "a".into(), marks: Marks { draining: true, maintenance: false } },
            "/v1/agent/service/maintenance/a?enable=true&reason=portolan%3A%20draining ",
        );
        check(
            &Call::Say { id: "a".into(), health: Health::Warning, first: false },
            "/v1/agent/check/update/portolan-health%3Aa {\"Output\":\"as Portolan says\",\"Status\":\"warning\"}",
        );
        check(
            &Call::Say { id: "a".into(), health: Health::Critical, first: true },
            "/v1/agent/check/register {\"ID\":\"portolan-health:a\",\"Name\":\"Portolan: health\",\
             \"ServiceID\":\"a\",\"Status\":\"critical\",\"TTL\":\"87600h0m0s\"}",
        );
        check(
            &Call::Forget {
                node: "n".into(),
                service: "web".parse().unwrap(),
                service_id: "a".into(),
                created: 1,
            },
            "/v1/catalog/deregister {\"Node\":\"n\",\"ServiceID\":\"a\"}",
        );
        check(
            &Call::Look { service: ServiceName::new("a b").unwrap() },
            "/v1/health/service/a%20b?consistent&filter=Service.ID%20%3D%3D%20%22%22 ",
        );
    }
}
