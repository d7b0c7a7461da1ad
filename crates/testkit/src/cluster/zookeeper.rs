//! ZooKeeper servers on loopback.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::net::Net;
use super::process::{Process, free_ports};

/// How long servers may take to agree on a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// What Debian's package needs to run, beside what it names itself: for TLS, and to tell what is wrong.
const CLASSPATH: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar:\
    /usr/share/java/netty-resolver.jar:/usr/share/java/netty-transport-native-unix-common.jar:\
    /usr/share/java/slf4j-simple.jar";

/// An ensemble of ZooKeeper servers, in a directory of its own. Ended on drop.
pub struct ZooKeeper {
    directory: tempfile::TempDir,
    servers: Vec<Server>,
    extra: String,
    net: Option<Net>,
}

struct Server {
    host: Ipv4Addr,
    client: u16,
    secure: u16,
    peer: u16,
    election: u16,
    process: Option<Process>,
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

    /// The same with each server on a host of its own; see [`ZooKeeper::net`].
    pub fn start_apart(size: usize) -> Self {
        Self::begin(size, |_| String::new(), Some(Net::new(size)))
    }

    /// The hosts of servers that are apart.
    pub fn net(&self) -> &Net {
        self.net.as_ref().expect("servers on hosts of their own")
    }

    fn begin(size: usize, extra: impl FnOnce(&Path) -> String, net: Option<Net>) -> Self {
        // In memory where that can be had: tests are not about how fast a disk syncs.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.expect("a directory");
        let ports = free_ports(4 * size);
        let server = |(n, p): (usize, &[u16])| Server {
            host: net.as_ref().map_or(Ipv4Addr::LOCALHOST, |net| net.address(n)),
            client: p[0],
            secure: p[1],
            peer: p[2],
            election: p[3],
            process: None,
        };
        let servers = ports.chunks(4).enumerate().map(server).collect();
        let extra = extra(directory.path());
        let mut cluster = Self { directory, servers, extra, net };
        (0..size).for_each(|n| cluster.launch(n));
        cluster.serving();
        cluster
    }

    /// `host:port,…` of all servers, for a URI.
    pub fn authorities(&self) -> String {
        let all = self.servers.iter().map(|server| format!("{}:{}", server.host, server.client));
        all.collect::<Vec<_>>().join(",")
    }

    /// `host:port,…` of all servers, for those who speak TLS.
    pub fn secure_authorities(&self) -> String {
        let all = self.servers.iter().map(|server| format!("{}:{}", server.host, server.secure));
        all.collect::<Vec<_>>().join(",")
    }

    /// Ends a server as a power cut would.
    pub fn kill(&mut self, n: usize) {
        self.servers[n].process.take().expect("a running server").kill();
    }

    /// Makes a server deaf and mute; its sockets stay open.
    pub fn stop(&self, n: usize) {
        self.servers[n].process.as_ref().expect("a running server").stop();
    }

    /// Ends a [`ZooKeeper::stop`].
    pub fn cont(&self, n: usize) {
        self.servers[n].process.as_ref().expect("a running server").cont();
    }

