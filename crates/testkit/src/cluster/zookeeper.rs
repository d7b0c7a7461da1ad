//! ZooKeeper servers on loopback.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::net::Net;
use super::servers::{Cluster, Servers, in_memory};
use crate::ports::free_ports;
use crate::wait::until_blocking;

/// How long servers may take to agree on a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// What Debian's package needs to run, beside what it names itself: for TLS, and to tell what is wrong.
const CLASSPATH: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar:\
    /usr/share/java/netty-resolver.jar:/usr/share/java/netty-transport-native-unix-common.jar:\
    /usr/share/java/slf4j-simple.jar";

/// An ensemble of ZooKeeper servers, in a directory of its own. Ended on drop.
pub struct ZooKeeper {
    servers: Servers,
    ports: Vec<Ports>,
    extra: String,
}

struct Ports {
    client: u16,
    secure: u16,
    peer: u16,
    election: u16,
}

impl ZooKeeper {
    /// Starts `size` servers and waits until all of them serve.
    pub fn start(size: usize) -> Self {
        Self::start_with(size, |_| String::new())
    }

    /// The same with lines of settings of the caller's own, made for the directory that the ensemble has. In them,
    /// `{secure}` is the port of a server that [`ZooKeeper::secure_authorities`] tells.
    pub fn start_with(size: usize, extra: impl FnOnce(&Path) -> String) -> Self {
        Self::begin(size, extra, None)
    }

    /// The same with each server on a host of its own; see [`Cluster::net`].
    pub fn start_apart(size: usize) -> Self {
        Self::begin(size, |_| String::new(), Some(Net::new(size)))
    }

    fn begin(size: usize, extra: impl FnOnce(&Path) -> String, net: Option<Net>) -> Self {
        let directory = in_memory();
        let extra = extra(directory.path());
        let ports = |p: &[u16]| Ports { client: p[0], secure: p[1], peer: p[2], election: p[3] };
        let ports = free_ports(4 * size).chunks(4).map(ports).collect();
        let mut ensemble = Self { servers: Servers::new(directory, size, net), ports, extra };
        ensemble.launch_all();
        ensemble
    }

    /// `host:port,…` of all servers, for a URI.
    pub fn authorities(&self) -> String {
        self.joined(|ports| ports.client)
    }

    /// `host:port,…` of all servers, for those who speak TLS.
    pub fn secure_authorities(&self) -> String {
        self.joined(|ports| ports.secure)
    }

    fn joined(&self, port: fn(&Ports) -> u16) -> String {
        let all = self.ports.iter().enumerate();
        let all = all.map(|(n, ports)| format!("{}:{}", self.servers.host(n), port(ports)));
        all.collect::<Vec<_>>().join(",")
    }

    /// The server that leads, waiting for one.
    pub fn leader(&self) -> usize {
        let leads = |n: usize| self.mode(n).is_some_and(|mode| mode == "leader" || mode == "standalone");
        self.until(|| (0..self.servers.size()).find(|n| leads(*n)))
    }

    /// Waits until every running server follows or leads.
    pub fn serving(&self) {
        let running = (0..self.servers.size()).filter(|n| self.servers.runs(*n));
        let running: Vec<_> = running.collect();
        self.until(|| running.iter().all(|n| self.mode(*n).is_some()).then_some(()));
    }

    /// The server that has the connection of a session, if a running one has.
    pub fn server_of(&self, session: i64) -> Option<usize> {
        let wanted = format!("sid=0x{session:x},");
        (0..self.servers.size()).find(|n| self.ask(*n, "cons").is_some_and(|told| told.contains(&wanted)))
    }

    /// Whether the ensemble keeps any session: `dump` of whoever leads tells all of them.
    pub fn has_sessions(&self) -> bool {
        let told = self.ask(self.leader(), "dump").unwrap_or_default();
        told.lines().any(|line| line.trim_start().starts_with("0x"))
    }

    /// Ends a session, as if nobody had kept it alive: by joining and closing it, until nobody can join it any more. Its
    /// owner may be quicker to come back to it than the close is to arrive.
    pub fn expire(&self, session: i64) {
        self.until(|| self.join_and_close(session).filter(|joined| !joined));
    }

