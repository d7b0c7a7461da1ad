//! The JSON forms, byte for byte, and what a real Consul 1.8.7 and its clients write.

use std::collections::BTreeMap;

use consul_api::{
    AgentService, AgentServices, CatalogService, ChangeLine, CheckRegistration, CheckStatus, GoDuration,
    HealthCheck, Node, Particulars, ServiceEntry, ServiceRegistration, TaggedAddress, Weights,
};

/// Taken from a running Consul 1.8.7, with the fields of its service mesh that Portolan does not know.
const CONSUL_ENTRY: &str = r#"{
    "Node": {
        "ID": "28b0bb55-a05f-9c9e-f9a7-9cf7ec1e99fc", "Node": "vm", "Address": "127.0.0.1", "Datacenter": "dc1",
        "TaggedAddresses": {"lan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan": "127.0.0.1", "wan_ipv4": "127.0.0.1"},
        "Meta": {"consul-network-segment": ""}, "CreateIndex": 10, "ModifyIndex": 12
    },
    "Service": {
        "ID": "web-2", "Service": "web", "Tags": ["b", "a"], "Address": "10.0.0.2",
        "TaggedAddresses": {"lan_ipv4": {"Address": "10.0.0.2", "Port": 81}},
        "Meta": null, "Port": 81, "Weights": {"Passing": 5, "Warning": 2}, "EnableTagOverride": false,
        "Proxy": {"MeshGateway": {}, "Expose": {}}, "Connect": {}, "CreateIndex": 14, "ModifyIndex": 15
    },
    "Checks": [
        {
            "Node": "vm", "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing", "Notes": "",
            "Output": "Agent alive and reachable", "ServiceID": "", "ServiceName": "", "ServiceTags": [], "Type": "",
            "Definition": {}, "CreateIndex": 10, "ModifyIndex": 10
        },
        {
            "Node": "vm", "CheckID": "c", "Name": "n", "Status": "odd", "Notes": "", "Output": "", "ServiceID": "web-2",
            "ServiceName": "web", "ServiceTags": null, "Type": "http",
            "Definition": {"HTTP": "http://a/", "Interval": "10s", "Timeout": "1m30s",
                           "DeregisterCriticalServiceAfter": "0s"},
            "CreateIndex": 14, "ModifyIndex": 14
        }
    ]
}"#;

#[test]
fn an_entry_of_a_real_consul_is_read() {
    let entry: ServiceEntry = serde_json::from_str(CONSUL_ENTRY).unwrap();
    assert_eq!((entry.node.node.as_str(), entry.node.meta["consul-network-segment"].as_str()), ("vm", ""));
    let service = &entry.service;
    assert_eq!((service.id.as_str(), service.service.as_str(), service.port), ("web-2", "web", 81));
    assert_eq!((&service.tags[..], service.meta.len()), (&["b".to_owned(), "a".to_owned()][..], 0));
    assert_eq!(service.weights, Weights { passing: 5, warning: 2 });
    assert_eq!((service.modify_index, service.portolan.as_ref()), (Some(15), None));
    assert_eq!(entry.checks[0].status, CheckStatus::Passing);
    let check = &entry.checks[1];
    assert_eq!((&check.status, check.service_tags.len()), (&CheckStatus::Unknown("odd".into()), 0));
    assert_eq!(check.definition.timeout, Some(GoDuration(90_000_000_000)));
}

