use portolan_model::origin_meta::Origin;
use portolan_model::{Endpoint, Health, Incarnation, InstanceId, Owner, Protocol, Weight, Zone};

use super::*;

fn layout(format: Format) -> Layout {
    Layout { base: "/services".to_owned(), format }
}

fn registration() -> Registration {
    Registration {
        id: InstanceId::new("h:web:80").unwrap(),
        service: ServiceName::new("订单").unwrap(),
        endpoint: Endpoint { host: "10.0.0.9".parse().unwrap(), port: 32768 },
        protocol: Protocol::Udp,
        tags: ["b", "a"].map(str::to_owned).into(),
        meta: [("k".to_owned(), "\"v\"".to_owned())].into(),
        weight: Weight(3),
        zone: Some(Zone::new("r1").unwrap()),
        owner: Owner::new("h").unwrap(),
        incarnation: Incarnation(1_700_000_000_123_456_789),
        health: Health::Warning,
    }
}

#[test]
fn what_is_written_is_fixed_and_read_back() {
    #[track_caller]
    fn check(format: Format, path: &str, golden: &str) {
        let (layout, registration) = (layout(format), registration());
        let body = layout.body(&registration, Phase::Draining, 1234);
        assert_eq!(String::from_utf8_lossy(&body), golden);
        assert_eq!(layout.candidates(&registration)[0], path);
        let said = Said { registration, phase: Phase::Draining, ours: true };
        assert_eq!(layout.read(path, &body), Some(said));
    }
    let extras = r#"{"v":1,"id":"h:web:80","owner":"h","incarnation":1700000000123456789,"phase":"draining","weight":3,"zone":"r1","protocol":"udp","health":"warning"}"#;
    check(
        Format::Registrator,
        "/services/订单/10.0.0.9:32768",
        &format!(
            r#"{{"Name":"订单","IP":"10.0.0.9","PublicPort":32768,"PrivatePort":80,"ContainerID":"web","Tags":["a","b"],"Attrs":{{"k":"\"v\""}},"Portolan":{extras}}}"#
        ),
    );
    check(
        Format::Curator,
        "/services/订单/h:web:80",
        &format!(
            r#"{{"name":"订单","id":"h:web:80","address":"10.0.0.9","port":32768,"sslPort":null,"payload":{{"Tags":["a","b"],"Attrs":{{"k":"\"v\""}},"Portolan":{extras}}},"registrationTimeUTC":1234,"serviceType":"DYNAMIC","uriSpec":null}}"#
        ),
    );
}

