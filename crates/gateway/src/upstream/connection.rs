//! One upstream connection: the HTTP/1.1 client codec.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use portolan_model::{Endpoint, Host};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::body::Body;
use crate::config::Config;
use crate::stream::{CountedStream, Traffic};

/// See the module's head.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    traffic: Arc<Traffic>,
    requests: u64,
}

/// How connections are made.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    connect: Duration,
    builder: Builder,
}

/// Why no answer came.
pub(crate) enum SendError {
    /// Nothing of the request was written; it comes back whole.
    NotSent(Box<http::Request<Body>>),
    /// Nothing of the request was written, but it is gone.
    NothingWritten,
    /// It was written, in whole or in part, and not a byte came back.
    Unanswered,
    /// What came back is no answer.
    BadAnswer,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Self {
        let mut builder = Builder::new();
        let limits = &config.limits;
        builder
            .writev(false)
            .max_headers(limits.headers)
            .max_header_size(limits.head_bytes)
            .max_buf_size(limits.buffer());
        Self { connect: config.timeouts.connect, builder }
    }
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint, settings: &Settings) -> io::Result<Self> {
        let stream = timeout(settings.connect, dial(endpoint));
        let stream = stream.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let (stream, traffic) = CountedStream::new(stream);
        let handshake = settings.builder.handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(io::Error::other)?;
        let driver = driver.with_upgrades();
        tokio::task::spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::trace!(%error, "upstream connection ended");
            }
        });
        Ok(Self { sender, traffic, requests: 0 })
    }

    /// Whether it is known to be closed. `false` is no promise.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether it has carried a request before.
    pub(crate) fn is_used(&self) -> bool {
        self.requests > 0
    }

    /// Has the kernel asked whether the instance has closed it, right before the next request is written: for requests
    /// that cannot be repeated. It costs a system call, and leaves only closes that are still on their way.
    pub(crate) fn doubt(&self) {
        self.traffic.doubt();
    }

    /// Follows what is written while [`Connection::send`] runs.
    pub(crate) fn progress(&self) -> Progress {
        Progress(Arc::clone(&self.traffic))
    }

    /// Sends a request and waits for the head of its answer. Dropping the future closes the connection.
    pub(crate) async fn send(
        &mut self,
        request: Box<http::Request<Body>>,
    ) -> Result<http::Response<Incoming>, SendError> {
        self.requests += 1;
        // One that was given back a moment ago may not have noticed the end of its last answer yet.
        if !self.sender.is_ready() && self.sender.ready().await.is_err() {
            return Err(SendError::NotSent(request));
        }
        let (read, written) = (self.traffic.read(), self.traffic.written());
        self.sender.try_send_request(*request).await.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::NotSent(Box::new(request)),
            None if self.traffic.written() == written => SendError::NothingWritten,
            None if self.traffic.read() == read => SendError::Unanswered,
            None => SendError::BadAnswer,
        })
    }
}

/// See [`Connection::progress`].
pub(crate) struct Progress(Arc<Traffic>);

impl Progress {
    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.0.written()
    }
}

async fn dial(endpoint: &Endpoint) -> io::Result<TcpStream> {
    match &endpoint.host {
        Host::Ip(ip) => TcpStream::connect(SocketAddr::new(*ip, endpoint.port)).await,
        Host::Name(name) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
            for address in lookup_host((&**name, endpoint.port)).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}
