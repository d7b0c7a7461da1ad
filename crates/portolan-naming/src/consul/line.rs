//! One connection to one server: a request, its answer, the next request.
//!
//! Every follower has a line of its own, since a blocking query occupies it; writers share a few (see [`Lines`]). Those
//! may have been closed by the server while they were idle; so a request that meets a broken one is sent once more on a
//! new one, as all our requests may be repeated. A follower must not go on like that: behind a new connection may be a
//! server that has lost its memory, and the follower would take its emptiness for news.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::flow::{Flow, Work};
use super::reach::{Reach, Target, Tls};
use super::tls;

/// The longest answer taken, in bytes: ten thousand instances of one service with room to spare.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;
/// How long to wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long the kernel goes on sending what the other side does not take: no longer than somebody waits for the answer.
#[cfg(target_os = "linux")]
const UNTAKEN_LIMIT_MS: u32 = 3_000;
/// How many idle lines are kept to one server.
const IDLE_LIMIT: usize = 8;

/// How to reach one server.
#[derive(Debug)]
pub(super) struct Server {
    target: Target,
    tls: Option<Tls>,
    host: HeaderValue,
    token: Option<HeaderValue>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Path and query, percent-encoded.
    pub(super) path: String,
    /// JSON; empty for none.
    pub(super) body: Bytes,
    /// Which statuses are answers as well, beside success.
    pub(super) also: &'static [u16],
}

/// What was answered, with a status of success or one that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `X-Consul-Index`, where there is one.
    pub(super) index: Option<u64>,
    pub(super) body: Bytes,
}

/// Why there is no answer to work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// Nobody answered, or not to the end.
    #[error("{0}")]
    Unreachable(String),
    /// The server does not do it.
    #[error("answered {status}: {text}")]
    Refused { status: u16, text: String },
    /// The answer makes no sense.
    #[error("answered what cannot be read: {0}")]
    Nonsense(String),
}

impl Trouble {
    /// For people: what there was with which server.
    pub(super) fn with(&self, server: &Server) -> String {
        match self {
            Self::Unreachable(why) => why.clone(),
            Self::Refused { .. } | Self::Nonsense(_) => format!("{server}: {self}"),
        }
    }
}

impl Server {
    /// All servers, in the order given.
    pub(super) fn all(reach: &Reach) -> Vec<Arc<Self>> {
        let header = |text: &str| HeaderValue::from_str(text).ok();
        let server = |target: &Target| Self {
            target: target.clone(),
            tls: reach.tls.clone(),
            host: match target {
                Target::Tcp { .. } => header(&target.to_string()),
                Target::Unix(_) => None,
            }
            .unwrap_or(HeaderValue::from_static("localhost")),
            token: reach.token.as_deref().and_then(header).map(|mut token| {
                token.set_sensitive(true);
                token
            }),
        };
        reach.servers.iter().map(|target| Arc::new(server(target))).collect()
    }

    async fn connect(&self) -> io::Result<Pin<Box<dyn Stream>>> {
        match &self.target {
            Target::Unix(path) => Ok(Box::pin(UnixStream::connect(path).await?)),
            Target::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                // What is given up is not sent any more: a registration that an agent is handed once it is reached again, after
                // it was told to let go of that very instance, would bring back the dead.
                stream.set_zero_linger()?;
                #[cfg(target_os = "linux")]
                rustix::net::sockopt::set_tcp_user_timeout(&stream, UNTAKEN_LIMIT_MS)?;
                match &self.tls {
                    None => Ok(Box::pin(stream)),
                    Some(files) => Ok(Box::pin(tls::wrap(files, host, stream).await?)),
                }
            }
        }
    }

    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(&ask.method).uri(&ask.path).header(HOST, &self.host);
        if let Some(token) = &self.token {
            request = request.header(HeaderName::from_static("x-consul-token"), token);
        }
        if !ask.body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request.body(Full::new(ask.body.clone()))
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.target.fmt(f)
    }
}

impl Ask {
    /// Asks to read.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Bytes::new(), also: &[] }
    }

    /// Asks to write.
    pub(super) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PUT, path: path.into(), body: body.into(), also: &[] }
    }

    /// With these statuses as answers.
    pub(super) fn or(self, also: &'static [u16]) -> Self {
        Self { also, ..self }
    }
}

impl Answer {
    /// Reads the body.
    pub(super) fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Trouble> {
        serde_json::from_slice(&self.body).map_err(|error| Trouble::Nonsense(error.to_string()))
    }
}

/// One connection, made when it is needed.
pub(super) struct Line {
    server: Arc<Server>,
    open: Option<Open>,
    /// Whether it may be made anew once it was open.
    renewable: bool,
}

/// An open connection. It does its work only while somebody waits for an answer.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    work: Work,
}

