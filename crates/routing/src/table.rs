//! The route table: everything a request needs to know, immutable once published.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use portolan_model::{Instance, ServiceName};

use crate::balance::{Policy, Upstream};
use crate::config::Config;
use crate::route::{BrokenRoute, HostPattern, Route};
use crate::services::Services;

/// How many services without instances are remembered. A service that is being recreated is "without a usable
/// instance" (503), not "unknown" (404).
const EMPTIED_LIMIT: usize = 1024;

/// Routes and upstreams at one moment. A clone shares nearly all of it; change the clone, then publish it.
#[derive(Debug, Clone)]
pub struct RouteTable {
    pub(crate) routes: Arc<Routes>,
    pub(crate) services: Services,
    balance: Policy,
    /// Services that lost their last instance, oldest first.
    emptied: Arc<VecDeque<ServiceName>>,
}

/// The configured routes, indexed.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// `.example.com`, lower case, for `<service>.example.com`.
    pub(crate) domain_suffix: Option<String>,
    exact: HashMap<String, ByPath>,
    /// Longest suffix first.
    under: Vec<(String, ByPath)>,
    any: ByPath,
    broken: Vec<BrokenRoute>,
    named: Vec<ServiceName>,
}

/// Routes by prefix; of one prefix, those that ask for more headers come first, then in the order written.
type ByPath = HashMap<String, Vec<Arc<Route>>>;

impl RouteTable {
    /// Compiles `config`; no service has an instance yet. Broken routes are kept aside, see [`RouteTable::broken`].
    pub fn new(config: &Config) -> Self {
        let routes = Routes::new(config);
        let mut services = Services::default();
        for service in &routes.named {
            let empty = Upstream::new(service.clone(), config.balance, [], None);
            services.with(Arc::new(empty));
        }
        Self { routes: Arc::new(routes), services, balance: config.balance, emptied: Arc::default() }
    }

    /// Makes `instances` the instances of `service`. Costs in proportion to them, not to the table.
    pub fn update<'a>(
        &mut self,
        service: &ServiceName,
        instances: impl IntoIterator<Item = &'a Arc<Instance>>,
    ) {
        let before = self.services.get(service.as_str());
        let known = before.is_some();
        let upstream = Upstream::new(service.clone(), self.balance, instances, before.map(|b| &**b));
        let empty = upstream.candidates().is_empty() && upstream.parked().is_empty();
        if empty && !known {
            return;
        }
        self.services.with(Arc::new(upstream));
        if empty {
            self.remember_emptied(service);
        }
    }

    /// Routes that route nothing, with the reason.
    pub fn broken(&self) -> &[BrokenRoute] {
        &self.routes.broken
    }

    /// The upstream of a service; `None` for one that was never heard of.
    pub fn upstream(&self, service: &str) -> Option<&Arc<Upstream>> {
        self.services.get(service)
    }

    /// How many services are known, and how many of their instances can take requests.
    pub fn size(&self) -> (usize, usize) {
        self.services.iter().fold((0, 0), |(s, i), upstream| (s + 1, i + upstream.candidates().len()))
    }

    fn remember_emptied(&mut self, service: &ServiceName) {
        let emptied = Arc::make_mut(&mut self.emptied);
        emptied.retain(|known| known != service);
        emptied.push_back(service.clone());
        if emptied.len() > EMPTIED_LIMIT
            && let Some(oldest) = emptied.pop_front()
            && !self.routes.named.contains(&oldest)
            && self
                .services
                .get(oldest.as_str())
                .is_some_and(|u| u.candidates().is_empty() && u.parked().is_empty())
        {
            self.services.without(oldest.as_str());
        }
    }
}