#[test]
fn what_an_instance_is_in_its_container_is_told_in_the_members_for_that() {
    let mut registration = registration();
    registration.id = InstanceId::new("chosen").unwrap();
    let path = "/services/订单/10.0.0.9:32768";
    let told = |registration: &Registration, format| -> serde_json::Value {
        let body = layout(format).body(registration, Phase::Adult, 1);
        let path = layout(format).candidates(registration).swap_remove(0);
        let read = layout(format).read(&path, &body).unwrap();
        assert_eq!(read.registration, *registration);
        serde_json::from_slice(&body).unwrap()
    };
    let unsaid = told(&registration, Format::Registrator);
    assert_eq!((&unsaid["PrivatePort"], &unsaid["ContainerID"]), (&32768.into(), &"chosen".into()));

    let plain = registration.meta.clone();
    Origin { container: "3f2a9c".to_owned(), port: 8080 }.put(&mut registration.meta);
    let said = told(&registration, Format::Registrator);
    assert_eq!((&said["PrivatePort"], &said["ContainerID"]), (&8080.into(), &"3f2a9c".into()));
    assert_eq!(said["Attrs"], serde_json::to_value(&plain).unwrap());
    told(&registration, Format::Curator);

    // What others wrote so is no word of ours, and a member that makes no sense costs nothing but itself.
    let read = |body: &str| layout(Format::Registrator).read(path, body.as_bytes()).unwrap();
    let foreign = read(r#"{"PrivatePort":8080,"ContainerID":"c","Attrs":{"a":"b"}}"#);
    assert_eq!(foreign.registration.meta, [("a".to_owned(), "b".to_owned())].into());
    let odd = String::from_utf8(layout(Format::Registrator).body(&registration, Phase::Adult, 1)).unwrap();
    let odd = read(&odd.replace(r#""PrivatePort":8080"#, r#""PrivatePort":"x""#));
    assert!(odd.ours);
    assert_eq!(odd.registration.meta, plain);
}

#[test]
fn what_others_wrote_is_read() {
    #[track_caller]
    fn check(format: Format, path: &str, body: &str, expect: &str) {
        let got = layout(format).read(path, body.as_bytes()).map(|said| {
            assert!(!said.ours);
            let r = said.registration;
            let rest = format!("{} {:?} {:?} {:?} {}", r.health, r.protocol, r.tags, r.meta, r.owner);
            format!("{} {} {} {rest}", r.id, r.service, r.endpoint)
        });
        assert_eq!(got.as_deref().unwrap_or("none"), expect, "{path} {body}");
    }
    let registrator = |path, body, expect| check(Format::Registrator, path, body, expect);
    let bare = "web/10.0.0.9:80 web 10.0.0.9:80 passing Tcp {} {} unknown";
    registrator("/services/web/10.0.0.9:80", "", bare);
    registrator("/services/web/10.0.0.9:80", "rubbish", bare);
    registrator("/services/web/10.0.0.9:80", r#"{"Tags":7}"#, bare);
    registrator("/services/web/10.0.0.9:80", r#"{"Portolan":{"v":2}}"#, bare);
    registrator(
        "/services/web/10.0.0.9:80",
        r#"{"Name":"web","IP":"10.0.0.9","PublicPort":80,"PrivatePort":8080,"ContainerID":"c","Tags":["x","udp"],"Attrs":{"a":"b"}}"#,
        r#"web/10.0.0.9:80 web 10.0.0.9:80 passing Udp {"udp", "x"} {"a": "b"} unknown"#,
    );
    registrator(
        "/services/web/10.0.0.9:80",
        r#"{"Tags":null,"Attrs":null}"#,
        "web/10.0.0.9:80 web 10.0.0.9:80 passing Tcp {} {} unknown",
    );
    registrator("/services/w/::1:80", "", "w/::1:80 w [::1]:80 passing Tcp {} {} unknown");
    registrator("/services/w/[::1]:080", "", "w/[::1]:080 w [::1]:80 passing Tcp {} {} unknown");
    registrator("/services/w/host_1.x:80", "", "w/host_1.x:80 w host_1.x:80 passing Tcp {} {} unknown");
    for path in ["/services/web/config", "/services/web/a:b", "/services/web/a:+1", "/services/web/a:70000"] {
        registrator(path, "", "none");
    }
    for path in ["/services/web", "/services/web/a:1/b", "/else/web/a:1", "/services//a:1", "/services/web/"]
    {
        registrator(path, "", "none");
    }

    let curator = |path, body, expect| check(Format::Curator, path, body, expect);
    curator(
        "/services/web/8f1e",
        r#"{"name":"web","id":"8f1e","address":"10.0.0.9","port":80,"sslPort":null,"payload":null,"registrationTimeUTC":1,"serviceType":"DYNAMIC","uriSpec":null}"#,
        "web/8f1e web 10.0.0.9:80 passing Tcp {} {} unknown",
    );
    curator(
        "/services/web/8f1e",
        r#"{"name":"web","id":"8f1e","address":"h","sslPort":443,"payload":{"@class":"x.Y","z":1},"enabled":false}"#,
        "web/8f1e web h:443 maintenance Tcp {} {} unknown",
    );
    curator("/services/web/8f1e", "", "none");
}

#[test]
fn the_root_holds_services_too() {
    let root = Layout { base: String::new(), format: Format::Registrator };
    assert_eq!(root.root(), "/");
    assert_eq!(root.directory(&ServiceName::new("zookeeper").unwrap()), "/%7Aookeeper");
    assert_eq!(root.directory_named("zookeeper"), None, "ZooKeeper's own");
    assert_eq!(root.directory_named("web").as_deref(), Some("/web"));
    assert!(root.is_instance("/web/a:1") && !root.is_instance("/zookeeper/quota"));
    assert_eq!([parent("/web/a:1"), parent("/web")], ["/web", "/"]);
}

#[test]
fn namesakes_have_names_of_their_own() {
    let names = layout(Format::Registrator).candidates(&registration());
    assert_eq!(names[1], "/services/订单/10.0.0.9:032768");
    for name in &names {
        let said = layout(Format::Registrator).read(name, b"").unwrap();
        assert_eq!(said.registration.endpoint, registration().endpoint);
    }
}
