//! What the catalog says of one instance on one node, in our words.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use consul_api::{AgentService, CheckStatus, HealthCheck, Node, Particulars, ServiceEntry};
use portolan_model::{
    Endpoint, Health, Incarnation, InstanceId, Owner, Phase, Protocol, Registration, ServiceName, Weight,
    Zone,
};
use serde::de::IgnoredAny;

use super::config::Flavour;
use super::form::{self, Marks};

/// One instance as one node's agent registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The node; empty where there is one book for all.
    pub(super) node: String,
    /// What Consul calls it there.
    pub(super) service_id: String,
    /// What is known of it; the health is that of all its checks and of its node's.
    pub(super) registration: Registration,
    pub(super) phase: Phase,
    /// Whether Portolan registered it.
    pub(super) ours: bool,
    /// The check that our signs of life keep passing, where there is one.
    pub(super) alive: Option<Health>,
    /// The check with its owner's word, where there is one; without one it fares well.
    pub(super) word: Option<Health>,
    pub(super) marks: Marks,
    /// Whether its node is alive.
    pub(super) reachable: bool,
    /// Its health if nobody listened for signs of life, its registrant's and its node's.
    pub(super) unheard: Health,
    pub(super) created: u64,
    pub(super) modified: u64,
}

impl Row {
    pub(super) fn id(&self) -> &InstanceId {
        &self.registration.id
    }

    pub(super) fn service(&self) -> &ServiceName {
        &self.registration.service
    }

    /// Whether only silence keeps traffic from it: whoever gives signs of life for it, or its node, is not heard of.
    /// That may be so because nobody could be heard.
    pub(super) fn is_silent(&self) -> bool {
        !self.registration.health.takes_traffic() && self.unheard.takes_traffic()
    }

    /// Whether all but the health is as `wanted`.
    pub(super) fn says_the_same_as(&self, wanted: &Registration) -> bool {
        let health = wanted.health;
        self.ours && Registration { health, ..self.registration.clone() } == *wanted
    }
}

/// Reads what is answered of one service, one answer after the other. What stands there as it stood in the answer before
/// is not read again: a change of one among hundreds costs little more than to find it.
pub(super) struct Reader {
    flavour: Flavour,
    service: ServiceName,
    /// Keyed by lot, so that nobody can make two entries look alike.
    state: RandomState,
    known: HashMap<u64, Vec<Arc<Row>>>,
}

impl Reader {
    pub(super) fn new(flavour: Flavour, service: ServiceName) -> Self {
        Self { flavour, service, state: RandomState::new(), known: HashMap::new() }
    }

    /// All rows of an answer.
    pub(super) fn read(&mut self, answer: &[u8]) -> Result<Vec<Arc<Row>>, serde_json::Error> {
        let Some(elements) = elements(answer) else {
            // It is no list, or not to its end: the parser says why.
            let entries = serde_json::from_slice(answer)?;
            return Ok(rows(self.flavour, &self.service, entries).into_iter().map(Arc::new).collect());
        };
        let mut known = HashMap::with_capacity(elements.len());
        let mut all = Vec::with_capacity(elements.len());
        for element in elements {
            let print = self.state.hash_one(element);
            let of_one = match self.known.remove(&print) {
                Some(of_one) => of_one,
                None => {
                    let entry = vec![serde_json::from_slice(element)?];
                    rows(self.flavour, &self.service, entry).into_iter().map(Arc::new).collect()
                }
            };
            all.extend(of_one.iter().cloned());
            known.insert(print, of_one);
        }
        self.known = known;
        Ok(all)
    }
}

/// The elements of a JSON list as they are written.
fn elements(list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = list.trim_ascii().strip_prefix(b"[")?.trim_ascii_start();
    let mut all = Vec::new();
    if rest == b"]" {
        return Some(all);
    }
    loop {
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let (element, after) = rest.split_at_checked(values.byte_offset())?;
        all.push(element);
        match after.trim_ascii_start().split_first()? {
            (b',', after) => rest = after.trim_ascii_start(),
            (b']', []) => return Some(all),
            _ => return None,
        }
    }
}

