//! Routes that the instances of a service ask for in their meta (`portolan_model::route_meta`; containers say it in
//! labels). Pure: what all instances of one service ask for, and what is wrong with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_model::{Incarnation, Instance, InstanceId, ServiceName, route_meta};

use crate::config::RouteSpec;
use crate::route::{BrokenRoute, Flaw, HostPattern, Origin, Route};

/// The most routes that the instances of one service may ask for.
pub(crate) const ROUTES_LIMIT: usize = 64;

/// The most segments of a path that is asked for.
pub(crate) const DEPTH_LIMIT: usize = 32;

/// What the instances of one service ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    /// Routes that hold together, no two for the same requests.
    pub(crate) routes: Vec<Arc<Route>>,
    /// What does not.
    pub(crate) flaws: Vec<BrokenRoute>,
}

/// One wish, as it stands in the meta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wish<'i> {
    host: Option<&'i str>,
    path: Option<&'i str>,
    strip: &'i str,
}

/// Who says something: the later life says what holds now, also while a new version is rolled out.
type Sayer<'i> = (Incarnation, &'i InstanceId);

impl Labels {
    /// The union of what `instances` ask for. Where two contradict each other, the younger has its way.
    pub(crate) fn of<'i>(service: &ServiceName, instances: impl Iterator<Item = &'i Instance>) -> Self {
        let mut said: BTreeMap<Wish<'i>, Sayer<'i>> = BTreeMap::new();
        for instance in instances {
            let sayer = (instance.registration.incarnation, instance.id());
            for wish in wishes(instance) {
                let known = said.entry(wish).or_insert(sayer);
                *known = sayer.max(*known);
            }
        }
        let mut labels = Self::default();
        if said.is_empty() {
            return labels;
        }
        let broken = |reason: String| BrokenRoute { name: format!("labels of service {service}"), reason };
        if said.len() > ROUTES_LIMIT {
            let count = said.len();
            labels.flaws.push(broken(format!("{count} routes; the first {ROUTES_LIMIT} count")));
        }
        let mut routes: BTreeMap<(HostPattern, String), (Sayer<'i>, Route)> = BTreeMap::new();
        for (wish, sayer) in said.into_iter().take(ROUTES_LIMIT) {
            let route = match wish.route(service) {
                Ok(route) => route,
                Err(flaw) => {
                    labels.flaws.push(broken(format!("instance {}: {flaw}", sayer.1)));
                    continue;
                }
            };
            let key = (route.host.clone(), route.prefix.clone());
            let Some(known) = routes.get_mut(&key) else {
                routes.insert(key, (sayer, route));
                continue;
            };
            if route.strip_prefix != known.1.strip_prefix {
                let (old, young) = if sayer < known.0 { (sayer.1, known.0.1) } else { (known.0.1, sayer.1) };
                labels.flaws.push(broken(format!(
                    "instance {old} asks for {} with another {} than instance {young}, which is younger",
                    route.name,
                    route_meta::STRIP
                )));
            }
            if sayer > known.0 {
                *known = (sayer, route);
            }
        }
        labels.routes = routes.into_values().map(|(_, route)| Arc::new(route)).collect();
        labels
    }
}

/// Whether `instance` asks for `route`.
pub(crate) fn asks_for(instance: &Instance, route: &Route) -> bool {
    wishes(instance).any(|wish| wish.route(instance.service()).is_ok_and(|asked| asked == *route))
}

fn wishes(instance: &Instance) -> impl Iterator<Item = Wish<'_>> {
    let meta = &instance.registration.meta;
    let said = |key: &str| meta.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
    let (hosts, path) = (said(route_meta::HOST), said(route_meta::PATH));
    let strip = said(route_meta::STRIP).unwrap_or_default();
    let listed = hosts.into_iter().flat_map(|hosts| hosts.split(',').map(str::trim));
    let named = listed.filter(|host| !host.is_empty()).map(Some);
    let any = (hosts.is_none() && path.is_some()).then_some(None);
    named.chain(any).map(move |host| Wish { host, path, strip })
}

