//! Containers in, instances out: gliderlabs/registrator's contract, sentence by sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Endpoint, Health, Incarnation, InstanceId, Protocol, Registration, ServiceName, Weight,
};

use super::{Desired, TagsTemplate, desired};
use crate::config::Config;
use crate::container::{Binding, CheckStatus, Container, ContainerId, EngineTime, Life, NetworkMode, Signal};
use crate::world::{Seen, Standing};

mod labels;
mod networks;
mod vectors;

/// A running container of image `nginx` with `80/tcp` published on every address as 32768.
pub(crate) fn container(name: &str) -> Container {
    Container {
        id: ContainerId::new(format!("{name}-0123456789abcdef")),
        name: name.to_owned(),
        hostname: "0123456789ab".to_owned(),
        image: "nginx".to_owned(),
        env: Vec::new(),
        labels: BTreeMap::new(),
        exposed: BTreeSet::from(["80/tcp".parse().unwrap()]),
        bindings: BTreeMap::from([("80/tcp".parse().unwrap(), vec![Binding { host: None, port: 32768 }])]),
        network_mode: NetworkMode::Bridge,
        networks: BTreeMap::from([("bridge".to_owned(), "172.17.0.5".parse().unwrap())]),
        life: Life { running: true, paused: false, started_at: EngineTime(7), check: None, exit: None },
        stop_signal: Signal::TERM,
        stop_timeout: Duration::from_secs(10),
    }
}

/// What the above makes when named so.
pub(crate) fn registration(id: &str) -> Registration {
    Registration {
        id: InstanceId::new(id).unwrap(),
        service: ServiceName::new("nginx").unwrap(),
        endpoint: Endpoint { host: "10.0.0.9".parse().unwrap(), port: 32768 },
        protocol: Protocol::Tcp,
        tags: BTreeSet::new(),
        meta: BTreeMap::new(),
        weight: Weight::default(),
        zone: None,
        owner: config().owner,
        incarnation: Incarnation(7),
        health: Health::Passing,
    }
}

pub(crate) fn config() -> Config {
    Config { ip: "10.0.0.9".parse().unwrap(), ..Config::new("H").unwrap() }
}

pub(crate) fn seen(container: Container, standing: Standing) -> Seen {
    Seen { container: Arc::new(container), standing }
}

impl Container {
    fn image(self, image: &str) -> Self {
        Self { image: image.to_owned(), ..self }
    }

    pub(crate) fn env(mut self, lines: &[&str]) -> Self {
        self.env.extend(lines.iter().map(|line| (*line).to_owned()));
        self
    }

    fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// `port` as `80/tcp`; `bindings` as `32768` or `192.0.2.10:8080`.
    pub(crate) fn port(mut self, port: &str, bindings: &[&str]) -> Self {
        let binding = |text: &str| match text.rsplit_once(':') {
            Some((ip, port)) => Binding { host: Some(ip.parse().unwrap()), port: port.parse().unwrap() },
            None => Binding { host: None, port: text.parse().unwrap() },
        };
        let port = port.parse().unwrap();
        self.exposed.insert(port);
        self.bindings.insert(port, bindings.iter().map(|b| binding(b)).collect());
        self
    }

    fn expose(mut self, port: &str) -> Self {
        self.exposed.insert(port.parse().unwrap());
        self
    }

    fn no_ports(mut self) -> Self {
        self.exposed.clear();
        self.bindings.clear();
        self
    }

    fn mode(mut self, mode: NetworkMode, networks: &[(&str, &str)]) -> Self {
        self.network_mode = mode;
        self.networks = networks.iter().map(|(n, ip)| ((*n).to_owned(), ip.parse().unwrap())).collect();
        self
    }

    fn check(mut self, check: CheckStatus) -> Self {
        self.life.check = Some(check);
        self
    }

    pub(crate) fn started(mut self, at: u64) -> Self {
        self.life.started_at = EngineTime(at);
        self
    }
}

fn web() -> Container {
    container("web")
}

