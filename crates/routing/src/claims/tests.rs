//! Routes that instances ask for, in the whole table.

use std::collections::BTreeMap;

use http::HeaderMap;
use portolan_model::{Instance, ServiceName, route_meta};
use proptest::prelude::*;

use super::*;
use crate::config::{Config, RouteSpec};
use crate::matching::{Question, Rule};
use crate::route::Origin;
use crate::table::RouteTable;
use crate::table::tests::{instance, of_registry, with};

fn name(service: &str) -> ServiceName {
    ServiceName::new(service).unwrap()
}

/// The `n`th instance of `service`, which asks for `host` and `path`; `-` for neither.
fn asks(service: &str, n: u16, wish: &str) -> Arc<Instance> {
    let (host, path) =
        wish.split_once('/').map_or((wish, String::new()), |(host, path)| (host, format!("/{path}")));
    Arc::new(with(instance(service, n), |instance| {
        let said = [(route_meta::HOST, host), (route_meta::PATH, &path)];
        let said = said.into_iter().filter(|(_, text)| !text.is_empty() && *text != "-");
        instance.registration.meta = said.map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
    }))
}

/// Names the services that are touched.
fn update(table: &mut RouteTable, service: &str, wishes: &[&str]) -> Vec<String> {
    let instances: Vec<_> = (1..).zip(wishes).map(|(n, wish)| asks(service, n, wish)).collect();
    table.update(&name(service), &instances).into_iter().map(|service| service.to_string()).collect()
}

/// The service that gets it, by a route.
fn ask(table: &RouteTable, host: &str, path: &str) -> String {
    match table.find(&Question { host: Some(host), path, headers: &HeaderMap::new() }) {
        Ok(matched) => match matched.rule {
            Rule::Route(route) if route.origin == Origin::Config => format!("{} by config", route.service),
            Rule::Route(route) => route.service.to_string(),
            other => other.to_string(),
        },
        Err(miss) => format!("{miss:?}"),
    }
}

fn broken(table: &RouteTable) -> Vec<String> {
    table.all_broken().into_iter().map(|broken| format!("{}: {}", broken.name, broken.reason)).collect()
}

#[test]
fn the_more_specific_wins() {
    let mut table = of_registry(&Config::default());
    update(&mut table, "web", &["a.test"]);
    update(&mut table, "api", &["a.test/api"]);
    update(&mut table, "wild", &["*.test", "*.deep.test"]);
    update(&mut table, "any", &["/api/v2"]);
    let check = |host, path, expect: &str| assert_eq!(ask(&table, host, path), expect, "{host} {path}");
    check("a.test", "/", "web");
    check("A.test:80", "/x/y/z", "web");
    check("a.test", "/api", "api");
    check("a.test", "/api/v2", "api");
    check("a.test", "/apix", "web");
    check("b.test", "/api/v2", "wild");
    check("x.deep.test", "/", "wild");
    check("test", "/api/v2/x", "any");
    check(".test", "/api/v2", "any");
    check("test", "/api", "path /<service>/<rest>");
    assert!(broken(&table).is_empty());
}

#[test]
fn two_services_ask_for_the_same() {
    let mut table = of_registry(&Config::default());
    update(&mut table, "b", &["x.test"]);
    assert_eq!(ask(&table, "x.test", "/"), "b");
    // By name, whoever was there first: every gateway decides alike.
    update(&mut table, "a", &["x.test"]);
    assert_eq!(update(&mut table, "c", &["x.test/"]), ["a", "b", "c"]);
    assert_eq!(ask(&table, "x.test", "/"), "a");
    let lost = |service| {
        format!("labels of service {service}: x.test: service a asks for the same and comes first by name")
    };
    assert_eq!(broken(&table), [lost("b"), lost("c")]);
    assert_eq!(update(&mut table, "a", &["y.test"]), ["a", "b", "c"]);
    assert_eq!(ask(&table, "x.test", "/"), "b");
    assert_eq!(broken(&table).len(), 1);
}

#[test]
fn what_is_configured_comes_first() {
    let spec = |name: &str, host: &str, header: Option<&str>| RouteSpec {
        name: name.to_owned(),
        service: "config".to_owned(),
        host: Some(host.to_owned()),
        headers: header.map(|header| (header.to_owned(), "1".to_owned())).into_iter().collect(),
        ..RouteSpec::default()
    };
    let routes = vec![spec("shop", "x.test", None), spec("canary", "y.test", Some("x-canary"))];
    let mut table = of_registry(&Config { routes, ..Config::default() });
    update(&mut table, "web", &["x.test", "y.test", "x.test/deep"]);
    assert_eq!(ask(&table, "x.test", "/"), "config by config");
    assert_eq!(ask(&table, "x.test", "/deep"), "web", "the longer path is more specific");
    assert_eq!(ask(&table, "y.test", "/"), "web", "without the header");
    assert_eq!(
        broken(&table),
        ["labels of service web: x.test: the configured route \"shop\" has these requests"]
    );
}

#[test]
fn a_service_without_instances_keeps_its_routes() {
    let mut table = of_registry(&Config::default());
    update(&mut table, "web", &["x.test"]);
    update(&mut table, "web", &[]);
    assert_eq!(ask(&table, "x.test", "/"), "web", "known, and without a usable instance: 503, not 404");
    update(&mut table, "web", &["-"]);
    assert_eq!(ask(&table, "x.test", "/"), "NoRoute", "it has instances, which ask for nothing");
}

