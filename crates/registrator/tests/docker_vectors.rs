//! What a real engine says of containers, and which instances that makes: a sample of the rows in `desired/tests/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, unreachable_pub, reason = "a module of tests, which others use too")]
mod rig;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard::models::{
    ContainerConfig, ContainerCreateBody, EndpointSettings, HostConfig, NetworkConnectRequest, PortBinding,
};
use bollard::query_parameters::{CommitContainerOptionsBuilder, InspectNetworkOptions};
use registrator::container::ContainerId;
use registrator::desired::{TagsTemplate, desired};
use registrator::docker::Engine;
use registrator::world::{Seen, Standing};
use registrator::{Config, ContainerSource};
use rig::Rig;

/// The test engine, containers in it and two networks.
struct Stage {
    rig: Rig,
    engine: Engine,
    networks: [String; 2],
    seen: Vec<Seen>,
}

impl Stage {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let engine = Engine::new(Some(&rig::uri()), None).unwrap();
        engine.listen(None).await.unwrap();
        let networks = [rig.network("a").await, rig.network("b").await];
        Self { rig, engine, networks, seen: Vec::new() }
    }

    /// Starts a container, and reads it as the registrator does.
    async fn up(&mut self, name: &str, body: ContainerCreateBody, also_on: Option<&str>) {
        self.rig.create(name, body).await;
        if let Some(network) = also_on {
            let container = self.rig.name(name);
            let request =
                NetworkConnectRequest { container, endpoint_config: Some(EndpointSettings::default()) };
            self.rig.docker.connect_network(network, request).await.unwrap();
        }
        self.rig.start(name).await;
        let id = ContainerId::new(self.rig.inspect(name).await.id.unwrap());
        let container = self.engine.inspect(id).await.unwrap().unwrap();
        self.seen.push(Seen { container: Arc::new(container), standing: Standing::Serving });
    }

    /// An image of container `name` that exposes `80/tcp`.
    async fn exposing(&self, name: &str) -> String {
        let container = self.rig.name(name);
        let options =
            CommitContainerOptionsBuilder::new().container(&container).repo(&self.rig.prefix).tag("exposing");
        let ports = Some(vec!["80/tcp".to_owned()]);
        let config = ContainerConfig { exposed_ports: ports, ..ContainerConfig::default() };
        self.rig.docker.commit_container(options.build(), config).await.unwrap();
        format!("{}:exposing", self.rig.prefix)
    }

    /// The address that `name` has on `network`.
    async fn address(&self, name: &str, network: &str) -> String {
        let found = self.rig.inspect(name).await.network_settings.unwrap().networks.unwrap();
        found[network].ip_address.clone().unwrap()
    }

    /// Every instance of `name`, by port: service, endpoint, tags and meta, how its address was chosen.
    fn instances(&self, name: &str, config: &Config) -> BTreeMap<String, String> {
        let desired = desired(&self.seen, config);
        assert!(desired.problems.is_empty(), "{:?}", desired.problems);
        let prefix = format!("H:{}:", self.rig.name(name));
        let lines = desired.wanted.into_iter().filter_map(|(id, wanted)| {
            let port = id.as_str().strip_prefix(&prefix)?.to_owned();
            let said = wanted.registration;
            let tags: Vec<String> = said.tags.into_iter().collect();
            let meta: Vec<String> = said.meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let origin = wanted.origin.to_string();
            let choice = origin.split_once(" is ").map(|(_, choice)| choice.to_owned()).unwrap();
            let line = format!(
                "{} {} {{{}}} {{{}}} {choice}",
                said.service,
                said.endpoint,
                tags.join(" "),
                meta.join(" ")
            );
            Some((port, line.replace(&self.rig.prefix, "P")))
        });
        lines.collect()
    }

    /// The one instance of `name`.
    #[track_caller]
    fn check(&self, name: &str, config: &Config, port: &str, expect: &str) {
        let expect = BTreeMap::from([(port.to_owned(), expect.to_owned())]);
        assert_eq!(self.instances(name, config), expect, "{name}");
    }
}

fn in_mode(body: ContainerCreateBody, mode: &str) -> ContainerCreateBody {
    let host = body.host_config.unwrap_or_default();
    ContainerCreateBody {
        host_config: Some(HostConfig { network_mode: Some(mode.to_owned()), ..host }),
        ..body
    }
}

fn labelled(mut body: ContainerCreateBody, label: &str, value: &str) -> ContainerCreateBody {
    body.labels.get_or_insert_default().insert(label.to_owned(), value.to_owned());
    body
}

fn config() -> Config {
    Config { ip: "10.0.0.9".parse().unwrap(), ..Config::new("H").unwrap() }
}

