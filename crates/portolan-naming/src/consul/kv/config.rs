//! What a `consulkv://` URI means.

use std::time::Duration;

use super::super::config::time;
use super::super::reach::Reach;
use crate::leased::Layout;
use crate::uri::{RegistryUri, UriError};

/// Where Consul is, and below which path of its key-value store instances are kept.
///
/// `consulkv://[token@]host[:8500][,host…][/path][?option=value&…]`; `consulkv-tls://` for TLS;
/// `consulkv-unix:///socket[:/path]` for a Unix socket, as gliderlabs/registrator has it. An instance is the key
/// `path/<service>/<id>` = `ip:port`, as gliderlabs/registrator writes it; what that cannot hold is in
/// `path/.portolan/<service>/<id>`, as JSON.
///
/// | option | environment | means | unless said |
/// |---|---|---|---|
/// | `token` (or what stands before `@`) | `CONSUL_HTTP_TOKEN` | the ACL token | none |
/// | `ttl` | | how long what is registered outlives a process that died; Consul may take twice as long, and takes 10s at least | 15s |
/// | `grace` | | how long instances are kept whose session ended without anybody deleting them | 3s |
/// | `timeout` | | how long a write, or a read before anything is known, may take | 9s |
/// | `ca` | `CONSUL_CACERT` | certificates to trust (PEM) with `consulkv-tls://` | the system's |
/// | `cert`, `key` | `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY` | who to be (PEM) | nobody |
#[derive(Debug, Clone)]
pub struct Config {
    pub(super) reach: Reach,
    pub(super) layout: Layout,
    pub(super) ttl: Duration,
    pub(super) grace: Duration,
    pub(super) timeout: Duration,
}

/// Schemes that [`Config::from_uri`] understands.
pub const SCHEMES: [&str; 3] = ["consulkv", "consulkv-tls", "consulkv-unix"];

const OPTIONS: &[&str] = &["ttl", "grace", "timeout"];

impl Config {
    /// Reads a URI, and the environment that Consul's own programs read.
    ///
    /// # Errors
    /// Names the option that is unknown or makes no sense.
    pub fn from_uri(uri: RegistryUri) -> Result<Self, UriError> {
        Self::read(uri, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(mut uri: RegistryUri, env: impl Fn(&str) -> Option<String>) -> Result<Self, UriError> {
        let reach = Reach::read(&mut uri, env)?;
        let s = Duration::from_secs;
        let ttl = time(&mut uri, "ttl", s(15), s(10))?;
        let grace = time(&mut uri, "grace", s(3), Duration::ZERO)?;
        let timeout = time(&mut uri, "timeout", s(9), Duration::from_millis(10))?;
        reach.no_more_options(&uri, OPTIONS)?;
        if uri.path.chars().any(char::is_control) {
            return Err(UriError::nonsense("path", &uri.path, "it has control characters"));
        }
        Ok(Self { reach, layout: Layout::consulkv(&uri.path), ttl, grace, timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        #[track_caller]
        fn check(uri: &str, expect: &str) {
            let env = |name: &str| (name == "CONSUL_HTTP_TOKEN").then(|| "e".to_owned());
            let got = Config::read(uri.parse().unwrap(), env).map(|config| {
                let Config { reach, layout, ttl, grace, timeout } = config;
                let servers: Vec<_> = reach.servers.iter().map(ToString::to_string).collect();
                let prefix = String::from_utf8_lossy(layout.prefix()).into_owned();
                let token = reach.token.unwrap_or_default();
                format!(
                    "{servers:?} {token} {prefix:?} {ttl:?} {grace:?} {timeout:?} {}",
                    reach.tls.is_some()
                )
            });
            assert_eq!(got.unwrap_or_else(|e| e.to_string()), expect, "{uri}");
        }
        check("consulkv://a,b:1/x/y/", r#"["a:8500", "b:1"] e "x/y/" 15s 3s 9s false"#);
        check("consulkv://t@a?ttl=1m&grace=0s&timeout=250ms", r#"["a:8500"] t "" 60s 0ns 250ms false"#);
        check("consulkv-tls://a/x?ca=/ca.pem", r#"["a:8501"] e "x/" 15s 3s 9s true"#);
        check("consulkv-unix:///run/c.sock:/x/y/", r#"["/run/c.sock"] e "x/y/" 15s 3s 9s false"#);
        check("consulkv-unix:///run/c.sock?ttl=1m", r#"["/run/c.sock"] e "" 60s 3s 9s false"#);
        check("consulkv-unix://", "\"consulkv-unix://\" is no server; write host, host:port or [ipv6]:port");
        check("consulkv://a?ttl=5s", r#"option ttl="5s": must be from 10s to 24h"#);
        check("consulkv://a?ca=/x", r#"unknown option "ca"; consulkv:// knows token, ttl, grace, timeout"#);
    }
}