#[test]
fn only_a_change_of_what_is_asked_for_touches_the_claims() {
    let mut table = of_registry(&Config::default());
    for n in 0..300 {
        update(&mut table, &format!("s{n:03}"), &[&format!("h{n}.test")]);
    }
    let before = table.clone();
    assert!(update(&mut table, "s007", &["h7.test", "h7.test", "-"]).is_empty());
    assert!(Arc::ptr_eq(&before.claims, &table.claims), "more instances that ask for the same");
    assert_eq!(update(&mut table, "s007", &["h7.test", "other.test"]), ["s007"]);
    let shared = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
    let same = before.claims.buckets.iter().zip(&table.claims.buckets).filter(|pair| shared(*pair)).count();
    assert_eq!(same, BUCKETS - 1);
    assert_eq!(ask(&before, "other.test", "/"), "NoRoute", "what was published stays as it was");
    assert_eq!(ask(&table, "other.test", "/"), "s007");
}

#[test]
fn who_is_forgotten_asks_for_nothing() {
    let mut table = of_registry(&Config::default());
    for n in 0..=1024 {
        let service = format!("s{n:04}");
        update(&mut table, &service, &[&format!("{service}.test/a/b/c")]);
        update(&mut table, &service, &[]);
    }
    assert_eq!(ask(&table, "s0000.test", "/a/b/c"), "UnknownService(\"a\")");
    assert_eq!(ask(&table, "s0001.test", "/a/b/c"), "s0001");
    assert_eq!(table.claims.kinds, [1024, 0, 0]);
    assert_eq!(table.claims.deepest(), 3);
}

#[test]
fn says_who_asks() {
    let mut table = of_registry(&Config::default());
    let summary =
        |table: &RouteTable| crate::explain(table, Some("x.test"), "/api/v1", &HeaderMap::new()).summary;
    update(&mut table, "web", &["x.test/api", "-", "x.test/api,"]);
    assert_eq!(
        summary(&table),
        "route \"x.test/api\" from labels of service web (instance web-1) sends it to service \"web\": \
         3 of 3 instances can take it"
    );
    update(&mut table, "web", &["x.test/api"; 7]);
    assert_eq!(
        summary(&table),
        "route \"x.test/api\" from labels of service web (instances web-1, web-2, web-3, web-4, web-5 and 2 more) \
         sends it to service \"web\": 7 of 7 instances can take it"
    );
    update(&mut table, "web", &[]);
    assert_eq!(
        summary(&table),
        "route \"x.test/api\" from labels of service web (of its last instances) sends it to service \"web\": \
         0 of 0 instances can take it; the answer is 503"
    );
}

const HOSTS: [&str; 5] = ["a.test", "b.a.test", "*.test", "*.a.test", ""];
const PATHS: [&str; 4] = ["", "/x", "/x/y", "/z"];

/// Who asks for what, and the first by name of those that ask most specifically for `host` and `path`.
fn expected(asked: &BTreeMap<String, Vec<String>>, host: &str, path: &str) -> Option<String> {
    let rank = |pattern: &str| match pattern.strip_prefix('*') {
        None if pattern.is_empty() => Some(0),
        None => (pattern == host).then_some(1000),
        Some(suffix) => (host.ends_with(suffix) && host.len() > suffix.len()).then_some(suffix.len()),
    };
    let fits =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let all = asked.iter().flat_map(|(service, wishes)| wishes.iter().map(move |wish| (service, wish)));
    let candidates = all.filter_map(|(service, wish)| {
        let (pattern, prefix) = wish.split_at(wish.find('/').unwrap_or(wish.len()));
        Some(((rank(pattern)?, fits(prefix).then_some(prefix.len())?), service))
    });
    candidates.min_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1))).map(|(_, service)| service.clone())
}

proptest! {
    /// However it came about, the table routes as one that looks at all that is asked for at once.
    #[test]
    fn changes_lead_where_a_fresh_look_leads(
        steps in prop::collection::vec((0..4_usize, prop::collection::vec((0..5_usize, 0..4_usize), 0..4)), 1..24)
    ) {
        let mut table = of_registry(&Config::default());
        let mut asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut in_vain = BTreeMap::new();
        for (service, wishes) in steps {
            let service = format!("s{service}");
            let mut wishes: Vec<String> =
                wishes.into_iter().map(|(host, path)| format!("{}{}", HOSTS[host], PATHS[path])).collect();
            wishes.retain(|wish| !wish.is_empty());
            wishes.push("-".to_owned());
            for touched in update(&mut table, &service, &wishes.iter().map(String::as_str).collect::<Vec<_>>()) {
                in_vain.insert(touched.clone(), table.asked_in_vain(&name(&touched)));
            }
            wishes.pop();
            asked.insert(service, wishes);
        }
        for host in ["a.test", "b.a.test", "c.a.test", "c.test", "test", "other"] {
            for path in ["/", "/x", "/x/y", "/x/y/w", "/z/1", "/q"] {
                let got = table.find(&Question { host: Some(host), path, headers: &HeaderMap::new() }).ok();
                let got = got.map(|matched| matched.upstream.service().to_string());
                prop_assert_eq!(got, expected(&asked, host, path), "{} {}", host, path);
            }
        }
        for service in asked.keys() {
            let kept = in_vain.get(service).cloned().unwrap_or_default();
            prop_assert_eq!(kept, table.asked_in_vain(&name(service)), "{}", service);
        }
        let claims = table.claims.buckets.iter().map(|bucket| bucket.len()).sum::<usize>();
        prop_assert_eq!(claims, table.claims.kinds.iter().sum::<usize>());
        prop_assert_eq!(claims, table.claims.depths.iter().sum::<usize>());
    }
}
