//! Runs the real binary and looks at it from outside.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command of the binary, deaf to the settings of whoever runs the tests.
pub(crate) fn command(args: &[&str]) -> Command {
    within(&[], args)
}

/// The same, started by `wrapper`, a program and its arguments that ends by becoming the one it is told to start.
pub(crate) fn within(wrapper: &[&str], args: &[&str]) -> Command {
    let words = [wrapper, &[env!("CARGO_BIN_EXE_portolan")], args].concat();
    let mut command = Command::new(words[0]);
    let ours = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("PORTOLAN_"));
    ours.for_each(|name| {
        command.env_remove(name);
    });
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// Runs a command that must succeed; returns what it printed.
#[track_caller]
pub(crate) fn ask(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A running process of the binary, and the lines it prints.
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::of(command(args))
    }

    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The system's number for it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The next line on stdout.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        if self.stdout.read_line(&mut line).unwrap() == 0 {
            let mut said = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it ended: {said}");
        }
        line.trim_end().to_owned()
    }

    /// The next line on stderr.
    pub(crate) fn complaint(&mut self) -> String {
        let mut line = Vec::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut byte = [0];
        while stderr.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// `kill -9`, and all that is left on stderr.
    pub(crate) fn last_words(mut self) -> String {
        let _ = self.child.kill();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end; the exit code, if it had one.
    pub(crate) fn end(mut self) -> Option<i32> {
        until("the process ends", || self.child.try_wait().unwrap()).code()
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `portolan up` on any ports.
pub(crate) struct Up {
    pub(crate) process: Process,
    /// What the registrator's line says.
    pub(crate) registrator: String,
    pub(crate) gateway: String,
    pub(crate) http: String,
    pub(crate) revision: u64,
}

impl Up {
    pub(crate) fn start(dir: &TempDir) -> Self {
        Self::with(dir, &["--http", "127.0.0.1:0"])
    }

    pub(crate) fn with(dir: &TempDir, more: &[&str]) -> Self {
        Self::within(&[], dir.path(), more)
    }

    /// Started by `wrapper`, see [`within`].
    pub(crate) fn within(wrapper: &[&str], dir: &Path, more: &[&str]) -> Self {
        Self::of(within(wrapper, &[&Self::args(dir), more].concat()))
    }

    /// What every `portolan up` of a test is told; where the HTTP face listens is missing.
    pub(crate) fn args(dir: &Path) -> [&str; 10] {
        let dir = dir.to_str().unwrap();
        let any = "127.0.0.1:0";
        ["up", "--no-docker", "--data-dir", dir, "--proxy", any, "--cores", "2", "--log", "warn"]
    }

    /// From a command that starts one.
    pub(crate) fn of(command: Command) -> Self {
        let mut process = Process::of(command);
        let after = |line: &str, word: &str| line.rsplit_once(word).unwrap().1.to_owned();
        let revision = after(&process.line(), "revision ").parse().unwrap();
        let registrator = process.line().strip_prefix("registrator").unwrap().trim_start().to_owned();
        let http = after(&process.line(), "listening on ");
        let gateway = after(&process.line(), "listening on ");
        Self { process, registrator, gateway, http, revision }
    }

    /// Asks by command line; `--http-addr` is added.
    #[track_caller]
    pub(crate) fn ask(&self, args: &[&str]) -> String {
        ask(&[args, &["--http-addr", &self.http]].concat())
    }

    /// A GET through the gateway.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(&format!("{}{path}", self.gateway), &[])
    }
}

/// A GET, whatever the status.
pub(crate) fn get(url: &str, headers: &[(String, String)]) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let request = headers.iter().fold(agent.get(url), |request, (name, value)| request.header(name, value));
    let mut response = request.call().unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// Looks until there is something to see.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    testkit::wait::until_blocking(PATIENCE, what, look)
}
