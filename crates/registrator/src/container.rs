//! Our own noun for a container: what the registrator needs to know of one, whatever the engine calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The engine's id of a container. It survives restarts and renames, and ends with the container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(Arc<str>);

/// A moment by the engine's clock, in nanoseconds since 1970; zero is "never".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineTime(pub u64);

/// One container as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: ContainerId,
    /// Its name, without the leading slash.
    pub name: String,
    /// What it calls itself: the host name inside it.
    pub hostname: String,
    /// The image as the user named it.
    pub image: String,
    /// Environment as `KEY=value` lines, in the engine's order.
    pub env: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that image or container declare.
    pub exposed: BTreeSet<Port>,
    /// Ports the engine knows, with where each is published; an empty list is not published.
    pub bindings: BTreeMap<Port, Vec<Binding>>,
    /// How it is attached to networks.
    pub network_mode: NetworkMode,
    /// Its address on each network it is attached to.
    pub networks: BTreeMap<String, IpAddr>,
    /// How it lives now.
    pub life: Life,
    /// The signal that asks it to end.
    pub stop_signal: Signal,
    /// How long the engine waits after that signal before it kills.
    pub stop_timeout: Duration,
}

/// How a container lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// A process runs. False while the engine waits to restart it.
    pub running: bool,
    /// Somebody froze it.
    pub paused: bool,
    /// When this life began.
    pub started_at: EngineTime,
    /// What its HEALTHCHECK says; `None` when it has none.
    pub check: Option<CheckStatus>,
    /// How this life ended; `None` while it lasts.
    pub exit: Option<ExitCode>,
}

/// How a container ended, as the engine counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(pub i64);

/// What a HEALTHCHECK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// No verdict yet.
    Starting,
    /// It passed.
    Healthy,
    /// It failed as often as it takes.
    Unhealthy,
}

/// A port inside a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Its transport.
    pub transport: Transport,
}

/// What containers expose ports of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// A byte stream.
    Tcp,
    /// Datagrams.
    Udp,
    /// Streams of messages; no instance can say so.
    Sctp,
}

/// Where a port is published on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The host address it is published on; an unspecified one is every address of its family, `None` every address.
    pub host: Option<IpAddr>,
    /// The host port.
    pub port: u16,
}

/// How a container is attached to networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// The engine's default bridge.
    Bridge,
    /// The host's own network.
    Host,
    /// None at all.
    None,
    /// That of another container, by id or name.
    Container(String),
    /// A network somebody made, by name.
    User(String),
}

/// A signal by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(pub u8);

impl ContainerId {
    /// Wraps the engine's id.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve characters, as people see it in listings.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl Container {
    /// Whether it is to be taken as ending once it was sent `signal`.
    pub fn ends_by(&self, signal: Signal) -> bool {
        signal.ends_a_process() || signal == self.stop_signal
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        };
        write!(f, "{}/{transport}", self.number)
    }
}

/// Why a text is not a port like `80/tcp`, or not a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}")]
pub struct ContainerError {
    what: &'static str,
    text: String,
}

impl FromStr for Port {
    type Err = ContainerError;

    /// Accepts `80`, `80/tcp`, `53/udp`, `9/sctp`.
    fn from_str(text: &str) -> Result<Self, ContainerError> {
        let (number, transport) = text.split_once('/').unwrap_or((text, "tcp"));
        let transport = match transport {
            "tcp" => Some(Transport::Tcp),
            "udp" => Some(Transport::Udp),
            "sctp" => Some(Transport::Sctp),
            _ => None,
        };
        let number = number.parse().ok().filter(|n| *n != 0);
        number
            .zip(transport)
            .map(|(number, transport)| Self { number, transport })
            .ok_or_else(|| ContainerError { what: "port", text: text.to_owned() })
    }
}

impl ExitCode {
    /// Whether the end was a failure: neither well nor, as shells say it (128 and more), by a signal.
    pub fn is_failure(self) -> bool {
        self.0 != 0 && self.0 & 128 == 0
    }
}

