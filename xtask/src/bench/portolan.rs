//! Our own binary under measurement, driven as a user would.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Scratch, free_addresses};
use crate::http::{Address, Client, Payload};
use crate::process::{Outcome, Running, tail, wait_for};

/// What a measurement may choose.
#[derive(Default)]
pub(crate) struct Options {
    /// The engine to follow; none means `--no-docker`.
    pub(crate) docker: Option<String>,
    /// How many cores the gateway uses; none leaves it to the program.
    pub(crate) cores: Option<u32>,
}

/// `portolan up`, serving.
pub(crate) struct Portolan {
    running: Running,
    log: PathBuf,
    pub(crate) proxy: SocketAddr,
    pub(crate) registry: SocketAddr,
    // Removed after the process has ended: fields drop in this order.
    _data: Scratch,
}

impl Portolan {
    /// Starts `command up …` on free loopback ports and a data directory of its own, and waits until it answers.
    pub(crate) fn start(mut command: Command, options: &Options) -> Outcome<Self> {
        let data = Scratch::new()?;
        let [proxy, registry] = free_addresses()?;
        command.args(["up", "--proxy", &proxy.to_string(), "--http", &registry.to_string()]);
        command.arg("--data-dir").arg(data.path().join("data"));
        match &options.docker {
            Some(uri) => command.args(["--docker", uri]),
            None => command.arg("--no-docker"),
        };
        if let Some(cores) = options.cores {
            command.args(["--cores", &cores.to_string()]);
        }
        let log = data.path().join("log");
        let file = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let twin = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
        let running = Running::start("portolan", command.stdout(file).stderr(twin))?;
        let mut portolan = Self { running, log, proxy, registry, _data: data };
        let mut ended = Ok(());
        let up = wait_for("portolan's start", Duration::from_secs(10), || {
            ended = portolan.running.still_runs(&portolan.log);
            ended.is_err() || portolan.ask("GET", "/v1/agent/self", &Payload::None).is_ok()
        });
        ended.and(up.map_err(|e| format!("{e}\n{}", tail(&portolan.log))))?;
        Ok(portolan)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(crate) fn still_runs(&mut self) -> Outcome {
        self.running.still_runs(&self.log)
    }

    /// The end of what it logged, for an error message.
    pub(crate) fn log(&self) -> String {
        tail(&self.log)
    }

    /// Registers one instance through the HTTP face.
    pub(crate) fn register(&self, service: &str, id: &str, at: SocketAddr) -> Outcome {
        let body = serde_json::json!({
            "Name": service, "ID": id, "Address": at.ip().to_string(), "Port": at.port(),
        });
        self.ask("PUT", "/v1/agent/service/register", &Payload::Json(&body.to_string())).map(|_| ())
    }

    /// One request to the HTTP face; anything but 200 is a failure.
    fn ask(&self, method: &str, path: &str, body: &Payload<'_>) -> Outcome<String> {
        let failed = |e: &dyn std::fmt::Display| format!("{method} {path}: {e}");
        let mut client =
            Client::connect(&Address::Tcp(self.registry), Duration::from_secs(5)).map_err(|e| failed(&e))?;
        let answer = client.send(method, path, body).map_err(|e| failed(&e))?;
        match answer.status {
            200 => Ok(answer.text()),
            status => Err(failed(&format!("{status} {}", answer.text()))),
        }
    }
}
