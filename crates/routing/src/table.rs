//! The route table: everything a request needs to know, immutable once published.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use portolan_model::{Instance, ServiceName};

use crate::balance::{Policy, Upstream};
use crate::claims::Claims;
use crate::config::Config;
use crate::labels::Labels;
use crate::route::{BrokenRoute, HostPattern, HostRef, Route, depth};
use crate::services::Services;

/// How many services without instances are remembered. A service that is being recreated is "without a usable
/// instance" (503), not "unknown" (404).
const EMPTIED_LIMIT: usize = 1024;

/// Routes and upstreams at one moment. A clone shares nearly all of it; change the clone, then publish it.
#[derive(Debug, Clone)]
pub struct RouteTable {
    pub(crate) routes: Arc<Routes>,
    pub(crate) services: Services,
    /// Routes that instances ask for.
    pub(crate) claims: Arc<Claims>,
    balance: Policy,
    /// Whether the registry has said what there is.
    pub(crate) registry_read: bool,
    /// Services that lost their last instance, oldest first.
    emptied: Arc<VecDeque<ServiceName>>,
}

/// The configured routes, indexed.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// `.example.com`, lower case, for `<service>.example.com`.
    pub(crate) domain_suffix: Option<String>,
    exact: HashMap<String, ByPath>,
    /// By `.example.com` for `*.example.com`.
    under: HashMap<String, ByPath>,
    any: ByPath,
    /// The most segments of any path.
    deepest: usize,
    broken: Vec<BrokenRoute>,
    named: Vec<ServiceName>,
}

/// Routes by prefix; of one prefix, those that ask for more headers come first, then in the order written.
type ByPath = HashMap<String, Vec<Arc<Route>>>;

impl RouteTable {
    /// Compiles `config`; no service has an instance yet, see [`RouteTable::set_registry_read`]. Broken routes are kept aside, see [`RouteTable::broken`].
    pub fn new(config: &Config) -> Self {
        let routes = Routes::new(config);
        let mut services = Services::default();
        for service in &routes.named {
            let empty = Upstream::new(service.clone(), config.balance, [], None);
            services.with(Arc::new(empty));
        }
        Self {
            routes: Arc::new(routes),
            services,
            claims: Arc::default(),
            balance: config.balance,
            registry_read: false,
            emptied: Arc::default(),
        }
    }

    /// The registry has said what there is: what the table has not is not there. Before, nobody can know.
    pub fn set_registry_read(&mut self) {
        self.registry_read = true;
    }

