//! What a `consul://` or `portolan://` URI means.

use std::path::PathBuf;
use std::time::Duration;

use consul_api::GoDuration;

use crate::uri::{RegistryUri, Server, UriError};

/// How to reach a Consul cluster, or a Portolan, and how to register there.
///
/// | option | environment | means | unless said |
/// |---|---|---|---|
/// | `token` (or what stands before `@`) | `CONSUL_HTTP_TOKEN` | the ACL token | none |
/// | `dc` | | the data centre to read; writes go to the agent's own | the agent's |
/// | `ttl` | | how long a sign of life holds; it is renewed three times as often | 15s |
/// | `deregister_after` | | how long an instance may be without sign of life before Consul removes it; at least 1m there | 60s |
/// | `grace` | | how long the last instances of a service are kept when they vanish while well; `0s` believes it at once | 2s |
/// | `ca` | `CONSUL_CACERT` | certificates to trust (PEM) with `consul-tls://` | the system's |
/// | `cert`, `key` | `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY` | who to be (PEM) | nobody |
///
/// `portolan://` takes no options but `token`: what is registered there lasts until it is deregistered.
#[derive(Clone)]
pub struct Config {
    pub(super) flavour: Flavour,
    pub(super) servers: Vec<Target>,
    pub(super) token: Option<String>,
    pub(super) datacenter: Option<String>,
    pub(super) ttl: Duration,
    pub(super) deregister_after: Duration,
    pub(super) grace: Duration,
    pub(super) tls: Option<Tls>,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// A Consul agent: local registrations, checks that must be renewed, extras in `Meta`.
    Consul,
    /// Our own face: one book, no checks, extras in the object `Portolan`.
    Portolan,
}

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Files with what TLS needs. They are read at each new connection to a server, so that renewed ones are taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// Whom to trust; the system's authorities if not said.
    pub(super) ca: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// Schemes that [`Config::from_uri`] understands.
pub const SCHEMES: [&str; 4] = ["consul", "consul-tls", "consul-unix", "portolan"];

const PORT: u16 = 8500;
const TLS_PORT: u16 = 8501;
const OF_CONSUL: [&str; 8] = ["token", "dc", "ttl", "deregister_after", "grace", "ca", "cert", "key"];
const OF_PORTOLAN: [&str; 1] = ["token"];

impl Config {
    /// Reads a URI, and the environment that Consul's own programs read.
    ///
    /// # Errors
    /// Names the option that is unknown or makes no sense.
    pub fn from_uri(uri: RegistryUri) -> Result<Self, UriError> {
        Self::read(uri, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(mut uri: RegistryUri, env: impl Fn(&str) -> Option<String>) -> Result<Self, UriError> {
        let flavour = if uri.scheme == "portolan" { Flavour::Portolan } else { Flavour::Consul };
        let env = |name: &str| if flavour == Flavour::Consul { env(name) } else { None };
        let before_at = uri.credentials.take().map(|credentials| credentials.user);
        let token = uri.take("token").or(before_at).or_else(|| env("CONSUL_HTTP_TOKEN"));
        if token.as_ref().is_some_and(|token| token.chars().any(|c| c.is_control() || !c.is_ascii())) {
            return Err(wrong("token", "…", "a token is plain ASCII"));
        }
        let mut config = Self {
            flavour,
            servers: servers(&uri)?,
            token,
            datacenter: None,
            ttl: Duration::from_secs(15),
            deregister_after: Duration::from_secs(60),
            grace: Duration::ZERO,
            tls: None,
        };
        if flavour == Flavour::Portolan {
            uri.no_more_options(&OF_PORTOLAN)?;
            return Ok(config);
        }
        config.datacenter = uri.take("dc");
        config.ttl = time(&mut uri, "ttl", config.ttl, Duration::from_secs(1))?;
        config.deregister_after =
            time(&mut uri, "deregister_after", config.deregister_after, Duration::from_secs(60))?;
        config.grace = time(&mut uri, "grace", Duration::from_secs(2), Duration::ZERO)?;
        let ca = uri.take("ca").or_else(|| env("CONSUL_CACERT"));
        let cert = uri.take("cert").or_else(|| env("CONSUL_CLIENT_CERT"));
        let key = uri.take("key").or_else(|| env("CONSUL_CLIENT_KEY"));
        uri.no_more_options(&OF_CONSUL)?;
        if uri.scheme == "consul-tls" {
            config.tls = Some(tls(ca, cert, key)?);
        }
        Ok(config)
    }
}

fn servers(uri: &RegistryUri) -> Result<Vec<Target>, UriError> {
    if uri.scheme == "consul-unix" {
        if uri.path.is_empty() {
            return Err(UriError::Server("consul-unix://".to_owned()));
        }
        return Ok(vec![Target::Unix(PathBuf::from(&uri.path))]);
    }
    if !uri.path.is_empty() {
        // A prefix of keys, as gliderlabs/registrator has for other backends: Consul's catalog has no such thing.
        return Err(UriError::Server(format!("{}: {}:// takes no path", uri.path, uri.scheme)));
    }
    let port = if uri.scheme == "consul-tls" { TLS_PORT } else { PORT };
    let target =
        |server: &Server| Target::Tcp { host: server.host.clone(), port: server.port.unwrap_or(port) };
    let servers: Vec<_> = uri.servers.iter().map(target).collect();
    if servers.is_empty() {
        return Ok(vec![Target::Tcp { host: "127.0.0.1".to_owned(), port }]);
    }
    Ok(servers)
}

fn tls(ca: Option<String>, cert: Option<String>, key: Option<String>) -> Result<Tls, UriError> {
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some(cert), None) => return Err(wrong("cert", &cert, "a certificate needs its key as well")),
        (None, Some(key)) => return Err(wrong("key", &key, "a key needs its certificate as well")),
    };
    Ok(Tls { ca: ca.map(Into::into), identity })
}

