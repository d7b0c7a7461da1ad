//! The routing contracts, headers on the way, and the gateway's own answers.

use portolan_model::Registry as _;
use routing::RouteSpec;
use testkit::upstream::Behaviour;

use crate::rig::{Rig, nobody, registration};

#[tokio::test]
async fn three_contracts_reach_the_same_service() {
    let rig = Rig::start();
    let _one = rig.instance("service_1", "a", Behaviour::Echo).await;
    let check = async |path: &str, headers: &str, expect: &str| {
        let answer = rig.get(path, headers).await;
        assert_eq!(answer.text().lines().next(), Some(expect), "{path} {headers}");
    };
    check("/services?id=1", "service_name: service_1\r\napi_name: /user\r\n", "GET /user?id=1 HTTP/1.1")
        .await;
    check("/services/7", "service-name: service_1\r\napi-name: /user\r\n", "GET /user/7 HTTP/1.1").await;
    check("/service_1/getRemoteIp?x=%20", "", "GET /getRemoteIp?x=%20 HTTP/1.1").await;
    check("/service_1", "", "GET / HTTP/1.1").await;
    rig.stop().await;
}

#[tokio::test]
async fn the_host_names_the_service() {
    let rig = Rig::start();
    let _one = rig.instance("service_1", "a", Behaviour::Echo).await;
    let mut client = rig.client().await;
    let answer = client.ask("GET /x?y HTTP/1.1\r\nhost: Service_1.svc.test:8000\r\n\r\n").await.unwrap();
    assert_eq!(answer.text().lines().next(), Some("GET /x?y HTTP/1.1"));
    rig.stop().await;
}

#[tokio::test]
async fn configured_routes() {
    let rig = Rig::with(|config| {
        config.routing.routes = vec![
            RouteSpec {
                name: "shop".into(),
                path: Some("/shop".into()),
                service: "web".into(),
                strip_prefix: true,
                preserve_host: true,
                ..RouteSpec::default()
            },
            RouteSpec {
                name: "broken".into(),
                path: Some("no".into()),
                service: "web".into(),
                ..RouteSpec::default()
            },
        ];
    });
    let upstream = rig.instance("web", "a", Behaviour::Echo).await;
    let text = rig.get("/shop/cart", "").await.text();
    assert!(text.starts_with("GET /cart HTTP/1.1\n") && text.contains("\nhost: gw\n"), "{text}");
    let text = rig.get("/web/cart", "").await.text();
    assert!(text.contains(&format!("\nhost: {}\n", upstream.address())), "{text}");
    assert_eq!(rig.handle.broken_routes()[0].name, "broken");
    rig.stop().await;
}

#[tokio::test]
async fn routes_that_instances_ask_for() {
    let rig = Rig::start();
    let upstream = rig.instance("web", "a", Behaviour::Echo).await;
    let mut asking = registration("web", "a", upstream.address());
    asking.meta =
        [("portolan_path", "/shop"), ("portolan_strip", "true"), ("portolan_host", "gw, not a host")]
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .into();
    rig.registry.register(asking).await.unwrap();
    let asked = "labels of service web";
    rig.until_broken(|broken| broken.iter().any(|route| route.name == asked)).await;
    let text = rig.get("/shop/cart", "").await.text();
    assert!(text.starts_with("GET /cart HTTP/1.1\n"), "{text}");
    // Between two lives of its only instance it is known, and has nobody.
    rig.deregister("web", "a").await;
    assert_eq!(rig.get("/shop/cart", "").await.status(), 503);
    rig.register("web", "a", upstream.address()).await;
    assert_eq!(rig.get("/shop/cart", "").await.status(), 404);
    rig.until_broken(<[_]>::is_empty).await;
    rig.stop().await;
}

