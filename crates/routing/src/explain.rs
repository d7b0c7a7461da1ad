//! Why a request would go where it goes, in a form for people and for programs. It runs the very functions that route.

use std::sync::Arc;

use http::HeaderMap;
use portolan_model::{Health, Instance, Phase};
use serde::{Deserialize, Serialize};

use crate::balance::{Parked, Upstream};
use crate::labels::asks_for;
use crate::matching::{Miss, Question, Rule};
use crate::path::normalise;
use crate::route::{Origin, Route};
use crate::table::RouteTable;

/// How many of the instances that ask for a route are named.
const ASKERS_NAMED: usize = 5;

/// Where a request would go, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// In one sentence.
    pub summary: String,
    /// What decided it; absent when the request goes nowhere.
    pub rule: Option<String>,
    /// The service it is for.
    pub service: Option<String>,
    /// The path the instance would see.
    pub upstream_path: Option<String>,
    /// Every instance of the service.
    pub instances: Vec<InstanceNote>,
}

/// What the gateway makes of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceNote {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub endpoint: String,
    /// How it fares.
    pub health: Health,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it gets requests.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// Whether an instance gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It takes its turn.
    Candidate,
    /// It gets none.
    Parked,
}

/// Explains what `table` does with a request for `path` (its query is ignored) at `host` with `headers`.
pub fn explain(table: &RouteTable, host: Option<&str>, path: &str, headers: &HeaderMap) -> Explanation {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let normal = match normalise(path) {
        Ok(normal) => normal,
        Err(bad) => return nowhere(format!("refused with 400: {bad}")),
    };
    match table.find(&Question { host, path: &normal, headers }) {
        Err(miss) => nowhere(format!("goes nowhere ({}): {miss}", status(&miss))),
        Ok(matched) => {
            let upstream = matched.upstream;
            let (able, all) =
                (upstream.candidates().len(), upstream.candidates().len() + upstream.parked().len());
            let service = upstream.service().to_string();
            let rule = match matched.rule {
                Rule::Route(route) if route.origin == Origin::Labels => {
                    format!("{} ({})", matched.rule, askers(upstream, route))
                }
                rule => rule.to_string(),
            };
            let end = if able == 0 { "; the answer is 503" } else { "" };
            Explanation {
                summary: format!(
                    "{rule} sends it to service {service:?}: {able} of {all} instances can take it{end}"
                ),
                rule: Some(rule),
                service: Some(service),
                upstream_path: Some(matched.rewrite.apply(&normal).to_owned()),
                instances: notes(upstream),
            }
        }
    }
}

/// Which instances ask for `route`.
fn askers(upstream: &Upstream, route: &Route) -> String {
    let asks = |instance: &&Arc<Instance>| asks_for(instance, route);
    let mut ids: Vec<&str> =
        upstream.instances().filter(asks).map(|instance| instance.id().as_str()).collect();
    ids.sort_unstable();
    let more = ids.len().saturating_sub(ASKERS_NAMED);
    ids.truncate(ASKERS_NAMED);
    match (ids.len(), more) {
        (0, _) => "of its last instances".to_owned(),
        (1, _) => format!("instance {}", ids[0]),
        (_, 0) => format!("instances {}", ids.join(", ")),
        (_, more) => format!("instances {} and {more} more", ids.join(", ")),
    }
}

fn nowhere(summary: String) -> Explanation {
    Explanation { summary, rule: None, service: None, upstream_path: None, instances: Vec::new() }
}

fn status(miss: &Miss) -> u16 {
    match miss {
        Miss::NoRoute | Miss::UnknownService(_) => 404,
        Miss::RegistryUnread => 503,
        Miss::ServiceNameMissing | Miss::ApiNameMissing | Miss::ApiNameInvalid => 400,
    }
}

fn notes(upstream: &Upstream) -> Vec<InstanceNote> {
    let note = |instance: &portolan_model::Instance, verdict, reason: &str| InstanceNote {
        id: instance.id().to_string(),
        endpoint: instance.endpoint().to_string(),
        health: instance.registration.health,
        phase: instance.phase,
        verdict,
        reason: reason.to_owned(),
    };
    let candidates = upstream.candidates().iter().map(|candidate| {
        let young = candidate.instance.phase == Phase::Young;
        let reason = if young { "takes its turn, a smaller share while young" } else { "takes its turn" };
        note(&candidate.instance, Verdict::Candidate, reason)
    });
    let parked = upstream.parked().iter().map(|(instance, why)| {
        let reason = match why {
            Parked::Draining => "draining: finishes what it has, gets nothing new",
            Parked::Critical => "critical: its owner says it does not work",
            Parked::Maintenance => "in maintenance",
            Parked::ZeroWeight => "its weight is 0",
            Parked::NotHttp => "not routable: it speaks UDP or has no port",
        };
        note(instance, Verdict::Parked, reason)
    });
    candidates.chain(parked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::table::tests::{instance, of_registry, with};
    use portolan_model::ServiceName;
    use std::sync::Arc;

    #[test]
    fn says_who_and_why_not() {
        let mut table = of_registry(&Config::default());
        let draining = with(instance("web", 2), |i| i.phase = Phase::Draining);
        table.update(&ServiceName::new("web").unwrap(), [&Arc::new(instance("web", 1)), &Arc::new(draining)]);
        let told = explain(&table, None, "/web/x?y=1", &HeaderMap::new());
        assert_eq!(
            told.summary,
            "path /<service>/<rest> sends it to service \"web\": 1 of 2 instances can take it"
        );
        assert_eq!(told.upstream_path.as_deref(), Some("/x"));
        let notes: Vec<_> =
            told.instances.iter().map(|n| (n.id.as_str(), n.verdict, n.reason.as_str())).collect();
        assert_eq!(
            notes,
            [
                ("web-1", Verdict::Candidate, "takes its turn"),
                ("web-2", Verdict::Parked, "draining: finishes what it has, gets nothing new"),
            ]
        );
        let told = explain(&table, None, "/nope", &HeaderMap::new());
        assert_eq!(told.summary, "goes nowhere (404): no service is called \"nope\"");
        let told = explain(&RouteTable::new(&Config::default()), None, "/web", &HeaderMap::new());
        assert_eq!(
            told.summary,
            "goes nowhere (503): the registry has not been read yet: nothing is known of what it holds"
        );
    }
}
