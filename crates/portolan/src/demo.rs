//! `portolan demo`: everything in one process on a throw-away registry, and what to try on it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use portolan_model::{
    Endpoint, Health, Host, Incarnation, InstanceId, Owner, Protocol, Registration, ServiceName, Weight,
};

use crate::app::{self, Found, Roles, Running};
use crate::failure::Failure;
use crate::sample::{self, Sample};
use crate::settings::{self, Config, Environment, Flags};
use crate::signals::Signals;
use crate::terminal::say;
use crate::up::{block_on, start_log};

/// The instances: of which service, which one of it, and on which loopback address, so that `/getRemoteIp` tells them
/// apart.
const INSTANCES: [(&str, u8, Ipv4Addr); 3] = [
    ("service_1", 1, Ipv4Addr::new(127, 0, 0, 1)),
    ("service_2", 1, Ipv4Addr::new(127, 0, 0, 2)),
    ("service_2", 2, Ipv4Addr::new(127, 0, 0, 3)),
];

/// How long a sample's requests may take at the end; the gateway has finished by then.
const DRAIN: Duration = Duration::from_secs(3);

/// Runs the demo until a signal.
pub(crate) fn run(flags: Flags, environment: &Environment) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("portolan-demo-").tempdir().map_err(Failure::failed)?;
    let flags = flags
        .or("data_dir", dir.path().to_string_lossy())
        .or("docker.enabled", "false")
        .or("proxy.drain_timeout", "5s")
        .or("log", "warn");
    let mut settled = settings::load(&flags, environment)?;
    start_log(&settled.config, &settled.warnings)?;
    let Config { proxy, http, .. } = &mut settled.config;
    let gateway = ("proxy.listen", "gateway", &mut proxy.listen);
    let http = http.listen.as_mut().map(|listen| ("http.listen", "HTTP API", listen));
    for (key, what, listen) in [Some(gateway), http].into_iter().flatten() {
        if !settled.said.contains(key) && is_taken(*listen) {
            say(format_args!("note: {listen} is taken, so the {what} listens on another port"));
            listen.set_port(0);
        }
    }
    block_on(demo(settled.config))
}

async fn demo(config: Config) -> Result<(), Failure> {
    let signals = Signals::take().map_err(Failure::failed)?;
    let domain = config.proxy.domain.clone();
    let running = app::build(config, Roles::All).await?.start();
    for (service, number, address) in INSTANCES {
        start_instance(&running, service, number, address).await?;
    }
    for line in running.found.lines() {
        say(line);
    }
    say("\n3 sample instances of 2 services are registered. Try:\n");
    let Found { gateway, http, .. } = running.found;
    let lines = gateway.map(|gateway| to_try_gateway(reachable(gateway), domain.as_deref()));
    let more = http.map(|http| to_try_http(reachable(http)));
    for line in [lines, more].into_iter().flatten().flatten() {
        say(line);
    }
    say("\nEnd it with Ctrl-C.");
    running.until_told(signals).await;
    Ok(())
}

/// Starts one instance and registers it.
async fn start_instance(
    running: &Running,
    service: &str,
    number: u8,
    address: Ipv4Addr,
) -> Result<(), Failure> {
    let sample = bind(service, number, address).await.map_err(Failure::failed)?;
    let registration = registration(service, number, sample.address())?;
    let task = format!("sample {}", registration.id);
    running.back().spawn(task, |shutdown| sample.run(shutdown));
    running.registry.register(registration).await.map_err(Failure::failed)?;
    Ok(())
}

/// On its own loopback address, or on the usual one where the system has only that.
async fn bind(service: &str, number: u8, address: Ipv4Addr) -> io::Result<Sample> {
    let config = |address: Ipv4Addr| sample::Config {
        listen: (address, 0).into(),
        name: service.to_owned(),
        instance: format!("{service}-{number}"),
        drain_timeout: DRAIN,
    };
    match sample::build(config(address)).await {
        Ok(sample) => Ok(sample),
        Err(_) => sample::build(config(Ipv4Addr::LOCALHOST)).await,
    }
}

fn registration(service: &str, number: u8, address: SocketAddr) -> Result<Registration, Failure> {
    Ok(Registration {
        id: InstanceId::new(format!("demo:{service}-{number}:{}", address.port()))
            .map_err(Failure::failed)?,
        service: ServiceName::new(service).map_err(Failure::failed)?,
        endpoint: Endpoint { host: Host::Ip(address.ip()), port: address.port() },
        protocol: Protocol::Tcp,
        tags: ["demo".to_owned()].into(),
        meta: [("instance".to_owned(), number.to_string())].into(),
        weight: Weight::default(),
        zone: None,
        owner: Owner::new("demo").map_err(Failure::failed)?,
        incarnation: Incarnation::default(),
        health: Health::Passing,
    })
}

/// What to try at the gateway: every line works as it stands.
fn to_try_gateway(gateway: SocketAddr, domain: Option<&str>) -> Vec<String> {
    let mut lines = vec![
        "  # by headers: the path is api_name plus what follows /services".to_owned(),
        format!("  curl -H 'service_name: service_1' -H 'api_name: /user' 'http://{gateway}/services?id=1'"),
        "  # by path: repeat it, and the two instances of service_2 take turns".to_owned(),
        format!("  curl http://{gateway}/service_2/getRemoteIp"),
    ];
    if let Some(domain) = domain {
        lines.push("  # by host name".to_owned());
        lines.push(format!("  curl -H 'Host: service_1.{domain}' http://{gateway}/"));
    }
    lines
}

/// What to try at the HTTP API.
fn to_try_http(http: SocketAddr) -> Vec<String> {
    vec![
        "  # the registry, in Consul's shapes".to_owned(),
        format!("  curl http://{http}/v1/catalog/services"),
        format!("  curl 'http://{http}/v1/health/service/service_2?passing'"),
        "  # why a request goes where it goes".to_owned(),
        format!("  curl 'http://{http}/v1/portolan/explain?path=/service_2/getRemoteIp'"),
        format!("  portolan explain --http-addr http://{http} --path /service_2/getRemoteIp"),
        "  # in another terminal: watch service_2, then take an instance out".to_owned(),
        format!("  portolan watch service_2 --http-addr http://{http}"),
        format!("  portolan instances service_2 --http-addr http://{http}"),
    ]
}

/// An address to call; nobody can call "everywhere".
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}
