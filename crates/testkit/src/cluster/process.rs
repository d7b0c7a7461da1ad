//! A server as a process of ours, ended by its id.

use std::env::temp_dir;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, getuid, kill_process, waitpid};

/// A running server. Killed on drop.
pub struct Process(Child);

impl Process {
    /// Starts `command`; what it says goes to the file `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log");
        let err = out.try_clone().expect("a log");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Self(child.unwrap_or_else(|e| panic!("{command:?}: {e}; run cargo xtask setup")))
    }

    /// Ends it as a power cut would.
    pub fn kill(self) {
        drop(self);
    }

    /// Makes it deaf and mute; its sockets stay open. Returns once it is.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("a process of ours");
    }

    /// Ends a [`Process::stop`].
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a process of ours");
    }

    fn pid(&self) -> Pid {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Below those that the kernel gives to whoever asks for any: one of these is not lost to a connection or to another listener
/// before the server that it is for has started.
const PORTS: Range<u16> = 12_000..32_000;

/// Ports that nobody listens on; for servers that cannot be told to choose. All processes of tests take them in turn, so
/// that one comes again only after thousands.
///
/// # Panics
/// When there are not so many.
pub fn free_ports(count: usize) -> Vec<u16> {
    let path = temp_dir().join(format!("portolan-test-ports-{}", getuid().as_raw()));
    let mut turn =
        File::options().read(true).write(true).create(true).truncate(false).open(path).expect("a file");
    turn.lock().expect("a lock");
    let mut text = String::new();
    turn.read_to_string(&mut text).expect("whose turn it is");
    let next = text.trim().parse().ok().filter(|port| PORTS.contains(port)).unwrap_or(PORTS.start);
    let ports = first_free(next, count, |port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    turn.set_len(0).and_then(|()| turn.rewind()).expect("whose turn it is");
    write!(turn, "{}", ports.last().map_or(next, |last| last + 1)).expect("whose turn it is");
    ports
}

fn first_free(next: u16, count: usize, is_free: impl Fn(u16) -> bool) -> Vec<u16> {
    let all = (next..PORTS.end).chain(PORTS.start..next);
    let ports: Vec<_> = all.filter(|port| is_free(*port)).take(count).collect();
    assert_eq!(ports.len(), count, "free ports in {PORTS:?}");
    ports
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    #[test]
    fn everybody_gets_other_ports() {
        let taken: Vec<_> = (0..8).map(|_| thread::spawn(|| free_ports(12))).collect();
        let taken: Vec<u16> = taken.into_iter().flat_map(|ports| ports.join().unwrap()).collect();
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 8 * 12);
        assert!(taken.iter().all(|port| PORTS.contains(port)));
    }

    #[test]
    fn what_is_in_use_is_passed_over() {
        let (first, last) = (PORTS.start, PORTS.end - 1);
        assert_eq!(first_free(last - 1, 3, |port| port != last), [last - 1, first, first + 1]);
    }
}
