//! A container engine to test with: the one that answers, else one of our own.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::http::{Address, Client, Payload};
use crate::process::{
    Outcome, Running, alive, command_line, family, find, pids, signal, tail, tied, wait_for,
};
use crate::setup;
use crate::workspace::Workspace;

/// Where tests find the engine.
pub(crate) const VARIABLE: &str = "PORTOLAN_TEST_DOCKER";

/// How long an engine may take to start, and to end with containers running.
const START_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(30);

/// Whether an engine that we start stays when we end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until `cargo xtask teardown`: for people who run tests again and again.
    Stays,
    /// Until the [`Engine`] is dropped, or our process dies in whatever way.
    Ours,
}

/// An engine that answers.
pub(crate) struct Engine {
    uri: String,
    // Ended on drop, in this order: first the daemon, then what it left.
    daemon: Option<Running>,
    home: Option<Home>,
}

impl Engine {
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn address(&self) -> Outcome<Address> {
        Address::parse(&self.uri).ok_or_else(|| format!("{:?} is not a container engine's address", self.uri))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        kill_containers(&self.uri);
        drop(daemon);
        if let Some(home) = &self.home {
            home.clear();
        }
    }
}

/// The engine that answers, else our own, started now.
pub(crate) fn ensure(workspace: &Workspace, lifetime: Lifetime) -> Outcome<Engine> {
    let there = |uri: String| Engine { uri, daemon: None, home: None };
    if let Ok(uri) = std::env::var(VARIABLE) {
        return if answers(&uri) {
            Ok(there(uri))
        } else {
            Err(format!("{VARIABLE}={uri}: no engine answers"))
        };
    }
    if let Ok(uri) = std::env::var("DOCKER_HOST") {
        if answers(&uri) {
            return Ok(there(uri));
        }
        println!("DOCKER_HOST={uri}: no engine answers");
    }
    let system = "unix:///var/run/docker.sock".to_owned();
    if answers(&system) {
        return Ok(there(system));
    }
    let home = Home::of(workspace);
    let _lock = home.lock()?;
    if answers(&home.uri()) {
        return Ok(there(home.uri()));
    }
    setup::ensure(setup::ENGINE)?;
    home.start(lifetime)
}

/// Ends the engine that `setup` left running, and removes its data.
pub(crate) fn teardown(workspace: &Workspace) -> Outcome {
    let home = Home::of(workspace);
    if !home.0.exists() {
        println!("no engine of ours runs");
        return Ok(());
    }
    let _lock = home.lock()?;
    if let Some(pid) = home.daemon() {
        kill_containers(&home.uri());
        signal(pid, "TERM");
        wait_for("the container engine's end", END_LIMIT, || !alive(pid))?;
    }
    home.clear();
    println!("ended");
    Ok(())
}

/// The directory of our own engine: socket, data, log, pid.
struct Home(PathBuf);

impl Home {
    /// The longest path of a Unix socket is 107 bytes, and the engine makes some below its directory.
    const LIMIT: usize = 107 - "/exec/containerd/containerd.sock.ttrpc".len();

    fn of(workspace: &Workspace) -> Self {
        let near = workspace.target.join("engine");
        if near.as_os_str().len() <= Self::LIMIT {
            return Self(near);
        }
        let tree = workspace.root.as_os_str().as_encoded_bytes();
        let name = tree.iter().fold(5381u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(*byte));
        Self(std::env::temp_dir().join(format!("portolan-{name:x}")))
    }

    fn uri(&self) -> String {
        format!("unix://{}/docker.sock", self.0.display())
    }

