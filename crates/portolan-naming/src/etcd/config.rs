//! What a URI means to etcd.

use std::path::PathBuf;
use std::time::Duration;

use crate::leased::Layout;
use crate::uri::{Credentials, RegistryUri, Server, UriError};

/// Where etcd is, and how instances are kept there.
///
/// `etcd://[user:password@]host[:2379][,host…][/prefix][?option=value&…]`; `etcd-tls://` for TLS. Options:
///
/// | option | means | unless said |
/// |---|---|---|
/// | `layout` | `json`, `registrator` or `skydns`: see [`Layout`] | `json` |
/// | `ttl` | how long what is registered outlives a process that died, from 2 s to 1 h | `10s` |
/// | `grace` | how long instances are kept whose lease ended without anybody deleting them | `3s` |
/// | `timeout` | how long a write, or a read before anything is known, may take | `5s` |
/// | `ca` | file of PEM certificates to trust, instead of the system's (`etcd-tls` only) | |
/// | `cert`, `key` | files of our own certificate and its key (`etcd-tls` only, both) | |
///
/// Without a path, `json` keeps instances below `/portolan`, `registrator` right below `/` as gliderlabs/registrator does;
/// with `skydns` the path is a domain and must be given (`etcd://host/apps.local?layout=skydns`).
/// Keys are below `portolan-keys` and the instances' prefix: `portolan-keys/portolan//<key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Servers, tried in this order.
    pub(crate) servers: Vec<Server>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) layout: Layout,
    pub(crate) ttl: Duration,
    pub(crate) grace: Duration,
    pub(crate) timeout: Duration,
}

/// Whom to trust and who to be, as files: they are read at each connect, so that they may be renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

const PORT: u16 = 2379;
const KNOWN: &[&str] = &["layout", "ttl", "grace", "timeout"];
const KNOWN_TLS: &[&str] = &["layout", "ttl", "grace", "timeout", "ca", "cert", "key"];

impl Config {
    /// Understands `uri`.
    ///
    /// # Errors
    /// Says which option is unknown or makes no sense.
    pub fn from_uri(mut uri: RegistryUri) -> Result<Self, UriError> {
        if uri.servers.is_empty() {
            return Err(UriError::Server(String::new()));
        }
        let layout = layout(uri.take("layout"), &uri.path)?;
        let s = Duration::from_secs;
        let ttl = uri.take_duration("ttl", s(10), s(2)..=s(3600))?;
        let grace = uri.take_duration("grace", s(3), s(0)..=s(3600))?;
        let timeout = uri.take_duration("timeout", s(5), Duration::from_millis(10)..=s(600))?;
        let tls = if uri.scheme == "etcd-tls" {
            let authorities = uri.take("ca").map(PathBuf::from);
            Some(TlsFiles { authorities, identity: uri.take_identity()? })
        } else {
            None
        };
        uri.no_more_options(if tls.is_some() { KNOWN_TLS } else { KNOWN })?;
        Ok(Self { servers: uri.servers, credentials: uri.credentials, tls, layout, ttl, grace, timeout })
    }

    /// The servers as `host:port`.
    pub(crate) fn authorities(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.authority(PORT)).collect()
    }
}

fn layout(name: Option<String>, path: &str) -> Result<Layout, UriError> {
    let name = name.unwrap_or_else(|| "json".to_owned());
    match name.as_str() {
        "json" => Ok(Layout::json(path)),
        "registrator" => Ok(Layout::registrator(path)),
        "skydns" if path.is_empty() => Err(UriError::nonsense(
            "layout",
            name,
            "the path must be a domain, as in etcd://host/apps.local?layout=skydns",
        )),
        "skydns" => Ok(Layout::skydns(path)),
        _ => Err(UriError::nonsense("layout", name, "it is json, registrator or skydns")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let got = Config::from_uri(text.parse().unwrap()).map(|c| {
                let range = String::from_utf8(c.layout.prefix().to_vec()).unwrap();
                format!(
                    "{:?} {range} {:?} {:?} {:?} tls:{}",
                    c.authorities(),
                    c.ttl,
                    c.grace,
                    c.timeout,
                    c.tls.is_some()
                )
            });
            assert_eq!(got.unwrap_or_else(|e| e.to_string()), expect, "{text}");
        }
        check("etcd://a,b:1", r#"["a:2379", "b:1"] /portolan/ 10s 3s 5s tls:false"#);
        check("etcd://a/x/y/?ttl=1m&grace=0s&timeout=250ms", r#"["a:2379"] /x/y/ 60s 0ns 250ms tls:false"#);
        check("etcd://a?layout=registrator", r#"["a:2379"] / 10s 3s 5s tls:false"#);
        check("etcd://a/svc?layout=registrator", r#"["a:2379"] /svc/ 10s 3s 5s tls:false"#);
        check("etcd://a/apps.local?layout=skydns", r#"["a:2379"] /skydns/local/apps/ 10s 3s 5s tls:false"#);
        check("etcd-tls://a?ca=/ca.pem&cert=/c&key=/k", r#"["a:2379"] /portolan/ 10s 3s 5s tls:true"#);
        check(
            "etcd://a?layout=skydns",
            r#"option layout="skydns": the path must be a domain, as in etcd://host/apps.local?layout=skydns"#,
        );
        check("etcd://a?layout=xml", r#"option layout="xml": it is json, registrator or skydns"#);
        check("etcd://a?ttl=10", r#"option ttl="10": write for example 10s or 500ms"#);
        check("etcd://a?ttl=1s", r#"option ttl="1s": it is from 2s to 3600s"#);
        check("etcd-tls://a?cert=/c", r#"option cert="/c": it needs a key beside it"#);
        check("etcd://a?ca=/c", r#"unknown option "ca"; etcd:// knows layout, ttl, grace, timeout"#);
        check("etcd:/x", r#""" is no server; write host, host:port or [ipv6]:port"#);
    }
}