/// The work of a connection that has ended.
fn ended() -> Work {
    Box::pin(std::future::ready(Ok(())))
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

impl Line {
    /// A line for one task, that breaks once and for all.
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, open: None, renewable: false }
    }

    /// Asks, and waits no longer than `limit` for the whole answer. Dropping it closes the line.
    pub(super) async fn ask(&mut self, ask: &Ask, limit: Duration) -> Result<Answer, Trouble> {
        let outcome = timeout(limit, self.asked(ask)).await;
        outcome.unwrap_or_else(|_| {
            self.open = None;
            Err(Trouble::Unreachable(format!("{}: no answer within {limit:?}", self.server)))
        })
    }

    async fn asked(&mut self, ask: &Ask) -> Result<Answer, Trouble> {
        let unreachable =
            |why: &dyn std::fmt::Display| Trouble::Unreachable(format!("{}: {why}", self.server));
        // Out of its place while it is in use, so that a request given up halfway leaves no half-read answer behind.
        if let Some(mut open) = self.open.take() {
            match exchange(&self.server, &mut open, ask).await {
                Ok(answer) => {
                    self.open = Some(open);
                    return answer;
                }
                Err(why) if !self.renewable => return Err(unreachable(&why)),
                Err(_) => {}
            }
        }
        let mut open = open(&self.server).await.map_err(|why| unreachable(&why))?;
        let answer = exchange(&self.server, &mut open, ask).await.map_err(|why| unreachable(&why))?;
        self.open = Some(open);
        answer
    }

    /// Asks for an answer that does not end, and waits no longer than `limit` for its beginning.
    pub(super) async fn flow(self, ask: &Ask, limit: Duration) -> Result<Flow, Trouble> {
        let server = &self.server;
        let begun = timeout(limit, async {
            let mut open = open(server).await?;
            let (head, body) = begin(server, &mut open, ask).await?;
            if head.status.is_success() {
                return Ok(Ok(Flow::new(server.to_string(), body, open.work)));
            }
            let body = whole(body, &mut open.work).await?;
            Ok(Err(refused(head.status, &body)))
        });
        let begun = begun.await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
        begun.map_err(|why| Trouble::Unreachable(format!("{server}: {why}")))?
    }
}

async fn open(server: &Server) -> Result<Open, String> {
    let connect = timeout(CONNECT_LIMIT, server.connect()).await;
    let stream = connect.map_err(|_| "no connection in time")?.map_err(|e| e.to_string())?;
    let (sender, work) = handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    Ok(Open { sender, work: Box::pin(work) })
}

/// One request and its answer. The outer error: the connection is of no use.
async fn exchange(server: &Server, open: &mut Open, ask: &Ask) -> Result<Result<Answer, Trouble>, String> {
    let (head, body) = begin(server, open, ask).await?;
    let body = whole(body, &mut open.work).await?;
    if !head.status.is_success() && !ask.also.contains(&head.status.as_u16()) {
        return Ok(Err(refused(head.status, &body)));
    }
    let index = head.headers.get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
    Ok(Ok(Answer { status: head.status.as_u16(), index, body }))
}

/// One request, and the head of its answer.
async fn begin(server: &Server, open: &mut Open, ask: &Ask) -> Result<(response::Parts, Incoming), String> {
    let request = server.request(ask).map_err(|error| error.to_string())?;
    let sender = &mut open.sender;
    let answered = std::pin::pin!(async move {
        sender.ready().await.map_err(|error| chain(&error))?;
        let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
        Ok::<_, String>(response.into_parts())
    });
    with(answered, &mut open.work).await
}

async fn whole(body: Incoming, work: &mut Work) -> Result<Bytes, String> {
    let taken = std::pin::pin!(async move {
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| chain(&*error))?;
        Ok::<_, String>(body.to_bytes())
    });
    with(taken, work).await
}

/// What comes of `wanted` while the connection does its work. That may end right after the last byte of the answer, which
/// is then still to be taken.
async fn with<T>(wanted: impl Future<Output = T> + Unpin, work: &mut Work) -> T {
    match select(wanted, &mut *work).await {
        Either::Left((wanted, _)) => wanted,
        Either::Right((_, wanted)) => {
            // While the connection is there, the sender waits for it to take the request.
            *work = ended();
            wanted.await
        }
    }
}

/// An error with its causes: that of a connection says nothing without them.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

fn refused(status: StatusCode, body: &Bytes) -> Trouble {
    let text: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect();
    Trouble::Refused { status: status.as_u16(), text }
}

/// Lines to one server for whoever has a short request. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines {
    server: Arc<Server>,
    idle: Arc<Mutex<Vec<Line>>>,
}

impl Lines {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, idle: Arc::default() }
    }

    pub(super) async fn ask(&self, ask: &Ask, limit: Duration) -> Result<Answer, Trouble> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fresh = || Line { renewable: true, ..Line::new(Arc::clone(&self.server)) };
        let mut line = idle.unwrap_or_else(fresh);
        let answer = line.ask(ask, limit).await;
        if line.open.is_some() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_LIMIT {
                idle.push(line);
            }
        }
        answer
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Longer than what the kernels of both sides take without anybody reading.
    const LONG: usize = 32 << 20;

    #[tokio::test]
    async fn what_is_given_up_is_not_sent_later() {
        let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = agent.local_addr().unwrap().port();
        let target = Target::Tcp { host: "127.0.0.1".to_owned(), port };
        let reach = Reach { servers: vec![target], token: None, tls: None };
        let lines = Lines::new(Server::all(&reach).remove(0));
        let ask = Ask::put("/v1/agent/service/register", vec![b' '; LONG]);
        let (given_up, accepted) = tokio::join!(lines.ask(&ask, Duration::from_millis(200)), agent.accept());
        assert!(matches!(given_up, Err(Trouble::Unreachable(_))), "{given_up:?}");
        let mut all = Vec::new();
        let end = accepted.unwrap().0.read_to_end(&mut all).await;
        assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
        assert!(all.len() < LONG, "{} bytes came", all.len());
    }
}