/// The rows of one service. Names differing only in case share an answer of Consul's; entries that make no sense to us
/// are left out.
pub(super) fn rows(flavour: Flavour, service: &ServiceName, entries: Vec<ServiceEntry>) -> Vec<Row> {
    let ours = entries.into_iter().filter(|entry| entry.service.service == service.as_str());
    ours.filter_map(|entry| {
        let id = entry.service.id.clone();
        let row = row(flavour, service, entry);
        if row.is_none() {
            tracing::debug!(%service, id, "entry of the catalog left out: its id, address or port makes no sense");
        }
        row
    })
    .collect()
}

fn row(flavour: Flavour, service: &ServiceName, entry: ServiceEntry) -> Option<Row> {
    let ServiceEntry { node, service: said, checks } = entry;
    let verdict = Verdict::of(&said.id, &checks);
    let (created, modified) = (said.create_index.unwrap_or_default(), said.modify_index.unwrap_or_default());
    let modified =
        checks.iter().filter(|c| c.service_id == said.id).map(|c| c.modify_index).fold(modified, u64::max);
    let address = if said.address.is_empty() { &node.address } else { &said.address };
    let endpoint = Endpoint { host: address.parse().ok()?, port: u16::try_from(said.port).ok()? };
    let extras = match &said.portolan {
        Some(particulars) => Extras::of_particulars(particulars, &said)?,
        None => Extras::of_meta(&said, &node)?,
    };
    // An id of Consul's is one on its node only; ours are one everywhere.
    let id = if extras.ours { said.id.clone() } else { format!("{}/{}", node.node, said.id) };
    let health = extras.health.unwrap_or(verdict.all);
    let draining = extras.phase.map_or(verdict.marks.draining, |phase| phase == Phase::Draining);
    Some(Row {
        node: match flavour {
            Flavour::Consul => node.node,
            Flavour::Portolan => String::new(),
        },
        service_id: said.id,
        registration: Registration {
            id: InstanceId::new(id).ok()?,
            service: service.clone(),
            endpoint,
            protocol: extras.protocol,
            tags: said.tags.into_iter().collect(),
            meta: if said.portolan.is_some() { said.meta } else { form::unpacked(said.meta) },
            weight: extras.weight,
            zone: extras.zone,
            owner: extras.owner,
            incarnation: extras.incarnation,
            health,
        },
        phase: if draining { Phase::Draining } else { extras.phase.unwrap_or(Phase::Adult) },
        ours: extras.ours,
        alive: verdict.alive,
        word: verdict.word,
        marks: Marks { draining, ..verdict.marks },
        reachable: verdict.reachable,
        unheard: extras.health.unwrap_or(verdict.unheard),
        created,
        modified,
    })
}

/// What Consul has no word for.
struct Extras {
    ours: bool,
    owner: Owner,
    incarnation: Incarnation,
    protocol: Protocol,
    weight: Weight,
    zone: Option<Zone>,
    /// Where it is said outright and need not be derived from checks.
    health: Option<Health>,
    phase: Option<Phase>,
}

impl Extras {
    fn of_particulars(particulars: &Particulars, said: &AgentService) -> Option<Self> {
        let Particulars { phase, health, owner, zone, protocol, incarnation } = particulars;
        let healths = [Health::Passing, Health::Warning, Health::Critical, Health::Maintenance];
        let phases = [Phase::Young, Phase::Adult, Phase::Draining];
        Some(Self {
            ours: true,
            owner: Owner::new(owner.as_deref()?).ok()?,
            incarnation: Incarnation(incarnation.unwrap_or_default()),
            protocol: protocol_of(protocol.as_deref()),
            weight: weight(said),
            zone: zone.as_deref().and_then(|zone| Zone::new(zone).ok()),
            health: healths.into_iter().find(|h| Some(h.as_str()) == health.as_deref()),
            phase: phases.into_iter().find(|p| Some(p.as_str()) == phase.as_deref()),
        })
    }

