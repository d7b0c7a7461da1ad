//! etcd members on loopback.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::net::Net;
use super::process::{Process, free_ports};

/// How long members may take to agree on a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of etcd members, in a directory of its own. Ended on drop.
pub struct Etcd {
    directory: tempfile::TempDir,
    members: Vec<Member>,
    security: Security,
    net: Option<Net>,
}

/// How clients come in.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Certificate, its key, and whom clients' certificates must be signed by: files.
    pub tls: Option<(PathBuf, PathBuf, PathBuf)>,
}

struct Member {
    host: Ipv4Addr,
    client: u16,
    peer: u16,
    process: Option<Process>,
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

    /// The same with each member on a host of its own; see [`Etcd::net`].
    pub fn start_apart(size: usize) -> Self {
        Self::begin(size, Security::default(), Some(Net::new(size)))
    }

    /// The hosts of members that are apart.
    pub fn net(&self) -> &Net {
        self.net.as_ref().expect("members on hosts of their own")
    }

    fn begin(size: usize, security: Security, net: Option<Net>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ports = free_ports(2 * size);
        let host = |n| net.as_ref().map_or(Ipv4Addr::LOCALHOST, |net| net.address(n));
        let member = |(n, pair): (usize, &[u16])| Member {
            host: host(n),
            client: pair[0],
            peer: pair[1],
            process: None,
        };
        let members = ports.chunks(2).enumerate().map(member).collect();
        let mut cluster = Self { directory, members, security, net };
        (0..size).for_each(|n| cluster.launch(n));
        cluster.leader();
        cluster
    }

    /// `host:port,…` of all members, for a URI.
    pub fn authorities(&self) -> String {
        let all = self.members.iter().map(Member::authority);
        all.collect::<Vec<_>>().join(",")
    }

    /// Ends a member as a power cut would.
    pub fn kill(&mut self, n: usize) {
        self.members[n].process.take().expect("a running member").kill();
    }

    /// Makes a member deaf and mute; its sockets stay open.
    pub fn stop(&self, n: usize) {
        self.members[n].process.as_ref().expect("a running member").stop();
    }

    /// Ends a [`Etcd::stop`].
    pub fn cont(&self, n: usize) {
        self.members[n].process.as_ref().expect("a running member").cont();
    }

    /// Starts a member that was killed, with what it had on disk.
    pub fn launch(&mut self, n: usize) {
        let log = self.directory.path().join(format!("{n}.log"));
        let mut command = self.net.as_ref().map_or_else(|| Command::new("etcd"), |net| net.on(n, "etcd"));
        command.args(self.words(n));
        self.members[n].process = Some(Process::start(command, &log));
    }

    /// Takes from a member that was killed what it had on disk.
    pub fn forget(&mut self, n: usize) {
        let data = self.directory.path().join(n.to_string());
        std::fs::remove_dir_all(data).expect("a directory to remove");
    }

    /// Kills all members and starts them again.
    pub fn restart_all(&mut self) {
        (0..self.members.len()).for_each(|n| self.kill(n));
        (0..self.members.len()).for_each(|n| self.launch(n));
        self.leader();
    }

    /// The member that leads, waiting for one.
    pub fn leader(&self) -> usize {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let leads = |member: &Member| {
                let told = self.ctl_at(&member.authority(), &["endpoint", "status", "--write-out=simple"]);
                // endpoint, id, version, size, leads, learns, …
                String::from_utf8_lossy(&told.stdout).split(", ").nth(4) == Some("true")
            };
            if let Some(n) = self.members.iter().position(leads) {
                return n;
            }
        }
        panic!("no leader; see {}", self.directory.path().display());
    }

    /// What `etcdctl` with these words says; a failure is the caller's end.
    pub fn ctl(&self, words: &[&str]) -> String {
        let told = self.ctl_at(&self.authorities(), words);
        assert!(told.status.success(), "etcdctl {words:?}: {}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    /// Ends all leases, as if nobody had kept them alive.
    pub fn revoke_all_leases(&self) {
        for lease in self.ctl(&["lease", "list"]).lines().skip(1) {
            self.ctl(&["lease", "revoke", lease]);
        }
    }

    fn ctl_at(&self, endpoints: &str, words: &[&str]) -> Output {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints, "--command-timeout=2s"]);
        if let Some((cert, key, authority)) = &self.security.tls {
            command.args([flag("--cert", cert), flag("--key", key), flag("--cacert", authority)]);
        }
        command.args(words).output().expect("etcdctl: run cargo xtask setup")
    }

    fn words(&self, n: usize) -> Vec<String> {
        let Member { host, peer, .. } = &self.members[n];
        let scheme = if self.security.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://{}", self.members[n].authority());
        let peer = format!("http://{host}:{peer}");
        let all = self.members.iter().enumerate();
        let all = all.map(|(n, m)| format!("m{n}=http://{}:{}", m.host, m.peer));
        let mut words = vec![
            format!("--name=m{n}"),
            flag("--data-dir", &self.directory.path().join(n.to_string())),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
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

impl Member {
    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.client)
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}
