//! A listener that, told to stop, first takes in every connection the kernel has already accepted for it: closing at
//! once would reset clients that believe themselves connected.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use runtime::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How long to rest when the process is out of file descriptors or memory for another connection.
const REST: Duration = Duration::from_millis(50);

/// Accepts until told to stop, then what is left, then nothing more.
pub(super) struct Listener {
    /// Absent once closed.
    inner: Option<TcpListener>,
    address: SocketAddr,
    shutdown: Option<Shutdown>,
    last_call: LastCall,
}

/// Tells when the listener has closed.
#[derive(Clone, Default)]
pub(super) struct LastCall(Arc<Notify>);

impl LastCall {
    /// Waits until nothing more will be accepted.
    pub(super) async fn called(&self) {
        self.0.notified().await;
    }
}

impl Listener {
    /// Binds to `address`.
    pub(super) async fn bind(address: SocketAddr) -> io::Result<(Self, LastCall)> {
        let inner = TcpListener::bind(address).await?;
        let address = inner.local_addr()?;
        let last_call = LastCall::default();
        Ok((Self { inner: Some(inner), address, shutdown: None, last_call: last_call.clone() }, last_call))
    }

    /// The address it listens on.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops when `shutdown` says so.
    pub(super) fn until(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = Some(shutdown);
        self
    }

    async fn next(&mut self) -> io::Result<Option<TcpStream>> {
        let Some(inner) = &self.inner else { return Ok(None) };
        let told = async {
            match &self.shutdown {
                Some(shutdown) => shutdown.triggered().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            accepted = inner.accept() => accepted.map(|(stream, _)| Some(stream)),
            () = told => self.left(),
        }
    }

    /// One connection that waits in the kernel's queue; `None`, and closed, when there is none. Asks the kernel itself:
    /// the runtime knows only of those it has been woken for.
    fn left(&mut self) -> io::Result<Option<TcpStream>> {
        let Some(inner) = self.inner.take() else { return Ok(None) };
        let inner = inner.into_std()?;
        match inner.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                self.inner = Some(TcpListener::from_std(inner)?);
                TcpStream::from_std(stream).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                self.inner = Some(TcpListener::from_std(inner)?);
                Err(error)
            }
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.next().await {
                Ok(Some(stream)) => {
                    // Only latency is lost where this fails.
                    let _ = stream.set_nodelay(true);
                    let address = stream.local_addr().unwrap_or(self.address);
                    return (stream, address);
                }
                Ok(None) => {
                    self.last_call.0.notify_one();
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The address of a connection's own end, which tells instances apart: handlers see it as `ConnectInfo`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnEnd(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Listener>> for OwnEnd {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(*stream.remote_addr())
    }
}