fn internal() -> Config {
    Config { internal: true, ..config() }
}

#[tokio::test]
async fn networks() {
    let mut stage = Stage::new().await;
    let [a, b] = stage.networks.clone();
    let sleeper = |stage: &Stage| stage.rig.sleeper();
    stage.up("two", in_mode(sleeper(&stage), &b), Some(&a)).await;
    let on_a = stage.address("two", &a).await;
    let on_b = stage.address("two", &b).await;
    let reached = |ip: &str, how: &str| format!("P {ip}:80 {{}} {{}} reached on network {how}");
    stage.check("two", &internal(), "80", &reached(&on_b, "P-b, which it was started on"));
    let chosen = Config { network: Some(a.clone()), ..internal() };
    stage.check("two", &chosen, "80", &reached(&on_a, "P-a, the configured one"));
    let published = stage.rig.published("two").await;
    let expect = format!("P 127.0.0.1:{published} {{}} {{}} published on 127.0.0.1");
    stage.check("two", &config(), "80", &expect);

    stage.up("label", labelled(in_mode(sleeper(&stage), &b), "portolan.network", &a), Some(&a)).await;
    let on_a = stage.address("label", &a).await;
    stage.check("label", &internal(), "80", &reached(&on_a, "P-a, which its label portolan.network names"));

    let options = None::<InspectNetworkOptions>;
    let id = stage.rig.docker.inspect_network(&b, options).await.unwrap().id.unwrap();
    stage.up("by-id", in_mode(sleeper(&stage), &id), Some(&a)).await;
    let on_b = stage.address("by-id", &b).await;
    stage.check("by-id", &internal(), "80", &reached(&on_b, "P-b, which it was started on"));

    let unpublished = ContainerCreateBody { host_config: None, ..sleeper(&stage) };
    stage.up("host", in_mode(unpublished.clone(), "host"), None).await;
    stage.check("host", &config(), "80", "P 10.0.0.9:80 {} {} on the host's network");

    // What shares a network can be said to expose a port by its image alone.
    let image = stage.exposing("two").await;
    let shares = format!("container:{}", stage.rig.name("two"));
    let side = ContainerCreateBody { exposed_ports: None, image: Some(image), ..unpublished };
    stage.up("side", in_mode(side, &shares), None).await;
    let on_b = stage.address("two", &b).await;
    let expect = format!("P {on_b}:80 {{}} {{}} reached through the network of container P-two");
    stage.check("side", &config(), "80", &expect);
}

#[tokio::test]
async fn descriptions() {
    let mut stage = Stage::new().await;
    let binding =
        || Some(vec![PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some("0".into()) }]);
    let both = HashMap::from([("80/tcp".to_owned(), binding()), ("53/udp".to_owned(), binding())]);
    let network = stage.networks[0].clone();
    let mut body = labelled(in_mode(stage.rig.sleeper(), &network), "portolan.host", "shop.test");
    body = labelled(body, "team", "blue");
    body = labelled(body, "SERVICE_80_NAME", "shop");
    body.hostname = Some("inside".to_owned());
    body.env =
        Some(["SERVICE_NAME=gen", "SERVICE_TAGS=a\\,b,,c", "SERVICE_53_TAGS=dns"].map(str::to_owned).into());
    body.exposed_ports = Some(vec!["80/tcp".to_owned(), "53/udp".to_owned(), "9000/tcp".to_owned()]);
    body.host_config = body.host_config.map(|host| HostConfig { port_bindings: Some(both), ..host });
    stage.up("web", body, None).await;
    let template = "{{mIndex \"team\" .Config.Labels}},{{strSlice .Name 1 3}},{{.Config.Hostname}},{{len .ID}},\
                    {{.HostConfig.NetworkMode | splitIndex -1 \"-\"}}";
    let config = Config { tags: TagsTemplate::parse(template).unwrap(), ..config() };
    let found = stage.rig.inspect("web").await.network_settings.unwrap().ports.unwrap();
    let port = |port: &str| found[port].as_ref().unwrap()[0].host_port.clone().unwrap();
    let on = "published on 127.0.0.1";
    let expect = [
        (
            "80",
            format!(
                "shop 127.0.0.1:{} {{64 a a,b blue c inside pr}} {{portolan_host=shop.test}} {on}",
                port("80/tcp")
            ),
        ),
        ("53:udp", format!("gen-53 127.0.0.1:{} {{64 a blue dns inside pr udp}} {{}} {on}", port("53/udp"))),
    ];
    let expect: BTreeMap<String, String> = expect.map(|(port, line)| (port.to_owned(), line)).into();
    assert_eq!(stage.instances("web", &config), expect);
}
