//! What is read: Consul's JSON, headers and texts.

use portolan_model::{Health, Registry};
use serde_json::{Value, json};

use super::Running;
use super::client::exchange;

const NODE_ID: &str = "0880952f-02ab-8be9-9aa0-733055a98020";

fn node() -> Value {
    json!({
        "ID": NODE_ID, "Node": "n1", "Address": "127.0.0.1", "Datacenter": "dc1",
        "TaggedAddresses": {
            "lan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan": "127.0.0.1", "wan_ipv4": "127.0.0.1"
        },
        "Meta": {}, "CreateIndex": 1, "ModifyIndex": 1
    })
}

fn serf_health() -> Value {
    json!({
        "Node": "n1", "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing", "Notes": "",
        "Output": "Agent alive and reachable", "ServiceID": "", "ServiceName": "", "ServiceTags": [], "Type": "",
        "Definition": {}, "CreateIndex": 1, "ModifyIndex": 1
    })
}

#[tokio::test]
async fn an_entry_has_consuls_shape() {
    let face = Running::start();
    face.register(
        r#"{"ID":"web-1","Name":"web","Address":"10.0.0.2","Port":81,"Tags":["b","a"],"Meta":{"k":"v","portolan-container":"c","portolan-port":"80"},
            "Weights":{"Passing":5,"Warning":2}}"#,
    )
    .await;
    let answer = face.get("/v1/health/service/web").await;
    let service = json!({
        "ID": "web-1", "Service": "web", "Tags": ["a", "b"], "Meta": {"k": "v"}, "Port": 81,
        "Address": "10.0.0.2",
        "TaggedAddresses": {
            "lan_ipv4": {"Address": "10.0.0.2", "Port": 81}, "wan_ipv4": {"Address": "10.0.0.2", "Port": 81}
        },
        "Weights": {"Passing": 5, "Warning": 5}, "EnableTagOverride": false, "CreateIndex": 2, "ModifyIndex": 2,
        "Portolan": {
            "Phase": "adult", "Health": "passing", "Owner": "http", "Protocol": "tcp", "Incarnation": "0"
        }
    });
    assert_eq!(answer.json(), json!([{"Node": node(), "Service": service, "Checks": [serf_health()]}]));
    let headers = [
        ("X-Consul-Index", "2"),
        ("X-Consul-Knownleader", "true"),
        ("X-Consul-Lastcontact", "0"),
        ("X-Consul-Effective-Consistency", "leader"),
    ];
    for (name, value) in headers {
        assert_eq!(answer.headers[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_catalog_row_and_an_agents_service_have_consuls_shape() {
    let face = Running::start();
    // No address: the node's is filled in, since not every client falls back to it.
    face.register(r#"{"Name":"web","Port":80}"#).await;
    let tagged = json!({
        "lan_ipv4": {"Address": "127.0.0.1", "Port": 80}, "wan_ipv4": {"Address": "127.0.0.1", "Port": 80}
    });
    let portolan = json!({
        "Phase": "adult", "Health": "passing", "Owner": "http", "Protocol": "tcp", "Incarnation": "0"
    });
    let row = json!([{
        "ID": NODE_ID, "Node": "n1", "Address": "127.0.0.1", "Datacenter": "dc1",
        "TaggedAddresses": node()["TaggedAddresses"], "NodeMeta": {}, "ServiceID": "web", "ServiceName": "web",
        "ServiceTags": [], "ServiceAddress": "127.0.0.1", "ServiceTaggedAddresses": tagged,
        "ServiceWeights": {"Passing": 1, "Warning": 1}, "ServiceMeta": {}, "ServicePort": 80,
        "ServiceEnableTagOverride": false, "CreateIndex": 2, "ModifyIndex": 2, "Portolan": portolan
    }]);
    let answer = face.get("/v1/catalog/service/web").await;
    assert_eq!((answer.json(), answer.index()), (row, 2));
    let service = json!({"web": {
        "ID": "web", "Service": "web", "Tags": [], "Meta": {}, "Port": 80, "Address": "127.0.0.1",
        "TaggedAddresses": tagged, "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
        "Portolan": portolan
    }});
    assert_eq!(face.get("/v1/agent/services").await.json(), service);
}

#[tokio::test]
async fn lists_and_maps_are_empty_never_null() {
    let face = Running::start();
    for (target, empty) in [
        ("/v1/catalog/services", "{}"),
        ("/v1/agent/services", "{}"),
        ("/v1/catalog/service/nope", "[]"),
        ("/v1/health/service/nope", "[]"),
    ] {
        assert_eq!(face.get(target).await.body, empty, "{target}");
    }
    face.register(r#"{"Name":"web"}"#).await;
    assert_eq!(face.get("/v1/catalog/services").await.body, r#"{"web":[]}"#);
    for target in
        ["/v1/catalog/service/web", "/v1/health/service/web", "/v1/agent/services", "/v1/agent/self"]
    {
        let answer = face.get(target).await;
        assert!(!answer.body.contains("null"), "{target}: {}", answer.body);
    }
}

#[tokio::test]
async fn health_and_phase_show_as_checks() {
    let face = Running::start();
    let statuses = |answer: &Value| -> Vec<(String, String, String)> {
        let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
        let checks = answer[0]["Checks"].as_array().unwrap();
        checks.iter().map(|c| (text(c, "CheckID"), text(c, "Status"), text(c, "Notes"))).collect()
    };
    let check =
        |(id, status, notes): (&str, &str, &str)| (id.to_owned(), status.to_owned(), notes.to_owned());
    let draining = "draining: finishes what it has, gets no new work";
    let none: &[(&str, &str, &str)] = &[];
    let rows = [
        ("passing", false, none),
        ("warning", false, &[("service:w", "warning", "")]),
        ("critical", false, &[("service:w", "critical", "")]),
        ("maintenance", false, &[("_service_maintenance:w", "critical", "in maintenance")]),
        ("passing", true, &[("_service_maintenance:w", "critical", draining)]),
    ];
    for (health, drain, expect) in rows {
        face.register(&format!(r#"{{"ID":"w","Name":"web","Portolan":{{"Health":"{health}"}}}}"#)).await;
        if drain {
            assert_eq!(face.put("/v1/portolan/drain/w", "").await.status, 200);
        }
        let all = face.get("/v1/health/service/web").await.json();
        let mut wanted = vec![check(("serfHealth", "passing", ""))];
        wanted.extend(expect.iter().copied().map(check));
        assert_eq!(statuses(&all), wanted, "{health}");
        let passing = face.get("/v1/health/service/web?passing").await.json();
        let usable = health == "passing" && !drain;
        assert_eq!(passing.as_array().unwrap().len(), usize::from(usable), "{health}");
        assert_eq!(face.get("/v1/health/service/web?passing=false").await.json(), all);
        assert_eq!(face.get("/v1/agent/services").await.json()["w"]["Portolan"]["Health"], health);
    }
    let phase = &face.get("/v1/agent/services").await.json()["w"]["Portolan"]["Phase"];
    assert_eq!(phase, "draining");
}

#[tokio::test]
async fn tags_select_all_of_them_in_any_case() {
    let face = Running::start();
    face.register(r#"{"ID":"1","Name":"web","Tags":["Blue","v1"]}"#).await;
    face.register(r#"{"ID":"2","Name":"web","Tags":["blue"]}"#).await;
    for (query, expect) in [("", 2), ("tag=blue", 2), ("tag=BLUE&tag=v1", 1), ("tag=red", 0), ("tag=", 2)] {
        for face_of in ["health", "catalog"] {
            let answer = face.get(&format!("/v1/{face_of}/service/web?{query}")).await.json();
            assert_eq!(answer.as_array().unwrap().len(), expect, "{face_of} {query}");
        }
    }
    assert_eq!(face.get("/v1/catalog/services").await.json(), json!({"web": ["Blue", "blue", "v1"]}));
}

#[tokio::test]
async fn who_answers() {
    let face = Running::start();
    let about = face.get("/v1/agent/self").await.json();
    assert_eq!(about["Config"]["Datacenter"], "dc1");
    assert_eq!(about["Config"]["NodeName"], "n1");
    assert_eq!(about["Config"]["NodeID"], NODE_ID);
    assert!(about.as_object().unwrap().values().all(Value::is_object), "Go reads a map of maps");
    let leader = face.get("/v1/status/leader").await.json();
    assert_eq!(leader, format!("127.0.0.1:{}", face.address.port()));
    let status = face.get("/v1/portolan/status").await.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["parts"]["registrator"], json!({"state": "degraded", "detail": "no engine"}));
    let greeting = face.get("/").await;
    assert_eq!(greeting.headers["Content-Type"], "text/plain; charset=utf-8");
    assert!(greeting.body.starts_with("Portolan ") && greeting.body.contains("/v1/"), "{}", greeting.body);
    assert_eq!(face.get("/v1/extra").await.body, "extra");
}

#[tokio::test]
async fn pretty_is_for_people() {
    let face = Running::start();
    face.register(r#"{"Name":"web","Tags":["a"]}"#).await;
    let pretty = "{\n    \"web\": [\n        \"a\"\n    ]\n}\n";
    assert_eq!(face.get("/v1/catalog/services?pretty").await.body, pretty);
    assert_eq!(face.get("/v1/catalog/services").await.body, r#"{"web":["a"]}"#);
}

#[tokio::test]
async fn what_is_wrong_with_a_reading_request() {
    let face = Running::start();
    let rows = [
        (
            "GET",
            "/v1/health/service/web?stale&consistent",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        ("GET", "/v1/health/service/web?passing=maybe", 400, "Invalid value for ?passing"),
        ("GET", "/v1/health/service/web?index=abc", 400, "Invalid index"),
        ("GET", "/v1/catalog/services?index=1&wait=10", 400, "Invalid wait time"),
        ("GET", "/v1/catalog/services?dc=mars", 500, "No path to datacenter"),
        ("GET", "/v1/health/service/", 400, "Missing service name"),
        ("GET", "/v1/catalog/service/", 400, "Missing service name"),
        (
            "GET",
            "/v1/health/service/a%2Fb",
            400,
            "bad path: service name holds '/', which is not allowed there",
        ),
        ("GET", "/v1/health/service/%ff", 400, "bad path: Invalid URL: Invalid UTF-8 in `name`"),
        ("GET", "/v1/bogus", 404, "no such endpoint: /v1/bogus"),
        ("DELETE", "/v1/agent/services", 405, "method DELETE not allowed"),
        ("GET", "/v1/agent/service/register", 405, "method GET not allowed"),
        ("OPTIONS", "/v1/agent/services", 200, ""),
        ("HEAD", "/v1/agent/services", 200, ""),
    ];
    for (method, target, status, text) in rows {
        let answer = exchange(face.address, method, target, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, text), "{method} {target}");
        if status >= 400 {
            assert_eq!(answer.headers["Content-Type"], "text/plain; charset=utf-8");
        }
    }
    let refused = exchange(face.address, "DELETE", "/v1/agent/services", "").await;
    assert_eq!(refused.headers["Allow"], "GET,HEAD");
}

#[tokio::test]
async fn names_in_any_script() {
    let face = Running::start();
    face.register(r#"{"ID":"主机:容器/1:80","Name":"订单","Tags":["蓝"]}"#).await;
    let answer = face.get("/v1/health/service/%E8%AE%A2%E5%8D%95?tag=%E8%93%9D&passing").await.json();
    assert_eq!(answer[0]["Service"]["ID"], "主机:容器/1:80");
    let found = face.registry.list().await.unwrap();
    assert_eq!(
        found.services.values().flatten().map(|i| i.registration.health).collect::<Vec<_>>(),
        [Health::Passing]
    );
    let id = "%E4%B8%BB%E6%9C%BA:%E5%AE%B9%E5%99%A8%2F1:80";
    assert_eq!(face.put(&format!("/v1/agent/service/deregister/{id}"), "").await.status, 200);
    assert_eq!(face.get("/v1/catalog/services").await.body, "{}");
}