/// One line per instance, then per withheld one, then per problem; of an instance whatever is not the default.
pub(crate) fn lines(desired: &Desired) -> Vec<String> {
    let wanted = desired.wanted.values().map(|wanted| {
        let Registration { id, service, endpoint, protocol, tags, meta, weight, health, .. } =
            &wanted.registration;
        let mut line = format!("{service} {id} {endpoint}");
        if !tags.is_empty() {
            line += &format!(" {{{}}}", tags.iter().cloned().collect::<Vec<_>>().join(" "));
        }
        meta.iter().for_each(|(key, value)| line += &format!(" {key}={value}"));
        if *protocol == Protocol::Udp {
            line += " udp";
        }
        if *weight != Weight::default() {
            line += &format!(" weight {}", weight.0);
        }
        if *health != Health::Passing {
            line += &format!(" {health}");
        }
        if wanted.draining { line + " draining" } else { line }
    });
    let withheld = desired.withheld.iter().map(|(id, withheld)| format!("not {id}: {withheld}"));
    wanted.chain(withheld).chain(desired.problems.iter().map(ToString::to_string)).collect()
}

#[track_caller]
fn check(container: Container, expect: &[&str]) {
    check_with(&config(), container, expect);
}

#[track_caller]
fn check_with(config: &Config, container: Container, expect: &[&str]) {
    assert_eq!(lines(&desired(&[seen(container, Standing::Serving)], config)), expect);
}

fn internal() -> Config {
    Config { internal: true, ..config() }
}

#[test]
fn which_port_of_which_container() {
    let config = Config { origin: true, ..config() };
    let said = " portolan-container=0123456789ab portolan-port=80";
    let line = |id: &str| format!("nginx {id} 10.0.0.9:32768{said}");
    check_with(&config, web(), &[&line("H:web:80")]);
    check_with(&config, web().env(&["SERVICE_ID=x"]), &[&line("x")]);
}

#[test]
fn ports() {
    check(web(), &["nginx H:web:80 10.0.0.9:32768"]);
    check(web().no_ports(), &[]);
    // Not published: skipped, and no member of a group.
    check(web().port("9000/tcp", &[]), &["nginx H:web:80 10.0.0.9:32768"]);
    check(web().port("80/tcp", &[]), &[]);
    // Exposed and unknown to the engine's network: not published either.
    check(web().expose("9000/tcp"), &["nginx H:web:80 10.0.0.9:32768"]);
    // The first binding counts.
    check(web().port("80/tcp", &["8080", "8081"]), &["nginx H:web:80 10.0.0.9:8080"]);
    // Several are a group, by port.
    check(
        web().port("443/tcp", &["32769"]),
        &["nginx-443 H:web:443 10.0.0.9:32769", "nginx-80 H:web:80 10.0.0.9:32768"],
    );
    // An ignored one still is a member.
    check(
        web().port("443/tcp", &["32769"]).env(&["SERVICE_443_IGNORE=1"]),
        &["nginx-80 H:web:80 10.0.0.9:32768"],
    );
    check(
        web().no_ports().port("9/sctp", &["9"]).port("80/tcp", &["81"]),
        &["nginx-80 H:web:80 10.0.0.9:81", "container web port 9/sctp: only tcp and udp can be registered"],
    );
}

#[test]
fn a_flood_of_ports_is_cut_off() {
    let mut container = web().no_ports();
    for number in 1..=1100 {
        container = container.port(&format!("{number}/tcp"), &["1"]);
    }
    let desired = desired(&[seen(container, Standing::Serving)], &config());
    assert_eq!(desired.wanted.len(), super::PORTS_LIMIT);
    assert_eq!(lines(&desired).last().unwrap(), "container web: 1100 ports; the first 1024 are registered");
}

