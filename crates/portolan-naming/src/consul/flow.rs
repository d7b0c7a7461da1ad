//! One answer that does not end, taken line by line.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::line::{Trouble, chain};

/// The longest line taken, in bytes: an instance has at most some ten thousand.
const LINE_LIMIT: usize = 1024 * 1024;

/// See the module's head. Dropping it closes the connection.
pub(super) struct Flow {
    /// Who answers, for messages.
    server: String,
    body: Incoming,
    /// The connection, which does its work only while a line is waited for.
    work: Work,
    taken: BytesMut,
    /// How many bytes of `taken` have no end of line.
    searched: usize,
}

/// What a connection does; never ready once it has ended.
pub(super) type Work = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Flow {
    pub(super) fn new(server: String, body: Incoming, work: Work) -> Self {
        Self { server, body, work, taken: BytesMut::new(), searched: 0 }
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// None came within `limit`, or none will.
    pub(super) async fn line(&mut self, limit: Duration) -> Result<Bytes, Trouble> {
        loop {
            if let Some(length) = self.taken[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.taken.split_to(self.searched + length + 1).freeze();
                self.searched = 0;
                return Ok(line.slice(..line.len() - 1));
            }
            self.searched = self.taken.len();
            if self.searched > LINE_LIMIT {
                return Err(Trouble::Nonsense(format!("{}: a line without an end", self.server)));
            }
            let more = timeout(limit, self.more()).await;
            let more = more.unwrap_or_else(|_| Err(format!("nothing within {limit:?}")));
            let more = more.map_err(|why| Trouble::Unreachable(format!("{}: {why}", self.server)))?;
            self.taken.extend_from_slice(&more);
        }
    }

    async fn more(&mut self) -> Result<Bytes, String> {
        loop {
            let frame = match select(self.body.frame(), &mut self.work).await {
                Either::Left((frame, _)) => frame,
                // What it took before its end is still to be had.
                Either::Right((_, frame)) => {
                    self.work = Box::pin(pending());
                    frame.await
                }
            };
            match frame {
                None => return Err("the answer has ended".to_owned()),
                Some(Err(error)) => return Err(chain(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use hyper::client::conn::http1::handshake;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(6);

    /// An answer that begins, and what writes the rest of it.
    async fn begun() -> (Flow, DuplexStream) {
        let (client, mut server) = duplex(4 * LINE_LIMIT);
        let (mut sender, work) = handshake(TokioIo::new(client)).await.unwrap();
        let mut work: Work = Box::pin(work);
        let request = http::Request::get("/").header("host", "x").body(Empty::<Bytes>::new()).unwrap();
        let head = async {
            while server.read_u8().await.unwrap() != b'x' {}
            server.read_exact(&mut [0; 4]).await.unwrap();
            server.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        };
        let answer = std::pin::pin!(sender.send_request(request));
        let (answer, ()) = tokio::join!(select(answer, &mut work), head);
        let Either::Left((answer, _)) = answer else { panic!("it has ended") };
        (Flow::new("h:1".to_owned(), answer.unwrap().into_body(), work), server)
    }

    async fn send(server: &mut DuplexStream, piece: &str) {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        server.write_all(chunk.as_bytes()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn lines_come_whole_whatever_the_pieces() {
        let (mut flow, mut server) = begun().await;
        for piece in ["one\ntw", "o", "\n\nfour\nfi"] {
            send(&mut server, piece).await;
        }
        for expect in ["one", "two", "", "four"] {
            assert_eq!(flow.line(LIMIT).await.unwrap(), expect);
        }
        send(&mut server, "ve\n").await;
        server.write_all(b"0\r\n\r\n").await.unwrap();
        drop(server);
        assert_eq!(flow.line(LIMIT).await.unwrap(), "five");
        let end = Trouble::Unreachable("h:1: the answer has ended".to_owned());
        assert_eq!(flow.line(LIMIT).await, Err(end));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_a_break_and_a_line_without_an_end_are_troubles() {
        let (mut flow, mut server) = begun().await;
        send(&mut server, "half").await;
        let silence = Trouble::Unreachable("h:1: nothing within 6s".to_owned());
        assert_eq!(flow.line(LIMIT).await, Err(silence));
        drop(server);
        assert!(matches!(flow.line(LIMIT).await, Err(Trouble::Unreachable(why)) if !why.contains("within")));

        let (mut flow, mut server) = begun().await;
        send(&mut server, &"x".repeat(LINE_LIMIT + 1)).await;
        let endless = Trouble::Nonsense("h:1: a line without an end".to_owned());
        assert_eq!(flow.line(LIMIT).await, Err(endless));
    }
}
