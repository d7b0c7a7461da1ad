//! Programs that others would write, with libraries that others wrote: they read what we register, and we read what they
//! do. Their sources are in `testkit/witness`; what they need is installed by `cargo xtask setup`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long a witness may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that nobody has asked for yet.
const LINES_LIMIT: usize = 10_000;

/// A running program that is told lines and says lines. Killed on drop.
pub struct Witness {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
    patience: Duration,
    /// The last lines it said, for a verdict.
    said: VecDeque<String>,
}

impl Witness {
    /// Starts `<name>/<file>` by Node.js with libraries from npm.
    pub fn node(name: &str, file: &str, environment: &[(&str, &str)]) -> Self {
        let libraries = target().join("peers").join(name).join("node_modules");
        assert!(libraries.is_dir(), "{} is missing: run cargo xtask setup", libraries.display());
        let mut command = Command::new("node");
        command.arg(source(name).join(file)).env("NODE_PATH", libraries).envs(environment.iter().copied());
        Self::start(command)
    }

    /// Starts `<name>/<file>` by Java with libraries from Debian's packages.
    pub fn java(name: &str, file: &str, libraries: &[&str], arguments: &[&str]) -> Self {
        let path = |library: &&str| format!("/usr/share/java/{library}.jar");
        let classes = libraries.iter().map(path).collect::<Vec<_>>().join(":");
        let mut command = Command::new("java");
        command.args(["-Xmx128m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
        command.arg(classes).arg(source(name).join(file)).args(arguments);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}; run cargo xtask setup"));
        let input = child.stdin.take().expect("its input");
        let told = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, output) = mpsc::sync_channel(LINES_LIMIT);
        thread::spawn(move || told.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, input, output, patience: PATIENCE, said: VecDeque::new() }
    }

    /// With more time to say something: it has work to do first.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Tells it a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("a running witness");
    }

    /// Tells it a line and waits for one.
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.until(line, |said| Some(said.to_owned()))
    }

    /// Waits for a line in which `found` finds what it looks for.
    pub fn until<T>(&mut self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let begun = Instant::now();
        while let Ok(line) = self.output.recv_timeout(self.patience.saturating_sub(begun.elapsed())) {
            let found = found(&line);
            self.said.push_back(line);
            if self.said.len() > 20 {
                self.said.pop_front();
            }
            if let Some(found) = found {
                return found;
            }
        }
        panic!("{what}: the witness does not say so, but {:#?}", self.said);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("witness").join(name)
}

fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}
