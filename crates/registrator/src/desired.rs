//! Which instances there should be, out of what runs and what was configured. Pure: no engine, no registry, no clock.

mod address;
mod labels;
mod metadata;
mod problem;
mod template;
#[cfg(test)]
pub(crate) mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use portolan_model::origin_meta::Origin as Inside;
use portolan_model::{
    Endpoint, Health, Incarnation, InstanceId, Protocol, Registration, ServiceName, Weight,
};

use crate::check::{Check, spec};
use crate::config::{Config, Deregister};
use crate::container::{CheckStatus, Container, Port, Transport};
use crate::world::{Seen, Standing};
use address::{Addresses, Choice};
use labels::{Front, Labels};
use metadata::Metadata;
pub use problem::{Problem, ProblemKind};
pub use template::{TagsTemplate, TemplateError};

/// The most ports of one container that become instances.
pub const PORTS_LIMIT: usize = 1024;

/// Which instances there should be, and what stood in the way of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Instances to keep registered, by id.
    pub wanted: BTreeMap<InstanceId, Wanted>,
    /// Instances of known containers that must not be registered now.
    pub withheld: BTreeMap<InstanceId, Withheld>,
    /// Instances of containers that failed and stay registered all the same.
    pub kept: Kept,
    /// What somebody should mend, in a stable order.
    pub problems: BTreeSet<Problem>,
}

/// An instance to keep registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What to say of it.
    pub registration: Registration,
    /// Its container was asked to end: it gets no new work, and is not registered if it is not yet.
    pub draining: bool,
    /// Its HEALTHCHECK fails: it stays registered, as critical, and is not registered if it is not yet.
    pub unhealthy: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// How it is checked, if its container asks for that.
    pub check: Option<Check>,
}

/// What stays registered of containers that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Ids that they had when they ran.
    pub ids: BTreeSet<InstanceId>,
    /// What their usual ids begin with: who never saw one run cannot tell its ports.
    pub beginnings: BTreeSet<String>,
}

impl Kept {
    /// Whether the instance `id` stays.
    pub fn holds(&self, id: &InstanceId) -> bool {
        let text = id.as_str();
        self.ids.contains(id) || self.beginnings.iter().any(|beginning| text.starts_with(beginning.as_str()))
    }
}

/// Where an instance comes from, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The container's name.
    pub container: String,
    /// The port inside it.
    pub port: Port,
    choice: Choice,
}

/// Why an instance of a known container must not be registered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// The container's name.
    pub container: String,
    /// What keeps it out.
    pub why: WithheldWhy,
}

/// What keeps an instance of a known container out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithheldWhy {
    /// It does not run.
    Stopped,
    /// Its HEALTHCHECK has not passed yet.
    NotYetHealthy,
    /// Its check fails for longer than it may.
    CriticalTooLong,
}

/// Says which instances there should be. The containers may come in any order.
pub fn desired(seen: &[Seen], config: &Config) -> Desired {
    let addresses = Addresses::new(seen, config);
    let mut desired = Desired::default();
    // Whoever runs comes first, then whoever is older: a newcomer never takes an id from who has it.
    let mut in_order: Vec<&Seen> = seen.iter().collect();
    in_order.sort_by_key(|seen| {
        (Reverse(seen.standing.runs()), seen.container.life.started_at, &seen.container.id)
    });
    let mut claims = Claims::default();
    for Seen { container, standing } in in_order {
        let fate = Fate::of(container, *standing, config.deregister);
        if fate == Fate::Keep {
            desired.kept.beginnings.insert(format!("{}:{}:", config.hostname, container.name));
        }
        let mut problems = BTreeSet::new();
        for draft in drafts(container, config, &addresses, &mut problems) {
            if let Some(id) = claims.claim(&draft, &mut problems) {
                desired.place(id, draft, fate);
            }
        }
        // Nobody needs to mend what has ended.
        if standing.runs() {
            desired.problems.append(&mut problems);
        }
    }
    desired
}

impl Desired {
    fn place(&mut self, id: InstanceId, draft: Draft<'_>, fate: Fate) {
        let container = draft.container.name.clone();
        match fate {
            Fate::Keep => _ = self.kept.ids.insert(id),
            Fate::Withhold(why) => _ = self.withheld.insert(id, Withheld { container, why }),
            Fate::Want { draining } => {
                let origin = Origin { container, port: draft.port, choice: draft.choice };
                let registration = Registration { id: id.clone(), ..draft.registration };
                let unhealthy = draft.container.life.check == Some(CheckStatus::Unhealthy);
                let wanted = Wanted { registration, draining, unhealthy, origin, check: draft.check };
                self.wanted.insert(id, wanted);
            }
        }
    }
}

