//! Running other programs, and being sure that none of them outlives us.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nobody branches on why automation failed: the words are for the person who reads them.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Runs a program on our terminal to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    println!("$ {}", line_of(command));
    let status = command.status().map_err(|e| format!("{}: {e}", line_of(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed: {status}", line_of(command))) }
}

/// Runs a program to its end and returns what it wrote to stdout; stderr is shown only when it fails.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{}: {e}", line_of(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}` failed: {}\n{}", line_of(command), output.status, said.trim_end()))
}

/// Where a program is. Daemons live in `sbin`, which a plain user's `PATH` may lack.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Asks again until `done` says so; `what` names the wait when the time is up.
pub(crate) fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Outcome {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > limit {
            return Err(format!("{what}: not within {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A signal by name. std can only kill; a daemon must be asked, so that it ends its own children.
pub(crate) fn signal(pid: u32, name: &str) {
    let _gone_already =
        Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()]).output();
}

/// Whether a process runs; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

/// A command that is asked to end when we die in whatever way, also by a signal that nobody can handle.
pub(crate) fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// A program that runs beside us. It is asked to end when this goes out of scope, and killed if it will not.
pub(crate) struct Running {
    name: &'static str,
    child: Child,
    grace: Duration,
}

impl Running {
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Outcome<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.map_err(|e| format!("{}: {e}", line_of(command)))?;
        Ok(Self { name, child, grace: Duration::from_secs(10) })
    }

    /// Allows more time to end before it is killed.
    pub(crate) fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says that it ended, if it did, with what it left in its log.
    pub(crate) fn still_runs(&mut self, log: &Path) -> Outcome {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended ({status}):\n{}", self.name, tail(log))),
            Err(e) => Err(format!("{}: {e}", self.name)),
        }
    }

    fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        signal(self.child.id(), "TERM");
        let ended = wait_for(self.name, self.grace, || !matches!(self.child.try_wait(), Ok(None)));
        if ended.is_err() {
            eprintln!("{} (pid {}) does not end when asked; killing it", self.name, self.child.id());
            let _gone_already = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// What the kernel says of a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: u32,
    /// User and system time of all its threads, ended ones included, in clock ticks.
    pub(crate) ticks: u64,
}

/// Reads `/proc/PID/stat`; `None` once the process is gone.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, and may itself hold blanks and parentheses.
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Stat { state, parent, ticks: user + system })
}

/// Resident memory of a process, in bytes, now and at its most so far.
///
/// # Errors
/// When the process is gone.
pub(crate) fn resident(pid: u32) -> Outcome<Resident> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    parse_resident(&status).ok_or_else(|| format!("{path} tells no memory"))
}

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) now: u64,
    pub(crate) most: u64,
}

fn parse_resident(status: &str) -> Option<Resident> {
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    };
    Some(Resident { now: of("VmRSS:")?, most: of("VmHWM:")? })
}

/// All processes there are.
pub(crate) fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process and all that descend from it.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        pids().into_iter().filter_map(|pid| stat(pid).map(|stat| (pid, stat.parent))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// The command line of a process, blanks between its words.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let line = |name: &str| format!("42 ({name}) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 9");
        let expect = Some(Stat { state: 'S', parent: 7, ticks: 200 });
        assert_eq!(parse_stat(&line("nginx")), expect);
        assert_eq!(parse_stat(&line("a) R (b")), expect);
        assert_eq!(parse_stat("42 (nginx) S 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn resident_memory() {
        let status = "Name:\tportolan\nVmHWM:\t 20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(parse_resident(status), Some(Resident { now: 10 << 20, most: 20 << 20 }));
        assert_eq!(parse_resident("Name:\tportolan\n"), None);
    }

    #[test]
    fn a_running_program_ends_with_its_guard() {
        let running = Running::start("cat", Command::new("sh").args(["-c", "read line"])).unwrap();
        let pid = running.pid();
        drop(running);
        assert!(!alive(pid));
    }

    #[test]
    fn our_family_has_our_child() {
        let running = Running::start("cat", Command::new("cat").stdin(Stdio::null())).unwrap();
        let pid = running.pid();
        assert!(family(std::process::id()).contains(&pid));
    }
}
