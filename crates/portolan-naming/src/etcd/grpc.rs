//! gRPC over one HTTP/2 connection: calls with one answer, and streams both ways.
//!
//! A framed message is five bytes (not compressed, length) and the message; a call's status is in the trailers. That is
//! all of gRPC that etcd's clients need, so it is here and not in a library (ADR 9). The connection is a
//! future that its owner polls: when it ends, everything on it fails at once.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// The longest message taken. A watch's are split by etcd; a read in pages halves its pages.
const MESSAGE_LIMIT: usize = 32 << 20;
/// What may be on its way to us in one stream, and in all.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// etcd answered with an error.
    #[error("{message} (grpc status {code})")]
    Status {
        /// gRPC's number.
        code: u16,
        /// etcd's words.
        message: String,
    },
    /// The answer is longer than anybody may send us.
    #[error("an answer of {0} bytes is too long")]
    TooLong(usize),
    /// What came is no gRPC.
    #[error("not understood: {0}")]
    Garbled(String),
    /// The connection or the stream broke.
    #[error("{0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// No answer before another member led, and maybe none to come.
    #[error("another member leads now")]
    Overtaken,
}

impl Fault {
    /// A connection has ended like that.
    pub(super) fn of_end(ended: Result<(), h2::Error>) -> Self {
        ended.map_or_else(Self::from, |()| Self::Broken("connection closed".to_owned()))
    }

    /// etcd refused a lease that it does not know (any more).
    pub(crate) fn is_unknown_lease(&self) -> bool {
        matches!(self, Self::Status { code: 5, message } if message.contains("lease not found"))
    }

    /// etcd refused the request for what it is; another server or another time would not help.
    pub(crate) fn is_final(&self) -> bool {
        // Invalid argument, out of range, resource exhausted (too large, or out of space), permission denied.
        let code = match self {
            Self::Status { code, .. } => *code,
            Self::TooLong(_) => return true,
            Self::Garbled(_) | Self::Broken(_) | Self::Late(_) | Self::Overtaken => return false,
        };
        matches!(code, 3 | 7 | 8 | 11) && !self.is_stale_token()
    }

    /// The server has no leader: it is parted from the others, or there is an election.
    pub(super) fn is_leaderless(&self) -> bool {
        matches!(self, Self::Status { code: 14, message } if message.contains("no leader"))
    }

    /// etcd does not take the token (any more): it has expired, or users or roles have changed since it was made. Nothing
    /// was done; whoever authenticates anew is served.
    pub(crate) fn is_stale_token(&self) -> bool {
        let Self::Status { code, message } = self else { return false };
        let stale = ["revision in header is old", "revision of auth store is old"];
        *code == 16 || stale.iter().any(|words| message.contains(words))
    }
}

impl From<h2::Error> for Fault {
    fn from(error: h2::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Where calls are made. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    send: SendRequest<Bytes>,
    scheme: &'static str,
    authority: String,
    token: Option<HeaderValue>,
    /// Told when a call's token was not taken.
    pub(super) stale: Arc<Notify>,
    /// Whom the server follows, once that is known.
    pub(super) leader: Arc<watch::Sender<Option<u64>>>,
}

/// Opens HTTP/2 on `io`. Nothing moves unless the connection is polled.
pub(crate) async fn open<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    scheme: &'static str,
    authority: String,
) -> Result<(Client, Connection<T, Bytes>), Fault> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (send, connection) = builder.enable_push(false).handshake(io).await?;
    Ok((
        Client { send, scheme, authority, token: None, stale: Arc::default(), leader: Arc::default() },
        connection,
    ))
}

impl Client {
    /// The same connection with a token, as [`Client::call`] of `Authenticate` gave it.
    pub(crate) fn with_token(mut self, token: &str) -> Result<Self, Fault> {
        let mut token = HeaderValue::from_str(token).map_err(|e| Fault::Garbled(e.to_string()))?;
        token.set_sensitive(true);
        self.token = Some(token);
        Ok(self)
    }

    /// One message there, one back, within `patience`.
    pub(crate) async fn call<A: Message + Default>(
        &self,
        method: &'static str,
        ask: &impl Message,
        patience: Duration,
    ) -> Result<A, Fault> {
        let answer = timeout(patience, self.ask(method, ask)).await.map_err(|_| Fault::Late(patience))?;
        if self.token.is_some() && answer.as_ref().is_err_and(Fault::is_stale_token) {
            self.stale.notify_one();
        }
        answer
    }

    /// The same for as long as it takes.
    pub(super) async fn ask<A: Message + Default>(
        &self,
        method: &'static str,
        ask: &impl Message,
    ) -> Result<A, Fault> {
        let mut stream = self.begin(method).await?;
        stream.send.send_data(framed(ask)?, true)?;
        let mut messages = Messages::<A>::of(stream.answer.await?.into_parts())?;
        let first = messages.next().await?;
        let nothing = || Fault::Garbled(format!("{method}: no message in the answer"));
        let first = first.ok_or_else(nothing)?;
        // The status comes after the message.
        messages.next().await.map(|_| first)
    }

    /// A stream both ways. The first message goes with it: etcd says nothing before.
    pub(crate) async fn stream<A: Message + Default>(
        &self,
        method: &'static str,
        first: &impl Message,
        patience: Duration,
    ) -> Result<(Asks, Messages<A>), Fault> {
        let opened = async {
            let mut stream = self.begin(method).await?;
            stream.send.send_data(framed(first)?, false)?;
            let messages = Messages::of(stream.answer.await?.into_parts())?;
            Ok((Asks(stream.send), messages))
        };
        timeout(patience, opened).await.map_err(|_| Fault::Late(patience))?
    }

