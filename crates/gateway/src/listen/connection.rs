//! One client connection: the HTTP/1.1 server codec around [`crate::request::serve`].

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use runtime::Shutdown;
use tokio::net::TcpStream;

use super::Shared;
use crate::body::Body;
use crate::request::{self, Peer};
use crate::stream::CountedStream;

/// Serves requests until the client leaves, waits too long, or — after shutdown — its last request is answered.
pub(super) async fn serve(shared: Rc<Shared>, shutdown: Shutdown, stream: TcpStream, peer: IpAddr) {
    let (stream, traffic) = CountedStream::new(stream);
    let watched = shared.connections.add(traffic);
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
    let mut stop = pin!(shutdown.triggered());
    let mut armed = false;
    let mut stopping = false;
    let ended = poll_fn(|cx| {
        if !armed {
            // Registering once is enough, the task's waker stays the same; what woke it is read from flags below,
            // which costs a load instead of polling more futures on every event.
            armed = true;
            watched.wake(cx.waker());
            let _ = stop.as_mut().poll(cx);
        }
        if watched.is_overdue() {
            return Poll::Ready(Ok(()));
        }
        if shutdown.is_triggered() && !stopping {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "client connection ended");
    }
    shared.connections.remove(&watched);
}