/// What becomes of a container's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Want { draining: bool },
    Withhold(WithheldWhy),
    Keep,
}

impl Fate {
    fn of(container: &Container, standing: Standing, deregister: Deregister) -> Self {
        match (standing, container.life.check) {
            (Standing::Failed, _) if deregister == Deregister::OnSuccess => Self::Keep,
            (Standing::Stopped | Standing::Failed, _) => Self::Withhold(WithheldWhy::Stopped),
            (Standing::Serving | Standing::Stopping, Some(CheckStatus::Starting)) => {
                Self::Withhold(WithheldWhy::NotYetHealthy)
            }
            (Standing::Serving, _) => Self::Want { draining: false },
            (Standing::Stopping, _) => Self::Want { draining: true },
        }
    }
}

/// An instance before its id is settled: `registration.id` is the one made of host, container and port.
struct Draft<'a> {
    container: &'a Container,
    port: Port,
    asked_id: Option<InstanceId>,
    registration: Registration,
    choice: Choice,
    check: Option<Check>,
}

fn drafts<'a>(
    container: &'a Container,
    config: &Config,
    addresses: &Addresses<'_>,
    problems: &mut BTreeSet<Problem>,
) -> Vec<Draft<'a>> {
    let mut ports = address::ports(container, config);
    // An ignored port is still one of a group: its sibling keeps its name when the ignoring begins.
    let in_group = ports.len() > 1;
    if ports.len() > PORTS_LIMIT {
        problems.insert(Problem::of(container, None, ProblemKind::TooManyPorts { count: ports.len() }));
        ports.truncate(PORTS_LIMIT);
    }
    let labels = Labels::of(container);
    let described =
        ports.into_iter().map(|(port, binding)| (port, binding, Metadata::of(container, port.number)));
    let meant: Vec<_> = described
        .filter(|(port, _, said)| said.is_meant(config.explicit) && labels.enabled(port.number))
        .collect();
    if meant.is_empty() {
        return Vec::new();
    }
    let front = labels.front(meant.iter().map(|(port, ..)| *port));
    if let Front::Unknown(text) = &front {
        problems.insert(Problem::of(container, None, ProblemKind::RoutePort(text.clone())));
    }
    let tags = config.tags.tags(container).unwrap_or_else(|why| {
        problems.insert(Problem::of(container, None, ProblemKind::Tags(why)));
        BTreeSet::new()
    });
    let common = Common { container, config, labels, front, tags, in_group };
    let mut drafts = Vec::new();
    for (port, binding, said) in meant {
        match common.draft(port, said, || addresses.of(container, port, binding)) {
            Ok((draft, more)) => {
                drafts.push(draft);
                problems.extend(more.into_iter().map(|kind| Problem::of(container, Some(port), kind)));
            }
            Err(kind) => _ = problems.insert(Problem::of(container, Some(port), kind)),
        }
    }
    drafts
}

/// What all ports of a container have in common.
struct Common<'a, 'c> {
    container: &'a Container,
    config: &'c Config,
    labels: Labels<'a>,
    front: Front,
    tags: BTreeSet<String>,
    in_group: bool,
}