    /// Whether there is such a session to join; if so, its close is sent. `None` when the server does not say.
    fn join_and_close(&self, session: i64) -> Option<bool> {
        let mut stream = TcpStream::connect(self.address(self.leader())).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // protocol version, last transaction seen, timeout, session, password
        let mut joins = vec![0; 12];
        joins.extend(10_000_i32.to_be_bytes());
        joins.extend(session.to_be_bytes());
        joins.extend(16_i32.to_be_bytes());
        joins.extend(password(session));
        // A server that has not heard of the session yet closes the connection.
        let told = exchange(&mut stream, &joins)?;
        if told.get(8..16) != Some(&session.to_be_bytes()[..]) {
            return Some(false);
        }
        // request 1, type -11: close; the connection may end with the answer or before it
        exchange(&mut stream, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf5]);
        Some(true)
    }

    fn mode(&self, n: usize) -> Option<String> {
        let told = self.ask(n, "srvr")?;
        told.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    fn ask(&self, n: usize, word: &str) -> Option<String> {
        if !self.servers.runs(n) {
            return None;
        }
        // A host that is cut off says nothing at all.
        let limit = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&self.address(n).into(), limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        stream.write_all(word.as_bytes()).ok()?;
        let mut told = String::new();
        stream.read_to_string(&mut told).ok()?;
        Some(told)
    }

    fn until<T>(&self, found: impl Fn() -> Option<T>) -> T {
        until_blocking(PATIENCE, "the ensemble serves", || found().ok_or(&self.servers))
    }

    fn address(&self, n: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.servers.host(n), self.ports[n].client)
    }

    fn home(&self, n: usize) -> PathBuf {
        self.servers.path(n.to_string())
    }

    fn settings(&self, n: usize) -> String {
        let home = self.home(n);
        let mut lines = vec![
            "tickTime=500".to_owned(),
            // An election that goes wrong, as one in ten does when a leader vanishes, is begun anew after these.
            "initLimit=10".to_owned(),
            "syncLimit=8".to_owned(),
            format!("dataDir={}", home.display()),
            format!("clientPortAddress={}", self.servers.host(n)),
            format!("clientPort={}", self.ports[n].client),
            "4lw.commands.whitelist=*".to_owned(),
            "maxClientCnxns=0".to_owned(),
        ];
        if self.servers.size() > 1 {
            let all = self.ports.iter().enumerate();
            lines.extend(all.map(|(n, ports)| {
                format!("server.{}={}:{}:{}", n + 1, self.servers.host(n), ports.peer, ports.election)
            }));
        }
        lines.push(self.extra.replace("{secure}", &self.ports[n].secure.to_string()));
        lines.join("\n") + "\n"
    }
}

impl Cluster for ZooKeeper {
    fn servers(&self) -> &Servers {
        &self.servers
    }

    fn servers_mut(&mut self) -> &mut Servers {
        &mut self.servers
    }

    fn launch(&mut self, n: usize) {
        let home = self.home(n);
        fs::create_dir_all(&home).expect("a directory");
        fs::write(home.join("myid"), (n + 1).to_string()).expect("an id");
        let settings = home.join("zoo.cfg");
        fs::write(&settings, self.settings(n)).expect("settings");
        let mut command = self.servers.command(n, "java");
        // A small and quickly started machine; three of them share two cores with what they serve.
        command.args(["-Xmx128m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.args(["-Dzookeeper.admin.enableServer=false", "-Dzookeeper.extendedTypesEnabled=true"]);
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.args(["-cp", CLASSPATH, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]).arg(settings);
        self.servers.run(n, command);
    }

    fn ready(&self) {
        self.serving();
    }
}

/// Sends one packet and returns the next; `None` if the connection ends instead.
fn exchange(stream: &mut TcpStream, packet: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(packet.len()).expect("a small packet");
    stream.write_all(&[&length.to_be_bytes()[..], packet].concat()).ok()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

/// A session's password is what Java's generator makes of its id and a constant that is no secret.
fn password(session: i64) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = ((session ^ 0xB341_5C00).cast_unsigned() ^ MULTIPLIER) & MASK;
    let mut bytes = [0; 16];
    for chunk in bytes.chunks_mut(4) {
        seed = (seed.wrapping_mul(MULTIPLIER) + 0xB) & MASK;
        chunk.copy_from_slice(&u32::try_from(seed >> 16 & 0xffff_ffff).unwrap_or_default().to_le_bytes());
    }
    bytes
}