    /// Starts a server that was killed, with what it had on disk.
    pub fn launch(&mut self, n: usize) {
        let home = self.home(n);
        fs::create_dir_all(&home).expect("a directory");
        fs::write(home.join("myid"), (n + 1).to_string()).expect("an id");
        let settings = home.join("zoo.cfg");
        fs::write(&settings, self.settings(n)).expect("settings");
        let mut command = self.net.as_ref().map_or_else(|| Command::new("java"), |net| net.on(n, "java"));
        // A small and quickly started machine; three of them share two cores with what they serve.
        command.args(["-Xmx128m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.args(["-Dzookeeper.admin.enableServer=false", "-Dzookeeper.extendedTypesEnabled=true"]);
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.args(["-cp", CLASSPATH, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]).arg(settings);
        self.servers[n].process =
            Some(Process::start(command, &self.directory.path().join(format!("{n}.log"))));
    }

    /// Kills all servers.
    pub fn kill_all(&mut self) {
        (0..self.servers.len()).for_each(|n| self.kill(n));
    }

    /// Starts all servers and waits until all of them serve.
    pub fn launch_all(&mut self) {
        (0..self.servers.len()).for_each(|n| self.launch(n));
        self.serving();
    }

    /// Kills all servers and starts them again.
    pub fn restart_all(&mut self) {
        self.kill_all();
        self.launch_all();
    }

    /// The server that leads, waiting for one.
    pub fn leader(&self) -> usize {
        let leads = |n: usize| self.mode(n).is_some_and(|mode| mode == "leader" || mode == "standalone");
        self.until(|| (0..self.servers.len()).find(|n| leads(*n)))
    }

    /// Waits until every running server follows or leads.
    pub fn serving(&self) {
        let running = (0..self.servers.len()).filter(|n| self.servers[*n].process.is_some());
        let running: Vec<_> = running.collect();
        self.until(|| running.iter().all(|n| self.mode(*n).is_some()).then_some(()));
    }

    /// The server that has the connection of a session, if a running one has.
    pub fn server_of(&self, session: i64) -> Option<usize> {
        let wanted = format!("sid=0x{session:x},");
        (0..self.servers.len()).find(|n| self.ask(*n, "cons").is_some_and(|told| told.contains(&wanted)))
    }

    /// Ends a session, as if nobody had kept it alive: by joining and closing it.
    pub fn expire(&self, session: i64) {
        // A server that has not heard of the session yet closes the connection.
        self.until(|| {
            let mut stream = TcpStream::connect(self.servers[self.leader()].address()).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            // protocol version, last transaction seen, timeout, session, password
            let mut joins = vec![0; 12];
            joins.extend(10_000_i32.to_be_bytes());
            joins.extend(session.to_be_bytes());
            joins.extend(16_i32.to_be_bytes());
            joins.extend(password(session));
            let told = exchange(&mut stream, &joins)?;
            assert_eq!(told.get(8..16), Some(&session.to_be_bytes()[..]), "a session that can be joined");
            // request 1, type -11: close; the connection may end with the answer or before it
            exchange(&mut stream, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf5]);
            Some(())
        });
    }

    fn mode(&self, n: usize) -> Option<String> {
        let told = self.ask(n, "srvr")?;
        told.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    fn ask(&self, n: usize, word: &str) -> Option<String> {
        self.servers[n].process.as_ref()?;
        // A host that is cut off says nothing at all.
        let limit = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&self.servers[n].address().into(), limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        stream.write_all(word.as_bytes()).ok()?;
        let mut told = String::new();
        stream.read_to_string(&mut told).ok()?;
        Some(told)
    }

    fn until<T>(&self, found: impl Fn() -> Option<T>) -> T {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(found) = found() {
                return found;
            }
            sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(self.directory.path().join("0.log")).unwrap_or_default();
        panic!("the ensemble does not serve; the first server says:\n{log}");
    }

    fn home(&self, n: usize) -> PathBuf {
        self.directory.path().join(n.to_string())
    }

    fn settings(&self, n: usize) -> String {
        let home = self.home(n);
        let mut lines = vec![
            "tickTime=500".to_owned(),
            "initLimit=20".to_owned(),
            "syncLimit=8".to_owned(),
            format!("dataDir={}", home.display()),
            format!("clientPortAddress={}", self.servers[n].host),
            format!("clientPort={}", self.servers[n].client),
            "4lw.commands.whitelist=*".to_owned(),
            "maxClientCnxns=0".to_owned(),
        ];
        if self.servers.len() > 1 {
            let all = self.servers.iter().enumerate();
            lines.extend(all.map(|(n, s)| format!("server.{}={}:{}:{}", n + 1, s.host, s.peer, s.election)));
        }
        lines.push(self.extra.replace("{secure}", &self.servers[n].secure.to_string()));
        lines.join("\n") + "\n"
    }
}

impl Server {
    fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.host, self.client)
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