#[test]
fn names() {
    #[track_caller]
    fn image(image: &str, expect: &str) {
        check(web().image(image), &[&format!("{expect} H:web:80 10.0.0.9:32768")]);
    }
    image("nginx:1.27", "nginx");
    image("library/nginx", "nginx");
    image("reg:5000/team/my-app:1.2", "my-app");
    image("redis@sha256:0123456789abcdef", "redis");
    image("reg:5000/redis:7@sha256:0123456789abcdef", "redis");

    check(web().env(&["SERVICE_NAME=shop"]), &["shop H:web:80 10.0.0.9:32768"]);
    check(
        web().env(&["SERVICE_NAME=env"]).label("SERVICE_NAME", "label"),
        &["label H:web:80 10.0.0.9:32768"],
    );
    check(
        web().env(&["SERVICE_NAME=env"]).label("SERVICE_NAME", ""),
        &["nginx H:web:80 10.0.0.9:32768"], // an empty value is unset, and still beats the environment's
    );
    check(
        web().port("443/tcp", &["32769"]).env(&["SERVICE_NAME=gen", "SERVICE_80_NAME=web"]),
        &["gen-443 H:web:443 10.0.0.9:32769", "web H:web:80 10.0.0.9:32768"],
    );
    check(
        web().port("443/tcp", &["32769"]).env(&["SERVICE_80_NAME=", "SERVICE_NAME=gen"]),
        &["gen-443 H:web:443 10.0.0.9:32769", "nginx-80 H:web:80 10.0.0.9:32768"],
    );
    // tcp and udp on one port share a name.
    check(
        container("dns").image("x").no_ports().port("53/tcp", &["53"]).port("53/udp", &["53"]),
        &["x-53 H:dns:53 10.0.0.9:53", "x-53 H:dns:53:udp 10.0.0.9:53 {udp} udp"],
    );
    let not_registered = "not registered";
    check(
        web().env(&["SERVICE_NAME=a/b"]),
        &[&format!(
            "container web port 80/tcp: service name holds '/', which is not allowed there: {not_registered}"
        )],
    );
    check(web().image(""), &["container web port 80/tcp: service name is empty: not registered"]);

    let explicit = Config { explicit: true, ..config() };
    check_with(&explicit, web(), &[]);
    check_with(&explicit, web().env(&["SERVICE_NAME=shop"]), &["shop H:web:80 10.0.0.9:32768"]);
}

#[test]
fn ids() {
    check(web().env(&["SERVICE_ID=mine"]), &["nginx mine 10.0.0.9:32768"]);
    check(
        web().env(&["SERVICE_ID=mine", "SERVICE_80_ID=eighty"]).port("443/tcp", &["32769"]),
        &["nginx-80 eighty 10.0.0.9:32768", "nginx-443 mine 10.0.0.9:32769"],
    );
    // Two ports with one id: both are kept, and told apart.
    check(
        web().env(&["SERVICE_ID=mine"]).port("443/tcp", &["32769"]),
        &[
            "nginx-443 H:web:443 10.0.0.9:32769",
            "nginx-80 mine 10.0.0.9:32768",
            "container web port 443/tcp: id \"mine\" belongs to container web: registered as \"H:web:443\"",
        ],
    );
    let long = "x".repeat(513);
    check(
        web().env(&[&format!("SERVICE_ID={long}")]),
        &[
            "nginx H:web:80 10.0.0.9:32768",
            "container web port 80/tcp: instance id has 513 bytes; at most 512 are allowed: \
             registered under its usual id",
        ],
    );
}

#[test]
fn an_id_stays_with_who_has_it() {
    let old = container("old").env(&["SERVICE_ID=one"]).started(1);
    let new = container("new").env(&["SERVICE_ID=one"]).started(2);
    let both = [seen(new, Standing::Serving), seen(old.clone(), Standing::Serving)];
    assert_eq!(
        lines(&desired(&both, &config())),
        [
            "nginx H:new:80 10.0.0.9:32768",
            "nginx one 10.0.0.9:32768",
            "container new port 80/tcp: id \"one\" belongs to container old: registered as \"H:new:80\"",
        ]
    );
    // Somebody asks for the id that another is given anyway.
    let thief = container("thief").env(&["SERVICE_ID=H:new:80"]).started(1);
    let new = container("new").started(2);
    let both = [seen(new.clone(), Standing::Serving), seen(thief, Standing::Serving)];
    assert_eq!(
        lines(&desired(&both, &config())),
        [
            "nginx H:new:80 10.0.0.9:32768",
            "nginx H:new:80:new-01234567 10.0.0.9:32768",
            "container new port 80/tcp: id \"H:new:80\" belongs to container thief: \
             registered as \"H:new:80:new-01234567\"",
        ]
    );
    // Who has ended has no claim.
    let both = [seen(old, Standing::Stopped), seen(new.env(&["SERVICE_ID=one"]), Standing::Serving)];
    assert_eq!(
        lines(&desired(&both, &config())),
        ["nginx one 10.0.0.9:32768", "not H:old:80: container old has ended"]
    );
}