/// A duration as Consul writes them, at least `least`.
fn time(
    uri: &mut RegistryUri,
    name: &str,
    unless_said: Duration,
    least: Duration,
) -> Result<Duration, UriError> {
    let Some(text) = uri.take(name) else { return Ok(unless_said) };
    let said: GoDuration =
        text.parse().map_err(|bad: consul_api::DurationError| wrong(name, &text, &bad.to_string()))?;
    let said = if said == GoDuration(0) { Some(Duration::ZERO) } else { said.positive() };
    match said {
        Some(said) if said >= least && said <= Duration::from_secs(86_400) => Ok(said),
        _ => Err(wrong(name, &text, &format!("must be from {least:?} to 24h"))),
    }
}

fn wrong(name: &str, value: &str, reason: &str) -> UriError {
    UriError::OptionValue { name: name.to_owned(), value: value.to_owned(), reason: reason.to_owned() }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Without the token.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { flavour, servers, token, datacenter, ttl, deregister_after, grace, tls } = self;
        f.debug_struct("Config")
            .field("flavour", flavour)
            .field("servers", servers)
            .field("token", &token.as_ref().map(|_| "…"))
            .field("datacenter", datacenter)
            .field("ttl", ttl)
            .field("deregister_after", deregister_after)
            .field("grace", grace)
            .field("tls", tls)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let value =
            |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::read(uri.parse().unwrap(), value).map_err(|error| error.to_string())
    }

    #[test]
    fn meanings() {
        #[track_caller]
        fn check(uri: &str, env: &[(&str, &str)], expect: &str) {
            let got = read(uri, env).map(|c| {
                let servers: Vec<_> = c.servers.iter().map(ToString::to_string).collect();
                let (token, dc) = (c.token.unwrap_or_default(), c.datacenter.unwrap_or_default());
                let tls = c.tls.map(|t| (t.ca, t.identity.is_some()));
                format!(
                    "{servers:?} token={token} dc={dc} ttl={:?} after={:?} tls={tls:?}",
                    c.ttl, c.deregister_after
                )
            });
            assert_eq!(got.unwrap_or_else(|e| e), expect, "{uri}");
        }
        check("consul://", &[], r#"["127.0.0.1:8500"] token= dc= ttl=15s after=60s tls=None"#);
        check(
            "consul://t@a,b:1/?dc=x&ttl=30s&deregister_after=5m",
            &[("CONSUL_HTTP_TOKEN", "other")],
            r#"["a:8500", "b:1"] token=t dc=x ttl=30s after=300s tls=None"#,
        );
        check(
            "consul://a",
            &[("CONSUL_HTTP_TOKEN", "e")],
            r#"["a:8500"] token=e dc= ttl=15s after=60s tls=None"#,
        );
        check(
            "portolan://a",
            &[("CONSUL_HTTP_TOKEN", "e")],
            r#"["a:8500"] token= dc= ttl=15s after=60s tls=None"#,
        );
        check("consul-unix:///run/c.sock", &[], r#"["/run/c.sock"] token= dc= ttl=15s after=60s tls=None"#);
        check(
            "consul-tls://a?cert=c&key=k",
            &[("CONSUL_CACERT", "/ca")],
            r#"["a:8501"] token= dc= ttl=15s after=60s tls=Some((Some("/ca"), true))"#,
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        #[track_caller]
        fn check(uri: &str, expect: &str) {
            let got = read(uri, &[]).map(|_| "taken".to_owned()).unwrap_or_else(|e| e);
            assert!(got.starts_with(expect), "{got:?} should start with {expect:?}");
        }
        check("consul://a?ttl=1", "option ttl=\"1\": time: missing unit");
        check("consul://a?ttl=1ms", "option ttl=\"1ms\": must be from 1s to 24h");
        check("consul://a?ttl=-5s", "option ttl=\"-5s\": must be from 1s to 24h");
        check("consul://a?deregister_after=10s", "option deregister_after=\"10s\": must be from 60s to 24h");
        check("consul://a?stale=1", "unknown option \"stale\"; consul:// knows token, dc, ttl");
        check("portolan://a?ttl=5s", "unknown option \"ttl\"; portolan:// knows token");
        check("consul-tls://a?ca=x&key=k", "option key=\"k\": a key needs its certificate as well");
        check("consul-unix://", "\"consul-unix://\" is no server");
        check("consul://a/services", "\"/services: consul:// takes no path\" is no server");
        check("consul://a?token=%0a", "option token=\"…\": a token is plain ASCII");
    }

    #[test]
    fn the_token_is_not_shown() {
        let config = read("consul://secret@a", &[]).unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
