//! A body of any length that costs no memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};

const CHUNK: &[u8] = &[b'.'; 64 << 10];

/// So many dots.
pub(super) struct Filler {
    left: u64,
}

impl Filler {
    pub(super) fn new(length: u64) -> Self {
        Self { left: length }
    }
}

impl HttpBody for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = CHUNK.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= length as u64;
        let chunk = Bytes::from_static(&CHUNK[..length]);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