    fn of_meta(said: &AgentService, node: &Node) -> Option<Self> {
        let extra = |key: &str| said.meta.get(key).map(String::as_str);
        let owner = extra(form::OWNER).and_then(|owner| Owner::new(owner).ok());
        let share = extra(form::WEIGHT).and_then(|weight| weight.parse().ok());
        Some(Self {
            ours: owner.is_some(),
            owner: owner
                .map_or_else(|| Owner::new(format!("{}{}", Owner::UNKNOWN_ON, node.node)), Ok)
                .ok()?,
            incarnation: Incarnation(
                extra(form::INCARNATION).and_then(|n| n.parse().ok()).unwrap_or_default(),
            ),
            protocol: protocol_of(extra(form::PROTOCOL)),
            weight: share.map_or_else(|| weight(said), Weight),
            zone: extra(form::ZONE).and_then(|zone| Zone::new(zone).ok()),
            health: None,
            phase: None,
        })
    }
}

fn weight(said: &AgentService) -> Weight {
    u16::try_from(said.weights.passing).map_or_else(|_| Weight::default(), Weight)
}

fn protocol_of(word: Option<&str>) -> Protocol {
    if word == Some("udp") { Protocol::Udp } else { Protocol::Tcp }
}

/// What checks come to.
struct Verdict {
    all: Health,
    alive: Option<Health>,
    word: Option<Health>,
    marks: Marks,
    reachable: bool,
    unheard: Health,
}

impl Verdict {
    fn of(id: &str, checks: &[HealthCheck]) -> Self {
        let mut verdict = Self {
            all: Health::Passing,
            alive: None,
            word: None,
            marks: Marks::default(),
            reachable: true,
            unheard: Health::Passing,
        };
        let (alive, own) = (form::alive_check(id), form::health_check(id));
        for check in checks {
            let mut health = of_status(&check.status);
            let of_life = check.check_id == alive || check.check_id == "serfHealth";
            if check.check_id == "_node_maintenance" {
                health = Health::Maintenance;
            } else if check.check_id.starts_with("_service_maintenance:") {
                verdict.marks = Marks::of_reason(&check.notes);
                health = if verdict.marks.maintenance { Health::Maintenance } else { Health::Passing };
            } else if check.check_id == alive {
                verdict.alive = Some(health);
            } else if check.check_id == own {
                verdict.word = Some(health);
            } else if check.check_id == "serfHealth" {
                verdict.reachable = health != Health::Critical;
            }
            verdict.all = verdict.all.max(health);
            if !of_life {
                verdict.unheard = verdict.unheard.max(health);
            }
        }
        verdict
    }
}