impl Wish<'_> {
    fn route(self, service: &ServiceName) -> Result<Route, Flaw> {
        let strip_prefix = match self.strip {
            "" | "false" | "0" | "no" | "off" => false,
            "true" | "1" | "yes" | "on" => true,
            other => return Err(Flaw::Strip(other.to_owned())),
        };
        let spec = RouteSpec {
            host: self.host.map(str::to_owned),
            path: self.path.map(str::to_owned),
            service: service.to_string(),
            strip_prefix,
            ..RouteSpec::default()
        };
        let mut route = Route::parse("", &spec)?;
        if route.host == HostPattern::Any && route.prefix.is_empty() {
            return Err(Flaw::Everything);
        }
        if route.depth() > DEPTH_LIMIT {
            return Err(Flaw::Depth);
        }
        route.name = format!("{}{}", route.host, route.prefix);
        route.origin = Origin::Labels;
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{instance, with};

    /// An instance that says so, in its `n`th life.
    pub(crate) fn asking(n: u16, said: &[(&str, &str)]) -> Instance {
        with(instance("web", n), |instance| {
            instance.registration.incarnation = Incarnation(n.into());
            let entry = |(key, text): &(&str, &str)| (format!("portolan_{key}"), (*text).to_owned());
            instance.registration.meta = said.iter().map(entry).collect();
        })
    }

    #[track_caller]
    fn check(said: &[&[(&str, &str)]], expect: &[&str]) {
        let instances: Vec<Instance> = (1..).zip(said).map(|(n, said)| asking(n, said)).collect();
        let labels = Labels::of(&ServiceName::new("web").unwrap(), instances.iter());
        let strip = |route: &Route| if route.strip_prefix { " strip" } else { "" };
        let routes = labels.routes.iter().map(|route| format!("{}{}", route.name, strip(route)));
        let got: Vec<String> = routes.chain(labels.flaws.iter().map(|flaw| flaw.reason.clone())).collect();
        assert_eq!(got, expect);
        assert!(labels.flaws.iter().all(|flaw| flaw.name == "labels of service web"));
        for route in &labels.routes {
            assert!(instances.iter().any(|instance| asks_for(instance, route)), "{}", route.name);
        }
    }

    #[test]
    fn what_is_asked_for() {
        check(&[], &[]);
        check(&[&[]], &[]);
        check(&[&[("host", "")], &[("strip", "true")]], &[]);
        check(&[&[("host", "A.test")]], &["a.test"]);
        check(&[&[("host", "a.test, *.b.test,,")]], &["a.test", "*.b.test"]);
        check(&[&[("path", "/x/")]], &["/x"]);
        check(&[&[("host", "a.test"), ("path", "/x"), ("strip", "yes")]], &["a.test/x strip"]);
        // The union, each once.
        check(&[&[("host", "b.test")], &[("host", "a.test,b.test")], &[]], &["a.test", "b.test"]);
        check(&[&[("path", "/x")], &[("path", "/x/")]], &["/x"]);
    }

    #[test]
    fn what_does_not_hold_together() {
        let name = "is not a host name; write shop.example.com or *.example.com, without a port";
        check(&[&[("host", "a.test,b:80")]], &["a.test", &format!("instance web-1: host \"b:80\" {name}")]);
        check(&[&[("path", "x")]], &["instance web-1: path \"x\" does not start with /"]);
        check(
            &[&[("path", "/x"), ("strip", "maybe")]],
            &["instance web-1: portolan_strip \"maybe\" is neither true nor false"],
        );
        check(
            &[&[("path", "/")]],
            &["instance web-1: it names neither a host nor a path, and would take every request"],
        );
        check(&[&[("path", &"/x".repeat(33))]], &["instance web-1: the path has more than 32 segments"]);
        check(&[&[("path", &"/x".repeat(32))]], &["/x".repeat(32).as_str()]);
        // The younger has its way, and the older is told.
        let older = |old, young, path| {
            format!(
                "instance web-{old} asks for {path} with another portolan_strip than instance web-{young}, which is younger"
            )
        };
        check(&[&[("path", "/x")], &[("path", "/x"), ("strip", "true")]], &["/x strip", &older(1, 2, "/x")]);
        check(&[&[("path", "/x"), ("strip", "true")], &[("path", "/x")]], &["/x", &older(1, 2, "/x")]);
        let many: Vec<String> = (0..70).map(|n| format!("h{n:02}.test")).collect();
        let expect: Vec<&str> =
            many.iter().take(64).map(String::as_str).chain(["70 routes; the first 64 count"]).collect();
        check(&[&[("host", &many.join(","))]], &expect);
    }
}