    /// Makes `instances` the instances of `service`. Costs in proportion to them, not to the table. Names the services
    /// that may now ask for routes in vain, or no longer do: see [`RouteTable::asked_in_vain`].
    pub fn update<'a>(
        &mut self,
        service: &ServiceName,
        instances: impl IntoIterator<Item = &'a Arc<Instance>>,
    ) -> BTreeSet<ServiceName> {
        let mut touched = BTreeSet::new();
        let before = self.services.get(service.as_str());
        let upstream = Upstream::new(service.clone(), self.balance, instances, before.map(|b| &**b));
        let empty = upstream.is_empty();
        if empty && before.is_none() {
            return touched;
        }
        let asked_before = before.map(|b| Arc::clone(&b.labels)).unwrap_or_default();
        self.change_claims(service, (&asked_before, &upstream.labels), &mut touched);
        self.services.with(Arc::new(upstream));
        if empty {
            self.remember_emptied(service, &mut touched);
        }
        touched
    }

    /// Configured routes that route nothing, with the reason.
    pub fn broken(&self) -> &[BrokenRoute] {
        &self.routes.broken
    }

    /// All of them, also those that instances ask for, by service. Looks at every service.
    pub fn all_broken(&self) -> Vec<BrokenRoute> {
        let mut names: Vec<&ServiceName> = self.services.iter().map(|upstream| upstream.service()).collect();
        names.sort_unstable();
        let asked = names.into_iter().flat_map(|service| self.asked_in_vain(service));
        self.routes.broken.iter().cloned().chain(asked).collect()
    }

    /// What the instances of `service` ask for in vain, with the reason.
    pub fn asked_in_vain(&self, service: &ServiceName) -> Vec<BrokenRoute> {
        let Some(upstream) = self.services.get(service.as_str()) else { return Vec::new() };
        let lost = upstream.labels.routes.iter().filter_map(|route| {
            let name = format!("labels of service {service}: {}", route.name);
            Some(BrokenRoute { name, reason: self.loses(route)? })
        });
        upstream.labels.flaws.iter().cloned().chain(lost).collect()
    }

    /// Why a route that instances ask for gets no request, if it gets none.
    fn loses(&self, route: &Route) -> Option<String> {
        let host = route.host.as_ref();
        let configured = self.routes.by_path(host).and_then(|by_path| by_path.get(&route.prefix));
        let shadows = configured.and_then(|list| list.iter().find(|known| known.headers.is_empty()));
        let winner = self.claims.get(host, &route.prefix).filter(|winner| winner.service != route.service);
        match (shadows, winner) {
            (Some(known), _) => Some(format!("the configured route {:?} has these requests", known.name)),
            (None, Some(winner)) => {
                Some(format!("service {} asks for the same and comes first by name", winner.service))
            }
            (None, None) => None,
        }
    }

    fn change_claims(
        &mut self,
        service: &ServiceName,
        (before, after): (&Arc<Labels>, &Arc<Labels>),
        touched: &mut BTreeSet<ServiceName>,
    ) {
        if Arc::ptr_eq(before, after) || before == after {
            return;
        }
        touched.insert(service.clone());
        if before.routes != after.routes {
            Arc::make_mut(&mut self.claims).replace(&before.routes, &after.routes, touched);
        }
    }

    /// The upstream of a service; `None` for one that was never heard of.
    pub fn upstream(&self, service: &str) -> Option<&Arc<Upstream>> {
        self.services.get(service)
    }

    /// How many services are known, and how many of their instances can take requests.
    pub fn size(&self) -> (usize, usize) {
        self.services.iter().fold((0, 0), |(s, i), upstream| (s + 1, i + upstream.candidates().len()))
    }

    fn remember_emptied(&mut self, service: &ServiceName, touched: &mut BTreeSet<ServiceName>) {
        let emptied = Arc::make_mut(&mut self.emptied);
        emptied.retain(|known| known != service);
        emptied.push_back(service.clone());
        if emptied.len() > EMPTIED_LIMIT
            && let Some(oldest) = emptied.pop_front()
            && !self.routes.named.contains(&oldest)
            && let Some(upstream) = self.services.get(oldest.as_str()).filter(|upstream| upstream.is_empty())
        {
            let asked = Arc::clone(&upstream.labels);
            self.change_claims(&oldest, (&asked, &Arc::default()), touched);
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
        for (index, spec) in config.routes.iter().enumerate() {
            match Route::check(index, spec) {
                Err(broken) => routes.broken.push(broken),
                Ok(route) => {
                    routes.named.push(route.service.clone());
                    routes.deepest = routes.deepest.max(route.depth());
                    let by_path = match &route.host {
                        HostPattern::Any => &mut routes.any,
                        HostPattern::Exact(host) => routes.exact.entry(host.clone()).or_default(),
                        HostPattern::Under(suffix) => routes.under.entry(suffix.clone()).or_default(),
                    };
                    by_path.entry(route.prefix.clone()).or_default().push(Arc::new(route));
                }
            }
        }
        let lists = routes.exact.values_mut().chain(routes.under.values_mut());
        for by_path in lists.chain([&mut routes.any]) {
            // A stable sort: among equals the order written stays.
            by_path.values_mut().for_each(|list| list.sort_by_key(|r| std::cmp::Reverse(r.headers.len())));
        }
        routes
    }

    /// The configured routes for exactly this host.
    pub(crate) fn by_path(&self, host: HostRef<'_>) -> Option<&ByPath> {
        let by_path = match host {
            HostRef::Exact(host) => self.exact.get(host),
            HostRef::Under(suffix) => self.under.get(suffix),
            HostRef::Any => Some(&self.any),
        };
        by_path.filter(|by_path| !by_path.is_empty())
    }
}

impl RouteTable {
    /// The route for `host` (lower case, no port) and `path` whose header rules `fits` accepts: the more specific host
    /// first, then the longer path; of equals the configured before the asked for.
    pub(crate) fn route(&self, host: &str, path: &str, fits: impl Fn(&Route) -> bool) -> Option<&Arc<Route>> {
        let deepest = self.routes.deepest.max(self.claims.deepest());
        let wildcards = !self.routes.under.is_empty() || self.claims.may_hold(HostRef::Under(""));
        for host in HostRef::fitting(host, wildcards) {
            let configured = self.routes.by_path(host);
            let asked = self.claims.may_hold(host);
            if configured.is_none() && !asked {
                continue;
            }
            for prefix in prefixes(path, deepest) {
                let configured = configured.and_then(|by_path| by_path.get(prefix));
                let found = configured.and_then(|list| list.iter().find(|route| fits(route)));
                let found = found.or_else(|| self.claims.get(host, prefix).filter(|_| asked));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

/// `/a/b` → `/a/b`, `/a`, and the empty prefix: every prefix that ends at a segment, longest first; none with more than
/// `deepest` segments.
fn prefixes(path: &str, deepest: usize) -> impl Iterator<Item = &str> {
    let whole = path.trim_end_matches('/');
    let longer = depth(whole).saturating_sub(deepest);
    std::iter::successors(Some(whole), |longer| longer.rfind('/').map(|at| &longer[..at])).skip(longer)
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

    /// A table of a registry that is empty so far.
    pub(crate) fn of_registry(config: &Config) -> RouteTable {
        let mut table = RouteTable::new(config);
        table.set_registry_read();
        table
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
