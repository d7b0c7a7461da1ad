//! Registry URIs: `scheme://[user:password@]host[:port][,host[:port]…][/path][?key=value&…]`, or `unix` sockets where a
//! backend has them. Several addresses are servers of one cluster, tried in turn.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A registry URI, taken apart and checked for form. What the parts mean is the backend's.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryUri {
    /// What comes before `://`, in lower case; `embedded:` has no authority.
    pub scheme: String,
    /// Servers in the order given; a port only where one was given.
    pub servers: Vec<Server>,
    /// User and password, percent-decoded. Never shown.
    pub credentials: Option<Credentials>,
    /// The path without its trailing `/`; empty if there is none, else it starts with `/`.
    pub path: String,
    /// Options, percent-decoded.
    pub options: BTreeMap<String, String>,
}

/// One server of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Address or host name; IPv6 without brackets.
    pub host: String,
    /// The port, if one was given.
    pub port: Option<u16>,
}

/// Who to be towards the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password; empty if none was given.
    pub password: String,
}

/// Why a text is no registry URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// There is no scheme.
    #[error("{0:?} has no scheme; write for example zookeeper://host:2181/services")]
    Scheme(String),
    /// A server is malformed.
    #[error("{0:?} is no server; write host, host:port or [ipv6]:port")]
    Server(String),
    /// An option has no `=`, or an escape is malformed.
    #[error("{0:?} is no option; write key=value")]
    Option(String),
    /// An option that this backend does not know.
    #[error("unknown option {name:?}; {scheme}:// knows {known}")]
    UnknownOption {
        /// The option.
        name: String,
        /// The backend.
        scheme: String,
        /// What it knows, separated by commas.
        known: String,
    },
    /// An option's value makes no sense.
    #[error("option {name}={value:?}: {reason}")]
    OptionValue {
        /// The option.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl UriError {
    /// An option whose value makes no sense, and why.
    pub fn nonsense(name: &str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::OptionValue { name: name.to_owned(), value: value.into(), reason: reason.into() }
    }
}

impl FromStr for RegistryUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let no_scheme = || UriError::Scheme(shown(text));
        let (scheme, rest) = text.split_once(':').ok_or_else(no_scheme)?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(fits) {
            return Err(no_scheme());
        }
        let scheme = scheme.to_ascii_lowercase();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let options =
            query.split('&').filter(|pair| !pair.is_empty()).map(option).collect::<Result<_, _>>()?;
        let Some(rest) = rest.strip_prefix("//") else {
            let path = rest.trim_end_matches('/').to_owned();
            return Ok(Self { scheme, servers: Vec::new(), credentials: None, path, options });
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
        Ok(Self {
            scheme,
            servers: hosts.split(',').filter(|h| !h.is_empty()).map(str::parse).collect::<Result<_, _>>()?,
            credentials: user.map(credentials).transpose()?,
            path: path.trim_end_matches('/').to_owned(),
            options,
        })
    }
}

impl RegistryUri {
    /// Takes an option out, so that what is left at the end is unknown (see [`RegistryUri::no_more_options`]).
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.options.remove(name)
    }

    /// Takes a time out, in milliseconds, seconds or minutes: `500ms`, `10s`, `1m`.
    ///
    /// # Errors
    /// It is no such time, or outside `range`.
    pub fn take_duration(
        &mut self,
        name: &str,
        otherwise: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, UriError> {
        let Some(text) = self.take(name) else { return Ok(otherwise) };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            _ => None,
        };
        let value = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
        match value.map(Duration::from_millis) {
            Some(value) if range.contains(&value) => Ok(value),
            Some(_) => {
                let reason = format!("it is from {:?} to {:?}", range.start(), range.end());
                Err(UriError::nonsense(name, text, reason))
            }
            None => Err(UriError::nonsense(name, text, "write for example 10s or 500ms")),
        }
    }

    /// Takes `cert` and `key` out: files of a certificate of our own and its key.
    ///
    /// # Errors
    /// One of them is there without the other.
    pub fn take_identity(&mut self) -> Result<Option<(PathBuf, PathBuf)>, UriError> {
        match (self.take("cert"), self.take("key")) {
            (Some(cert), Some(key)) => Ok(Some((cert.into(), key.into()))),
            (None, None) => Ok(None),
            (Some(cert), None) => Err(UriError::nonsense("cert", cert, "it needs a key beside it")),
            (None, Some(key)) => Err(UriError::nonsense("key", key, "it needs a cert beside it")),
        }
    }

    /// Fails on options that nobody took. `known` lists the backend's.
    ///
    /// # Errors
    /// Names the first one left.
    pub fn no_more_options(&self, known: &[&str]) -> Result<(), UriError> {
        let Some(name) = self.options.keys().next() else { return Ok(()) };
        let (name, scheme) = (name.clone(), self.scheme.clone());
        Err(UriError::UnknownOption { name, scheme, known: known.join(", ") })
    }
}