#[test]
fn an_entry_is_written_in_full_and_without_null() {
    let entry = ServiceEntry {
        node: Node {
            node: "n1".into(),
            address: "127.0.0.1".into(),
            datacenter: "dc1".into(),
            ..Node::default()
        },
        service: AgentService {
            id: "web-1".into(),
            service: "web".into(),
            port: 80,
            address: "10.0.0.1".into(),
            create_index: Some(2),
            modify_index: Some(3),
            portolan: Some(Particulars {
                phase: Some("adult".into()),
                incarnation: Some(1_732_147_200_000_000_123),
                ..Particulars::default()
            }),
            ..AgentService::default()
        },
        checks: vec![HealthCheck { check_id: "serfHealth".into(), ..HealthCheck::default() }],
    };
    let expect = concat!(
        r#"{"Node":{"ID":"","Node":"n1","Address":"127.0.0.1","Datacenter":"dc1","TaggedAddresses":{},"Meta":{},"#,
        r#""CreateIndex":0,"ModifyIndex":0},"#,
        r#""Service":{"ID":"web-1","Service":"web","Tags":[],"Meta":{},"Port":80,"Address":"10.0.0.1","#,
        r#""Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"CreateIndex":2,"ModifyIndex":3,"#,
        r#""Portolan":{"Phase":"adult","Incarnation":"1732147200000000123"}},"#,
        r#""Checks":[{"Node":"","CheckID":"serfHealth","Name":"","Status":"critical","Notes":"","Output":"","#,
        r#""ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"","Definition":{},"CreateIndex":0,"ModifyIndex":0}]}"#,
    );
    let json = serde_json::to_string(&entry).unwrap();
    assert_eq!(json, expect);
    assert_eq!(serde_json::from_str::<ServiceEntry>(&json).unwrap(), entry);
}

