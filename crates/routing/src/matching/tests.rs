use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use portolan_model::ServiceName;

use super::*;
use crate::config::{Config, RouteSpec};
use crate::table::tests::{instance, of_registry};

fn route(name: &str, service: &str, change: impl FnOnce(&mut RouteSpec)) -> RouteSpec {
    let mut spec = RouteSpec { name: name.into(), service: service.into(), ..RouteSpec::default() };
    change(&mut spec);
    spec
}

fn table(routes: Vec<RouteSpec>, services: &[&str]) -> RouteTable {
    let config = Config { domain: Some("Svc.Test".into()), routes, ..Config::default() };
    let mut table = of_registry(&config);
    for service in services {
        table.update(&ServiceName::new(service).unwrap(), [&Arc::new(instance(service, 1))]);
    }
    table
}

/// The answer in one line: rule, service, forwarded path; or the miss.
fn ask(table: &RouteTable, host: &str, path: &str, headers: &[(&'static str, &str)]) -> String {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    match table.find(&Question { host: Some(host), path, headers: &headers }) {
        Ok(m) => {
            let rule = match m.rule {
                Rule::Route(route) => route.name.as_str(),
                Rule::ServiceHeaders => "headers",
                Rule::ServiceHost => "host",
                Rule::ServicePath => "path",
            };
            format!("{rule} → {} {}", m.upstream.service(), m.rewrite.apply(path))
        }
        Err(miss) => format!("{miss:?}"),
    }
}

#[test]
fn the_articles_headers() {
    let table = table(vec![], &["service_1"]);
    let check = |path, headers: &[(&'static str, &str)], expect: &str| {
        assert_eq!(ask(&table, "gw", path, headers), expect, "{path} {headers:?}");
    };
    let named = |api| [("service_name", "service_1"), ("api_name", api)];
    check("/services", &named("/user"), "headers → service_1 /user");
    check("/services/", &named("/user"), "headers → service_1 /user");
    check("/services/7/x", &named("/user"), "headers → service_1 /user/7/x");
    check("/services/7", &named("/user/"), "headers → service_1 /user/7");
    check("/services/7", &named("/"), "headers → service_1 /7");
    check("/services", &named("/"), "headers → service_1 /");
    check("/services", &named("/a/../b"), "headers → service_1 /b");
    check("/services", &[("service-name", "service_1"), ("api-name", "/")], "headers → service_1 /");
    check("/services", &named("user"), "ApiNameInvalid");
    check("/services", &named("@10.0.0.1:22/x"), "ApiNameInvalid");
    check("/services", &named("/user?id=1"), "ApiNameInvalid");
    check("/services", &named("/a b"), "ApiNameInvalid");
    check("/services", &named("http://evil/"), "ApiNameInvalid");
    check("/services", &[("service_name", "service_1")], "ApiNameMissing");
    check("/services", &[("api_name", "/user")], "ServiceNameMissing");
    check("/services", &[], "ServiceNameMissing");
    check("/services", &[("service_name", "nope"), ("api_name", "/")], "UnknownService(\"nope\")");
    check("/servicesx", &named("/user"), "UnknownService(\"servicesx\")");
}

#[test]
fn a_service_may_be_called_services() {
    let table = table(vec![], &["services", "other"]);
    assert_eq!(ask(&table, "gw", "/services/x", &[]), "path → services /x");
    let headers = [("service_name", "other"), ("api_name", "/y")];
    assert_eq!(ask(&table, "gw", "/services", &headers), "headers → other /y");
}

#[test]
fn the_first_segment_names_a_service() {
    let table = table(vec![], &["service-web", "订单", "a b"]);
    let check = |path, expect: &str| assert_eq!(ask(&table, "gw:8000", path, &[]), expect, "{path}");
    check("/service-web/getRemoteIp", "path → service-web /getRemoteIp");
    check("/service-web/", "path → service-web /");
    check("/service-web", "path → service-web /");
    check("/service-web//x", "path → service-web //x");
    check("/%E8%AE%A2%E5%8D%95/1", "path → 订单 /1");
    check("/a%20b/x%20y", "path → a b /x%20y");
    check("/nope/x", "UnknownService(\"nope\")");
    check("/%zz/x", "UnknownService(\"%zz\")");
    check("/", "NoRoute");
    check("//x", "NoRoute");
}

#[test]
fn before_the_registry_is_read_nobody_knows_what_there_is() {
    let routes = vec![route("r", "web", |r| r.path = Some("/api".into()))];
    let mut table = RouteTable::new(&Config { routes, ..Config::default() });
    let check =
        |table: &RouteTable, path, expect: &str| assert_eq!(ask(table, "gw", path, &[]), expect, "{path}");
    check(&table, "/nope/x", "RegistryUnread");
    check(&table, "/", "RegistryUnread");
    check(&table, "/services", "ServiceNameMissing");
    check(&table, "/api/x", "r → web /api/x");
    table.set_registry_read();
    check(&table, "/nope/x", "UnknownService(\"nope\")");
    check(&table, "/", "NoRoute");
}

#[test]
fn the_host_names_a_service() {
    let table = table(vec![], &["web", "a.b"]);
    let check = |host, expect: &str| assert_eq!(ask(&table, host, "/web/x", &[]), expect, "{host}");
    check("web.svc.test", "host → web /web/x");
    check("WEB.Svc.Test:8000", "host → web /web/x");
    check("web.svc.test.", "host → web /web/x");
    check("a.b.svc.test", "host → a.b /web/x");
    check("nope.svc.test", "UnknownService(\"nope\")");
    check("svc.test", "path → web /x");
    check(".svc.test", "path → web /x");
    check("[::1]:8000", "path → web /x");
    check("[::1]", "path → web /x");
}

#[test]
fn routes_come_first_and_the_more_specific_wins() {
    let routes = vec![
        route("any", "s1", |r| r.path = Some("/api".into())),
        route("host", "s2", |r| r.host = Some("shop.test".into())),
        route("host+path", "s3", |r| (r.host, r.path) = (Some("Shop.test".into()), Some("/api/v2".into()))),
        route("header", "s4", |r| {
            (r.host, r.headers) = (Some("shop.test".into()), [("X-Canary".into(), "1".into())].into());
        }),
        route("wild", "s5", |r| r.host = Some("*.test".into())),
        route("wilder", "s6", |r| r.host = Some("*.deep.test".into())),
        route("strip", "s7", |r| (r.path, r.strip_prefix) = (Some("/strip/me/".into()), true)),
        route("broken", "s8", |r| r.path = Some("no-slash".into())),
        route("empty", "ghost", |r| r.path = Some("/ghost".into())),
    ];
    let table = table(routes, &["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"]);
    let check = |host, path, headers: &[(&'static str, &str)], expect: &str| {
        assert_eq!(ask(&table, host, path, headers), expect, "{host} {path}");
    };
    check("x", "/api", &[], "any → s1 /api");
    check("x", "/api/y", &[], "any → s1 /api/y");
    check("x", "/apix", &[], "UnknownService(\"apix\")");
    check("shop.test", "/api", &[], "host → s2 /api");
    check("shop.test", "/api/v2/x", &[], "host+path → s3 /api/v2/x");
    check("shop.test", "/x", &[("x-canary", "1")], "header → s4 /x");
    check("shop.test", "/x", &[("x-canary", "2")], "host → s2 /x");
    check("shop.test", "/api/v2", &[("x-canary", "1")], "host+path → s3 /api/v2"); // path before headers
    check("other.test", "/x", &[], "wild → s5 /x");
    check("a.deep.test", "/x", &[], "wilder → s6 /x");
    check("test", "/s1/x", &[], "path → s1 /x");
    check("x", "/strip/me/y", &[], "strip → s7 /y");
    check("x", "/strip/me", &[], "strip → s7 /");
    check("x", "/ghost", &[], "empty → ghost /ghost"); // known by its route: 503, not 404
    let broken: Vec<_> = table.broken().iter().map(|broken| broken.name.as_str()).collect();
    assert_eq!(broken, ["broken"]);
}