impl FromStr for Server {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let bad = || UriError::Server(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (
                    host,
                    rest.is_empty()
                        .then_some(None)
                        .or_else(|| rest.strip_prefix(':').map(Some))
                        .ok_or_else(bad)?,
                )
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if host.is_empty() || !host.chars().all(fits) {
            return Err(bad());
        }
        let port = port.map(|p| p.parse().ok().filter(|p| *p > 0).ok_or_else(bad)).transpose()?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Server {
    /// `host:port`, with the backend's port where none was given.
    pub fn authority(&self, default_port: u16) -> String {
        let port = self.port.unwrap_or(default_port);
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

/// Without the password.
impl fmt::Display for RegistryUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        let slashes = if servers.is_empty() { "" } else { "//" };
        write!(f, "{}:{slashes}{}{}", self.scheme, servers.join(","), self.path)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            Some(port) => write!(f, "{host}:{port}"),
            None => f.write_str(&host),
        }
    }
}

impl fmt::Debug for RegistryUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryUri({self})")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

fn option(pair: &str) -> Result<(String, String), UriError> {
    let bad = || UriError::Option(pair.split('=').next().unwrap_or_default().to_owned());
    let (key, value) = pair.split_once('=').ok_or_else(bad)?;
    Ok((decoded(key).ok_or_else(bad)?, decoded(value).ok_or_else(bad)?))
}

fn credentials(text: &str) -> Result<Credentials, UriError> {
    let bad = || UriError::Server("user:password@…".to_owned());
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok(Credentials { user: decoded(user).ok_or_else(bad)?, password: decoded(password).ok_or_else(bad)? })
}

/// A text that may hold a password, for a message.
fn shown(text: &str) -> String {
    text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { (hex(rest.next()?)? << 4) | hex(rest.next()?)? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let got = text.parse::<RegistryUri>().map(|u| {
                let servers: Vec<_> = u.servers.iter().map(|s| s.authority(9)).collect();
                let user = u.credentials.map(|c| format!("{}/{}", c.user, c.password)).unwrap_or_default();
                format!("{} {servers:?} {user} {} {:?}", u.scheme, u.path, u.options)
            });
            assert_eq!(got.unwrap_or_else(|e| e.to_string()), expect, "{text}");
        }
        check("zookeeper://a,b:1,c/services/", r#"zookeeper ["a:9", "b:1", "c:9"]  /services {}"#);
        check("Consul://[::1]:8500", r#"consul ["[::1]:8500"]   {}"#);
        check("etcd://u%40x:p%3Aw@h/p?ttl=5&x=%20", r#"etcd ["h:9"] u@x/p:w /p {"ttl": "5", "x": " "}"#);
        check("embedded:", r#"embedded []   {}"#);
        check("embedded:/var/lib/p", r#"embedded []  /var/lib/p {}"#);
        check("consul-unix:///run/consul.sock", r#"consul-unix []  /run/consul.sock {}"#);
        check("nothing", "\"nothing\" has no scheme; write for example zookeeper://host:2181/services");
        check("zk://a:b", "\"a:b\" is no server; write host, host:port or [ipv6]:port");
        check("zk://a:0", "\"a:0\" is no server; write host, host:port or [ipv6]:port");
        check("zk://[::1", "\"[::1\" is no server; write host, host:port or [ipv6]:port");
        check("zk://a/?x", "\"x\" is no option; write key=value");
    }

    #[test]
    fn passwords_are_not_shown() {
        let uri: RegistryUri = "etcd://me:secret@h:1/p?token=hidden".parse().unwrap();
        assert_eq!(uri.to_string(), "etcd://h:1/p");
        assert!(!format!("{uri:?} {:?}", uri.credentials).contains("secret"));
    }
}
