//! One client connection: the HTTP/1.1 server codec around [`crate::request::serve`].

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use runtime::Shutdown;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::Shared;
use super::watch::Watched;
use crate::body::Body;
use crate::request::{self, Peer};
use crate::stream::{CountedStream, Traffic};

/// How long a client that has sent nothing yet may keep its connection once shutdown was asked for.
const FIRST_BYTE: Duration = Duration::from_millis(250);

/// Serves requests until the client leaves, waits too long, or — after shutdown — its last request is answered.
///
/// It counts as open from the call on, not only from the first poll: whoever waits for the last one to close would miss
/// those just accepted.
pub(super) fn serve(
    shared: Rc<Shared>,
    shutdown: Shutdown,
    stream: TcpStream,
    peer: IpAddr,
) -> impl Future<Output = ()> {
    let (stream, traffic) = CountedStream::new(stream);
    let watched = shared.connections.add(Arc::clone(&traffic));
    converse(shared, shutdown, stream, traffic, watched, peer)
}

async fn converse(
    shared: Rc<Shared>,
    shutdown: Shutdown,
    stream: CountedStream,
    traffic: Arc<Traffic>,
    watched: Rc<Watched>,
    peer: IpAddr,
) {
    let limits = shared.config.limits;
    let peer = Rc::new(Peer::new(peer, &shared.config.trusted_proxies));
    let service = service_fn(|request: http::Request<Incoming>| {
        let (shared, peer, in_use) = (Rc::clone(&shared), Rc::clone(&peer), watched.begin());
        async move {
            let answer = request::serve(&shared, &peer, Box::new(request.map(Body::from_client))).await;
            Ok::<_, Infallible>(answer.map(|body| body.holding(in_use)))
        }
    });
    let connection = Builder::new()
        .max_headers(limits.headers)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.buffer())
        // One write call for head and small body: measured cheaper than a vectored one.
        .writev(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut stop = pin!(stopped(&shutdown, &traffic));
    let mut armed = false;
    let mut stopping = false;
    let ended = poll_fn(|cx| {
        if watched.is_overdue() {
            return Poll::Ready(Ok(()));
        }
        // Before the stop, so that a request that is here already is begun, and then finished.
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        // Registering once is enough, the task's waker stays the same; whether the stop woke it is read from a flag,
        // which costs a load instead of polling more futures on every event.
        if !armed {
            armed = true;
            watched.wake(cx.waker());
        } else if stopping || !shutdown.is_triggered() {
            return Poll::Pending;
        }
        if stop.as_mut().poll(cx).is_ready() && !stopping {
            stopping = true;
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(cx);
        }
        Poll::Pending
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "client connection ended");
    }
    shared.connections.remove(&watched);
}

/// When to have the codec end the connection after shutdown was asked for. It closes one that has read nothing of a
/// request at once, though one may be on its way: so first what has arrived is noticed, and a client that has only just
/// connected gets a moment to say what it came for.
async fn stopped(shutdown: &Shutdown, traffic: &Traffic) {
    shutdown.triggered().await;
    // The runtime looks for events before it returns from this.
    yield_now().await;
    if traffic.read() == 0 {
        sleep(FIRST_BYTE).await;
    }
}
