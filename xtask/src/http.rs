//! A tiny HTTP/1.1 client on std: enough for a container engine's socket and for Portolan's own faces.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// The longest head of an answer, in bytes.
const HEAD_LIMIT: u64 = 64 * 1024;
/// The longest body read whole, in bytes.
const BODY_LIMIT: u64 = 64 * 1024 * 1024;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Address {
    /// Reads the form of `DOCKER_HOST`.
    pub(crate) fn parse(uri: &str) -> Option<Self> {
        if let Some(path) = uri.strip_prefix("unix://") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        let place = uri.strip_prefix("tcp://").or_else(|| uri.strip_prefix("http://"))?;
        place.trim_end_matches('/').parse().ok().map(Self::Tcp)
    }
}

/// One answer, read whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One kept-alive connection.
pub(crate) struct Client {
    stream: BufReader<Stream>,
}

impl Client {
    /// Connects; every later read or write that takes longer than `limit` is an error.
    pub(crate) fn connect(address: &Address, limit: Duration) -> io::Result<Self> {
        let stream = match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                Stream::Unix(stream)
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, limit)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                Stream::Tcp(stream)
            }
        };
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one request and reads its answer whole.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &Payload<'_>) -> io::Result<Answer> {
        self.write(method, path, body)?;
        let head = read_head(&mut self.stream)?;
        let mut body = Vec::new();
        match head.framing {
            Framing::Length(length) if length > BODY_LIMIT => return Err(malformed("body too long")),
            Framing::Length(length) => {
                body.resize(usize::try_from(length).map_err(|_| malformed("body too long"))?, 0);
                self.stream.read_exact(&mut body)?;
            }
            Framing::Chunked => {
                Chunks { stream: &mut self.stream, left: 0, ended: false }
                    .take(BODY_LIMIT)
                    .read_to_end(&mut body)?;
            }
            Framing::UntilClose => {
                (&mut self.stream).take(BODY_LIMIT).read_to_end(&mut body)?;
            }
        }
        Ok(Answer { status: head.status, body })
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, &Payload::None)
    }

    /// Sends one request whose answer never ends, and gives its lines as they come.
    pub(crate) fn follow(mut self, path: &str) -> io::Result<impl Iterator<Item = io::Result<String>>> {
        self.write("GET", path, &Payload::None)?;
        let head = read_head(&mut self.stream)?;
        match (head.status, head.framing) {
            (200, Framing::Chunked) => {
                Ok(BufReader::new(Chunks { stream: self.stream, left: 0, ended: false }).lines())
            }
            (status, _) => Err(io::Error::other(format!("GET {path}: {status}"))),
        }
    }

    fn write(&mut self, method: &str, path: &str, body: &Payload<'_>) -> io::Result<()> {
        let (kind, bytes) = match body {
            Payload::None => ("", &[][..]),
            Payload::Json(text) => ("Content-Type: application/json\r\n", text.as_bytes()),
            Payload::Tar(bytes) => ("Content-Type: application/x-tar\r\n", *bytes),
        };
        let length = bytes.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: xtask\r\n{kind}Content-Length: {length}\r\n\r\n");
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(bytes)?;
        stream.flush()
    }
}

/// What goes with a request.
pub(crate) enum Payload<'a> {
    None,
    Json(&'a str),
    Tar(&'a [u8]),
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
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
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(buffer),
            Self::Tcp(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.flush(),
            Self::Tcp(stream) => stream.flush(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    framing: Framing,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

fn read_head(stream: &mut impl BufRead) -> io::Result<Head> {
    let mut limited = stream.take(HEAD_LIMIT);
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        match limited.read_line(line)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(()),
        }
    };
    next(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.trim().parse().ok());
    let status = status.ok_or_else(|| malformed("status line"))?;
    let mut framing = if matches!(status, 204 | 304) { Framing::Length(0) } else { Framing::UntilClose };
    loop {
        next(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            return if line.trim().is_empty() {
                Ok(Head { status, framing })
            } else {
                Err(malformed("header"))
            };
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.parse().map_err(|_| malformed("content-length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunked;
        }
    }
}

/// The content of a chunked body.
struct Chunks<S> {
    stream: S,
    left: u64,
    ended: bool,
}

impl<S: BufRead> Read for Chunks<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut line = String::new();
            (&mut self.stream).take(HEAD_LIMIT).read_line(&mut line)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = u64::from_str_radix(size, 16).map_err(|_| malformed("chunk size"))?;
            if self.left == 0 {
                self.ended = true;
                skip_line(&mut self.stream)?;
            }
        }
        if self.ended {
            return Ok(0);
        }
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.stream.read(&mut buffer[..wanted])?;
        if got == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        if self.left == 0 {
            skip_line(&mut self.stream)?;
        }
        Ok(got)
    }
}

fn skip_line(stream: &mut impl BufRead) -> io::Result<()> {
    stream.take(HEAD_LIMIT).read_line(&mut String::new()).map(|_| ())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        #[track_caller]
        fn check(uri: &str, expect: &str) {
            let got = match Address::parse(uri) {
                Some(Address::Unix(path)) => format!("socket {}", path.display()),
                Some(Address::Tcp(address)) => format!("tcp {address}"),
                None => "none".to_owned(),
            };
            assert_eq!(got, expect);
        }
        check("unix:///var/run/docker.sock", "socket /var/run/docker.sock");
        check("tcp://127.0.0.1:2375", "tcp 127.0.0.1:2375");
        check("http://127.0.0.1:2375/", "tcp 127.0.0.1:2375");
        check("unix://docker.sock", "none");
        check("ssh://host", "none");
    }

    #[test]
    fn heads() {
        #[track_caller]
        fn check(text: &str, expect: Option<(u16, Framing)>) {
            let got = read_head(&mut text.as_bytes()).ok();
            assert_eq!(got, expect.map(|(status, framing)| Head { status, framing }));
        }
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Some((200, Framing::Length(5))));
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", Some((200, Framing::Chunked)));
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, Framing::Length(0))));
        check("HTTP/1.1 500\r\n\r\n", Some((500, Framing::UntilClose)));
        check("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\nX: y\r\n", None);
        check("rubbish\r\n\r\n", None);
        check("", None);
    }

    #[test]
    fn chunks() {
        #[track_caller]
        fn check(text: &str, expect: Option<&str>) {
            let mut body = String::new();
            let read = Chunks { stream: text.as_bytes(), left: 0, ended: false }.read_to_string(&mut body);
            assert_eq!(read.is_ok().then_some(body.as_str()), expect);
        }
        check("3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", Some("abc0123456789"));
        check("0\r\n\r\n", Some(""));
        check("5\r\nabc", None);
        check("x\r\n", None);
    }
}
