//! The command line of gliderlabs/registrator, read as Go programs read theirs. Pure.

use std::fmt;
use std::time::Duration;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
    /// Follow the container engine.
    Run(Box<Options>),
}

/// What it says; times still as it says them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) uri: String,
    pub(super) internal: bool,
    pub(super) explicit: bool,
    pub(super) ip: String,
    pub(super) ip_label: String,
    pub(super) tags: String,
    pub(super) deregister: Option<String>,
    pub(super) cleanup: bool,
    /// How long instances outlive a registrator that gives no sign of life.
    pub(super) ttl: Option<Duration>,
    pub(super) resync: Option<Duration>,
    /// When to give up on a registry that does not answer; never, unless said.
    pub(super) patience: Option<Duration>,
}

/// What is wrong, and the exit code that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It cannot be read: exit code 2.
    Usage(String),
    /// It makes no sense: exit code 1.
    Sense(&'static str),
}

/// One option.
struct Flag {
    name: &'static str,
    value: Value,
    about: &'static str,
}

/// What follows its name, and what holds without it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Bool,
    Text(&'static str),
    Int(i64),
}

const FLAGS: &[Flag] = &[
    Flag { name: "cleanup", value: Value::Bool, about: "Remove dangling services" },
    Flag {
        name: "deregister",
        value: Value::Text("always"),
        about: "Deregister exited services \"always\" or \"on-success\"",
    },
    Flag {
        name: "explicit",
        value: Value::Bool,
        about: "Only register containers which have SERVICE_NAME label set",
    },
    Flag { name: "internal", value: Value::Bool, about: "Use internal ports instead of published ones" },
    Flag { name: "ip", value: Value::Text(""), about: "IP for ports mapped to the host" },
    Flag {
        name: "resync",
        value: Value::Int(0),
        about: "Frequency in seconds with which services are resynchronized (0: every 15)",
    },
    Flag {
        name: "retry-attempts",
        value: Value::Int(-1),
        about: "Max retry attempts to establish a connection with the backend. Use -1 for infinite retries",
    },
    Flag {
        name: "retry-interval",
        value: Value::Int(2000),
        about: "Interval (in millisecond) between retry-attempts",
    },
    Flag { name: "tags", value: Value::Text(""), about: "Append tags for all registered services" },
    Flag {
        name: "ttl",
        value: Value::Int(0),
        about: "TTL in seconds for services (0: the backend's usual one)",
    },
    Flag {
        name: "ttl-refresh",
        value: Value::Int(0),
        about: "Frequency with which service TTLs are refreshed; given with -ttl, and then a third of it",
    },
    Flag {
        name: "useIpFromLabel",
        value: Value::Text(""),
        about: "Use IP which is stored in a label assigned to the container",
    },
    Flag { name: "version", value: Value::Bool, about: "Print the version" },
];

/// Reads the words after the command's name.
pub(super) fn read(words: &[String]) -> Result<Asked, Wrong> {
    let mut said = Said::default();
    let mut words = words.iter().map(String::as_str);
    let mut rest: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        let dashes = word.bytes().take_while(|b| *b == b'-').count().min(2);
        if dashes == 0 || word == "-" || word == "--" {
            rest.extend((word != "--").then_some(word));
            rest.extend(words.by_ref());
            break;
        }
        let body = &word[dashes..];
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(Wrong::Usage(format!("bad flag syntax: {word}")));
        }
        let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        if matches!(name, "h" | "help") {
            return Ok(Asked::Help);
        }
        let flag = FLAGS.iter().find(|flag| flag.name == name);
        let flag = flag.ok_or_else(|| Wrong::Usage(format!("flag provided but not defined: -{name}")))?;
        let value = match (flag.value, value) {
            (_, Some(value)) => value,
            (Value::Bool, None) => "true",
            (Value::Text(_) | Value::Int(_), None) => {
                words.next().ok_or_else(|| Wrong::Usage(format!("flag needs an argument: -{name}")))?
            }
        };
        said.hear(flag, value)?;
    }
    if said.switch("version") {
        return Ok(Asked::Version);
    }
    let uri = match rest.as_slice() {
        [uri] => (*uri).to_owned(),
        [] => return Err(Wrong::Usage("Missing required argument for registry URI.".to_owned())),
        [_, more @ ..] => {
            return Err(Wrong::Usage(format!(
                "Extra unparsed arguments:\n  {}\nOptions should come before the registry URI argument.",
                more.join(" ")
            )));
        }
    };
    said.options(uri).map(|options| Asked::Run(Box::new(options)))
}