#[test]
fn addresses() {
    let forced = || Config { force_ip: true, ..config() };
    let on_one = || web().port("80/tcp", &["192.0.2.10:8080"]);
    check(on_one(), &["nginx H:web:80 192.0.2.10:8080"]);
    check_with(&forced(), on_one(), &["nginx H:web:80 10.0.0.9:8080"]);
    check(web().port("80/tcp", &["::1:8080"]), &["nginx H:web:80 [::1]:8080"]);

    // On a user's network: where it is published, since its own address does not serve the host's port.
    let user = || web().mode(NetworkMode::User("shop".into()), &[("a", "10.1.0.2"), ("shop", "10.2.0.2")]);
    check(user(), &["nginx H:web:80 10.0.0.9:32768"]);
    check_with(&internal(), user(), &["nginx H:web:80 10.2.0.2:80"]);
    let by_id = web().mode(NetworkMode::User("f00".into()), &[("a", "10.1.0.2"), ("shop", "10.2.0.2")]);
    check_with(&internal(), by_id, &["nginx H:web:80 10.1.0.2:80"]);

    let unpublished = || web().port("80/tcp", &[]);
    check_with(&internal(), unpublished(), &["nginx H:web:80 172.17.0.5:80"]);
    check_with(&Config { force_ip: true, ..internal() }, unpublished(), &["nginx H:web:80 172.17.0.5:80"]);
    check_with(&internal(), web().no_ports().expose("81/tcp"), &["nginx H:web:81 172.17.0.5:81"]);

    let host = || web().no_ports().mode(NetworkMode::Host, &[]);
    check(host(), &[]);
    check(host().expose("8080/tcp"), &["nginx H:web:8080 10.0.0.9:8080"]);
    check_with(&internal(), host().expose("8080/tcp"), &["nginx H:web:8080 10.0.0.9:8080"]);

    let alone = || web().no_ports().expose("80/tcp").mode(NetworkMode::None, &[]);
    check(alone(), &[]);
    check_with(
        &internal(),
        alone(),
        &["container web port 80/tcp: it has no address (it is on no network): not registered"],
    );

    let labelled = Config { ip_label: Some("ip".into()), ..config() };
    check_with(&labelled, web().label("ip", "10.9.8.7/24"), &["nginx H:web:80 10.9.8.7:32768"]);
    check_with(&labelled, web().label("ip", "10.9.8.7"), &["nginx H:web:80 10.9.8.7:32768"]);
    check_with(&labelled, web(), &["nginx H:web:80 10.0.0.9:32768"]);
    check_with(
        &labelled,
        web().label("ip", "here and there"),
        &[
            "nginx H:web:80 10.0.0.9:32768",
            "container web port 80/tcp: label \"ip\" holds \"here and there\", which is no address: not used",
        ],
    );
}

#[test]
fn a_shared_network_has_its_owners_address() {
    let main = container("main").no_ports();
    let shares = |with: &str| {
        web().no_ports().expose("80/tcp").mode(NetworkMode::Container(with.to_owned()), &[]).started(9)
    };
    let instance = ["nginx H:web:80 172.17.0.5:80"];
    let both = |with: &str| [seen(shares(with), Standing::Serving), seen(main.clone(), Standing::Serving)];
    assert_eq!(lines(&desired(&both(main.id.as_str()), &config())), instance);
    assert_eq!(lines(&desired(&both("main"), &internal())), instance);
    check(
        shares("nobody"),
        &[
            "container web port 80/tcp: it has no address (the container whose network it shares does not run): \
           not registered",
        ],
    );
}

