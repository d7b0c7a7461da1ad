//! What a URI means to ZooKeeper.

use std::path::PathBuf;
use std::time::Duration;

use super::acl::Access;
use super::layout::{Format, Layout};
use crate::uri::{Credentials, RegistryUri, UriError};

/// Where ZooKeeper is, and how instances are kept there.
///
/// `zookeeper://[user:password@]host[:2181][,host…][/base/path][?option=value&…]`; `zookeeper-tls://`
/// for TLS to the servers' secure ports. Options:
///
/// | option | means | unless said |
/// |---|---|---|
/// | `layout` | `registrator` (`<base>/<service>/<ip>:<port>`) or `curator` (`<base>/<service>/<id>`) | `registrator` |
/// | `session_timeout` | how long what is registered outlives a process that died, from 1 s to 1 h; servers may narrow it | `10s` |
/// | `grace` | how long an instance is kept whose node went with its session, for its owner to come back | `3s` |
/// | `reread_grace` | how long instances are kept that a reading after an outage did not find | `30s` |
/// | `timeout` | how long a write, or a read before anything is known, may take | `5s` |
/// | `auth` | `digest:user:password`; the same as `user:password@` | nobody |
/// | `ca` | file of PEM certificates, one of which has signed the servers' (`zookeeper-tls` only, needed there) | |
/// | `cert`, `key` | files of our own certificate and its key, for servers that ask (`zookeeper-tls` only, both) | |
/// | `acl` | who may do what with created nodes: `open`, `read` (all read, we write), `private`, or `scheme:id:cdrwa`, several separated by commas | `open`, with credentials `read` |
///
/// Without a path, services are right below the root, as gliderlabs/registrator keeps them. In the layout `curator`, tags
/// and metadata are in the payload, an object: Java readers take `Object` or `Map` for its class.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Servers as `host:port`.
    pub(super) servers: Vec<String>,
    pub(super) layout: Layout,
    pub(super) credentials: Option<Credentials>,
    pub(super) access: Access,
    pub(super) tls: Option<Tls>,
    pub(super) session_timeout: Duration,
    pub(super) grace: Duration,
    pub(super) reread_grace: Duration,
    pub(super) timeout: Duration,
    /// The URI without secrets.
    pub(super) shown: String,
}

/// Files, read anew for each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) ca: PathBuf,
    /// Our certificate and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

const PORT: u16 = 2181;
const HASTY: Duration = Duration::from_millis(800);
const PATIENT: Duration = Duration::from_millis(1600);
const KNOWN: &[&str] = &["layout", "session_timeout", "grace", "reread_grace", "timeout", "auth", "acl"];
const KNOWN_TLS: &[&str] =
    &["layout", "session_timeout", "grace", "reread_grace", "timeout", "auth", "acl", "ca", "cert", "key"];

/// Schemes of URIs that are ours; the second means TLS.
pub(crate) const SCHEMES: [&str; 2] = ["zookeeper", TLS];
const TLS: &str = "zookeeper-tls";

impl Config {
    /// Understands `uri`.
    ///
    /// # Errors
    /// Says which option is unknown or makes no sense.
    pub fn from_uri(mut uri: RegistryUri) -> Result<Self, UriError> {
        if uri.servers.is_empty() {
            return Err(UriError::Server(String::new()));
        }
        let s = Duration::from_secs;
        let format = match uri.take("layout") {
            None => Format::Registrator,
            Some(name) => match name.as_str() {
                "registrator" => Format::Registrator,
                "curator" => Format::Curator,
                _ => return Err(UriError::nonsense("layout", name, "it is registrator or curator")),
            },
        };
        let session_timeout = uri.take_duration("session_timeout", s(10), s(1)..=s(3600))?;
        let grace = uri.take_duration("grace", s(3), s(0)..=s(3600))?;
        let reread_grace = uri.take_duration("reread_grace", s(30), s(0)..=s(3600))?;
        let timeout = uri.take_duration("timeout", s(5), Duration::from_millis(10)..=s(600))?;
        let credentials = match uri.take("auth") {
            Some(text) => Some(digest(&text)?),
            None => uri.credentials.take(),
        };
        let access = match uri.take("acl") {
            Some(text) => text.parse().map_err(|reason: String| UriError::nonsense("acl", text, reason))?,
            None if credentials.is_some() => Access::Read,
            None => Access::Open,
        };
        if credentials.is_none() && access.needs_credentials() {
            return Err(UriError::nonsense(
                "acl",
                access.to_string(),
                "it needs credentials: auth=digest:user:password",
            ));
        }
        let tls = if uri.scheme == TLS {
            let missing = || UriError::nonsense("ca", "", "zookeeper-tls needs the certificates to trust");
            let ca = uri.take("ca").ok_or_else(missing)?.into();
            Some(Tls { ca, identity: uri.take_identity()? })
        } else {
            None
        };
        uri.no_more_options(if tls.is_some() { KNOWN_TLS } else { KNOWN })?;
        let base = uri.path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let bad = |part: &&&str| matches!(**part, "." | "..") || part.chars().any(char::is_control);
        if let Some(part) = base.iter().find(bad) {
            return Err(UriError::nonsense("path", *part, "ZooKeeper allows no such node"));
        }
        let base = base.iter().map(|part| format!("/{part}")).collect::<String>();
        let shown = uri.to_string();
        let servers = uri.servers.iter().map(|server| server.authority(PORT)).collect();
        let layout = Layout { base, format };
        Ok(Self {
            servers,
            layout,
            credentials,
            access,
            tls,
            session_timeout,
            grace,
            reread_grace,
            timeout,
            shown,
        })
    }

