//! The one body type of the gateway: whatever carries bytes, from whichever codec.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::listen::InUse;
use crate::upstream::Lease;

/// Bytes on their way through. Nothing is buffered: a frame is read when the other side has room for it.
#[derive(Default)]
pub(crate) struct Body {
    kind: Kind,
    /// Told when an answer's body is through.
    _in_use: Option<InUse>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    /// An answer of the gateway itself.
    Whole(Bytes),
    /// A client's body, and how far it is.
    Client(Incoming, Rc<Cell<Passage>>),
    /// An instance's body; its connection goes back to the pool once it is through.
    Instance(Incoming, Option<Lease>),
}

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// Tells how far a request's body is.
#[derive(Clone, Default)]
pub(crate) struct Sent(Option<Rc<Cell<Passage>>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Passage {
    #[default]
    Passing,
    /// The client has yet to send the next piece.
    Awaited,
    Through,
    /// The client left, or sent what is no body.
    Broken,
}

impl Sent {
    /// Whether all of it is through: only then may its connection carry another request.
    pub(crate) fn is_through(&self) -> bool {
        self.0.as_ref().is_none_or(|passage| passage.get() == Passage::Through)
    }

    /// Whether it waits for the client, and not for the instance to take more.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.as_ref().is_some_and(|passage| passage.get() == Passage::Awaited)
    }

    /// Whether it broke off, which is the client's doing and not the instance's.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|passage| passage.get() == Passage::Broken)
    }
}

impl Body {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Whole(bytes.into()), _in_use: None }
    }

    pub(crate) fn from_client(incoming: Incoming) -> Self {
        let kind = if incoming.is_end_stream() { Kind::Empty } else { Kind::Client(incoming, Rc::default()) };
        Self { kind, _in_use: None }
    }

    /// `lease` is the connection it comes on.
    pub(crate) fn from_instance(incoming: Incoming, lease: Lease) -> Self {
        if incoming.is_end_stream() {
            lease.give_back();
            return Self::default();
        }
        Self { kind: Kind::Instance(incoming, Some(lease)), _in_use: None }
    }

    /// Keeps `in_use` until the body is through or dropped.
    pub(crate) fn holding(self, in_use: InUse) -> Self {
        Self { _in_use: Some(in_use), ..self }
    }

    /// Follows the body while a codec consumes it.
    pub(crate) fn sent(&self) -> Sent {
        match &self.kind {
            Kind::Client(_, passage) => Sent(Some(Rc::clone(passage))),
            Kind::Empty | Kind::Whole(_) | Kind::Instance(..) => Sent(None),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok::<_, Infallible>(Frame::data(bytes)).map_err(Into::into)))
            }
            Kind::Client(incoming, passage) => {
                let polled = Pin::new(&mut *incoming).poll_frame(cx);
                passage.set(match &polled {
                    Poll::Pending => Passage::Awaited,
                    Poll::Ready(Some(Err(_))) => Passage::Broken,
                    Poll::Ready(Some(Ok(_))) if !incoming.is_end_stream() => Passage::Passing,
                    Poll::Ready(_) => Passage::Through,
                });
                let frame = ready!(polled);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Kind::Instance(incoming, lease) => {
                let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
                let broken = matches!(frame, Some(Err(_)));
                if !broken
                    && (frame.is_none() || incoming.is_end_stream())
                    && let Some(lease) = lease.take()
                {
                    lease.give_back();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Client(incoming, _) | Kind::Instance(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Client(incoming, _) | Kind::Instance(incoming, _) => incoming.size_hint(),
        }
    }
}