#[test]
fn metadata() {
    check(
        web().env(&["SERVICE_REGION=eu", "SERVICE_80_WEIGHT=5", "SERVICE_FOO_BAR=x=y=z"]),
        &["nginx H:web:80 10.0.0.9:32768 foo_bar=x=y=z region=eu weight=5 weight 5"],
    );
    check(
        web().env(&["SERVICE_ZONE=a", "SERVICE_CHECK_HTTP=/h", "PATH=/bin"]),
        &["nginx H:web:80 10.0.0.9:32768 check_http=/h zone=a"],
    );
    check(
        web().env(&["SERVICE_WEIGHT=heavy"]),
        &[
            "nginx H:web:80 10.0.0.9:32768 weight=heavy",
            "container web port 80/tcp: weight \"heavy\" is not a whole number up to 65535: registered with weight 1",
        ],
    );
    // Any text ignores, even this one; none does not, and leaves no trace.
    check(web().env(&["SERVICE_IGNORE=false"]), &[]);
    check(web().env(&["SERVICE_IGNORE="]), &["nginx H:web:80 10.0.0.9:32768"]);
    check(web().env(&["SERVICE_IGNORE=1"]).label("SERVICE_IGNORE", ""), &["nginx H:web:80 10.0.0.9:32768"]);
    check(web().env(&["SERVICE_80_IGNORE=yes"]), &[]);
    check(web().env(&["SERVICE_81_IGNORE=yes"]), &["nginx H:web:80 10.0.0.9:32768"]);
    // What no registry takes is left out; the rest goes.
    check(
        web().env(&[&format!("SERVICE_LONG={}", "x".repeat(4097)), "SERVICE_A=b"]),
        &[
            "nginx H:web:80 10.0.0.9:32768 a=b",
            "container web port 80/tcp: 1 tags or meta entries pass a limit: registered without them",
        ],
    );
    let many: Vec<String> = (0..300).map(|n| format!("SERVICE_K{n:03}=v")).collect();
    let many = web().env(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let desired = desired(&[seen(many, Standing::Serving)], &config());
    let (_, wanted) = desired.wanted.first_key_value().unwrap();
    assert_eq!(wanted.registration.check_limits(), Ok(()));
    assert_eq!(desired.problems.len(), 1);
}

#[test]
fn tags() {
    check(web().env(&[r"SERVICE_TAGS=foo,bar\,baz,,"]), &["nginx H:web:80 10.0.0.9:32768 {bar,baz foo}"]);
    check(web().env(&["SERVICE_TAGS=,,,,"]), &["nginx H:web:80 10.0.0.9:32768"]);
    check(web().env(&["SERVICE_80_TAGS=p", "SERVICE_TAGS=g"]), &["nginx H:web:80 10.0.0.9:32768 {p}"]);
    let more = Config { tags: TagsTemplate::parse("z").unwrap(), ..config() };
    check_with(
        &more,
        web().no_ports().port("53/udp", &["5353"]).env(&["SERVICE_TAGS=a"]),
        &["nginx H:web:53:udp 10.0.0.9:5353 {a udp z} udp"],
    );
}

#[test]
fn life() {
    #[track_caller]
    fn check(container: Container, standing: Standing, expect: &str) {
        assert_eq!(lines(&desired(&[seen(container, standing)], &config())), [expect]);
    }
    let instance = "nginx H:web:80 10.0.0.9:32768";
    let is = |check| web().check(check);
    let waits = "not H:web:80: container web has not passed its health check yet";
    let ended = "not H:web:80: container web has ended";
    check(web(), Standing::Serving, instance);
    check(web(), Standing::Stopping, &format!("{instance} draining"));
    check(web(), Standing::Stopped, ended);
    check(is(CheckStatus::Starting), Standing::Serving, waits);
    check(is(CheckStatus::Starting), Standing::Stopping, waits);
    check(is(CheckStatus::Healthy), Standing::Serving, instance);
    check(is(CheckStatus::Unhealthy), Standing::Serving, &format!("{instance} critical"));
    check(is(CheckStatus::Unhealthy), Standing::Stopped, ended);
    let mut paused = is(CheckStatus::Unhealthy);
    paused.life.paused = true;
    check(paused, Standing::Serving, &format!("{instance} maintenance"));
    // What has ended has nothing to mend.
    let broken = seen(web().env(&["SERVICE_NAME=a/b"]), Standing::Stopped);
    assert_eq!(desired(&[broken], &config()), Desired::default());
}

#[test]
fn a_restart_is_another_life_of_the_same_id() {
    let life = |at| {
        let desired = desired(&[seen(web().started(at), Standing::Serving)], &config());
        let (id, wanted) = desired.wanted.into_iter().next().unwrap();
        (id.as_str().to_owned(), wanted.registration.incarnation, wanted.origin.to_string())
    };
    let origin = "container web port 80/tcp is published on every address of this host".to_owned();
    assert_eq!(life(1), ("H:web:80".to_owned(), Incarnation(1), origin.clone()));
    assert_eq!(life(2), ("H:web:80".to_owned(), Incarnation(2), origin));
    assert_eq!(config().owner.as_str(), "registrator:H");
    assert_eq!(config().ip, "10.0.0.9".parse::<IpAddr>().unwrap());
}