#[tokio::test]
async fn header_fields_on_the_way() {
    let rig = Rig::start();
    let _web = rig.instance("web", "a", Behaviour::Echo).await;
    let sent = "x-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\nconnection: x-hop, keep-alive\r\n\
                x-hop: 1\r\nkeep-alive: 5\r\nte: trailers\r\nx-end: 2\r\nx-request-id: mine-1\r\n";
    let answer = rig.get("/web/", sent).await;
    let mut fields: Vec<_> =
        answer.text().lines().skip(1).map(str::to_owned).filter(|l| !l.is_empty()).collect();
    fields.retain(|field| !field.starts_with("host:"));
    fields.sort();
    assert_eq!(
        fields,
        [
            "via: 1.1 portolan",
            "x-end: 2",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: gw",
            "x-forwarded-proto: http",
            "x-request-id: mine-1",
        ]
    );
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(answer.header("via"), Some("1.1 portolan"));
    rig.stop().await;
}

#[tokio::test]
async fn own_answers_say_why() {
    let rig = Rig::start();
    rig.register("dead", "a", nobody()).await;
    rig.register("empty", "b", nobody()).await;
    rig.deregister("empty", "b").await;
    let check = async |path: &str, headers: &str, status: u16, cause: &str| {
        let answer = rig.get(path, headers).await;
        assert_eq!((answer.status(), answer.header("x-portolan-cause")), (status, Some(cause)), "{path}");
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(answer.text().contains(cause) && answer.text().contains(&id), "{}", answer.text());
        answer
    };
    let json = check("/nope/x", "", 404, "unknown_service").await;
    assert_eq!(json.header("content-type"), Some("application/json"));
    let text = check("/nope/x", "accept: text/html,*/*\r\n", 404, "unknown_service").await;
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    check("/", "", 404, "no_route").await;
    check("/services", "service_name: dead\r\n", 400, "api_name_missing").await;
    check("/services", "api_name: /\r\n", 400, "service_name_missing").await;
    check("/empty/", "", 503, "no_usable_instance").await;
    check("/dead/", "", 502, "connect_failed").await;
    rig.stop().await;
}

#[tokio::test]
async fn turns_are_taken_and_weights_hold() {
    let rig = Rig::start();
    let _a = rig.instance("web", "a", Behaviour::Answer("a")).await;
    let _b = rig.instance("web", "b", Behaviour::Answer("b")).await;
    let mut client = rig.client().await;
    let mut seen = String::new();
    for _ in 0..6 {
        seen += &client.get("/web/", "").await.unwrap().text();
    }
    assert!(seen == "ababab" || seen == "bababa", "{seen}");

    let mut heavy = registration("web", "b", _b.address());
    heavy.weight = portolan_model::Weight(2);
    rig.registry.register(heavy).await.unwrap();
    let mut counts = (0, 0);
    // The table follows within a few requests; from then on every three requests go 1 : 2.
    for _ in 0..300 {
        match client.get("/web/", "").await.unwrap().text().as_str() {
            "a" => counts.0 += 1,
            _ => counts.1 += 1,
        }
    }
    assert!((95..=115).contains(&counts.0), "{counts:?}");
    rig.stop().await;
}

#[tokio::test]
async fn draining_instances_get_nothing_new() {
    let rig = Rig::start();
    let a = rig.instance("web", "a", Behaviour::Answer("a")).await;
    let _b = rig.instance("web", "b", Behaviour::Answer("b")).await;
    let mut client = rig.client().await;
    client.get("/web/", "").await.unwrap();
    client.get("/web/", "").await.unwrap();
    rig.drain("a").await;
    rig.until_told("web", |told| told.instances.iter().any(|i| i.reason.starts_with("draining"))).await;
    let before = a.requests().len();
    for _ in 0..10 {
        assert_eq!(client.get("/web/", "").await.unwrap().text(), "b");
    }
    assert_eq!(a.requests().len(), before);
    rig.drain("b").await;
    rig.until_told("web", |told| told.instances.iter().all(|i| i.reason.starts_with("draining"))).await;
    assert_eq!(client.get("/web/", "").await.unwrap().status(), 503);
    rig.stop().await;
}
