//! A TCP stream that counts its bytes. What was written and read since a request began decides, without guessing from
//! error texts, whether an instance can have seen the request or begun to answer it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes moved so far. Only one thread touches it; atomics because the HTTP codec wants `Send` streams.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
    doubted: AtomicBool,
}

impl Traffic {
    /// Has the next read that finds nothing ask the kernel whether the other side has closed. The runtime learns that
    /// only when it next waits for events, which on a busy core is milliseconds later.
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct CountedStream {
    stream: TcpStream,
    traffic: Arc<Traffic>,
}

impl CountedStream {
    pub(crate) fn new(stream: TcpStream) -> (Self, Arc<Traffic>) {
        let traffic = Arc::<Traffic>::default();
        (Self { stream, traffic: Arc::clone(&traffic) }, traffic)
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = (buffer.filled().len() - before) as u64;
        if count > 0 {
            // A plain store: there is one writer, and a locked add would cost ten times as much.
            self.traffic.read.store(self.traffic.read() + count, Ordering::Relaxed);
        }
        if polled.is_pending() && self.traffic.doubted.load(Ordering::Relaxed) {
            self.traffic.doubted.store(false, Ordering::Relaxed);
            return self.look();
        }
        polled
    }
}

impl CountedStream {
    /// Ready when the other side has closed, else pending: whatever else has arrived will be noticed in time.
    fn look(&self) -> Poll<io::Result<()>> {
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Poll::Ready(Ok(())),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
            Ok(_) | Err(_) => Poll::Pending,
        }
    }

    fn count_written(&self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = polled {
            self.traffic.written.store(self.traffic.written() + *count as u64, Ordering::Relaxed);
        }
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count_written(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.count_written(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::task::Waker;

    #[tokio::test]
    async fn who_doubts_learns_of_an_end_before_the_runtime_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut near, traffic) = CountedStream::new(near);
        let far = listener.accept().unwrap().0;
        let mut read = || {
            let mut bytes = [0; 8];
            let mut buffer = ReadBuf::new(&mut bytes);
            Pin::new(&mut near).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer).is_ready()
        };
        assert!(!read());
        traffic.doubt();
        assert!(!read(), "it has not ended");
        drop(far);
        // Nothing here waits, so the runtime hears of nothing.
        assert!(!read());
        while !read() {
            traffic.doubt();
        }
    }
}
