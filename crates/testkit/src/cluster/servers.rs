//! Servers of one cluster, whatever they serve: each a process, all of them in one directory.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

use tempfile::TempDir;

use super::net::Net;
use super::process::Process;

/// A cluster of one kind of server, to be killed, stopped and started again by tests.
pub trait Cluster: Send {
    /// Its servers.
    fn servers(&self) -> &Servers;

    /// The same, to change them.
    fn servers_mut(&mut self) -> &mut Servers;

    /// Starts a server that was killed, with what it had on disk.
    fn launch(&mut self, n: usize);

    /// Waits until those that run serve.
    fn ready(&self);

    /// The hosts of servers that are apart.
    fn net(&self) -> &Net {
        self.servers().net.as_ref().expect("servers on hosts of their own")
    }

    /// Ends a server as a power cut would.
    fn kill(&mut self, n: usize) {
        self.servers_mut().processes[n].take().expect("a running server").kill();
    }

    /// Makes a server deaf and mute; its sockets stay open.
    fn stop(&self, n: usize) {
        self.servers().running(n).stop();
    }

    /// Ends a [`Cluster::stop`].
    fn cont(&self, n: usize) {
        self.servers().running(n).cont();
    }

    /// Kills all servers.
    fn kill_all(&mut self) {
        (0..self.servers().size()).for_each(|n| self.kill(n));
    }

    /// Starts all servers and waits until they serve.
    fn launch_all(&mut self) {
        (0..self.servers().size()).for_each(|n| self.launch(n));
        self.ready();
    }

    /// Kills all servers and starts them again.
    fn restart_all(&mut self) {
        self.kill_all();
        self.launch_all();
    }
}

/// What every cluster has of its servers. They are ended on drop, before their hosts and their directory go.
pub struct Servers {
    processes: Vec<Option<Process>>,
    net: Option<Net>,
    directory: TempDir,
}

impl Servers {
    /// `size` servers in `directory`, none of which runs: on loopback, or on the hosts of `net`.
    pub(super) fn new(directory: TempDir, size: usize, net: Option<Net>) -> Self {
        Self { processes: (0..size).map(|_| None).collect(), net, directory }
    }

    /// How many there are, running or not.
    pub fn size(&self) -> usize {
        self.processes.len()
    }

    /// Whether a server runs; one that is stopped does.
    pub fn runs(&self, n: usize) -> bool {
        self.processes[n].is_some()
    }

    pub(super) fn running(&self, n: usize) -> &Process {
        self.processes[n].as_ref().expect("a running server")
    }

    /// Where a server is.
    pub(super) fn host(&self, n: usize) -> Ipv4Addr {
        self.net.as_ref().map_or(Ipv4Addr::LOCALHOST, |net| net.address(n))
    }

    /// A path in the cluster's directory.
    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `program`, to be run where a server is.
    pub(super) fn command(&self, n: usize, program: &str) -> Command {
        self.net.as_ref().map_or_else(|| Command::new(program), |net| net.on(n, program))
    }

    /// Runs a server.
    pub(super) fn run(&mut self, n: usize, command: Command) {
        self.processes[n] = Some(Process::start(command, &self.log(n)));
    }

    fn log(&self, n: usize) -> PathBuf {
        self.path(format!("{n}.log"))
    }
}

/// What each of them has said last: for whoever waits in vain.
impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES: usize = 20;
        for n in 0..self.size() {
            writeln!(f, "server {n}{}:", if self.runs(n) { "" } else { ", not started" })?;
            let said = fs::read_to_string(self.log(n)).unwrap_or_default();
            // Of Java's traces only what happened.
            let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("\tat ")).collect();
            lines[lines.len().saturating_sub(LINES)..].iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}

/// A directory in memory where that can be had, for servers that sync more than tests can wait for.
pub(super) fn in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    directory.expect("a directory")
}
