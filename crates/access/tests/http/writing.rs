//! What is written: registering, deregistering, draining.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::{
    Health, Incarnation, InstanceId, Owner, Protocol, Registration, Registry, ServiceName, Weight, Zone,
};
use serde_json::json;

use super::Running;

#[tokio::test]
async fn what_was_read_can_be_written_back_without_a_change() {
    let face = Running::start();
    let said = Registration {
        id: InstanceId::new("host:web:80/udp").unwrap(),
        service: ServiceName::new("web").unwrap(),
        endpoint: portolan_model::Endpoint { host: "web_1.app".parse().unwrap(), port: 80 },
        protocol: Protocol::Udp,
        tags: BTreeSet::from(["a".into(), "b".into()]),
        meta: BTreeMap::from([("k".into(), "v".into())]),
        weight: Weight(0),
        zone: Some(Zone::new("rack-1").unwrap()),
        owner: Owner::new("docker@host").unwrap(),
        incarnation: Incarnation(1_732_147_200_000_000_123),
        health: Health::Warning,
    };
    let revision = face.registry.register(said.clone()).await.unwrap();
    let read = face.get("/v1/agent/services").await.json()["host:web:80/udp"].to_string();
    face.register(&read).await;
    let listing = face.registry.list().await.unwrap();
    assert_eq!((listing.revision, &listing.services[&said.service][0].registration), (revision, &said));
}

#[tokio::test]
async fn a_registration_is_understood() {
    let face = Running::start();
    let target = "/v1/agent/service/register?replace-existing-checks=true";
    let body = r#"{"id":"w1","name":"web","address":"::1","port":80,"tags":null,"meta":{"Case":"Kept"},"Check":null,
                   "Checks":[{"Status":"warning","Notes":"hm"}],"Portolan":{"zone":"z1"},"Unknown":1}"#;
    assert_eq!(face.put(target, body).await.status, 200);
    let entry = &face.get("/v1/health/service/web").await.json()[0];
    assert_eq!(entry["Service"]["Address"], "::1");
    assert_eq!(entry["Service"]["Meta"], json!({"Case": "Kept"}));
    assert_eq!(entry["Service"]["Portolan"]["Zone"], "z1");
    assert_eq!(entry["Service"]["TaggedAddresses"]["lan_ipv6"], json!({"Address": "::1", "Port": 80}));
    assert_eq!(entry["Checks"][1]["Name"], "Service 'web' check");
}

#[tokio::test]
async fn bad_registrations_are_refused_and_change_nothing() {
    let face = Running::start();
    let rows = [
        (r#"{"Name":"#, "Request decode failed: Name: EOF while parsing a value at line 1 column 8"),
        ("", "Request decode failed: EOF while parsing a value at line 1 column 0"),
        (r#"{"Name":"a"} x"#, "Request decode failed: trailing characters at line 1 column 14"),
        (
            r#"{"Name":"a","Port":"80"}"#,
            "Request decode failed: Port: invalid type: string \"80\", expected i64 at line 1 column 23",
        ),
        (
            r#"{"Name":"a","Checks":[{},{"TTL":"1x"}]}"#,
            "Request decode failed: Checks[1].TTL: time: unknown unit \"x\" in duration \"1x\" at line 1 column 36",
        ),
        (r#"{"Name":""}"#, "Missing service name"),
        ("{}", "Missing service name"),
        (r#"{"Name":"a/b"}"#, "Name: service name holds '/', which is not allowed there"),
        (r#"{"Name":"a","Port":70000}"#, "Port: 70000 is not a port (0 to 65535)"),
    ];
    for (body, text) in rows {
        let answer = face.put("/v1/agent/service/register", body).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, text), "{body}");
    }
    let asks = r#"{"Name":"a","Check":{"HTTP":"http://a/","Interval":"10s"}}"#;
    let answer = face.put("/v1/agent/service/register", asks).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.starts_with("Check.HTTP: Portolan does not run checks yet"), "{}", answer.body);
    assert_eq!(face.get("/v1/agent/services").await.body, "{}");
}

#[tokio::test]
async fn deregistering_and_draining_by_id() {
    let face = Running::start();
    for id in ["plain", "a/b c", "a%2F"] {
        face.register(&json!({"ID": id, "Name": "web"}).to_string()).await;
    }
    for target in ["/v1/agent/service/deregister/", "/v1/portolan/drain/"] {
        let answer = face.put(&format!("{target}nope"), "").await;
        let text = "Unknown service ID \"nope\". Ensure that the service ID is passed, not the service name.";
        assert_eq!((answer.status, answer.body.as_str()), (404, text), "{target}");
        let answer = face.put(target, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (400, "Missing service ID"), "{target}");
    }
    assert_eq!(face.put("/v1/portolan/drain/a%2Fb%20c", "").await.status, 200);
    assert_eq!(face.get("/v1/agent/services").await.json()["a/b c"]["Portolan"]["Phase"], "draining");
    for encoded in ["plain", "a/b%20c", "a%252F"] {
        let answer = face.put(&format!("/v1/agent/service/deregister/{encoded}"), "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{encoded}");
    }
    assert_eq!(face.get("/v1/agent/services").await.body, "{}");
}
