//! What a container asks to be checked of one of its ports, in `SERVICE_CHECK_*`: gliderlabs/registrator's words, with
//! Consul's meaning of them. Pure.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;
use portolan_model::Health;

use super::duration::{self, DurationError};
use crate::container::Transport;

/// How often a check runs when nobody says.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a check may take when nobody says; one that asks over the network never longer than its interval.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(10);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(86_400);
const PERIODS: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;
// Only so many checks ask at a time: who may wait for long keeps the others waiting.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const PATIENCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

/// The most consecutive results that can be asked for before a check changes its mind.
const RESULTS_LIMIT: u32 = 100;
/// The longest path or script.
const TEXT_LIMIT: usize = 8192;
/// How much of a text that cannot be used is shown.
const SHOWN_LIMIT: usize = 80;

/// What to ask an instance, how often, and what to make of the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What is asked.
    pub probe: Probe,
    /// The time from one run to the next.
    pub interval: Duration,
    /// The longest time that a run may take.
    pub timeout: Duration,
    /// What a new instance is taken for until the first verdict.
    pub initial: Health,
    /// How long an instance may be critical until it is registered no more. It comes back when it passes.
    pub deregister_after: Option<Duration>,
    /// How many runs in a row must pass until the instance does; at least one.
    pub passing_after: u32,
    /// How many runs in a row must fail until the instance is critical; at least one.
    pub critical_after: u32,
}

/// What is asked of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP request to its address.
    Http {
        /// The method.
        method: Method,
        /// Path and query.
        path: PathAndQuery,
        /// By TLS, if at all.
        tls: Option<Trust>,
    },
    /// A connection to its address.
    Tcp,
    /// gRPC's health protocol at its address.
    Grpc {
        /// By TLS, if at all.
        tls: Option<Trust>,
    },
    /// A shell command inside its container.
    Command {
        /// What the shell is given.
        script: String,
    },
    /// Nothing: it reports by itself.
    Reports {
        /// How long a report holds.
        ttl: Duration,
    },
}

/// Which certificates are good enough for a check by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Those that an authority of the system vouches for, for the address that is registered.
    System,
    /// Any.
    Anybody,
}

/// What is wrong with a check, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Nobody could report to it.
    #[error(
        "check_ttl waits for reports, and this process takes none, for its HTTP API is off: registered without a check; \
         check_http, check_tcp, check_grpc or check_script are run for you"
    )]
    Ttl,
    /// A datagram port cannot be asked so.
    #[error("{0} cannot ask a udp port: registered without a check; check_script can")]
    Udp(&'static str),
    /// It is not what a URL can hold, or too long.
    #[error("{key} {text:?} is no path: registered without a check")]
    Path {
        /// Which key.
        key: &'static str,
        /// The text, or its beginning.
        text: String,
    },
    /// It is too long.
    #[error("{key} has {length} bytes, more than {TEXT_LIMIT}: registered without a check")]
    TooLong {
        /// Which key.
        key: &'static str,
        /// Its length.
        length: usize,
    },
    /// It is none.
    #[error("{key} {text:?} is no method: GET is used")]
    Method {
        /// Which key.
        key: &'static str,
        /// The text.
        text: String,
    },
    /// It is none.
    #[error("{key} {text:?} {why}: {used}")]
    Duration {
        /// Which key.
        key: &'static str,
        /// The text.
        text: String,
        /// Why.
        why: DurationError,
        /// What counts in its place.
        used: Used,
    },
    /// It is none.
    #[error("{key} {text:?} is no number from 1 to {RESULTS_LIMIT}: 1 is used")]
    Count {
        /// Which key.
        key: &'static str,
        /// The text.
        text: String,
    },
    /// It is none that an instance can begin with.
    #[error("check_initial_status {0:?} is not passing, warning or critical: critical is used")]
    Initial(String),
}

/// What counts in place of a duration that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// This one.
    Instead(Duration),
    /// None at all.
    Nothing,
}

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instead(duration) => write!(f, "{duration:?} is used"),
            Self::Nothing => f.write_str("not used"),
        }
    }
}