#[test]
fn a_change_is_a_line() {
    #[track_caller]
    fn check(line: &ChangeLine, expect: &str) {
        assert_eq!(serde_json::to_string(line).unwrap(), expect);
        assert_eq!(serde_json::from_str::<ChangeLine>(expect).unwrap(), *line);
    }
    check(&ChangeLine::Reset {}, r#"{"Reset":{}}"#);
    check(&ChangeLine::Whole { index: 7 }, r#"{"Whole":{"Index":7}}"#);
    check(&ChangeLine::Alive {}, r#"{"Alive":{}}"#);
    let gone = ChangeLine::Remove { index: 8, service: "web".into(), id: "h:web:80".into() };
    check(&gone, r#"{"Remove":{"Index":8,"Service":"web","ID":"h:web:80"}}"#);
    let entry = ServiceEntry::default();
    let upsert = format!(r#"{{"Upsert":{{"Index":9,"Entry":{}}}}}"#, serde_json::to_string(&entry).unwrap());
    check(&ChangeLine::Upsert { index: 9, entry: Box::new(entry) }, &upsert);
}

#[test]
fn a_catalog_row_is_flat() {
    let row = CatalogService {
        service_id: "web-1".into(),
        service_name: "web".into(),
        service_tagged_addresses: BTreeMap::from([(
            "lan_ipv4".into(),
            TaggedAddress { address: "10.0.0.1".into(), port: 80 },
        )]),
        ..CatalogService::default()
    };
    let expect = concat!(
        r#"{"ID":"","Node":"","Address":"","Datacenter":"","TaggedAddresses":{},"NodeMeta":{},"ServiceID":"web-1","#,
        r#""ServiceName":"web","ServiceTags":[],"ServiceAddress":"","#,
        r#""ServiceTaggedAddresses":{"lan_ipv4":{"Address":"10.0.0.1","Port":80}},"#,
        r#""ServiceWeights":{"Passing":1,"Warning":1},"ServiceMeta":{},"ServicePort":0,"#,
        r#""ServiceEnableTagOverride":false,"CreateIndex":0,"ModifyIndex":0}"#,
    );
    assert_eq!(serde_json::to_string(&row).unwrap(), expect);
}

#[test]
fn the_agents_list_of_a_real_consul_is_read() {
    let json = r#"{"a/b c": {"ID": "a/b c", "Service": "sla", "Tags": [], "Meta": {}, "Port": 81, "Address": "",
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": true}}"#;
    let services: AgentServices = serde_json::from_str(json).unwrap();
    let service = &services["a/b c"];
    assert_eq!(
        (service.service.as_str(), service.enable_tag_override, service.create_index),
        ("sla", true, None)
    );
}

#[test]
fn registrations_of_many_clients_are_read() {
    #[track_caller]
    fn check(json: &str, expect: &ServiceRegistration) {
        assert_eq!(serde_json::from_str::<ServiceRegistration>(json).unwrap(), *expect, "{json}");
    }
    let web = || ServiceRegistration { name: "web".into(), ..ServiceRegistration::default() };
    check(r#"{"Name":"web"}"#, &web());
    check(r#"{"name":"web"}"#, &web());
    check(r#"{"NAME":"web","Bogus":{"deep":[1,2]}}"#, &web());
    check(r#"{"Service":"web"}"#, &web());
    // Spring says null for all it does not set.
    check(
        r#"{"ID":null,"Name":"web","Tags":null,"Address":null,"Meta":null,"Port":null,"EnableTagOverride":null,
            "Check":null,"Checks":null,"Weights":null,"TaggedAddresses":null,"Kind":null,"Portolan":null}"#,
        &web(),
    );
    check(
        r#"{"id":"w1","name":"web","port":80,"tags":["x"],"meta":{"Mixed_Case":"kept"},"enable_tag_override":true,
            "tagged_addresses":{"lan":{"address":"1.2.3.4","port":8}},"weights":{"passing":5,"warning":2}}"#,
        &ServiceRegistration {
            id: "w1".into(),
            port: 80,
            tags: vec!["x".into()],
            meta: BTreeMap::from([("Mixed_Case".into(), "kept".into())]),
            enable_tag_override: true,
            tagged_addresses: BTreeMap::from([(
                "lan".into(),
                TaggedAddress { address: "1.2.3.4".into(), port: 8 },
            )]),
            weights: Some(Weights { passing: 5, warning: 2 }),
            ..web()
        },
    );
    // Registrator's old client says ScriptArgs; node's says check ids and snake case; durations come in both forms.
    check(
        r#"{"Name":"web","Check":{"ScriptArgs":["true"],"Interval":"10s","Timeout":1500000000},
            "Checks":[{"check_id":"c","deregister_critical_service_after":"1m","ttl":""},{"args":["a"],"h2ping":"b:1"}]}"#,
        &ServiceRegistration {
            check: Some(CheckRegistration {
                args: vec!["true".into()],
                interval: GoDuration(10_000_000_000),
                timeout: GoDuration(1_500_000_000),
                ..CheckRegistration::default()
            }),
            checks: vec![
                CheckRegistration {
                    check_id: "c".into(),
                    deregister_critical_service_after: GoDuration(60_000_000_000),
                    ..CheckRegistration::default()
                },
                CheckRegistration {
                    args: vec!["a".into()],
                    h2ping: "b:1".into(),
                    ..CheckRegistration::default()
                },
            ],
            ..web()
        },
    );
    for incarnation in ["12", "\"12\""] {
        check(
            &format!(r#"{{"Name":"web","portolan":{{"owner":"o","incarnation":{incarnation}}}}}"#),
            &ServiceRegistration {
                portolan: Some(Particulars {
                    owner: Some("o".into()),
                    incarnation: Some(12),
                    ..Particulars::default()
                }),
                ..web()
            },
        );
    }
}

#[test]
fn a_registration_says_only_what_was_said() {
    let plain = ServiceRegistration { name: "web".into(), port: 80, ..ServiceRegistration::default() };
    assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"Name":"web","Port":80}"#);
    let with_check = ServiceRegistration {
        check: Some(CheckRegistration {
            ttl: GoDuration(30_000_000_000),
            status: "passing".into(),
            ..CheckRegistration::default()
        }),
        ..plain
    };
    let expect = r#"{"Name":"web","Port":80,"Check":{"Status":"passing","TTL":"30s"}}"#;
    assert_eq!(serde_json::to_string(&with_check).unwrap(), expect);
}

#[test]
fn bad_registrations_are_refused_with_the_place() {
    #[track_caller]
    fn check(json: &str, expect: &str) {
        assert_eq!(serde_json::from_str::<ServiceRegistration>(json).unwrap_err().to_string(), expect);
    }
    check(r#"{"Port":"x"}"#, "invalid type: string \"x\", expected i64 at line 1 column 11");
    check(r#"{"Name":"a","name":"b"}"#, "duplicate field `Name` at line 1 column 18");
    check("[]", "invalid type: sequence, expected an object at line 1 column 2");
    check(r#"{"Name":"#, "EOF while parsing a value at line 1 column 8");
    check(r#"{"Check":{"TTL":"1x"}}"#, "time: unknown unit \"x\" in duration \"1x\" at line 1 column 20");
}
