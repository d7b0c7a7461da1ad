//! An engine of a test's own, that may be killed. It lives in a network of its own, so that it has a bridge and an
//! address range of its own, whatever other engines there are. Its containers have its network, or none.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use super::engine::{Body, Engine};
use super::process::until;

/// See the module's head. Ended on drop, with all that it left.
pub(crate) struct OwnEngine {
    directory: TempDir,
    daemon: Option<Child>,
    /// What holds the containers, apart from the engine as on most machines, and so not killed with it.
    containerd: Child,
    /// What the engine is told besides.
    more: Vec<String>,
}

impl OwnEngine {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more words for the engine.
    pub(crate) fn start_with(more: &[String]) -> Self {
        // Near the root: an engine makes sockets below it, and their paths are short.
        let directory = tempfile::Builder::new().prefix("pd").tempdir_in("/var/tmp").unwrap();
        let containerd = start_containerd(directory.path());
        let mut own = Self { directory, daemon: None, containerd, more: more.to_vec() };
        own.launch();
        own
    }

    /// What starts a program in its network: only there is it reached by TCP.
    pub(crate) fn inside(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.containerd.id())]
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::at(format!("unix://{}", self.directory.path().join("s").display()))
    }

    /// Starts it, again with what it had on disk, and waits until it answers.
    pub(crate) fn launch(&mut self) {
        let path = self.directory.path();
        let log = File::options().create(true).append(true).open(path.join("log")).unwrap();
        let [nsenter, network] = self.inside();
        let mut command = Command::new(nsenter);
        command.arg(network).arg("dockerd").args(&self.more);
        command.arg("--data-root").arg(path.join("root")).arg("--exec-root").arg(path.join("exec"));
        command
            .arg("--containerd")
            .arg(path.join("c"))
            .arg("--pidfile")
            .arg(path.join("pid"))
            .args(["--host", self.engine().uri()]);
        // Containers outlive it, as they do where people care for them.
        command.args(["--live-restore", "--iptables=false", "--ip6tables=false"]);
        command.args(["--ip-forward=false", "--log-level=warn"]).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        let engine = self.engine();
        until("the engine answers", || {
            matches!(engine.exchange("GET", "/_ping", &Body::Nothing), Ok((200, _))).then_some(())
        });
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// What runs of it: containerd and its shims are told about its directory.
    fn processes(&self) -> Vec<String> {
        let told = |pid: &Path| {
            let words = fs::read(pid.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&format!("{}/", self.directory.path().display()))
        };
        let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let ours = all.filter(|pid| told(pid));
        ours.filter_map(|pid| Some(pid.file_name()?.to_str()?.to_owned())).collect()
    }

    fn mounts(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
        places.filter(|place| place.starts_with(self.directory.path())).collect()
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            signal("TERM", &[daemon.id().to_string()]);
            until("the engine ends", || daemon.try_wait().unwrap());
        }
        let _it_may_have_ended = self.containerd.kill();
        let _ = self.containerd.wait();
        until("what it left ends", || {
            let left = self.processes();
            signal("KILL", &left);
            left.is_empty().then_some(())
        });
        for place in self.mounts() {
            let _shown_by_what_is_left = Command::new("umount").arg(place).output();
        }
    }
}

/// Without its part for Kubernetes, which listens and looks for networks.
fn start_containerd(path: &Path) -> Child {
    let place = path.display();
    let config = format!(
        "version = 2\nroot = '{place}/croot'\nstate = '{place}/cstate'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n\
         [grpc]\naddress = '{place}/c'\n[plugins.'io.containerd.internal.v1.opt']\npath = '{place}/opt'\n"
    );
    let file = path.join("containerd.toml");
    fs::write(&file, config).unwrap();
    let log = File::create(path.join("containerd.log")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "containerd"]).arg("--config").arg(file).args(["--log-level", "warn"]);
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    let (ours, its) = (network("self"), || network(&child.id().to_string()));
    until("it has a network of its own", || (its() != ours).then_some(()));
    child
}

fn signal(name: &str, pids: &[String]) {
    for pid in pids {
        // It may be gone by now.
        let _ = Command::new("kill").args([&format!("-{name}"), pid]).output();
    }
}