    async fn begin(&self, method: &'static str) -> Result<Begun, Fault> {
        let garbled = |e: http::Error| Fault::Garbled(e.to_string());
        let uri =
            Uri::builder().scheme(self.scheme).authority(self.authority.as_str()).path_and_query(method);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri.build().map_err(garbled)?)
            .header(header::TE, "trailers")
            .header(header::CONTENT_TYPE, "application/grpc")
            // A server that has lost its leader says so and ends the stream, instead of being silent.
            .header("hasleader", "true");
        if let Some(token) = &self.token {
            request = request.header("token", token);
        }
        let mut send = self.send.clone().ready().await?;
        let (answer, send) = send.send_request(request.body(()).map_err(garbled)?, false)?;
        Ok(Begun { answer, send })
    }
}

struct Begun {
    answer: h2::client::ResponseFuture,
    send: SendStream<Bytes>,
}

/// Our end of a stream. Few and small messages: what HTTP/2 does not take at once waits in it.
pub(crate) struct Asks(SendStream<Bytes>);

impl Asks {
    pub(crate) fn send(&mut self, message: &impl Message) -> Result<(), Fault> {
        Ok(self.0.send_data(framed(message)?, false)?)
    }
}

/// Messages as they come.
pub(crate) struct Messages<A> {
    body: RecvStream,
    waiting: BytesMut,
    ended: bool,
    message: PhantomData<fn() -> A>,
}

impl<A: Message + Default> Messages<A> {
    fn of((head, body): (http::response::Parts, RecvStream)) -> Result<Self, Fault> {
        if head.status != http::StatusCode::OK {
            return Err(Fault::Garbled(format!("HTTP status {}", head.status)));
        }
        // An answer without messages has its status right in the head.
        status(&head.headers).unwrap_or(Ok(()))?;
        Ok(Self { body, waiting: BytesMut::new(), ended: false, message: PhantomData })
    }

    /// The next message; `None` when the other side has ended well. Cancel-safe: what has come stays.
    pub(crate) async fn next(&mut self) -> Result<Option<A>, Fault> {
        loop {
            if let Some(frame) = self.frame()? {
                return A::decode(frame).map(Some).map_err(|e| Fault::Garbled(e.to_string()));
            }
            if self.ended {
                let trailers = self.body.trailers().await?;
                let missing = || Fault::Garbled("an answer without a status".to_owned());
                trailers.as_ref().and_then(status).unwrap_or_else(|| Err(missing()))?;
                return Ok(None);
            }
            match self.body.data().await {
                Some(data) => {
                    let data = data?;
                    self.body.flow_control().release_capacity(data.len())?;
                    self.waiting.extend_from_slice(&data);
                }
                None => self.ended = true,
            }
        }
    }

    fn frame(&mut self) -> Result<Option<Bytes>, Fault> {
        let Some((&[compressed, a, b, c, d], _)) = self.waiting.split_first_chunk::<5>() else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(Fault::Garbled("a compressed message nobody asked for".to_owned()));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MESSAGE_LIMIT {
            return Err(Fault::TooLong(length));
        }
        if self.waiting.len() < 5 + length {
            return Ok(None);
        }
        self.waiting.advance(5);
        Ok(Some(self.waiting.split_to(length).freeze()))
    }
}

fn framed(message: &impl Message) -> Result<Bytes, Fault> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).map_err(|_| Fault::TooLong(length))?);
    message.encode(&mut frame).map_err(|e| Fault::Garbled(e.to_string()))?;
    Ok(frame.freeze())
}

/// A call's status, if these headers hold it.
fn status(headers: &HeaderMap) -> Option<Result<(), Fault>> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok());
    Some(match code {
        Some(0) => Ok(()),
        code => {
            let message = headers.get("grpc-message").map_or(&b""[..], HeaderValue::as_bytes);
            let message = percent_encoding::percent_decode(message).decode_utf8_lossy().into_owned();
            // Two is "unknown", which a status that is no number is.
            Err(Fault::Status { code: code.unwrap_or(2), message })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        #[track_caller]
        fn check(headers: &[(&'static str, &'static str)], expect: &str) {
            let headers: HeaderMap =
                headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
            let got = status(&headers).map(|s| s.map_or_else(|e| e.to_string(), |()| "fine".to_owned()));
            assert_eq!(got.unwrap_or_else(|| "none".to_owned()), expect);
        }
        check(&[], "none");
        check(&[("grpc-status", "0")], "fine");
        check(
            &[("grpc-status", "14"), ("grpc-message", "etcdserver%3A no leader")],
            "etcdserver: no leader (grpc status 14)",
        );
        check(&[("grpc-status", "x")], " (grpc status 2)");
    }

    #[test]
    fn faults() {
        let status = |code, message: &str| Fault::Status { code, message: message.to_owned() };
        assert!(status(5, "etcdserver: requested lease not found").is_unknown_lease());
        assert!(!status(5, "etcdserver: key not found").is_unknown_lease());
        assert!(status(3, "etcdserver: request is too large").is_final());
        assert!(!status(14, "etcdserver: leader changed").is_final());
        assert!(status(14, "etcdserver: no leader").is_leaderless());
        assert!(!status(14, "etcdserver: leader changed").is_leaderless());
        for stale in [
            status(16, "etcdserver: invalid auth token"),
            status(3, "auth: revision in header is old"),
            status(3, "etcdserver: revision of auth store is old"),
        ] {
            assert!(stale.is_stale_token() && !stale.is_final(), "{stale}");
        }
        assert!(!Fault::Broken("reset".to_owned()).is_final());
    }
}
