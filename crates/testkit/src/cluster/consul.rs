//! Consul servers on loopback.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::net::Net;
use super::servers::{Cluster, Servers, in_memory};
use crate::ports::free_ports;
use crate::wait::until_blocking;

/// What a server cannot answer without a leader.
const LED: &str = "/v1/health/service/consul?consistent";
/// How long a server may take to answer, which is for ever if its host is cut off; and one that has a leader to ask. Without
/// one it holds the question, and looks for a leader again only some 400 ms later: that would tell too late of it.
const LATE: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_millis(200);
/// How long servers may take to agree on a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of Consul servers, each with its agent, in a directory of its own. Ended on drop.
pub struct Consul {
    servers: Servers,
    /// How many of them vote. The others are agents only, as hosts have that run no server.
    voters: usize,
    ports: Vec<Ports>,
    extra: String,
}

struct Ports {
    http: u16,
    https: u16,
    lan: u16,
    rpc: u16,
}

impl Consul {
    /// Starts `size` servers and waits until they have a leader.
    pub fn start(size: usize) -> Self {
        Self::start_with(size, |_| String::new())
    }

    /// The same with settings of the caller's own, as a JSON object, made for the directory that the cluster has.
    pub fn start_with(size: usize, extra: impl FnOnce(&Path) -> String) -> Self {
        Self::begin((size, 0), extra, None)
    }

    /// Starts `size` servers, and as many hosts' agents as said, numbered after them.
    pub fn start_with_agents(size: usize, agents: usize) -> Self {
        Self::begin((size, agents), |_| String::new(), None)
    }

    /// The same with each server on a host of its own; see [`Cluster::net`].
    pub fn start_apart(size: usize) -> Self {
        Self::begin((size, 0), |_| String::new(), Some(Net::new(size)))
    }

    fn begin(
        (voters, agents): (usize, usize),
        extra: impl FnOnce(&Path) -> String,
        net: Option<Net>,
    ) -> Self {
        let size = voters + agents;
        // An agent syncs three files per registration, and tests are not about disks.
        let directory = in_memory();
        let extra = extra(directory.path());
        let ports = |p: &[u16]| Ports { http: p[0], https: p[1], lan: p[2], rpc: p[3] };
        let ports = free_ports(4 * size).chunks(4).map(ports).collect();
        let mut cluster = Self { servers: Servers::new(directory, size, net), voters, ports, extra };
        cluster.launch_all();
        cluster
    }

    /// `host:port,…` of all servers, for a URI.
    pub fn authorities(&self) -> String {
        let all = (0..self.voters).map(|n| self.authority(n));
        all.collect::<Vec<_>>().join(",")
    }

    /// `host:port` of one server.
    pub fn authority(&self, n: usize) -> String {
        format!("{}:{}", self.servers.host(n), self.ports[n].http)
    }

    /// `host:port` of one server for those who come by TLS.
    pub fn tls_authority(&self, n: usize) -> String {
        format!("{}:{}", self.servers.host(n), self.ports[n].https)
    }

    /// Takes from a killed server's agent what it knows of its own registrations.
    pub fn forget_registrations(&self, n: usize) {
        for part in ["services", "checks", "checks/state"] {
            let _none = fs::remove_dir_all(self.data(n).join(part));
        }
    }

    /// Takes everything from a killed server.
    pub fn forget_everything(&self, n: usize) {
        let _none = fs::remove_dir_all(self.data(n));
    }

    /// The running server that leads, waiting for one that all running ones agree upon.
    pub fn leader(&self) -> usize {
        until_blocking(PATIENCE, "there is a leader", || {
            let running = (0..self.servers.size()).filter(|n| self.servers.runs(*n));
            let mut words: Vec<_> =
                running.map(|n| self.get(n, "/v1/status/leader").unwrap_or_default()).collect();
            words.dedup();
            let [word] = &words[..] else { return Err(&self.servers) };
            let port = word.trim().trim_matches('"').rsplit(':').next().and_then(|port| port.parse().ok());
            let leader = self.ports.iter().position(|ports| port == Some(ports.rpc));
            leader.filter(|n| self.servers.runs(*n)).ok_or(&self.servers)
        })
    }

    /// Lets no gossip through between a server and the others, or again. They do all else with each other.
    pub fn part_gossip(&self, n: usize, parted: bool) {
        let net = self.net();
        for other in (0..self.servers.size()).filter(|other| *other != n) {
            net.bar(n, self.ports[other].lan, parted);
            net.bar(other, self.ports[n].lan, parted);
        }
    }

