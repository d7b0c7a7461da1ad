//! From calls to bytes: every call to the engine has a connection of its own, by a unix socket, TCP or TLS.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// What engines are called behind a socket, where no name is needed.
const NAMELESS: &str = "engine";

/// When an engine that says nothing is asked by the kernel whether it is there, how often, and how many times in vain.
/// An event stream may be silent for days; that something on the way forgot it, while new connections work, nobody would
/// notice otherwise.
const QUIET: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// How an engine is reached.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// By the socket at this path.
    Unix(PathBuf),
    /// By TCP.
    Tcp(Place),
    /// By TLS.
    Tls(Place, Arc<ClientConfig>),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Place {
    /// Reads `host`, `host:port` or `[address]:port`.
    pub(super) fn parse(text: &str, usual_port: u16) -> Option<Self> {
        let authority: Authority = text.trim_end_matches('/').parse().ok()?;
        let after_host = authority.as_str().strip_prefix(authority.host())?;
        let port = if after_host.is_empty() { usual_port } else { authority.port_u16()? };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        (!host.is_empty()).then_some(Self { host, port })
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let probes = TcpKeepalive::new().with_time(QUIET).with_interval(PROBE_INTERVAL).with_retries(PROBES);
        SockRef::from(&stream).set_tcp_keepalive(&probes)?;
        Ok(stream)
    }
}

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Way {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("there is no socket {}", path.display()),
                    ));
                }
                stream => Box::new(stream?),
            },
            Self::Tcp(place) => Box::new(place.connect().await?),
            Self::Tls(place, config) => {
                let name = ServerName::try_from(place.host.clone()).map_err(io::Error::other)?;
                let stream = place.connect().await?;
                Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
            }
        })
    }

    fn name(&self) -> &str {
        match self {
            Self::Unix(_) => NAMELESS,
            Self::Tcp(place) | Self::Tls(place, _) => &place.host,
        }
    }
}

/// A client that goes this way, and waits so long for the beginning of an answer.
pub(super) fn client(way: Way, patience: Duration) -> Result<Docker, Error> {
    let call = move |request| call(way.clone(), request);
    // The name is only to make URLs of; what is sent is the path.
    let url = format!("http://{NAMELESS}");
    Docker::connect_with_custom_transport(call, Some(url), patience.as_secs(), API_DEFAULT_VERSION)
}

async fn call(way: Way, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
    let stream = way.connect().await?;
    // A name that is no header value is none that a server minds.
    let name = HeaderValue::from_str(way.name()).unwrap_or(HeaderValue::from_static(NAMELESS));
    request.headers_mut().insert(HOST, name);
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's body, or with whoever drops that.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_engine_is_probed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = Place { host: "127.0.0.1".to_owned(), port }.connect().await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), QUIET);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
    }

    #[test]
    fn places() {
        #[track_caller]
        fn check(text: &str, expect: Option<(&str, u16)>) {
            let got = Place::parse(text, 2376);
            assert_eq!(got.as_ref().map(|place| (place.host.as_str(), place.port)), expect, "{text}");
        }
        check("10.0.0.9:2375", Some(("10.0.0.9", 2375)));
        check("engine.example", Some(("engine.example", 2376)));
        check("engine.example:1/", Some(("engine.example", 1)));
        check("[::1]:2375", Some(("::1", 2375)));
        check("[::1]", Some(("::1", 2376)));
        check(":2375", None);
        check("engine:", None);
        check("engine:port", None);
        check("engine:70000", None);
        check("me@engine:1", None);
        check("a b", None);
        check("", None);
    }
}