    /// When a connection that says nothing counts as lost, and when one that is not there as never to come: early enough for
    /// two more before the session ends. At once where there was one lately: all is to be right 2 s after a fault.
    pub(super) fn connection_timeout(&self, lately: bool) -> Duration {
        (self.session_timeout / 4).min(if lately { HASTY } else { PATIENT })
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Config({})", self.shown)
    }
}

fn digest(text: &str) -> Result<Credentials, UriError> {
    // The message must not show the secret.
    let bad = || UriError::nonsense("auth", "…", "write digest:user:password");
    let (user, password) =
        text.strip_prefix("digest:").and_then(|rest| rest.split_once(':')).ok_or_else(bad)?;
    if user.is_empty() {
        return Err(bad());
    }
    Ok(Credentials { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let got = Config::from_uri(text.parse().unwrap()).map(|c| {
                let user = c.credentials.as_ref().map(|c| format!("{}/{} ", c.user, c.password));
                let Layout { base, format } = &c.layout;
                let times = [c.session_timeout, c.grace, c.reread_grace, c.timeout];
                let (user, tls) = (user.unwrap_or_default(), if c.tls.is_some() { " tls" } else { "" });
                format!("{} {base} {format:?} {user}{} {times:?}{tls}", c.servers.join(","), c.access)
            });
            assert_eq!(got.unwrap_or_else(|e| e.to_string()), expect, "{text}");
        }
        check("zookeeper://a", "a:2181  Registrator open [10s, 3s, 30s, 5s]");
        check(
            "zookeeper://a,b:1,[::1]/x//y/?layout=curator&session_timeout=2s&grace=0s&reread_grace=1m&timeout=50ms",
            "a:2181,b:1,[::1]:2181 /x/y Curator open [2s, 0ns, 60s, 50ms]",
        );
        check("zookeeper://u:p@a/x", "a:2181 /x Registrator u/p read [10s, 3s, 30s, 5s]");
        check(
            "zookeeper://a/x?auth=digest:u:p:q&acl=private",
            "a:2181 /x Registrator u/p:q private [10s, 3s, 30s, 5s]",
        );
        check(
            "zookeeper://a/x?acl=world:anyone:r,ip:10.0.0.0/8:cdrw",
            "a:2181 /x Registrator world:anyone:r,ip:10.0.0.0/8:cdrw [10s, 3s, 30s, 5s]",
        );
        check(
            "zookeeper://a?acl=private",
            r#"option acl="private": it needs credentials: auth=digest:user:password"#,
        );
        check("zookeeper://a?auth=u:p", r#"option auth="…": write digest:user:password"#);
        check("zookeeper://a?acl=none", r#"option acl="none": write open, read, private or scheme:id:cdrwa"#);
        check("zookeeper://a/x/../y", r#"option path="..": ZooKeeper allows no such node"#);
        check(
            "zookeeper-tls://a?ca=/ca.pem&cert=/c&key=/k",
            "a:2181  Registrator open [10s, 3s, 30s, 5s] tls",
        );
        check("zookeeper-tls://a", r#"option ca="": zookeeper-tls needs the certificates to trust"#);
        check("zookeeper-tls://a?ca=/c&cert=/c", r#"option cert="/c": it needs a key beside it"#);
        check("zookeeper://a?layout=x", r#"option layout="x": it is registrator or curator"#);
        check(
            "zookeeper://a?session_timeout=1",
            r#"option session_timeout="1": write for example 10s or 500ms"#,
        );
        check("zookeeper://a?session_timeout=2h", r#"option session_timeout="2h": it is from 1s to 3600s"#);
        check("zookeeper://a?session_timeout=1ms", r#"option session_timeout="1ms": it is from 1s to 3600s"#);
        check(
            "zookeeper://a?ttl=1s",
            "unknown option \"ttl\"; zookeeper:// knows layout, session_timeout, grace, reread_grace, timeout, auth, acl",
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = Config::from_uri("zookeeper://me:secret@a/x".parse().unwrap()).unwrap();
        assert_eq!(format!("{config:?}"), "Config(zookeeper://a/x)");
    }
}
