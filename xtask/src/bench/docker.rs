//! The few calls to a container engine that measurements make.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Scratch;
use crate::http::{Address, Client, Payload};
use crate::process::{Outcome, find};

/// How long any one call may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The name of the image that [`Docker::build`] makes.
const IMAGE: &str = "portolan-bench";
/// Where the sample listens inside its container.
const PORT: &str = "8080/tcp";

/// An engine.
pub(super) struct Docker(Address);

/// The sample service in a container.
pub(super) struct Sample<'a> {
    pub(super) container: &'a str,
    pub(super) service: &'a str,
    /// What the sample calls itself in its answers.
    pub(super) name: &'a str,
    pub(super) published: SocketAddr,
    /// Whether it goes on serving when it is asked to end, so that only routing can keep requests from it.
    pub(super) deaf: bool,
}

impl Docker {
    pub(super) fn new(address: Address) -> Self {
        Self(address)
    }

    /// Makes an image of our static binary and a static shell, and nothing else.
    pub(super) fn build(&self, binary: &Path) -> Outcome {
        let scratch = Scratch::new()?;
        let busybox = find("busybox").ok_or("busybox is not installed")?;
        for (from, name) in [(binary, "portolan"), (&busybox, "busybox")] {
            std::fs::copy(from, scratch.path().join(name)).map_err(|e| format!("{}: {e}", from.display()))?;
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(scratch.path()).args(["-c", "portolan", "busybox"]).stderr(Stdio::inherit());
        let archive = tar.output().map_err(|e| format!("tar: {e}"))?;
        if !archive.status.success() {
            return Err("tar failed".to_owned());
        }
        let path = format!("/images/create?fromSrc=-&repo={IMAGE}&tag=latest");
        let said = self.call("POST", &path, &Payload::Tar(&archive.stdout))?;
        if said.contains("\"error\"") { Err(format!("image import: {said}")) } else { Ok(()) }
    }

    /// Creates a container that does not run yet, and returns its id.
    pub(super) fn create(&self, sample: &Sample<'_>) -> Outcome<String> {
        let run = ["/portolan", "sample", "--listen", "0.0.0.0:8080", "--name", sample.name];
        // The kernel keeps signals from a first process that has no handler for them: this shell has none.
        let deaf = format!("{} & wait", run.join(" "));
        let deaf = ["/busybox", "sh", "-c", &deaf];
        let (ip, port) = (sample.published.ip().to_string(), sample.published.port().to_string());
        let spec = json!({
            "Image": IMAGE,
            "Cmd": if sample.deaf { &deaf[..] } else { &run[..] },
            "Labels": {"SERVICE_NAME": sample.service},
            "ExposedPorts": {PORT: {}},
            "HostConfig": {"PortBindings": {PORT: [{"HostIp": ip, "HostPort": port}]}},
        });
        let path = format!("/containers/create?name={}", sample.container);
        let said = self.call("POST", &path, &Payload::Json(&spec.to_string()))?;
        let said: Value = serde_json::from_str(&said).map_err(|e| format!("POST {path}: {e}"))?;
        said["Id"].as_str().map(str::to_owned).ok_or_else(|| format!("POST {path}: no id in {said}"))
    }

    pub(super) fn start(&self, id: &str) -> Outcome {
        self.call("POST", &format!("/containers/{id}/start"), &Payload::None).map(|_| ())
    }

    pub(super) fn kill(&self, id: &str, signal: &str) -> Outcome {
        self.call("POST", &format!("/containers/{id}/kill?signal={signal}"), &Payload::None).map(|_| ())
    }

    pub(super) fn remove(&self, id: &str) -> Outcome {
        self.call("DELETE", &format!("/containers/{id}?force=true"), &Payload::None).map(|_| ())
    }

    pub(super) fn version(&self) -> Outcome<String> {
        let said: Value = serde_json::from_str(&self.call("GET", "/version", &Payload::None)?)
            .map_err(|e| e.to_string())?;
        said["Version"].as_str().map(str::to_owned).ok_or_else(|| "the engine tells no version".to_owned())
    }

    /// Follows what happens to containers from now on.
    pub(super) fn events(&self) -> Outcome<Events> {
        let failed = |e: std::io::Error| format!("engine events: {e}");
        let day = Duration::from_secs(86_400);
        let client = Client::connect(&self.0, day).map_err(failed)?;
        // {"type":["container"]}
        let lines =
            client.follow("/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D").map_err(failed)?;
        let (sender, receiver) = channel();
        // Ends with the engine's connection or with us, whichever is first.
        std::thread::spawn(move || {
            for event in lines.map_while(Result::ok).filter_map(|line| Event::parse(&line)) {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Events(receiver))
    }

    fn call(&self, method: &str, path: &str, body: &Payload<'_>) -> Outcome<String> {
        let failed = |e: std::io::Error| format!("{method} {path}: {e}");
        let answer = Client::connect(&self.0, LIMIT).and_then(|mut client| client.send(method, path, body));
        let answer = answer.map_err(failed)?;
        match answer.status {
            200..300 => Ok(answer.text()),
            status => Err(format!("{method} {path}: {status} {}", answer.text())),
        }
    }
}

/// A container that is removed when this goes out of scope.
pub(super) struct Container<'d> {
    docker: &'d Docker,
    pub(super) id: String,
}

impl<'d> Container<'d> {
    pub(super) fn create(docker: &'d Docker, sample: &Sample<'_>) -> Outcome<Self> {
        Ok(Self { docker, id: docker.create(sample)? })
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.docker.remove(&self.id) {
            let _terminal_gone = writeln!(std::io::stderr(), "{failure}");
        }
    }
}

/// What happened to a container, and when by the engine's clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    id: String,
    action: String,
    /// In nanoseconds since 1970.
    at: u64,
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            id: text(&event["Actor"]["ID"])?,
            action: text(&event["Action"])?,
            at: event["timeNano"].as_u64()?,
        })
    }
}

/// Events as they come.
pub(super) struct Events(Receiver<Event>);

impl Events {
    /// Waits for one event of one container; others before it are forgotten. Returns its time.
    pub(super) fn wait(&mut self, id: &str, action: &str) -> Outcome<u64> {
        let until = Instant::now() + LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.0.recv_timeout(left).map_err(|e| format!("no {action} event: {e}"))?;
            if event.id == id && event.action == action {
                return Ok(event.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        let line =
            r#"{"Action":"start","Actor":{"ID":"abc","Attributes":{}},"time":1,"timeNano":1000000002}"#;
        let event = Event { id: "abc".to_owned(), action: "start".to_owned(), at: 1_000_000_002 };
        assert_eq!(Event::parse(line), Some(event));
        assert_eq!(Event::parse("{\"Action\":\"start\"}"), None);
        assert_eq!(Event::parse("rubbish"), None);
    }
}
