//! HTTP/1.1 as bytes on a wire: enough to read one message, written out so that tests do not trust the codec they test.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpStream, ToSocketAddrs};

/// One message as read: start line, header fields in order (names in lower case), body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

impl Message {
    /// The first value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The status code of an answer; zero for a request.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads messages from one side of a connection.
#[derive(Debug)]
pub struct Reader<R>(BufReader<R>);

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self(BufReader::new(inner))
    }

    /// A head without its body; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the stream breaks inside the head.
    pub async fn head(&mut self) -> io::Result<Option<Message>> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            match self.0.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && bytes.is_empty() => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let headers = fields.map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
        Ok(Some(Message { start, headers, body: Vec::new() }))
    }

    /// A whole message. `has_body` is false for answers to HEAD and the like.
    ///
    /// # Errors
    /// When the stream breaks inside it.
    pub async fn message(&mut self, has_body: bool) -> io::Result<Option<Message>> {
        let Some(mut message) = self.head().await? else { return Ok(None) };
        if has_body {
            message.body = self.body(&message).await?;
        }
        Ok(Some(message))
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When the stream ends before.
    pub async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Reads and forgets up to `count` bytes; how many there were.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn skip(&mut self, count: u64) -> io::Result<u64> {
        tokio::io::copy(&mut (&mut self.0).take(count), &mut tokio::io::sink()).await
    }

    async fn body(&mut self, head: &Message) -> io::Result<Vec<u8>> {
        if head.header("transfer-encoding").is_some_and(|te| te.eq_ignore_ascii_case("chunked")) {
            return self.chunks().await;
        }
        match head.header("content-length").map(|length| length.parse::<usize>()) {
            Some(length) => self.exactly(length.map_err(io::Error::other)?).await,
            // An answer without a length ends with the connection; a request without one has no body.
            None if head.start.starts_with("HTTP/") => {
                let mut bytes = Vec::new();
                self.0.read_to_end(&mut bytes).await.map(|_| bytes)
            }
            None => Ok(Vec::new()),
        }
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                size.push(self.0.read_u8().await?);
            }
            let size = String::from_utf8_lossy(&size);
            let size = usize::from_str_radix(size.trim().split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(io::Error::other)?;
            body.extend(self.exactly(size).await?);
            self.exactly(2).await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

/// A client that writes what it is given and reads answers.
#[derive(Debug)]
pub struct Client {
    /// What comes back.
    pub reader: Reader<OwnedReadHalf>,
    /// What goes out.
    pub writer: OwnedWriteHalf,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When there is nobody.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let (reader, writer) = TcpStream::connect(address).await?.into_split();
        Ok(Self { reader: Reader::new(reader), writer })
    }

    /// Writes `request` as it is and reads one answer.
    ///
    /// # Errors
    /// When the connection breaks, or ends without an answer.
    pub async fn ask(&mut self, request: &str) -> io::Result<Message> {
        use tokio::io::AsyncWriteExt;
        self.writer.write_all(request.as_bytes()).await?;
        let has_body = !request.starts_with("HEAD ");
        self.reader.message(has_body).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// `GET path` with extra header lines, e.g. `"accept: text/plain\r\n"`.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn get(&mut self, path: &str, headers: &str) -> io::Result<Message> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: gw\r\n{headers}\r\n")).await
    }
}
