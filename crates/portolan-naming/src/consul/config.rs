//! What a `consul://` or `portolan://` URI means.

use std::time::Duration;

use consul_api::GoDuration;

use super::reach::Reach;
use crate::uri::{RegistryUri, UriError};

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
#[derive(Debug, Clone)]
pub struct Config {
    pub(super) flavour: Flavour,
    pub(super) reach: Reach,
    pub(super) datacenter: Option<String>,
    pub(super) ttl: Duration,
    pub(super) deregister_after: Duration,
    pub(super) grace: Duration,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// A Consul agent: local registrations, checks that must be renewed, extras in `Meta`.
    Consul,
    /// Our own face: one book, no checks, extras in the object `Portolan`.
    Portolan,
}

/// Schemes that [`Config::from_uri`] understands.
pub const SCHEMES: [&str; 4] = ["consul", "consul-tls", "consul-unix", "portolan"];

const OF_CONSUL: &[&str] = &["dc", "ttl", "deregister_after", "grace"];

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
        // What Consul's programs read from the environment is not meant for us.
        let env = |name: &str| if flavour == Flavour::Consul { env(name) } else { None };
        if !uri.path.is_empty() && uri.scheme != "consul-unix" {
            // A prefix of keys, as `consulkv://` has: the catalog has no such thing.
            return Err(UriError::Server(format!("{}: {}:// takes no path", uri.path, uri.scheme)));
        }
        let mut config = Self {
            flavour,
            reach: Reach::read(&mut uri, env)?,
            datacenter: None,
            ttl: Duration::from_secs(15),
            deregister_after: Duration::from_secs(60),
            grace: Duration::ZERO,
        };
        if flavour == Flavour::Portolan {
            config.reach.no_more_options(&uri, &[])?;
            return Ok(config);
        }
        config.datacenter = uri.take("dc");
        config.ttl = time(&mut uri, "ttl", config.ttl, Duration::from_secs(1))?;
        config.deregister_after =
            time(&mut uri, "deregister_after", config.deregister_after, Duration::from_secs(60))?;
        config.grace = time(&mut uri, "grace", Duration::from_secs(2), Duration::ZERO)?;
        config.reach.no_more_options(&uri, OF_CONSUL)?;
        Ok(config)
    }
}

/// A duration as Consul writes them, at least `least`.
pub(super) fn time(
    uri: &mut RegistryUri,
    name: &str,
    unless_said: Duration,
    least: Duration,
) -> Result<Duration, UriError> {
    let Some(text) = uri.take(name) else { return Ok(unless_said) };
    let bad =
        |_: consul_api::DurationError| UriError::nonsense(name, &text, "write for example 10s or 1m30s");
    let said: GoDuration = text.parse().map_err(bad)?;
    let said = if said == GoDuration(0) { Some(Duration::ZERO) } else { said.positive() };
    match said {
        Some(said) if said >= least && said <= Duration::from_secs(86_400) => Ok(said),
        _ => Err(UriError::nonsense(name, &text, format!("must be from {least:?} to 24h"))),
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
                let servers: Vec<_> = c.reach.servers.iter().map(ToString::to_string).collect();
                let (token, dc) = (c.reach.token.unwrap_or_default(), c.datacenter.unwrap_or_default());
                let tls = c.reach.tls.map(|t| (t.ca, t.identity.is_some()));
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
        check("consul://a?ttl=1", "option ttl=\"1\": write for example 10s or 1m30s");
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
