use portolan_model::{Endpoint, Health, Incarnation, Owner, Protocol, Weight, Zone};

use super::*;

fn layouts() -> [Layout; 3] {
    [Layout::json("/p"), Layout::registrator("/p"), Layout::skydns("apps.local")]
}

fn full() -> Kept {
    let registration = Registration {
        id: InstanceId::new("host:web/1:80:udp").unwrap(),
        service: ServiceName::new("订单").unwrap(),
        endpoint: Endpoint { host: "fe80::1".parse().unwrap(), port: 8080 },
        protocol: Protocol::Udp,
        tags: ["a".to_owned(), "b,c".to_owned()].into(),
        meta: [("path".to_owned(), "/x \"y\" 订单".to_owned())].into(),
        weight: Weight(0),
        zone: Some(Zone::new("rack-1").unwrap()),
        owner: Owner::new("host").unwrap(),
        incarnation: Incarnation(u64::MAX),
        health: Health::Maintenance,
    };
    Kept { registration, phase: Phase::Draining }
}

fn plain() -> Kept {
    let mut kept = full();
    kept.phase = Phase::Adult;
    kept.registration = Registration {
        id: InstanceId::new("h:c:80").unwrap(),
        service: ServiceName::new("web").unwrap(),
        endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: 80 },
        protocol: Protocol::Tcp,
        tags: [].into(),
        meta: [].into(),
        weight: Weight(1),
        zone: None,
        owner: Owner::new("h").unwrap(),
        incarnation: Incarnation(0),
        health: Health::Passing,
    };
    kept
}

#[test]
fn what_is_written_is_read_back() {
    for layout in layouts() {
        for kept in [full(), plain()] {
            let place = layout.place(&kept.registration).unwrap();
            let (keys, values) = (layout.keys(&place), layout.write(&kept));
            assert_eq!(keys.len(), values.len());
            assert_eq!(keys[0].0, Part::Main);
            for (part, key) in keys {
                assert_eq!(layout.locate(&key), Some((place.clone(), part)));
            }
            assert_eq!(layout.read(&place, &values[0], values.get(1).map(|v| &v[..])), Some(kept));
        }
    }
}

/// Stored forms are a contract.
#[test]
fn golden() {
    #[track_caller]
    fn check(layout: &Layout, expect: &[(&str, &str)]) {
        let kept = plain();
        let keys = layout.keys(&layout.place(&kept.registration).unwrap());
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let got: Vec<_> = keys
            .into_iter()
            .map(|(_, key)| text(key))
            .zip(layout.write(&kept).into_iter().map(text))
            .collect();
        let got: Vec<_> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, expect);
    }
    let [json, registrator, skydns] = layouts();
    check(&json, &[("/p/web/h:c:80", r#"{"host":"10.0.0.1","port":80,"v":1,"owner":"h","phase":"adult"}"#)]);
    check(
        &registrator,
        &[
            ("/p/web/h:c:80", "10.0.0.1:80"),
            ("/p/.portolan/web/h:c:80", r#"{"at":"10.0.0.1:80","v":1,"owner":"h","phase":"adult"}"#),
        ],
    );
    check(
        &skydns,
        &[(
            "/skydns/local/apps/web/h:c:80",
            r#"{"host":"10.0.0.1","port":80,"weight":1,"portolan":{"v":1,"owner":"h","phase":"adult"}}"#,
        )],
    );
}

#[test]
fn what_others_wrote() {
    #[track_caller]
    fn check(layout: &Layout, key: &str, value: &str, expect: &str) {
        let got = layout.locate(key.as_bytes()).and_then(|(place, part)| {
            assert_eq!(part, Part::Main);
            let said = layout.read(&place, value.as_bytes(), None)?.registration;
            Some(format!(
                "{} {} {} {:?} {}",
                said.service, said.id, said.endpoint, said.protocol, said.weight.0
            ))
        });
        assert_eq!(got.unwrap_or_else(|| "none".to_owned()), expect, "{key} {value}");
    }
    let [json, registrator, skydns] = layouts();
    for layout in [&json, &registrator] {
        check(layout, "/p/web/h:c:80", "10.0.0.1:80", "web h:c:80 10.0.0.1:80 Tcp 1");
        check(layout, "/p/web/h:c:53:udp", "10.0.0.1:53\n", "web h:c:53:udp 10.0.0.1:53 Udp 1");
        check(layout, "/p/web/1", "[::1]:80", "web web/1 [::1]:80 Tcp 1");
        check(layout, "/p/web/1", "db.internal:5432", "web web/1 db.internal:5432 Tcp 1");
        for bad in ["", "10.0.0.1", "10.0.0.1:99999", "a b:80", "{}"] {
            check(layout, "/p/web/1", bad, "none");
        }
        for bad in ["/p/web", "/p/web/", "/p//1", "/other/web/1"] {
            check(layout, bad, "10.0.0.1:80", "none");
        }
    }
    check(
        &skydns,
        "/skydns/local/apps/web/x",
        r#"{"host":"10.0.0.1","port":80,"weight":9,"ttl":60}"#,
        "web web/x 10.0.0.1:80 Tcp 9",
    );
    check(&skydns, "/skydns/local/apps/web/x", r#"{"host":"db.internal"}"#, "web web/x db.internal:0 Tcp 1");
    check(&json, "/p/web/1", r#"{"host":"10.0.0.1","port":80,"v":2,"owner":"h","phase":"adult"}"#, "none");
}

#[test]
fn extras_of_a_value_that_was_replaced_are_about_nothing() {
    let layout = Layout::registrator("/p");
    let kept = full();
    let place = layout.place(&kept.registration).unwrap();
    let values = layout.write(&kept);
    let read = layout.read(&place, b"10.9.9.9:1", Some(&values[1])).unwrap();
    assert_eq!((read.registration.owner.as_str(), read.phase), ("unknown", Phase::Adult));
}

#[test]
fn a_service_cannot_take_the_place_of_extras() {
    let mut registration = plain().registration;
    registration.service = ServiceName::new(".portolan").unwrap();
    assert!(Layout::registrator("/p").place(&registration).is_err());
    assert!(Layout::json("/p").place(&registration).is_ok());
}