    /// Two commands at a time must not start two engines. Beside the directory, which `clear` removes.
    fn lock(&self) -> Outcome<File> {
        let path = self.0.with_extension("lock");
        let made = self.0.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(&path));
        let file = made.map_err(|e| format!("{}: {e}", path.display()))?;
        file.lock().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(file)
    }

    fn start(self, lifetime: Lifetime) -> Outcome<Engine> {
        let home = &self.0;
        if let Some(pid) = self.daemon() {
            return Err(format!("the engine in {} (pid {pid}) runs but does not answer", home.display()));
        }
        for pid in strangers() {
            println!(
                "another engine runs (pid {pid}); the two share a bridge: better name it in DOCKER_HOST"
            );
        }
        self.clear();
        fs::create_dir_all(home).map_err(|e| format!("{}: {e}", home.display()))?;
        let path = home.join("log");
        let log = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let twin = log.try_clone().map_err(|e| format!("{}: {e}", path.display()))?;
        let started = Running::start("dockerd", self.command(lifetime).stdout(log).stderr(twin))?;
        let mut daemon = started.grace(END_LIMIT);
        let (uri, mut ended) = (self.uri(), Ok(()));
        let up = wait_for("the container engine's start", START_LIMIT, || {
            ended = daemon.still_runs(&path);
            ended.is_err() || answers(&uri)
        });
        ended.and(up.map_err(|e| format!("{e}\n{}", tail(&path))))?;
        match lifetime {
            Lifetime::Ours => Ok(Engine { uri, daemon: Some(daemon), home: Some(self) }),
            Lifetime::Stays => {
                // Its end is asked for by `teardown`, through its pid file.
                std::mem::forget(daemon);
                Ok(Engine { uri, daemon: None, home: None })
            }
        }
    }

    fn command(&self, lifetime: Lifetime) -> Command {
        let dockerd = find("dockerd").unwrap_or_else(|| "dockerd".into());
        let mut command = match lifetime {
            Lifetime::Stays => Command::new(dockerd),
            Lifetime::Ours => tied(dockerd),
        };
        command
            .arg("--data-root")
            .arg(self.0.join("root"))
            .arg("--exec-root")
            .arg(self.0.join("exec"))
            .args(["--host", &self.uri()])
            .arg("--pidfile")
            .arg(self.0.join("pid"))
            // With its user-space proxy the engine itself accepts on a published port, and a container that no longer
            // listens looks like one that answers and then breaks the connection. Without, the kernel forwards:
            // connections to 127.0.0.1 reach the container or are refused, as on any other address.
            .args(["--userland-proxy=false", "--log-level", "warn"])
            // Ctrl-C on our terminal must not reach it twice.
            .process_group(0);
        command
    }

    /// The pid of our engine, if it runs.
    fn daemon(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.0.join("pid")).ok()?.trim().parse().ok()?;
        (alive(pid) && self.owns(pid)).then_some(pid)
    }

    /// Whether a process is a part of our engine: one of its programs, told about our directory.
    fn owns(&self, pid: u32) -> bool {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        ["dockerd", "containerd"].iter().any(|name| program.starts_with(name))
            && command_line(pid).contains(&format!("{}/", self.0.display()))
    }

    /// Ends what a dead engine leaves behind (containerd, its shims, what runs in containers) and removes all data.
    fn clear(&self) {
        let ours = || pids().into_iter().filter(|pid| self.owns(*pid) && alive(*pid)).collect::<Vec<_>>();
        for pid in ours() {
            println!("left by the engine, ending it: {}", command_line(pid));
            // What runs in a container outlives its shim, and would keep its address on the bridge of the next engine.
            family(pid).into_iter().filter(|one| !self.owns(*one)).for_each(|one| signal(one, "KILL"));
            signal(pid, "TERM");
        }
        if wait_for("", Duration::from_secs(5), || ours().is_empty()).is_err() {
            ours().into_iter().for_each(|pid| signal(pid, "KILL"));
        }
        // An engine leaves the network of host-networked containers mounted, also when it ends well.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for place in mounts_below(&mounts, &self.0) {
            let _shown_by_what_follows = Command::new("umount").arg(place).output();
        }
        if self.0.exists()
            && let Err(e) = fs::remove_dir_all(&self.0)
        {
            println!("{}: {e}", self.0.display());
        }
    }
}

pub(crate) fn answers(uri: &str) -> bool {
    let Some(address) = Address::parse(uri) else { return false };
    let answer =
        Client::connect(&address, Duration::from_secs(2)).and_then(|mut client| client.get("/_ping"));
    answer.is_ok_and(|answer| answer.status == 200)
}

/// What is mounted below a directory, the latest first: it may lie upon what came before.
fn mounts_below(mounts: &str, directory: &Path) -> Vec<PathBuf> {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let places = places.map(|place| PathBuf::from(place.replace("\\040", " ")));
    let mut below: Vec<PathBuf> = places.filter(|place| place.starts_with(directory)).collect();
    below.reverse();
    below
}

/// An engine that ends gives every container ten seconds; nobody needs that here.
pub(crate) fn kill_containers(uri: &str) {
    let kill = |address| {
        let mut client = Client::connect(&address, Duration::from_secs(10)).ok()?;
        let list: serde_json::Value =
            serde_json::from_slice(&client.get("/containers/json").ok()?.body).ok()?;
        for id in list.as_array()?.iter().filter_map(|container| container["Id"].as_str()) {
            let _ended_already = client.send("POST", &format!("/containers/{id}/kill"), &Payload::None);
        }
        Some(())
    };
    let _down_already = Address::parse(uri).and_then(kill);
}

/// Engines in our network that are not ours. They would write the same firewall chains.
fn strangers() -> Vec<u32> {
    let network = |pid: &str| fs::read_link(Path::new("/proc").join(pid).join("ns/net")).ok();
    let here = network("self");
    let is_engine = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dockerd")
    };
    pids().into_iter().filter(|pid| is_engine(pid) && network(&pid.to_string()) == here).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_fit() {
        #[track_caller]
        fn check(target: &str, expect: &str) {
            let workspace = Workspace { root: "/w".into(), target: target.into(), packages: vec![] };
            let home = Home::of(&workspace);
            assert!(home.0.starts_with(expect), "{} is not below {expect}", home.0.display());
            assert!(home.0.as_os_str().len() <= Home::LIMIT);
        }
        check("/w/target", "/w/target/engine");
        check(&format!("/{}/target", "deep/".repeat(20)), &std::env::temp_dir().to_string_lossy());
    }

    #[test]
    fn mounts() {
        #[track_caller]
        fn check(mounts: &str, expect: &[&str]) {
            let below = mounts_below(mounts, Path::new("/t/my engine"));
            assert_eq!(below, expect.iter().map(PathBuf::from).collect::<Vec<_>>());
        }
        check("/dev/vda / ext4 rw 0 0\nnsfs /t/engine/netns nsfs rw 0 0\n", &[]);
        check(
            "overlay /t/my\\040engine/a overlay rw 0 0\nnsfs /t/my\\040engine/a/b nsfs rw 0 0\n",
            &["/t/my engine/a/b", "/t/my engine/a"],
        );
        check("", &[]);
    }

    #[test]
    fn nobody_answers_on_a_missing_socket() {
        assert!(!answers("unix:///nonexistent/docker.sock"));
        assert!(!answers("rubbish"));
    }
}
