//! A real engine, and containers in it that are gone when the test is.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bollard::errors::Error;
use bollard::exec::StartExecOptions;
use bollard::models::{
    ContainerCreateBody, EventMessage, ExecConfig, HealthConfig, HostConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, PortBinding,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions, RenameContainerOptions,
    RestartContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use futures_util::{Stream, StreamExt};
use http::header::HOST;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

const LABEL: &str = "portolan.test";

/// The engine that tests may use.
pub fn uri() -> String {
    std::env::var("PORTOLAN_TEST_DOCKER").unwrap_or_else(|_| {
        panic!("PORTOLAN_TEST_DOCKER does not say where the test engine is: run `cargo xtask setup`, then `cargo xtask test`")
    })
}

fn client() -> Docker {
    let call =
        |request| call(uri().strip_prefix("unix://").expect("it listens on a unix socket").into(), request);
    Docker::connect_with_custom_transport(call, Some("http://engine"), 60, API_DEFAULT_VERSION).unwrap()
}

async fn call(socket: PathBuf, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    request.headers_mut().insert(HOST, HeaderValue::from_static("engine"));
    *request.uri_mut() = request.uri().path_and_query().unwrap().clone().into();
    Ok(sender.send_request(request).await?)
}

/// An image and containers of one test.
pub struct Rig {
    pub docker: Docker,
    /// Begins the name of everything here.
    pub prefix: String,
}

impl Rig {
    /// Imports a busybox as an image of this test alone.
    pub async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("pr{}x{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let docker = client();
        let busybox = std::fs::read("/bin/busybox").expect("/bin/busybox: run `cargo xtask setup`");
        let layer = tar(&[("bin/busybox", &busybox), ("bin/sh", &busybox)]);
        let options = CreateImageOptionsBuilder::new().from_src("-").repo(&prefix).tag("1").build();
        let mut progress = docker.create_image(Some(options), Some(bollard::body_full(layer.into())), None);
        while let Some(step) = progress.next().await {
            step.unwrap();
        }
        drop(progress);
        Self { docker, prefix }
    }

    /// The full name of the container `name`.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A container that sleeps and ends on SIGTERM, with `80/tcp` published on some port of loopback.
    pub fn sleeper(&self) -> ContainerCreateBody {
        let binding = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some("0".into()) };
        ContainerCreateBody {
            host_config: Some(HostConfig {
                port_bindings: Some(HashMap::from([("80/tcp".to_owned(), Some(vec![binding]))])),
                ..HostConfig::default()
            }),
            exposed_ports: Some(vec!["80/tcp".to_owned()]),
            ..self.script("trap 'exit 0' TERM; while :; do busybox sleep 1000 & wait; done")
        }
    }

    /// A container that runs `script`.
    pub fn script(&self, script: &str) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(format!("{}:1", self.prefix)),
            cmd: Some(["/bin/sh", "-c", script].map(str::to_owned).into()),
            env: Some(vec!["PATH=/bin".to_owned()]),
            labels: Some(HashMap::from([(LABEL.to_owned(), self.prefix.clone())])),
            ..ContainerCreateBody::default()
        }
    }

    /// A check that passes while there is a file `/well`.
    pub fn checked(&self) -> ContainerCreateBody {
        const EVERY: i64 = 50_000_000;
        let test = ["CMD", "/bin/busybox", "test", "-e", "/well"].map(str::to_owned).into();
        ContainerCreateBody {
            healthcheck: Some(HealthConfig {
                test: Some(test),
                interval: Some(EVERY),
                timeout: Some(10_000_000_000),
                retries: Some(1),
                start_period: Some(60_000_000_000),
                ..HealthConfig::default()
            }),
            ..self.sleeper()
        }
    }

    /// A network of this test; its full name.
    pub async fn network(&self, name: &str) -> String {
        let labels = Some(HashMap::from([(LABEL.to_owned(), self.prefix.clone())]));
        let name = self.name(name);
        let request = NetworkCreateRequest { name: name.clone(), labels, ..NetworkCreateRequest::default() };
        self.docker.create_network(request).await.unwrap();
        name
    }

    pub async fn create(&self, name: &str, body: ContainerCreateBody) {
        let options = CreateContainerOptionsBuilder::new().name(&self.name(name)).build();
        self.docker.create_container(Some(options), body).await.unwrap();
    }

    pub async fn start(&self, name: &str) {
        self.docker
            .start_container(&self.name(name), None::<bollard::query_parameters::StartContainerOptions>)
            .await
            .unwrap();
    }

    pub async fn stop(&self, name: &str) {
        let options = StopContainerOptionsBuilder::new().t(10).build();
        self.docker.stop_container(&self.name(name), Some(options)).await.unwrap();
    }

    pub async fn restart(&self, name: &str) {
        let options = RestartContainerOptionsBuilder::new().t(10).build();
        self.docker.restart_container(&self.name(name), Some(options)).await.unwrap();
    }

    pub async fn kill(&self, name: &str, signal: &str) {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        self.docker.kill_container(&self.name(name), Some(options)).await.unwrap();
    }

    pub async fn rename(&self, name: &str, to: &str) {
        let options = RenameContainerOptions { name: self.name(to) };
        self.docker.rename_container(&self.name(name), options).await.unwrap();
    }

    pub async fn remove(&self, name: &str) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        self.docker.remove_container(&self.name(name), Some(options)).await.unwrap();
    }

    pub async fn exec(&self, name: &str, command: &[&str]) {
        let config = ExecConfig {
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            ..ExecConfig::default()
        };
        let exec = self.docker.create_exec(&self.name(name), config).await.unwrap();
        let options = StartExecOptions { detach: true, ..StartExecOptions::default() };
        self.docker.start_exec(&exec.id, Some(options)).await.unwrap();
    }

    pub async fn leave_bridge(&self, name: &str) {
        let request = NetworkDisconnectRequest { container: self.name(name), force: Some(false) };
        self.docker.disconnect_network("bridge", request).await.unwrap();
    }

    pub async fn join_bridge(&self, name: &str) {
        let request = NetworkConnectRequest { container: self.name(name), endpoint_config: None };
        self.docker.connect_network("bridge", request).await.unwrap();
    }

    /// The host port of `80/tcp`.
    pub async fn published(&self, name: &str) -> u16 {
        let found = self.inspect(name).await;
        let ports = found.network_settings.unwrap().ports.unwrap();
        ports["80/tcp"].as_ref().unwrap()[0].host_port.as_ref().unwrap().parse().unwrap()
    }

    pub async fn inspect(&self, name: &str) -> bollard::models::ContainerInspectResponse {
        self.docker
            .inspect_container(&self.name(name), None::<bollard::query_parameters::InspectContainerOptions>)
            .await
            .unwrap()
    }

    /// What happened to `name` from `since` (nanoseconds since 1970) until now.
    pub fn history(&self, name: &str, since: u64, until: u64) -> impl Stream<Item = EventMessage> {
        let stamp = |nanos: u64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        let name = self.name(name);
        let filters = HashMap::from([("container", vec![name.as_str()])]);
        let options =
            EventsOptionsBuilder::new().since(&stamp(since)).until(&stamp(until)).filters(&filters).build();
        self.docker.events(Some(options)).map(Result::unwrap)
    }
}

