//! Accepting connections, and ending them well.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use runtime::{Backoff, Shutdown, ShutdownTrigger};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Limits;
use super::stall::Stall;

/// The most clients at a time that are told to come back later; beyond them a connection is closed without a word.
const TURNED_AWAY: usize = 64;

/// The listening face. It ends every connection it began.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
    router: Router,
    limits: Limits,
    end: ShutdownTrigger,
}

/// Listens on `address`, without a runtime and without accepting.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

impl Server {
    pub(super) fn new(
        listener: std::net::TcpListener,
        router: Router,
        limits: Limits,
        end: ShutdownTrigger,
    ) -> Self {
        Self { listener, router, limits, end }
    }

    /// Serves until shutdown. Then it accepts no more, answers blocking queries with what is, lets other requests finish
    /// for a while, and cuts off what remains.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { listener, router, limits, end } = self;
        let mut connections = JoinSet::new();
        match TcpListener::from_std(listener) {
            Ok(listener) => accept(&listener, &router, &limits, &shutdown, &mut connections).await,
            Err(error) => tracing::error!(%error, "listener cannot be used"),
        }
        end.trigger();
        let finished =
            timeout(limits.finish_time, async { while connections.join_next().await.is_some() {} });
        if finished.await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "cutting off requests that did not finish in time"
            );
            connections.shutdown().await;
        }
    }
}

/// Takes connections until shutdown; the listener closes when the caller drops it.
async fn accept(
    listener: &TcpListener,
    router: &Router,
    limits: &Limits,
    shutdown: &Shutdown,
    connections: &mut JoinSet<()>,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let porch = Arc::new(Semaphore::new(TURNED_AWAY));
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.triggered() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                (failing, backoff) = (false, Backoff::new(Duration::from_millis(5), Duration::from_secs(1)));
                admit(stream, router, limits, shutdown, (&room, &porch), connections);
            }
            // Mostly too many open files: what is open goes on, and closes in time.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections; trying on");
                }
                let _ = timeout(backoff.next(fastrand::u64(..)), shutdown.triggered()).await;
            }
        }
    }
}

/// Begins to serve a connection: fully, or with a word of regret when there is no room.
fn admit(
    stream: TcpStream,
    router: &Router,
    limits: &Limits,
    shutdown: &Shutdown,
    (room, porch): (&Arc<Semaphore>, &Arc<Semaphore>),
    connections: &mut JoinSet<()>,
) {
    // A socket that is already dead says so when it is read.
    let _ = stream.set_nodelay(true);
    if let Ok(place) = Arc::clone(room).try_acquire_owned() {
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(serve(stream, service, limits.clone(), shutdown.clone(), place));
    } else if let Ok(place) = Arc::clone(porch).try_acquire_owned() {
        let most = limits.connections;
        let service = service_fn(move |_| async move { Ok::<_, Infallible>(turned_away(most)) });
        connections.spawn(serve(stream, service, limits.clone(), shutdown.clone(), place));
    }
}

fn turned_away(most: usize) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("too many connections: {most} are open already")));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Serves one connection to its end. A client that goes away ends it at once, blocking query and all.
async fn serve<S, B>(
    stream: TcpStream,
    service: S,
    limits: Limits,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + 'static,
{
    let stream = TokioIo::new(Stall::new(stream, limits.stall_time));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(64 * 1024)
        .title_case_headers(true)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.triggered() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended early");
    }
}
