//! The few calls to a container engine that these tests make, over its own API: no client program is needed.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

/// How long the engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The engine that tests may use.
#[derive(Clone)]
pub(crate) struct Engine {
    uri: String,
}

/// A connection to it.
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// What a call carries.
pub(crate) enum Body<'a> {
    Nothing,
    Json(&'a Value),
    Tar(&'a [u8]),
}

impl Engine {
    pub(crate) fn of_tests() -> Self {
        let uri = std::env::var("PORTOLAN_TEST_DOCKER").unwrap_or_else(|_| {
            panic!(
                "PORTOLAN_TEST_DOCKER does not say where the test engine is: run `cargo xtask setup` and name what it \
                 prints, or run `cargo xtask test`"
            )
        });
        Self { uri }
    }

    /// The engine at `uri`.
    pub(crate) fn at(uri: String) -> Self {
        Self { uri }
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn connect(&self) -> io::Result<Stream> {
        match self.uri.split_once("://") {
            Some(("unix", path)) => UnixStream::connect(path).map(Stream::Unix),
            Some(("tcp" | "http", place)) => TcpStream::connect(place).map(Stream::Tcp),
            _ => panic!("PORTOLAN_TEST_DOCKER={}: neither unix:// nor tcp://", self.uri),
        }
    }

    /// A call that must succeed; what it answers, `Null` if nothing.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str, body: &Body<'_>) -> Value {
        match self.exchange(method, path, body) {
            Ok((200..300, said)) => last_line(&said),
            Ok((status, said)) => panic!("{method} {path}: {status} {said}"),
            Err(error) => panic!("{method} {path} at {}: {error}", self.uri),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.call("GET", path, &Body::Nothing)
    }

    pub(crate) fn post(&self, path: &str) {
        self.call("POST", path, &Body::Nothing);
    }

    /// Status and body of an answer. HTTP/1.0, so that it ends with the connection.
    pub(crate) fn exchange(&self, method: &str, path: &str, body: &Body<'_>) -> io::Result<(u16, String)> {
        let (kind, bytes) = match body {
            Body::Nothing => ("text/plain", Vec::new()),
            Body::Json(value) => ("application/json", value.to_string().into_bytes()),
            Body::Tar(bytes) => ("application/x-tar", bytes.to_vec()),
        };
        let length = bytes.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: engine\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut stream = self.connect()?;
        stream.set_read_timeout(PATIENCE)?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(&bytes)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, said) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, said.to_owned()))
    }
}

/// A call that takes long tells of its progress, line by line.
fn last_line(said: &str) -> Value {
    let line = said.lines().rfind(|line| !line.trim().is_empty());
    line.map_or(Value::Null, |line| serde_json::from_str(line).unwrap_or_default())
}

impl Stream {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
        }
    }

    pub(crate) fn shutdown(&self) {
        // It may be closed already.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(std::net::Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Both),
        };
    }

    fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(Some(limit)),
            Self::Tcp(stream) => stream.set_read_timeout(Some(limit)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