impl Drop for Rig {
    /// Removes all of it, also when the test failed.
    fn drop(&mut self) {
        let prefix = self.prefix.clone();
        let cleanup = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(remove_all(prefix));
            Ok::<_, std::io::Error>(())
        };
        let outcome = std::thread::spawn(cleanup).join();
        assert!(std::thread::panicking() || matches!(outcome, Ok(Ok(()))), "cannot clean up");
    }
}

async fn remove_all(prefix: String) {
    let docker = client();
    let filters = HashMap::from([("label", vec![format!("{LABEL}={prefix}")])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    for found in docker.list_containers(Some(options)).await.unwrap() {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = docker.remove_container(&found.id.unwrap(), Some(options)).await;
        removed.unwrap();
    }
    let filters = HashMap::from([("label", vec![format!("{LABEL}={prefix}")])]);
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    for found in docker.list_networks(Some(options)).await.unwrap() {
        docker.remove_network(&found.id.unwrap()).await.unwrap();
    }
    let filters = HashMap::from([("reference", vec![prefix])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let mut images = docker.list_images(Some(options)).await.unwrap();
    // What was made of another goes first.
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    for tag in images.into_iter().flat_map(|image| image.repo_tags) {
        docker.remove_image(&tag, None::<RemoveImageOptions>, None).await.unwrap();
    }
}

/// A tar archive of executable files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000755\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", content.len()));
        put(136, "00000000000\0");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// Asks until the answer is yes; the engine is real, so this takes real time.
#[track_caller]
pub fn until<F, Fut>(what: &str, mut ask: F) -> impl Future<Output = ()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    testkit::wait::until(Duration::from_secs(30), what, async move || ask().await)
}
