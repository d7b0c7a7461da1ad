//! Containers of one test, gone when it is over, and what a Portolan makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use consul_api::{AgentService, AgentServices};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::{Body, Engine};
use super::image;
use super::process::{self, Up, until};

/// Marks containers of these tests; its value is the rig's prefix.
const LABEL: &str = "portolan.test";

/// What Portolan calls this machine here.
pub(crate) const NODE: &str = "e2e";

/// Where the sample listens inside its container.
pub(crate) const PORT: u16 = 8080;

/// See the module's head.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    image: String,
    prefix: String,
}

/// A container to be.
#[derive(Clone)]
pub(crate) struct Recipe {
    /// What its sample plays, e.g. `service_1`.
    plays: String,
    labels: BTreeMap<String, String>,
    env: Vec<String>,
    published: BTreeSet<u16>,
    exposed: BTreeSet<u16>,
    health_check: Option<Vec<&'static str>>,
    listens: u16,
    on_host_network: bool,
}

impl Recipe {
    /// A sample that plays `name`, with its port published; nothing says what service it is.
    pub(crate) fn unnamed(name: &str) -> Self {
        Self {
            plays: name.to_owned(),
            labels: BTreeMap::new(),
            env: Vec::new(),
            published: [PORT].into(),
            exposed: [PORT].into(),
            health_check: None,
            listens: PORT,
            on_host_network: false,
        }
    }

    pub(crate) fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn env(mut self, line: &str) -> Self {
        self.env.push(line.to_owned());
        self
    }

    pub(crate) fn publish(mut self, port: u16) -> Self {
        self.published.insert(port);
        self.expose(port)
    }

    pub(crate) fn expose(mut self, port: u16) -> Self {
        self.exposed.insert(port);
        self
    }

    pub(crate) fn unpublished(mut self) -> Self {
        self.published.clear();
        self
    }

    /// On the engine's own network, where the sample takes any port: many can be.
    pub(crate) fn on_host_network(mut self) -> Self {
        (self.on_host_network, self.listens) = (true, 0);
        self.unpublished()
    }

    /// HEALTHCHECK with this command.
    pub(crate) fn checked(mut self, command: &[&'static str]) -> Self {
        self.health_check = Some(command.to_vec());
        self
    }

    /// The sample listens on another port than the published one.
    pub(crate) fn deaf(mut self) -> Self {
        self.listens = PORT + 1;
        self
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::on(Engine::of_tests())
    }

    /// On an engine of the test's own.
    pub(crate) fn on(engine: Engine) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let image = image::ensure(&engine);
        let prefix = format!("pt{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { engine, image, prefix }
    }

    /// `portolan up` that follows the engine, so that only events can be the reason for what is seen soon.
    pub(crate) fn up(&self, dir: &TempDir) -> Up {
        self.up_with(dir, &["--docker", self.engine.uri()])
    }

    pub(crate) fn up_with(&self, dir: &TempDir, more: &[&str]) -> Up {
        let (dir, any) = (dir.path().to_str().unwrap(), "127.0.0.1:0");
        let args = ["up", "--node", NODE, "--docker-period", "1h", "--log", "warn", "--cores", "2"];
        let places = ["--data-dir", dir, "--http", any, "--proxy", any];
        Up::of(process::command(&[&args[..], &places, more].concat()))
    }

    /// A name that no other test uses.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The id of the instance of a container's port.
    pub(crate) fn id(&self, container: &str, port: u16) -> String {
        format!("{NODE}:{}:{port}", self.name(container))
    }

    /// A sample of a service, as the articles have them.
    pub(crate) fn sample(&self, service: &str) -> Recipe {
        Recipe::unnamed(service).label("SERVICE_NAME", &self.name(service))
    }

    /// The name of an unnamed container's service.
    pub(crate) fn image_base(&self) -> &str {
        self.image.split(':').next().unwrap()
    }

    /// Creates and starts a container.
    pub(crate) fn run(&self, name: &str, recipe: &Recipe) {
        let full = self.name(name);
        let port = |port: &u16| format!("{port}/tcp");
        let anywhere = json!([{"HostIp": "127.0.0.1", "HostPort": "0"}]);
        let bindings: BTreeMap<String, &Value> =
            recipe.published.iter().map(|number| (port(number), &anywhere)).collect();
        let exposed: BTreeMap<String, Value> =
            recipe.exposed.iter().map(|number| (port(number), json!({}))).collect();
        let labels: BTreeMap<&str, &str> = recipe
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain([(LABEL, self.prefix.as_str())])
            .collect();
        let listen = format!("0.0.0.0:{}", recipe.listens);
        let mut spec = json!({
            "Image": self.image,
            "Cmd": ["/portolan", "sample", "--listen", listen, "--name", recipe.plays, "--instance", name],
            "Env": recipe.env,
            "Labels": labels,
            "ExposedPorts": exposed,
            "HostConfig": {"PortBindings": bindings},
        });
        if recipe.on_host_network {
            spec["HostConfig"]["NetworkMode"] = "host".into();
        }
        if let Some(command) = &recipe.health_check {
            let second = 1_000_000_000u64;
            let words = [&["CMD"], command.as_slice()].concat();
            spec["Healthcheck"] = json!({
                "Test": words,
                "Interval": second / 5, "Timeout": 10 * second, "Retries": 1,
                "StartPeriod": 120 * second, "StartInterval": second / 5,
            });
        }
        self.engine.call("POST", &format!("/containers/create?name={full}"), &Body::Json(&spec));
        self.start(name);
    }

    pub(crate) fn start(&self, name: &str) {
        self.engine.post(&format!("/containers/{}/start", self.name(name)));
    }

    /// `docker stop`.
    pub(crate) fn stop(&self, name: &str) {
        self.engine.post(&format!("/containers/{}/stop?t=30", self.name(name)));
    }

    /// `docker restart`.
    pub(crate) fn restart(&self, name: &str) {
        self.engine.post(&format!("/containers/{}/restart?t=30", self.name(name)));
    }

    /// `docker kill`.
    pub(crate) fn kill(&self, name: &str) {
        self.engine.post(&format!("/containers/{}/kill", self.name(name)));
    }

    /// `docker rm -f`.
    pub(crate) fn remove(&self, name: &str) {
        let path = format!("/containers/{}?force=true&v=true", self.name(name));
        self.engine.call("DELETE", &path, &Body::Nothing);
    }

    /// Puts a file into a running container.
    pub(crate) fn put(&self, name: &str, file: &str, content: &str) {
        let archive = image::tar(&[(file, content.as_bytes())]);
        let path = format!("/containers/{}/archive?path=/", self.name(name));
        self.engine.call("PUT", &path, &Body::Tar(&archive));
    }

    pub(crate) fn inspect(&self, name: &str) -> Value {
        self.engine.get(&format!("/containers/{}/json", self.name(name)))
    }

    /// The host port of a published port.
    pub(crate) fn published(&self, name: &str, port: u16) -> u16 {
        let found = self.inspect(name);
        let binding = &found["NetworkSettings"]["Ports"][format!("{port}/tcp")][0]["HostPort"];
        binding
            .as_str()
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("{name}:{port} in {found}"))
    }

