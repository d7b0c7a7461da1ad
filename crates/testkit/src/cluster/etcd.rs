//! etcd members on loopback.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::net::Net;
use super::servers::{Cluster, Servers};
use crate::ports::free_ports;
use crate::wait::until_blocking;

/// How long members may take to agree on a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long `etcdctl` may take, in its words: for what must be done, and for what another member may tell as well.
const LONG: &str = "2s";
const SHORT: &str = "200ms";

/// A cluster of etcd members, in a directory of its own. Ended on drop.
pub struct Etcd {
    servers: Servers,
    ports: Vec<Ports>,
    security: Security,
}

/// How clients come in.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Certificate, its key, and whom clients' certificates must be signed by: files.
    pub tls: Option<(PathBuf, PathBuf, PathBuf)>,
}

struct Ports {
    client: u16,
    peer: u16,
}

impl Etcd {
    /// Starts `size` members and waits until they have a leader.
    pub fn start(size: usize) -> Self {
        Self::start_secured(size, Security::default())
    }

    /// The same for clients that come by TLS.
    pub fn start_secured(size: usize, security: Security) -> Self {
        Self::begin(size, security, None)
    }

    /// The same with each member on a host of its own; see [`Cluster::net`].
    pub fn start_apart(size: usize) -> Self {
        Self::begin(size, Security::default(), Some(Net::new(size)))
    }

    fn begin(size: usize, security: Security, net: Option<Net>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ports = |p: &[u16]| Ports { client: p[0], peer: p[1] };
        let ports = free_ports(2 * size).chunks(2).map(ports).collect();
        let mut cluster = Self { servers: Servers::new(directory, size, net), ports, security };
        cluster.launch_all();
        cluster
    }

    /// `host:port,…` of all members, for a URI.
    pub fn authorities(&self) -> String {
        let all = (0..self.servers.size()).map(|n| self.authority(n));
        all.collect::<Vec<_>>().join(",")
    }

    /// Takes from a member that was killed what it had on disk.
    pub fn forget(&mut self, n: usize) {
        std::fs::remove_dir_all(self.data(n)).expect("a directory to remove");
    }

    /// The member that leads, waiting for one.
    pub fn leader(&self) -> usize {
        let leads = |n: &usize| {
            let told = self.ctl_at(&self.authority(*n), LONG, &["endpoint", "status", "--write-out=simple"]);
            // endpoint, id, version, size, leads, learns, …
            String::from_utf8_lossy(&told.stdout).split(", ").nth(4) == Some("true")
        };
        until_blocking(PATIENCE, "there is a leader", || {
            (0..self.servers.size()).find(leads).ok_or(&self.servers)
        })
    }

    /// What `etcdctl` with these words says, once it can: a member that was parted from the others does not answer at once.
    pub fn ctl(&self, words: &[&str]) -> String {
        until_blocking(PATIENCE, &format!("etcdctl {words:?} succeeds"), || {
            let told = self.ctl_at(&self.authorities(), LONG, words);
            let said = |words: &[u8]| String::from_utf8_lossy(words).into_owned();
            if told.status.success() { Ok(said(&told.stdout)) } else { Err(said(&told.stderr)) }
        })
    }

    /// The keys below a prefix, as the first member tells them that has a quorum.
    pub fn keys(&self, prefix: &str) -> BTreeSet<String> {
        let words = ["get", prefix, "--prefix", "--keys-only"];
        let told = until_blocking(PATIENCE, "a member tells keys", || {
            let mut told = (0..self.servers.size()).map(|n| self.ctl_at(&self.authority(n), SHORT, &words));
            told.find(|told| told.status.success()).ok_or("none does")
        });
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        told.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Asks a member, whenever it is called, what it cannot answer without a quorum, and says whether it did.
    pub fn asks_its_quorum(&self, n: usize) -> impl Fn() -> bool + Send + 'static {
        let authority = self.authority(n);
        move || ctl(&authority, SHORT).args(["get", "/"]).output().is_ok_and(|told| told.status.success())
    }

    /// Ends all leases, as if nobody had kept them alive.
    pub fn revoke_all_leases(&self) {
        for lease in self.ctl(&["lease", "list"]).lines().skip(1) {
            self.ctl(&["lease", "revoke", lease]);
        }
    }

    fn ctl_at(&self, endpoints: &str, patience: &str, words: &[&str]) -> Output {
        let mut command = ctl(endpoints, patience);
        if let Some((cert, key, authority)) = &self.security.tls {
            command.args([flag("--cert", cert), flag("--key", key), flag("--cacert", authority)]);
        }
        command.args(words).output().expect("etcdctl: run cargo xtask setup")
    }

    fn authority(&self, n: usize) -> String {
        format!("{}:{}", self.servers.host(n), self.ports[n].client)
    }

    fn data(&self, n: usize) -> PathBuf {
        self.servers.path(n.to_string())
    }

    fn words(&self, n: usize) -> Vec<String> {
        let scheme = if self.security.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://{}", self.authority(n));
        let peer = |n: usize| format!("http://{}:{}", self.servers.host(n), self.ports[n].peer);
        let all = (0..self.servers.size()).map(|n| format!("m{n}={}", peer(n)));
        let mut words = vec![
            format!("--name=m{n}"),
            flag("--data-dir", &self.data(n)),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={}", peer(n)),
            format!("--initial-advertise-peer-urls={}", peer(n)),
            format!("--initial-cluster={}", all.collect::<Vec<_>>().join(",")),
            "--initial-cluster-state=new".to_owned(),
            "--heartbeat-interval=50".to_owned(),
            "--election-timeout=500".to_owned(),
            "--logger=zap".to_owned(),
        ];
        if let Some((cert, key, authority)) = &self.security.tls {
            words.extend([
                flag("--cert-file", cert),
                flag("--key-file", key),
                flag("--trusted-ca-file", authority),
                "--client-cert-auth".to_owned(),
            ]);
        }
        words
    }
}

impl Cluster for Etcd {
    fn servers(&self) -> &Servers {
        &self.servers
    }

    fn servers_mut(&mut self) -> &mut Servers {
        &mut self.servers
    }

    fn launch(&mut self, n: usize) {
        let mut command = self.servers.command(n, "etcd");
        command.args(self.words(n));
        self.servers.run(n, command);
    }

    /// They are once they have a leader.
    fn ready(&self) {
        self.leader();
    }
}

/// `etcdctl`, still to be told what to do.
fn ctl(endpoints: &str, patience: &str) -> Command {
    let mut command = Command::new("etcdctl");
    let patience = format!("--command-timeout={patience}");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints, &patience]);
    command
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}
