//! `portolan.*` labels.

use super::*;

#[track_caller]
fn check(labels: &[(&str, &str)], expect: &[&str]) {
    check_of(web(), labels, expect);
}

#[track_caller]
fn check_of(container: Container, labels: &[(&str, &str)], expect: &[&str]) {
    let labelled = labels.iter().fold(container, |container, (key, value)| container.label(key, value));
    super::check(labelled, expect);
}

fn two() -> Container {
    web().port("9090/tcp", &["32769"])
}

#[test]
fn routes_travel_as_meta() {
    check(&[("portolan.host", "a.test")], &["nginx H:web:80 10.0.0.9:32768 portolan_host=a.test"]);
    check(
        &[("portolan.host", "a.test,b.test"), ("portolan.path", "/x"), ("portolan.strip", "true")],
        &["nginx H:web:80 10.0.0.9:32768 portolan_host=a.test,b.test portolan_path=/x portolan_strip=true"],
    );
    check(&[("portolan.80.path", "/x")], &["nginx H:web:80 10.0.0.9:32768 portolan_path=/x"]);
    check(&[("portolan.81.path", "/x")], &["nginx H:web:80 10.0.0.9:32768"]);
    check(&[("portolan.host", "")], &["nginx H:web:80 10.0.0.9:32768"]);
    check(&[("portolan.colour", "red")], &["nginx H:web:80 10.0.0.9:32768"]);
    // Whether it is a route is for the gateway to say.
    check(&[("portolan.host", "no host")], &["nginx H:web:80 10.0.0.9:32768 portolan_host=no host"]);
    // The same by environment, where only that can be said.
    super::check(
        web().env(&["SERVICE_PORTOLAN_HOST=a.test"]),
        &["nginx H:web:80 10.0.0.9:32768 portolan_host=a.test"],
    );
    check_of(
        web().env(&["SERVICE_PORTOLAN_HOST=env.test"]),
        &[("portolan.host", "label.test")],
        &["nginx H:web:80 10.0.0.9:32768 portolan_host=label.test"],
    );
}

#[test]
fn a_route_leads_to_one_port() {
    let host = ("portolan.host", "a.test");
    let plain = "nginx-9090 H:web:9090 10.0.0.9:32769";
    check_of(two(), &[host], &["nginx-80 H:web:80 10.0.0.9:32768 portolan_host=a.test", plain]);
    check_of(
        two(),
        &[host, ("portolan.port", "9090")],
        &["nginx-80 H:web:80 10.0.0.9:32768", "nginx-9090 H:web:9090 10.0.0.9:32769 portolan_host=a.test"],
    );
    check_of(
        two(),
        &[host, ("portolan.9090.host", "admin.test"), ("portolan.9090.path", "/x")],
        &[
            "nginx-80 H:web:80 10.0.0.9:32768 portolan_host=a.test",
            "nginx-9090 H:web:9090 10.0.0.9:32769 portolan_host=admin.test portolan_path=/x",
        ],
    );
    check_of(two(), &[host, ("portolan.80.host", "")], &["nginx-80 H:web:80 10.0.0.9:32768", plain]);
    check_of(
        two(),
        &[host, ("portolan.80.enable", "false")],
        &["nginx-9090 H:web:9090 10.0.0.9:32769 portolan_host=a.test"],
    );
    check_of(
        web().no_ports().port("53/udp", &["53"]).port("53/tcp", &["53"]),
        &[("portolan.53.host", "dns.test")],
        &[
            "nginx-53 H:web:53 10.0.0.9:53 portolan_host=dns.test",
            "nginx-53 H:web:53:udp 10.0.0.9:53 {udp} udp",
        ],
    );
    for port in ["81", "http"] {
        check(
            &[host, ("portolan.port", port)],
            &[
                "nginx H:web:80 10.0.0.9:32768",
                &format!(
                    "container web: label portolan.port names \"{port}\", which is no TCP port that is registered: \
                     no route is asked for"
                ),
            ],
        );
    }
}

#[test]
fn weight_and_enable() {
    check(&[("portolan.weight", "7")], &["nginx H:web:80 10.0.0.9:32768 weight 7"]);
    check(
        &[("portolan.weight", "7"), ("portolan.80.weight", "0")],
        &["nginx H:web:80 10.0.0.9:32768 weight 0"],
    );
    check_of(
        web().env(&["SERVICE_WEIGHT=3"]),
        &[("portolan.weight", "7")],
        &["nginx H:web:80 10.0.0.9:32768 weight=3 weight 7"],
    );
    check(
        &[("portolan.weight", "heavy")],
        &[
            "nginx H:web:80 10.0.0.9:32768",
            "container web port 80/tcp: weight \"heavy\" is not a whole number up to 65535: registered with weight 1",
        ],
    );
    check(&[("portolan.enable", "false")], &[]);
    check(&[("portolan.enable", "true")], &["nginx H:web:80 10.0.0.9:32768"]);
    check(&[("portolan.enable", "no"), ("portolan.80.enable", "yes")], &["nginx H:web:80 10.0.0.9:32768"]);
    check_of(two(), &[("portolan.9090.enable", "0")], &["nginx-80 H:web:80 10.0.0.9:32768"]);
}
