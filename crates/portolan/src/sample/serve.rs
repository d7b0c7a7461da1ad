//! Accepting connections, and ending without losing a request.
//!
//! Not axum's own server: told to stop, it closes connections whose first request it has not begun to read, and their
//! clients cannot know that nothing was done. hyper does the same, unless a byte is there when it is first polled.

use std::net::SocketAddr;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use runtime::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a connection that never said anything may do so once the sample is to end.
const LAST_CALL: Duration = Duration::from_secs(1);

/// How long nobody must have come before it stops listening. Whoever routes to it learns of its end by the same signal
/// and a little later; and the kernel resets a connection that is completed just as its listener closes, which neither
/// its client nor the sample can tell from one that was served.
const QUIET: Duration = Duration::from_millis(100);

/// How long to rest when the process is out of file descriptors or memory for another connection.
const REST: Duration = Duration::from_millis(50);

/// How long a client may take to send the head of a request; also how long a connection may idle.
const HEAD_TIME: Duration = Duration::from_secs(75);

/// The most connections that can wait in the kernel's queue (`SOMAXCONN` of a current Linux).
const QUEUE: usize = 4096;

/// The address of a connection's own end, which tells instances apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnEnd(pub(super) SocketAddr);

/// Serves until told to stop. Then takes in who still comes until nobody does, closes, and gives requests in flight
/// `drain` to finish, counted from the signal.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown, drain: Duration) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.triggered() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, router.clone(), shutdown.clone()));
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                sleep(REST).await;
            }
        }
    }
    let end = Instant::now() + drain;
    while let Ok(Ok((stream, _))) = timeout_at(end.min(Instant::now() + QUIET), listener.accept()).await {
        connections.spawn(converse(stream, router.clone(), shutdown.clone()));
    }
    for stream in left(listener) {
        connections.spawn(converse(stream, router.clone(), shutdown.clone()));
    }
    let finished = timeout_at(end, async { while connections.join_next().await.is_some() {} });
    if finished.await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting off requests that did not finish in time");
        connections.shutdown().await;
    }
}

/// The connections that wait in the kernel's queue: their clients believe themselves connected, and closing would reset
/// them. Asks the kernel itself, because the runtime knows only of those it has been woken for.
fn left(listener: TcpListener) -> Vec<TcpStream> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let streams = std::iter::from_fn(|| listener.accept().ok()).take(QUEUE);
    let streams = streams.filter_map(|(stream, _)| {
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
    });
    streams.collect()
}

/// Serves one connection; told to stop, ends it after the request at hand, or after the first if none has come yet.
async fn converse(stream: TcpStream, router: Router, shutdown: Shutdown) {
    // Only latency is lost where this fails.
    let _ = stream.set_nodelay(true);
    let Ok(own) = stream.local_addr() else { return };
    if !has_spoken(&stream, &shutdown).await {
        return;
    }
    let service = TowerToHyperService::new(router.layer(Extension(OwnEnd(own))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        biased;
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

/// Waits for the first byte. Returns false for a client that says nothing.
async fn has_spoken(stream: &TcpStream, shutdown: &Shutdown) -> bool {
    let silence = async {
        tokio::select! {
            () = sleep(HEAD_TIME) => {}
            () = async { shutdown.triggered().await; sleep(LAST_CALL).await } => {}
        }
    };
    // Looked at, not only asked whether it is readable: that is said of a new connection before anybody knows.
    let mut byte = [0];
    tokio::select! {
        biased;
        seen = stream.peek(&mut byte) => seen.is_ok_and(|length| length > 0),
        () = silence => false,
    }
}