    /// Waits until a leader answers one of these servers.
    pub fn led_somewhere(&self, servers: &[usize]) {
        let led = AtomicBool::new(false);
        let wait_for = |is_led: &dyn Fn() -> bool| {
            until_blocking(PATIENCE, "a leader answers", || {
                if led.load(SeqCst) || is_led() { Ok(()) } else { Err(&self.servers) }
            });
            led.store(true, SeqCst);
        };
        // All at once: one that is cut off, or holds the question until it knows a leader, does not make the others late.
        thread::scope(|scope| {
            for n in servers {
                scope.spawn(|| wait_for(&self.asks_its_leader(*n)));
            }
        });
    }

    /// Asks a server, whenever it is called, what it cannot answer without a leader, and says whether it did. Servers may have
    /// agreed on one before that: one that has heard of a leader and not yet of its address, which takes gossip, says that
    /// there is none.
    pub fn asks_its_leader(&self, n: usize) -> impl Fn() -> bool + Send + 'static {
        let address = self.address(n);
        move || ask(address, "GET", LED, "", SOON).is_some()
    }

    /// What a server answers to a `GET`; `None` if it is no success.
    pub fn get(&self, n: usize, path: &str) -> Option<String> {
        ask(self.address(n), "GET", path, "", LATE)
    }

    /// What a server answers to a `PUT`; `None` if it is no success.
    pub fn put(&self, n: usize, path: &str, body: &str) -> Option<String> {
        ask(self.address(n), "PUT", path, body, LATE)
    }

    fn address(&self, n: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.servers.host(n), self.ports[n].http)
    }

    fn data(&self, n: usize) -> PathBuf {
        self.servers.path(format!("data-{n}"))
    }

    fn settings(&self, n: usize) -> String {
        let Ports { http, https, lan, rpc } = &self.ports[n];
        let host = self.servers.host(n);
        let lans = self.ports.iter().take(self.voters).enumerate();
        let join: Vec<_> =
            lans.map(|(n, ports)| format!("\"{}:{}\"", self.servers.host(n), ports.lan)).collect();
        let join = join.join(",");
        let data = self.data(n);
        let data = data.display();
        let role = match n < self.voters {
            true => format!(r#""server":true,"bootstrap_expect":{}"#, self.voters),
            false => r#""server":false"#.to_owned(),
        };
        // `raft_multiplier` 1 is what Consul recommends for production: elections take a second, not five.
        format!(
            r#"{{"node_name":"node-{n}",{role},"data_dir":"{data}",
            "bind_addr":"{host}","client_addr":"{host}","retry_join":[{join}],"retry_interval":"1s",
            "disable_update_check":true,"log_level":"info","leave_on_terminate":false,"disable_host_node_id":true,
            "performance":{{"raft_multiplier":1}},
            "ports":{{"http":{http},"https":{},"serf_lan":{lan},"serf_wan":-1,"server":{rpc},"dns":-1,"grpc":-1}}}}"#,
            if self.extra.contains("cert_file") { i32::from(*https) } else { -1 },
        )
    }
}

impl Cluster for Consul {
    fn servers(&self) -> &Servers {
        &self.servers
    }

    fn servers_mut(&mut self) -> &mut Servers {
        &mut self.servers
    }

    fn launch(&mut self, n: usize) {
        let settings = self.servers.path(format!("{n}.json"));
        fs::write(&settings, self.settings(n)).expect("settings");
        let more = self.servers.path(format!("{n}-extra.json"));
        fs::write(&more, if self.extra.is_empty() { "{}" } else { &self.extra }).expect("settings");
        let mut command = self.servers.command(n, &program().to_string_lossy());
        command.arg("agent").arg("-config-file").arg(settings).arg("-config-file").arg(more);
        self.servers.run(n, command);
    }

    /// They are once they have a leader.
    fn ready(&self) {
        self.leader();
    }
}

fn ask(address: SocketAddrV4, method: &str, path: &str, body: &str, limit: Duration) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.into(), limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')).then(|| body.to_owned())
}

/// Consul is in no current Debian; `cargo xtask setup` unpacks it below the target directory.
pub fn program() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let program = target.join("peers/consul/root/usr/bin/consul");
    assert!(program.exists(), "{} is missing: run cargo xtask setup", program.display());
    program
}