    /// `docker ps`: the names of this test's containers that run.
    pub(crate) fn running(&self) -> BTreeSet<String> {
        let all = self.containers("");
        let names = all.iter().filter_map(|container| container["Names"][0].as_str());
        names.filter_map(|name| name.strip_prefix(&format!("/{}-", self.prefix))).map(str::to_owned).collect()
    }

    fn containers(&self, query: &str) -> Vec<Value> {
        let filters = format!("%7B%22label%22%3A%5B%22{LABEL}%3D{}%22%5D%7D", self.prefix);
        let found = self.engine.get(&format!("/containers/json?filters={filters}{query}"));
        found.as_array().unwrap().clone()
    }

    /// What the registry's HTTP face shows of this test's instances, by id. Others may use the engine too.
    pub(crate) fn registered(&self, up: &Up) -> BTreeMap<String, AgentService> {
        self.registered_at(&up.http)
    }

    /// The same, of whichever process serves that face.
    pub(crate) fn registered_at(&self, http: &str) -> BTreeMap<String, AgentService> {
        let (status, said) = process::get(&format!("{http}/v1/agent/services"), &[]);
        assert_eq!(status, 200, "{said}");
        let mut all: AgentServices = serde_json::from_str(&said).unwrap();
        all.retain(|id, _| id.contains(&self.prefix));
        all.into_iter().collect()
    }

    /// Waits until exactly the default instances of these containers are registered and get requests.
    #[track_caller]
    pub(crate) fn serves(&self, up: &Up, containers: &[&str]) {
        let expect: BTreeSet<String> = containers.iter().map(|name| self.id(name, PORT)).collect();
        let shown = |service: &AgentService| {
            let phase = service.portolan.as_ref().and_then(|more| more.phase.clone());
            phase.as_deref() != Some("draining")
        };
        until(&format!("{containers:?} serve"), || {
            let found = self.registered(up);
            let all = found.values().all(shown) && found.keys().cloned().collect::<BTreeSet<_>>() == expect;
            all.then_some(())
        });
    }

    /// Whether the engine itself accepts connections on published ports, also when the container does not listen: its
    /// "userland proxy". It then closes them without a word.
    pub(crate) fn is_proxied(&self) -> bool {
        self.run("deaf", &Recipe::unnamed("deaf").label("SERVICE_IGNORE", "1").deaf());
        let accepts = TcpStream::connect(("127.0.0.1", self.published("deaf", PORT))).is_ok();
        self.remove("deaf");
        accepts
    }

    /// Tells when the container's process has died: when its last socket is closed, not its first.
    pub(crate) fn death(&self, name: &str) -> JoinHandle<Instant> {
        let found = self.inspect(name);
        let process = first_process(found["Id"].as_str().unwrap());
        let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let process = process.unwrap_or_else(|| panic!("no process of {name:?} can be seen from here"));
        thread::spawn(move || {
            poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
            Instant::now()
        })
    }
}

/// The process that a container began with. Its engine may count processes in a namespace of its own, so that the number it
/// tells is another's here.
fn first_process(container: &str) -> Option<Pid> {
    let host_name = format!("HOSTNAME={}", &container[..12]);
    let is_first = |process: &Path| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let mut numbers = status.lines().filter_map(|line| line.strip_prefix("NSpid:"));
        environment.split(|byte| *byte == 0).any(|variable| variable == host_name.as_bytes())
            && numbers.any(|numbers| numbers.split_whitespace().last() == Some("1"))
    };
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let first = all.filter(|path| is_first(path)).find_map(|path| path.file_name()?.to_str()?.parse().ok());
    Pid::from_raw(first?)
}

impl Drop for Rig {
    /// Removes all of it, also when the test failed.
    fn drop(&mut self) {
        for container in self.containers("&all=true") {
            let path =
                format!("/containers/{}?force=true&v=true", container["Id"].as_str().unwrap_or_default());
            let removed = self.engine.exchange("DELETE", &path, &Body::Nothing);
            let gone = matches!(removed, Ok((200..300 | 404, _)));
            assert!(gone || thread::panicking(), "{path}: {removed:?}");
        }
    }
}
