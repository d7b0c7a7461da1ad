//! A server as a process of ours, ended by its id.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

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
