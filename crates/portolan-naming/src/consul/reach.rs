//! Where the servers are, and who to be there: what all URIs of Consul have in common.

use std::path::PathBuf;

use crate::uri::{RegistryUri, Server, UriError};

/// How to reach servers.
#[derive(Clone)]
pub(super) struct Reach {
    /// Tried in this order.
    pub(super) servers: Vec<Target>,
    pub(super) token: Option<String>,
    pub(super) tls: Option<Tls>,
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

const PORT: u16 = 8500;
const TLS_PORT: u16 = 8501;

/// What [`Reach::read`] takes, with and without TLS.
const OPTIONS: &[&str] = &["token"];
const OPTIONS_TLS: &[&str] = &["token", "ca", "cert", "key"];

impl Reach {
    /// Takes what is said of it in a URI, the path of a Unix socket too; what is not said there is looked for in the environment.
    pub(super) fn read(
        uri: &mut RegistryUri,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, UriError> {
        let before_at = uri.credentials.take().map(|credentials| credentials.user);
        let token = uri.take("token").or(before_at).or_else(|| env("CONSUL_HTTP_TOKEN"));
        if token.as_ref().is_some_and(|token| token.chars().any(|c| c.is_control() || !c.is_ascii())) {
            return Err(UriError::nonsense("token", "…", "a token is plain ASCII"));
        }
        let tls = if uri.scheme.ends_with("-tls") {
            let mut said = |name, variable| uri.take(name).or_else(|| env(variable));
            let ca = said("ca", "CONSUL_CACERT");
            Some(tls(ca, said("cert", "CONSUL_CLIENT_CERT"), said("key", "CONSUL_CLIENT_KEY"))?)
        } else {
            None
        };
        Ok(Self { servers: servers(uri)?, token, tls })
    }

    /// Fails on options that nobody took; `known` are those beside our own.
    pub(super) fn no_more_options(&self, uri: &RegistryUri, known: &[&str]) -> Result<(), UriError> {
        let ours = if self.tls.is_some() { OPTIONS_TLS } else { OPTIONS };
        uri.no_more_options(&[ours, known].concat())
    }
}

fn servers(uri: &mut RegistryUri) -> Result<Vec<Target>, UriError> {
    if uri.scheme.ends_with("-unix") {
        let path = std::mem::take(&mut uri.path);
        // As gliderlabs/registrator has it; `consul-unix://` has no path beside the socket's.
        let (socket, rest) = match path.split_once(':') {
            Some(parts) if uri.scheme == "consulkv-unix" => parts,
            _ => (&*path, ""),
        };
        if socket.is_empty() {
            return Err(UriError::Server(format!("{}://", uri.scheme)));
        }
        uri.path = rest.trim_end_matches('/').to_owned();
        return Ok(vec![Target::Unix(PathBuf::from(socket))]);
    }
    let port = if uri.scheme.ends_with("-tls") { TLS_PORT } else { PORT };
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
        (Some(cert), None) => {
            return Err(UriError::nonsense("cert", cert, "a certificate needs its key as well"));
        }
        (None, Some(key)) => {
            return Err(UriError::nonsense("key", key, "a key needs its certificate as well"));
        }
    };
    Ok(Tls { ca: ca.map(Into::into), identity })
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
impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { servers, token, tls } = self;
        let token = token.as_ref().map(|_| "…");
        f.debug_struct("Reach").field("servers", servers).field("token", &token).field("tls", tls).finish()
    }
}