fn of_status(status: &CheckStatus) -> Health {
    match status {
        CheckStatus::Passing => Health::Passing,
        CheckStatus::Warning => Health::Warning,
        CheckStatus::Critical | CheckStatus::Unknown(_) => Health::Critical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = r#""Node":{"Node":"n1","Address":"10.0.0.9"}"#;

    #[track_caller]
    fn read(flavour: Flavour, service: &str, checks: &str) -> Option<Row> {
        let json = format!(r#"[{{{NODE},"Service":{service},"Checks":[{checks}]}}]"#);
        let entries = serde_json::from_str(&json).unwrap();
        rows(flavour, &ServiceName::new("web").unwrap(), entries).pop()
    }

    #[test]
    fn plain_services_of_consul() {
        let plain = r#"{"ID":"web","Service":"web","Port":80,"Tags":null,"Meta":null,"CreateIndex":3,"ModifyIndex":4}"#;
        let row = read(Flavour::Consul, plain, "").unwrap();
        assert_eq!((row.id().as_str(), row.registration.owner.as_str()), ("n1/web", "consul:n1"));
        assert_eq!(row.registration.endpoint.to_string(), "10.0.0.9:80");
        assert_eq!((row.registration.health, row.phase, row.ours), (Health::Passing, Phase::Adult, false));
        assert_eq!((row.created, row.modified, row.reachable), (3, 4, true));
        assert_eq!(
            read(Flavour::Consul, r#"{"ID":"x","Service":"Web","Port":80}"#, ""),
            None,
            "another name"
        );
        assert_eq!(read(Flavour::Consul, r#"{"ID":"x","Service":"web","Port":70000}"#, ""), None);
    }

    #[test]
    fn health_is_what_all_checks_come_to() {
        #[track_caller]
        fn check(checks: &[(&str, &str, &str)], expect: (Health, Phase, bool)) {
            let service = r#"{"ID":"i","Service":"web","Address":"10.0.0.1","Meta":{"portolan-owner":"me"}}"#;
            let checks: Vec<_> = checks
                .iter()
                .map(|(id, status, notes)| {
                    format!(r#"{{"CheckID":"{id}","Status":"{status}","Notes":"{notes}"}}"#)
                })
                .collect();
            let row = read(Flavour::Consul, service, &checks.join(",")).unwrap();
            assert_eq!((row.registration.health, row.phase, row.reachable), expect, "{checks:?}");
        }
        use Health::{Critical, Maintenance, Passing, Warning};
        use Phase::{Adult, Draining};
        check(&[("serfHealth", "passing", ""), ("service:i", "passing", "")], (Passing, Adult, true));
        check(&[("service:i", "passing", ""), ("portolan-health:i", "warning", "")], (Warning, Adult, true));
        check(
            &[("service:i", "critical", ""), ("portolan-health:i", "passing", "")],
            (Critical, Adult, true),
        );
        check(&[("serfHealth", "critical", "")], (Critical, Adult, false));
        check(&[("_node_maintenance", "critical", "")], (Maintenance, Adult, true));
        check(&[("_service_maintenance:i", "critical", "by hand")], (Maintenance, Adult, true));
        check(&[("_service_maintenance:i", "critical", "portolan: draining")], (Passing, Draining, true));
        check(
            &[("_service_maintenance:i", "critical", "portolan: draining, maintenance")],
            (Maintenance, Draining, true),
        );
        check(&[("others", "strange", "")], (Critical, Adult, true));
    }

    #[test]
    fn our_own_face_says_it_outright() {
        let service = r#"{"ID":"i","Service":"web","Address":"10.0.0.1","Weights":{"Passing":0,"Warning":0},
            "Portolan":{"Owner":"me","Incarnation":"18446744073709551615","Protocol":"udp","Zone":"z",
            "Health":"maintenance","Phase":"draining"}}"#;
        let row = read(Flavour::Portolan, service, "").unwrap();
        let said = &row.registration;
        assert_eq!(
            (row.node.as_str(), said.weight, said.incarnation),
            ("", Weight(0), Incarnation(u64::MAX))
        );
        assert_eq!(
            (said.health, row.phase, said.protocol),
            (Health::Maintenance, Phase::Draining, Protocol::Udp)
        );
    }

    #[test]
    fn what_stands_as_it_stood_is_the_same_row() {
        let mut reader = Reader::new(Flavour::Consul, ServiceName::new("web").unwrap());
        let entry = |id: &str, port: u32| {
            format!(
                r#"{{{NODE},"Service":{{"ID":"{id}","Service":"web","Port":{port},"Tags":["],[{{\""]}},"Checks":[]}}"#
            )
        };
        let mut read =
            |entries: &[String]| reader.read(format!(" [ {} ]\n", entries.join(" ,\n")).as_bytes()).unwrap();
        assert!(read(&[]).is_empty());
        let before = read(&[entry("a", 1), entry("b", 2), entry("c", 70_000)]);
        let after = read(&[entry("x", 0), entry("a", 1), entry("b", 3)]);
        assert_eq!((before.len(), after.len()), (2, 3), "what makes no sense is left out");
        assert!(Arc::ptr_eq(&before[0], &after[1]));
        assert_eq!((before[1].registration.endpoint.port, after[2].registration.endpoint.port), (2, 3));
        for bad in ["", "[", "{}", "[{}", "[1]", "[{},]", "[] []"] {
            assert!(reader.read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(reader.read(b"null").is_err());
    }
}
