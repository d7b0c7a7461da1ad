//! Which address is registered, and what is said of the choice.

use super::*;

/// The endpoint and how it was chosen; or the problem.
#[track_caller]
fn check(config: &Config, container: Container, expect: &str) {
    check_beside(config, vec![container], expect);
}

/// The same of the first of `containers`.
#[track_caller]
fn check_beside(config: &Config, containers: Vec<Container>, expect: &str) {
    let name = containers[0].name.clone();
    let all: Vec<Seen> = containers.into_iter().map(|container| seen(container, Standing::Serving)).collect();
    let desired = desired(&all, config);
    let wanted = desired.wanted.values().filter(|wanted| wanted.origin.container == name);
    let mut lines: Vec<String> =
        wanted.map(|wanted| format!("{}: {}", wanted.registration.endpoint, wanted.origin)).collect();
    lines.extend(desired.problems.iter().map(ToString::to_string));
    assert_eq!(lines.join("; "), expect.replace("PORT", "container web port 80/tcp"));
}

fn on(networks: &[(&str, &str)]) -> Container {
    web().mode(NetworkMode::User("shop".into()), networks)
}

fn configured(network: &str) -> Config {
    Config { network: Some(network.to_owned()), ..internal() }
}

#[test]
fn of_several_networks() {
    let three = || on(&[("back", "10.1.0.2"), ("front", "10.3.0.2"), ("shop", "10.2.0.2")]);
    let check_three = |config: &Config, expect| check(config, three(), expect);
    check_three(&internal(), "10.2.0.2:80: PORT is reached on network shop, which it was started on");
    check_three(&configured("front"), "10.3.0.2:80: PORT is reached on network front, the configured one");
    check_three(
        &configured("other"),
        "10.2.0.2:80: PORT is reached on network shop, which it was started on",
    );
    // Without `-internal` the published port counts, on whichever network the container is.
    check_three(
        &Config { internal: false, ..configured("front") },
        "10.0.0.9:32768: PORT is published on every address of this host",
    );
    check(
        &configured("front"),
        three().label("portolan.network", "back"),
        "10.1.0.2:80: PORT is reached on network back, which its label portolan.network names",
    );
    check(
        &internal(),
        three().label("portolan.network", "nowhere"),
        "10.2.0.2:80: PORT is reached on network shop, which it was started on; \
         PORT: label portolan.network names \"nowhere\", which it is not on: not used",
    );
    check(
        &internal(),
        on(&[("back", "10.1.0.2"), ("front", "10.3.0.2")]),
        "10.1.0.2:80: PORT is reached on network back, the first of 2 by name",
    );
    check(&configured("shop"), on(&[("shop", "10.2.0.2")]), "10.2.0.2:80: PORT is reached on network shop");
}

#[test]
fn networks_without_published_ports() {
    // A macvlan or ipvlan: an address of the outer network, nothing published.
    let macvlan = || web().no_ports().mode(NetworkMode::User("lan".into()), &[("lan", "192.168.1.40")]);
    check(&internal(), macvlan().expose("80/tcp"), "192.168.1.40:80: PORT is reached on network lan");
    check(&internal(), macvlan(), "");
    check(&config(), macvlan().expose("80/tcp"), "");
    check(
        &internal(),
        web().mode(NetworkMode::Bridge, &[]),
        "PORT: it has no address (it is on no network): not registered",
    );
}

#[test]
fn ipv6() {
    let v6 = Config { ip: "2001:db8::9".parse().unwrap(), ..config() };
    let both = || web().port("80/tcp", &["0.0.0.0:32768", ":::32770"]);
    let every = "PORT is published on every address of this host";
    check(&config(), both(), &format!("10.0.0.9:32768: {every}"));
    // The engine may publish under another number there.
    check(&v6, both(), &format!("[2001:db8::9]:32770: {every}"));
    check(&v6, web(), &format!("[2001:db8::9]:32768: {every}"));
    check(
        &config(),
        web().port("80/tcp", &[":::32770"]),
        &format!(
            "10.0.0.9:32770: {every}; PORT: it is published on every address, but not of the family of 10.0.0.9, \
             where it is registered"
        ),
    );
    check(
        &config(),
        web().port("80/tcp", &["2001:db8::7:81"]),
        "[2001:db8::7]:81: PORT is published on 2001:db8::7",
    );
    check(&internal(), on(&[("shop", "fd00::2")]), "[fd00::2]:80: PORT is reached on network shop");
    let udp = web().no_ports().port("53/udp", &[":::5353"]);
    let got = desired(&[seen(udp, Standing::Serving)], &v6);
    assert_eq!(lines(&got), ["nginx H:web:53:udp [2001:db8::9]:5353 {udp} udp"]);
}

#[test]
fn networks_of_other_containers() {
    let shares = |name: &str, with: &str| {
        container(name).no_ports().expose("80/tcp").mode(NetworkMode::Container(with.to_owned()), &[])
    };
    let pod = container("pod")
        .no_ports()
        .mode(NetworkMode::User("shop".into()), &[("back", "10.1.0.2"), ("shop", "10.2.0.2")]);
    let through = "PORT is reached through the network of container pod";
    check_beside(&config(), vec![shares("web", "pod"), pod.clone()], &format!("10.2.0.2:80: {through}"));
    check_beside(
        &configured("back"),
        vec![shares("web", "pod"), pod.clone()],
        &format!("10.1.0.2:80: {through}"),
    );
    let chain = vec![shares("web", "side"), pod, shares("side", "pod")];
    check_beside(&config(), chain, &format!("10.2.0.2:80: {through}"));
    let host = container("pod").no_ports().mode(NetworkMode::Host, &[]);
    check_beside(&config(), vec![shares("web", "pod"), host], &format!("10.0.0.9:80: {through}"));
    check(
        &config(),
        shares("web", "web"),
        "PORT: it has no address (it shares a network in a circle): not registered",
    );
}