impl<'a> Common<'a, '_> {
    fn draft(
        &self,
        port: Port,
        mut said: Metadata,
        address: impl FnOnce() -> Result<(Endpoint, Choice, Option<ProblemKind>), ProblemKind>,
    ) -> Result<(Draft<'a>, Vec<ProblemKind>), ProblemKind> {
        let Self { container, config, labels, front, in_group, .. } = self;
        // An empty one ignores nothing, and is no attribute.
        said.take("ignore");
        let (protocol, suffix) = match port.transport {
            Transport::Tcp => (Protocol::Tcp, ""),
            Transport::Udp => (Protocol::Udp, ":udp"),
            Transport::Sctp => return Err(ProblemKind::Transport),
        };
        let name = match said.take("name") {
            Some(name) if name.for_port => name.text,
            other => {
                let base = other.map_or_else(|| image_base(&container.image).to_owned(), |name| name.text);
                if *in_group { format!("{base}-{}", port.number) } else { base }
            }
        };
        let service = ServiceName::new(&name).map_err(ProblemKind::Name)?;
        let (endpoint, choice, address_problem) = address()?;
        let mut problems: Vec<ProblemKind> = address_problem.into_iter().collect();

        let asked_id = said.take("id").and_then(|id| match InstanceId::new(&id.text) {
            Ok(id) => Some(id),
            Err(error) => {
                problems.push(ProblemKind::Id(error));
                None
            }
        });
        let id = InstanceId::new(format!("{}:{}:{}{suffix}", config.hostname, container.name, port.number))
            .map_err(ProblemKind::Id)?;
        let mut tags = said.take("tags").map(|tagged| metadata::tags(&tagged.text)).unwrap_or_default();
        tags.extend(self.tags.iter().cloned());
        if protocol == Protocol::Udp {
            tags.insert("udp".to_owned());
        }
        let mut flaws = Vec::new();
        let check = spec::parse(&|key| said.get(key), port.transport, config.reports, &mut flaws);
        problems.extend(flaws.into_iter().map(ProblemKind::Check));
        let mut meta = said.rest();
        labels.ask_for_route(port, front, &mut meta);
        if config.origin {
            Inside { container: container.hostname.clone(), port: port.number }.put(&mut meta);
        }
        within_limits(&mut tags, &mut meta, &mut problems);
        let weight = labels.get(port.number, "weight").or(meta.get("weight").map(String::as_str));
        let weight = match weight.map(|text| (text, text.trim().parse())) {
            None => Weight::default(),
            Some((_, Ok(weight))) => Weight(weight),
            Some((text, Err(_))) => {
                problems.push(ProblemKind::Weight(text.to_owned()));
                Weight::default()
            }
        };
        let registration = Registration {
            id,
            service,
            endpoint,
            protocol,
            tags,
            meta,
            weight,
            zone: None,
            owner: config.owner.clone(),
            incarnation: Incarnation(container.life.started_at.0),
            health: health(container),
        };
        let Registration { endpoint, incarnation, .. } = &registration;
        let check = check.map(|spec| Check::new(spec, container, port, endpoint, *incarnation));
        Ok((Draft { container, port, asked_id, registration, choice, check }, problems))
    }
}

/// The last part of an image's path without tag and digest: `reg:5000/team/my-app:1.2` is `my-app`.
fn image_base(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split([':', '@']).next().unwrap_or(last)
}

fn health(container: &Container) -> Health {
    match container.life.check {
        _ if container.life.paused => Health::Maintenance,
        Some(CheckStatus::Unhealthy) => Health::Critical,
        None | Some(CheckStatus::Starting | CheckStatus::Healthy) => Health::Passing,
    }
}

/// Leaves out what no registry would take, so that the rest of the registration still goes.
fn within_limits(
    tags: &mut BTreeSet<String>,
    meta: &mut BTreeMap<String, String>,
    problems: &mut Vec<ProblemKind>,
) {
    let before = tags.len() + meta.len();
    tags.retain(|tag| tag.len() <= Registration::KEY_LIMIT);
    meta.retain(|key, value| {
        key.len() <= Registration::KEY_LIMIT && value.len() <= Registration::VALUE_LIMIT
    });
    while tags.len() > Registration::TAGS_LIMIT {
        tags.pop_last();
    }
    while meta.len() > Registration::META_LIMIT {
        meta.pop_last();
    }
    let dropped = before - tags.len() - meta.len();
    if dropped > 0 {
        problems.push(ProblemKind::LeftOut { count: dropped });
    }
}

/// Which ids are given, and to which container.
#[derive(Default)]
struct Claims(BTreeMap<InstanceId, String>);

impl Claims {
    /// The id of `draft`: the one asked for, unless another instance has it already.
    fn claim(&mut self, draft: &Draft<'_>, problems: &mut BTreeSet<Problem>) -> Option<InstanceId> {
        let made = &draft.registration.id;
        let first = draft.asked_id.as_ref().unwrap_or(made);
        let Some(holder) = self.0.get(first).cloned() else {
            self.0.insert(first.clone(), draft.container.name.clone());
            return Some(first.clone());
        };
        let unique = InstanceId::new(format!("{made}:{}", draft.container.id.short())).ok();
        let instead = [Some(made.clone()), unique].into_iter().flatten().find(|id| !self.0.contains_key(id));
        let kind = ProblemKind::IdTaken { id: first.clone(), holder, instead: instead.clone() };
        problems.insert(Problem::of(draft.container, Some(draft.port), kind));
        let id = instead?;
        self.0.insert(id.clone(), draft.container.name.clone());
        Some(id)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {} port {} {}", self.container, self.port, self.choice)
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { container, why } = self;
        match why {
            WithheldWhy::Stopped => write!(f, "container {container} has ended"),
            WithheldWhy::NotYetHealthy => {
                write!(f, "container {container} has not passed its health check yet")
            }
            WithheldWhy::CriticalTooLong => {
                write!(f, "container {container} fails its check for longer than it may")
            }
        }
    }
}