/// What `-help` prints.
pub(super) struct Usage;

/// The last word of each option that was said.
#[derive(Default)]
struct Said(Vec<(&'static str, Heard)>);

enum Heard {
    Bool(bool),
    Text(String),
    Int(i64),
}

impl Said {
    fn hear(&mut self, flag: &Flag, text: &str) -> Result<(), Wrong> {
        let heard = match flag.value {
            Value::Bool => match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Heard::Bool(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Heard::Bool(false),
                _ => {
                    let what = format!("invalid boolean value {text:?} for -{}: parse error", flag.name);
                    return Err(Wrong::Usage(what));
                }
            },
            Value::Int(_) => Heard::Int(text.parse().map_err(|_| {
                Wrong::Usage(format!("invalid value {text:?} for flag -{}: parse error", flag.name))
            })?),
            Value::Text(_) => Heard::Text(text.to_owned()),
        };
        self.0.push((flag.name, heard));
        Ok(())
    }

    fn last(&self, name: &str) -> Option<&Heard> {
        self.0.iter().rev().find(|(said, _)| *said == name).map(|(_, heard)| heard)
    }

    fn switch(&self, name: &str) -> bool {
        matches!(self.last(name), Some(Heard::Bool(true)))
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.last(name) {
            Some(Heard::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.last(name) {
            Some(Heard::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// A time that is more than nothing.
    fn seconds(&self, name: &str) -> Option<Duration> {
        let seconds = self.int(name).and_then(|number| u64::try_from(number).ok());
        seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.min(LONGEST)))
    }

    fn options(&self, uri: String) -> Result<Options, Wrong> {
        let (ttl, refresh) = (self.seconds("ttl"), self.seconds("ttl-refresh"));
        if ttl.is_some() != refresh.is_some() {
            return Err(Wrong::Sense("-ttl and -ttl-refresh must be specified together or not at all"));
        }
        if ttl.is_some() && ttl <= refresh {
            return Err(Wrong::Sense("-ttl must be greater than -ttl-refresh"));
        }
        let interval = self.int("retry-interval").unwrap_or(RETRY_INTERVAL);
        let interval = u64::try_from(interval).ok().filter(|interval| *interval > 0);
        let interval = interval.ok_or(Wrong::Sense("-retry-interval must be greater than 0"))?;
        let deregister = self.text("deregister");
        if deregister.as_deref().is_some_and(|word| !matches!(word, "always" | "on-success")) {
            return Err(Wrong::Sense("-deregister must be \"always\" or \"on-success\""));
        }
        let attempts = self.int("retry-attempts").and_then(|attempts| u64::try_from(attempts).ok());
        let patience = attempts.map(|attempts| Duration::from_millis(attempts.saturating_mul(interval)));
        Ok(Options {
            uri,
            internal: self.switch("internal"),
            explicit: self.switch("explicit"),
            ip: self.text("ip").unwrap_or_default(),
            ip_label: self.text("useIpFromLabel").unwrap_or_default(),
            tags: self.text("tags").unwrap_or_default(),
            deregister,
            cleanup: self.switch("cleanup"),
            ttl,
            resync: self.seconds("resync"),
            patience: patience.map(|patience| patience.min(Duration::from_secs(LONGEST))),
        })
    }
}

/// What `-retry-interval` is without being said, in milliseconds.
const RETRY_INTERVAL: i64 = 2000;

/// The longest time that is understood, in seconds: a year.
const LONGEST: u64 = 365 * 24 * 3600;

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Usage of portolan registrator:\n  portolan registrator [options] <registry URI>\n")?;
        for Flag { name, value, about } in FLAGS {
            let (kind, unless) = match value {
                Value::Bool => ("", String::new()),
                Value::Text("") => (" string", String::new()),
                Value::Text(text) => (" string", format!(" (default {text:?})")),
                Value::Int(0) => (" int", String::new()),
                Value::Int(number) => (" int", format!(" (default {number})")),
            };
            writeln!(f, "  -{name}{kind}\n    \t{about}{unless}")?;
        }
        write!(
            f,
            "\nEverything else is said by PORTOLAN_... variables, as for `portolan up`; PORTOLAN_HTTP_LISTEN=IP:PORT serves status."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Asked, Wrong> {
        read(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_in_gos_style() {
        #[track_caller]
        fn check(text: &str, change: impl FnOnce(&mut Options)) {
            let mut expect = Options { uri: "consul://h".to_owned(), ..Options::default() };
            change(&mut expect);
            assert_eq!(read_text(text), Ok(Asked::Run(Box::new(expect))), "{text}");
        }
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        check("consul://h", |_| {});
        check("-- consul://h", |_| {});
        check("-ip 10.0.0.9 consul://h", |o| o.ip = "10.0.0.9".into());
        check("-ip=10.0.0.9 consul://h", |o| o.ip = "10.0.0.9".into());
        check("--ip 10.0.0.9 consul://h", |o| o.ip = "10.0.0.9".into());
        check("--ip=1 -ip=2 consul://h", |o| o.ip = "2".into());
        check("-internal -explicit=true consul://h", |o| (o.internal, o.explicit) = (true, true));
        check("-internal -internal=false consul://h", |_| {});
        check("-internal=T -cleanup=0 consul://h", |o| o.internal = true);
        check("-useIpFromLabel ip -tags a,b consul://h", |o| {
            (o.ip_label, o.tags) = ("ip".into(), "a,b".into());
        });
        check("-tags= consul://h", |_| {});
        check("-tags -internal consul://h", |o| o.tags = "-internal".into());
        check("-ttl 30 -ttl-refresh 10 consul://h", |o| o.ttl = seconds(30));
        check("-resync 60 -cleanup consul://h", |o| (o.resync, o.cleanup) = (seconds(60), true));
        check("-resync 0 consul://h", |_| {});
        check("-deregister on-success consul://h", |o| o.deregister = Some("on-success".into()));
        check("-retry-attempts -1 consul://h", |_| {});
        check("-retry-attempts 0 consul://h", |o| o.patience = seconds(0));
        check("-retry-attempts 5 consul://h", |o| o.patience = seconds(10));
        check("-retry-attempts=5 -retry-interval=1000 consul://h", |o| o.patience = seconds(5));
    }

    #[test]
    fn what_is_wrong_and_its_exit_code() {
        #[track_caller]
        fn check(text: &str, expect: impl Into<Result<Asked, Wrong>>) {
            assert_eq!(read_text(text), expect.into(), "{text}");
        }
        let usage = |text: &str| Err(Wrong::Usage(text.to_owned()));
        check("", usage("Missing required argument for registry URI."));
        check("-internal", usage("Missing required argument for registry URI."));
        check(
            "consul://h -ip 10.0.0.9",
            usage(
                "Extra unparsed arguments:\n  -ip 10.0.0.9\nOptions should come before the registry URI argument.",
            ),
        );
        check("-ipp 1 consul://h", usage("flag provided but not defined: -ipp"));
        check("-ip", usage("flag needs an argument: -ip"));
        check("---ip 1", usage("bad flag syntax: ---ip"));
        check("-=1", usage("bad flag syntax: -=1"));
        check("-ttl soon", usage("invalid value \"soon\" for flag -ttl: parse error"));
        check("-internal=yes", usage("invalid boolean value \"yes\" for -internal: parse error"));
        let together = Wrong::Sense("-ttl and -ttl-refresh must be specified together or not at all");
        check("-ttl 10 consul://h", Err(together.clone()));
        check("-ttl-refresh 10 consul://h", Err(together));
        let greater = Wrong::Sense("-ttl must be greater than -ttl-refresh");
        check("-ttl 10 -ttl-refresh 10 consul://h", Err(greater));
        let interval = Wrong::Sense("-retry-interval must be greater than 0");
        check("-retry-interval 0 consul://h", Err(interval));
        let deregister = Wrong::Sense("-deregister must be \"always\" or \"on-success\"");
        check("-deregister never consul://h", Err(deregister));
        check("-help", Ok(Asked::Help));
        check("-internal --h", Ok(Asked::Help));
        check("-version", Ok(Asked::Version));
    }

    #[test]
    fn the_usage_names_every_option() {
        let usage = Usage.to_string();
        for flag in FLAGS {
            assert!(usage.contains(&format!("  -{}", flag.name)), "{}", flag.name);
        }
        assert!(usage.contains("(default \"always\")"), "{usage}");
    }
}