impl Signal {
    /// Ask to end.
    pub const TERM: Self = Self(15);

    /// Whether a process that was sent it is to be taken as ending, whatever its stop signal is: these end a process
    /// that does not catch them, and programs that do catch them mostly do so to end well. Not so 3 (QUIT), by which a
    /// Java machine is asked to list its threads.
    pub fn ends_a_process(self) -> bool {
        matches!(self.0, 2 | 9 | 15)
    }
}

impl Binding {
    /// Whether it is published on every address, of its family at least.
    pub fn is_everywhere(self) -> bool {
        self.host.is_none_or(|host| host.is_unspecified())
    }

    /// Whether who connects to this host's address `ip` can get there; on one particular address that is that address's
    /// own business.
    pub fn is_reached_at(self, ip: IpAddr) -> bool {
        self.host.is_none_or(|host| !host.is_unspecified() || host.is_ipv4() == ip.is_ipv4())
    }
}

impl FromStr for Signal {
    type Err = ContainerError;

    /// Accepts what engines accept: `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`, in any case. Linux numbers.
    fn from_str(text: &str) -> Result<Self, ContainerError> {
        const NAMES: [(&str, u8); 15] = [
            ("HUP", 1),
            ("INT", 2),
            ("QUIT", 3),
            ("ABRT", 6),
            ("KILL", 9),
            ("USR1", 10),
            ("USR2", 12),
            ("PIPE", 13),
            ("ALRM", 14),
            ("TERM", 15),
            ("CHLD", 17),
            ("CONT", 18),
            ("STOP", 19),
            ("WINCH", 28),
            ("PWR", 30),
        ];
        const RTMIN: u8 = 34;
        const RTMAX: u8 = 64;
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = || match name.strip_prefix("RTM")? {
            "IN" => Some(RTMIN),
            "AX" => Some(RTMAX),
            rest => match rest.strip_prefix("IN+") {
                Some(up) => RTMIN.checked_add(up.parse().ok()?),
                None => RTMAX.checked_sub(rest.strip_prefix("AX-")?.parse().ok()?),
            },
        };
        let by_name = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        by_name
            .or_else(real_time)
            .or_else(|| name.parse().ok())
            .filter(|number| (1..=RTMAX).contains(number))
            .map(Self)
            .ok_or_else(|| ContainerError { what: "signal", text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        #[track_caller]
        fn check(text: &str, expect: Option<u8>) {
            assert_eq!(text.parse::<Signal>().ok(), expect.map(Signal), "{text}");
        }
        check("15", Some(15));
        check("SIGTERM", Some(15));
        check("term", Some(15));
        check("sigquit", Some(3));
        check("SIGWINCH", Some(28));
        check("SIGRTMIN", Some(34));
        check("SIGRTMIN+3", Some(37));
        check("RTMAX-1", Some(63));
        check("RTMAX-99", None);
        check("0", None);
        check("65", None);
        check("", None);
        check("SIGNONSENSE", None);
    }

    #[test]
    fn failures() {
        let failures = [0, 1, 2, 126, 127, 128, 129, 137, 143, 255].map(|code| ExitCode(code).is_failure());
        assert_eq!(failures, [false, true, true, true, true, false, false, false, false, false]);
    }

    #[test]
    fn ports() {
        #[track_caller]
        fn check(text: &str, expect: Result<&str, &str>) {
            let got = text.parse::<Port>().map(|p| p.to_string()).map_err(|e| e.to_string());
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned));
        }
        check("80/tcp", Ok("80/tcp"));
        check("80", Ok("80/tcp"));
        check("53/udp", Ok("53/udp"));
        check("9/sctp", Ok("9/sctp"));
        check("0/tcp", Err("\"0/tcp\" is not a port"));
        check("65536/tcp", Err("\"65536/tcp\" is not a port"));
        check("80/quic", Err("\"80/quic\" is not a port"));
    }
}