impl Routes {
    fn new(config: &Config) -> Self {
        let domain = config.domain.as_deref().map(|d| d.trim_matches('.').to_ascii_lowercase());
        let mut routes = Self {
            domain_suffix: domain.filter(|d| !d.is_empty()).map(|d| format!(".{d}")),
            ..Self::default()
        };
        let mut under: HashMap<String, ByPath> = HashMap::new();
        for (index, spec) in config.routes.iter().enumerate() {
            match Route::check(index, spec) {
                Err(broken) => routes.broken.push(broken),
                Ok(route) => {
                    routes.named.push(route.service.clone());
                    let by_path = match &route.host {
                        HostPattern::Any => &mut routes.any,
                        HostPattern::Exact(host) => routes.exact.entry(host.clone()).or_default(),
                        HostPattern::Under(suffix) => under.entry(suffix.clone()).or_default(),
                    };
                    by_path.entry(route.prefix.clone()).or_default().push(Arc::new(route));
                }
            }
        }
        routes.under = under.into_iter().collect();
        routes.under.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        let lists = routes.exact.values_mut().chain(routes.under.iter_mut().map(|(_, by_path)| by_path));
        for by_path in lists.chain([&mut routes.any]) {
            // A stable sort: among equals the order written stays.
            by_path.values_mut().for_each(|list| list.sort_by_key(|r| std::cmp::Reverse(r.headers.len())));
        }
        routes
    }

    /// The sets of routes to look through for `host` (lower case, no port), most specific first.
    pub(crate) fn for_host<'t>(&'t self, host: &str) -> impl Iterator<Item = &'t ByPath> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        let under = self
            .under
            .iter()
            .filter(move |(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_str()));
        let under: Vec<&ByPath> = under.map(|(_, by_path)| by_path).collect();
        exact.into_iter().chain(under).chain((!self.any.is_empty()).then_some(&self.any))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use portolan_model::{
        Endpoint, Health, Incarnation, InstanceId, Owner, Phase, Protocol, Registration, Revision, Weight,
    };

    pub(crate) fn instance(service: &str, n: u16) -> Instance {
        Instance {
            registration: Registration {
                id: InstanceId::new(format!("{service}-{n}")).unwrap(),
                service: ServiceName::new(service).unwrap(),
                endpoint: Endpoint { host: "127.0.0.1".parse().unwrap(), port: 9000 + n },
                protocol: Protocol::Tcp,
                tags: [].into(),
                meta: [].into(),
                weight: Weight::default(),
                zone: None,
                owner: Owner::new("test").unwrap(),
                incarnation: Incarnation(0),
                health: Health::Passing,
            },
            phase: Phase::Adult,
            created: Revision(1),
            modified: Revision(1),
        }
    }

    pub(crate) fn with(mut instance: Instance, change: impl FnOnce(&mut Instance)) -> Instance {
        change(&mut instance);
        instance
    }

    #[test]
    fn a_change_leaves_other_services_alone() {
        let mut table = RouteTable::new(&Config::default());
        let name = |s: &str| ServiceName::new(s).unwrap();
        for n in 0..1000 {
            table.update(&name(&format!("s{n}")), [&Arc::new(instance(&format!("s{n}"), 1))]);
        }
        let before = table.clone();
        table.update(&name("s7"), [&Arc::new(instance("s7", 2))]);
        for n in 0..1000 {
            let key = format!("s{n}");
            let same = Arc::ptr_eq(before.upstream(&key).unwrap(), table.upstream(&key).unwrap());
            assert_eq!(same, n != 7, "{key}");
        }
        assert_eq!(table.size(), (1000, 1000));
    }

    #[test]
    fn services_without_instances_are_remembered_up_to_a_limit() {
        let mut table = RouteTable::new(&Config::default());
        let name = |n: usize| ServiceName::new(format!("s{n}")).unwrap();
        table.update(&name(0), []);
        assert!(table.upstream("s0").is_none(), "never had an instance");
        for n in 0..=EMPTIED_LIMIT {
            table.update(&name(n), [&Arc::new(instance(name(n).as_str(), 1))]);
            table.update(&name(n), []);
        }
        assert!(table.upstream("s0").is_none(), "the oldest is forgotten");
        assert!(table.upstream("s1").is_some_and(|u| u.candidates().is_empty()));
        assert_eq!(table.size(), (EMPTIED_LIMIT, 0));
    }
}
