//! Container engines newer than the machine's own: of later Debian suites, each in a tree, a network and a set of
//! processes of its own, so that it meets no other engine and nothing of it is left. Tests run in its network, where
//! its published ports are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::engine::{self, VARIABLE};
use crate::process::{Outcome, Running, alive, output, run, signal, tail, wait_for};
use crate::setup::{self, Tool};
use crate::unpack;
use crate::workspace::Workspace;

/// The suites whose engines are tested, in Debian's order.
const SUITES: [&str; 2] = ["trixie", "sid"];

/// What is run against each: all that talks to an engine, but not the tests that start one of their own.
const TESTS: &str = "(binary(/docker/) or test(/docker/)) and not test(/chaos/)";

const TOOLS: &[Tool] = &[
    Tool { program: "debootstrap", package: "debootstrap" },
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "unshare", package: "util-linux" },
    Tool { program: "setpriv", package: "util-linux" },
    Tool { program: "busybox", package: "busybox-static" },
];

const START_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(30);

/// The longest path of a Unix socket.
const SOCKET_LIMIT: usize = 107;

/// Tests `wanted` suites, or all of them, one after the other.
pub(crate) fn run_tests(workspace: &Workspace, wanted: &[&str]) -> Outcome {
    if let Some(unknown) = wanted.iter().find(|suite| !SUITES.contains(suite)) {
        return Err(format!("{unknown}: there are {}", SUITES.join(", ")));
    }
    setup::ensure(TOOLS)?;
    // Some of the tests have a registry beside the engine.
    setup::ensure(setup::CLUSTERS)?;
    unpack::ensure(workspace, &unpack::CONSUL)?;
    // What may need the network is done before there is none.
    run(tests(&mut workspace.cargo()).arg("--no-run"))?;
    let mut failed = Vec::new();
    for suite in SUITES.iter().filter(|suite| wanted.is_empty() || wanted.contains(suite)) {
        let root = tree(workspace, suite)?;
        let newer = Newer::start(&root)?;
        println!("== {suite}: {}", newer.version()?);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", newer.inside)).arg("cargo").current_dir(&workspace.root);
        tests(&mut command).args(["--offline", "--no-fail-fast"]).env(VARIABLE, newer.uri());
        if let Err(failure) = run(&mut command) {
            println!("{suite}: {failure}");
            failed.push(*suite);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("tests failed over {}", failed.join(", "))) }
}

fn tests(cargo: &mut Command) -> &mut Command {
    let packages = ["--package", "registrator", "--package", "portolan"];
    cargo.args(["nextest", "run", "--locked", "--all-features"]).args(packages).args(["-E", TESTS])
}

/// A suite's tree with an engine in it, made when it is not there.
fn tree(workspace: &Workspace, suite: &str) -> Outcome<PathBuf> {
    let place = workspace.target.join("engines").join(suite);
    if place.join("usr/sbin/dockerd").is_file() {
        return Ok(place);
    }
    // Into place only when it is whole.
    let fresh = place.with_extension("new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
    }
    fs::create_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", "--include=docker.io,iptables,ca-certificates", suite]);
    run(command.arg(&fresh).arg(unpack::mirror()?))?;
    fs::rename(&fresh, &place).map_err(|e| format!("{}: {e}", place.display()))?;
    Ok(place)
}

/// An engine that runs. When this goes out of scope, or we die, what holds it is killed, and with it the first process
/// of its own set: the kernel ends the rest, its network and its mounts with it.
struct Newer {
    root: PathBuf,
    daemon: Option<Running>,
    holder: Option<Running>,
    /// The first process inside, by its number outside.
    inside: u32,
}