/// The check that is `said` of a port, by lower-cased key without the prefix; what cannot be used is left out. Whether
/// there can be `reports` is the caller's to know.
pub(crate) fn parse<'a>(
    said: &impl Fn(&str) -> Option<&'a str>,
    transport: Transport,
    reports: bool,
    flaws: &mut Vec<Flaw>,
) -> Option<Spec> {
    let mut reader = Reader { said, reports, flaws };
    let probe = reader.probe(transport)?;
    if let Probe::Reports { ttl } = probe {
        // Every report counts, and so does silence, as Consul has it.
        let (initial, deregister_after) =
            (reader.initial(), reader.duration("check_deregister_after", &PATIENCE, None));
        let (passing_after, critical_after) = (1, 1);
        return Some(Spec {
            probe,
            interval: ttl,
            timeout: ttl,
            initial,
            deregister_after,
            passing_after,
            critical_after,
        });
    }
    let interval = reader.duration("check_interval", &PERIODS, Some(INTERVAL)).unwrap_or(INTERVAL);
    let default_timeout = match probe {
        Probe::Command { .. } => COMMAND_TIMEOUT,
        Probe::Http { .. } | Probe::Tcp | Probe::Grpc { .. } | Probe::Reports { .. } => {
            NETWORK_TIMEOUT.min(interval)
        }
    };
    let timeout =
        reader.duration("check_timeout", &TIMEOUTS, Some(default_timeout)).unwrap_or(default_timeout);
    Some(Spec {
        probe,
        interval,
        timeout,
        initial: reader.initial(),
        deregister_after: reader.duration("check_deregister_after", &PATIENCE, None),
        passing_after: reader.count("check_success_before_passing"),
        critical_after: reader.count("check_failures_before_critical"),
    })
}

struct Reader<'r, S> {
    said: &'r S,
    reports: bool,
    flaws: &'r mut Vec<Flaw>,
}

impl<'a, S: Fn(&str) -> Option<&'a str>> Reader<'_, S> {
    /// The first that is said, in the order of the contract.
    fn probe(&mut self, transport: Transport) -> Option<Probe> {
        const ORDER: [&str; 7] = [
            "check_http",
            "check_https",
            "check_cmd",
            "check_script",
            "check_ttl",
            "check_tcp",
            "check_grpc",
        ];
        let (key, text) = ORDER.into_iter().find_map(|key| Some((key, (self.said)(key)?)))?;
        let by_network = !matches!(key, "check_cmd" | "check_script" | "check_ttl");
        if by_network && transport == Transport::Udp {
            return self.none(Flaw::Udp(key));
        }
        if text.len() > TEXT_LIMIT {
            return self.none(Flaw::TooLong { key, length: text.len() });
        }
        match key {
            "check_http" => self.http(key, text, "check_http_method", None),
            "check_https" => self.http(key, text, "check_https_method", Some(self.trust())),
            "check_ttl" if !self.reports => self.none(Flaw::Ttl),
            "check_ttl" => self.duration(key, &PERIODS, None).map(|ttl| Probe::Reports { ttl }),
            "check_tcp" => Some(Probe::Tcp),
            "check_grpc" => {
                let tls = (self.said)("check_grpc_use_tls").map(|_| self.trust());
                Some(Probe::Grpc { tls })
            }
            _ => Some(Probe::Command { script: text.to_owned() }),
        }
    }

    fn http(
        &mut self,
        key: &'static str,
        text: &str,
        method_key: &'static str,
        tls: Option<Trust>,
    ) -> Option<Probe> {
        // Right behind the port, where the registrator of old put it, a path without its slash made no URL.
        let slash = if text.starts_with('/') { "" } else { "/" };
        let Ok(path) = PathAndQuery::from_str(&format!("{slash}{text}")) else {
            return self.none(Flaw::Path { key, text: shown(text) });
        };
        let method = match (self.said)(method_key) {
            None => Method::GET,
            // A tunnel is no question, and no server knows `get`.
            Some(text) => match Method::from_str(&text.to_ascii_uppercase()) {
                Ok(method) if method != Method::CONNECT => method,
                Ok(_) | Err(_) => {
                    self.flaws.push(Flaw::Method { key: method_key, text: shown(text) });
                    Method::GET
                }
            },
        };
        Some(Probe::Http { method, path, tls })
    }

    /// Any text asks not to verify, also `false`: so it was read always.
    fn trust(&self) -> Trust {
        if (self.said)("check_tls_skip_verify").is_some() { Trust::Anybody } else { Trust::System }
    }

    fn duration(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<Duration>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        let text = (self.said)(key)?;
        let (why, instead) = match duration::parse(text) {
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(duration) => (DurationError::Range, Some(duration.clamp(*range.start(), *range.end()))),
            Err(why) => (why, default),
        };
        let used = instead.map_or(Used::Nothing, Used::Instead);
        self.flaws.push(Flaw::Duration { key, text: shown(text), why, used });
        instead
    }

    fn initial(&mut self) -> Health {
        match (self.said)("check_initial_status") {
            None | Some("critical") => Health::Critical,
            Some("passing") => Health::Passing,
            Some("warning") => Health::Warning,
            Some(other) => {
                self.flaws.push(Flaw::Initial(shown(other)));
                Health::Critical
            }
        }
    }

    fn count(&mut self, key: &'static str) -> u32 {
        let Some(text) = (self.said)(key) else { return 1 };
        text.parse().ok().filter(|count| (1..=RESULTS_LIMIT).contains(count)).unwrap_or_else(|| {
            self.flaws.push(Flaw::Count { key, text: shown(text) });
            1
        })
    }

    fn none(&mut self, flaw: Flaw) -> Option<Probe> {
        self.flaws.push(flaw);
        None
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_LIMIT).collect()
}