impl Newer {
    fn start(root: &Path) -> Outcome<Self> {
        if root.join("engine/socket").as_os_str().len() > SOCKET_LIMIT {
            return Err(format!("{}/engine/socket is too long for a socket's path", root.display()));
        }
        // What an earlier run left: images and containers that nobody knows.
        let home = root.join("engine");
        if home.exists() {
            fs::remove_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
        }
        for directory in [&home, &root.join("outside")] {
            fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        }
        let mut command = Command::new("setpriv");
        // It waits for its child, deaf to anything milder.
        command.args(["--pdeathsig", "KILL", "--", "unshare"]);
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]);
        let holder = Running::start("unshare", command.args(["--mount-proc", "sleep", "infinity"]))?;
        let mut inside = None;
        wait_for("a set of processes of its own", START_LIMIT, || {
            inside = child_of(holder.pid());
            inside.is_some_and(|pid| comm(pid) == "sleep")
        })?;
        let inside = inside.ok_or("its first process is gone")?;
        let mut newer = Self { root: root.to_owned(), daemon: None, holder: Some(holder), inside };
        newer.furnish()?;
        newer.launch()?;
        Ok(newer)
    }

    /// Makes the tree the root of everything inside. Not by `chroot`: what enters a container would then land in the
    /// machine's own root.
    fn furnish(&self) -> Outcome {
        let root = self.root.display().to_string();
        let at = |place: &str| format!("{root}/{place}");
        let steps: [&[&str]; 9] = [
            &["ip", "link", "set", "lo", "up"],
            &["mount", "--bind", &root, &root],
            &["mount", "--rbind", "/dev", &at("dev")],
            &["mount", "-t", "proc", "proc", &at("proc")],
            &["mount", "-t", "sysfs", "sysfs", &at("sys")],
            &["mount", "--rbind", "/sys/fs/cgroup", &at("sys/fs/cgroup")],
            &["mount", "-t", "tmpfs", "tmpfs", &at("run")],
            &["pivot_root", &root, &at("outside")],
            &["umount", "--lazy", "/outside"],
        ];
        steps.iter().try_for_each(|words| output(self.enter().args(*words)).map(drop))
    }

    fn launch(&mut self) -> Outcome {
        let path = self.root.join("engine/log");
        let log = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let twin = log.try_clone().map_err(|e| format!("{}: {e}", path.display()))?;
        let mut command = self.enter();
        command.arg("/usr/sbin/dockerd").args(["--data-root", "/engine/root", "--exec-root", "/engine/exec"]);
        command.args(["--host", "unix:///engine/socket", "--pidfile", "/engine/pid"]);
        // As the engine of all other tests.
        command.args(["--userland-proxy=false", "--log-level", "warn"]).stdout(log).stderr(twin);
        let mut daemon = Running::start("dockerd", &mut command)?;
        let (uri, mut ended) = (self.uri(), Ok(()));
        let up = wait_for("the container engine's start", START_LIMIT, || {
            ended = daemon.still_runs(&path);
            ended.is_err() || engine::answers(&uri)
        });
        self.daemon = Some(daemon);
        ended.and(up.map_err(|e| format!("{e}\n{}", tail(&path))))
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.inside.to_string(), "--net", "--mount", "--pid", "--"]);
        command
    }

    fn version(&self) -> Outcome<String> {
        Ok(output(self.enter().args(["/usr/sbin/dockerd", "--version"]))?.trim().to_owned())
    }

    fn uri(&self) -> String {
        format!("unix://{}/engine/socket", self.root.display())
    }
}

impl Drop for Newer {
    fn drop(&mut self) {
        engine::kill_containers(&self.uri());
        // Asked itself, and not only what entered with it, it removes what it made outside: control groups.
        if let Some(pid) = self.daemon.as_ref().and_then(|daemon| child_of(daemon.pid())) {
            signal(pid, "TERM");
            if let Err(late) = wait_for("the container engine's end", END_LIMIT, || !alive(pid)) {
                println!("{late}");
            }
        }
        self.daemon = None;
        if let Some(holder) = self.holder.take() {
            signal(holder.pid(), "KILL");
        }
        if let Err(late) = wait_for("the end of all that ran with it", END_LIMIT, || !alive(self.inside)) {
            println!("{late}");
        }
        let home = self.root.join("engine");
        if let Err(e) = fs::remove_dir_all(&home) {
            println!("{}: {e}", home.display());
        }
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
