//! Instances that behave, and instances that do not: faults that no honest server can be made to produce.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::wire::{Message, Reader};

/// How an instance answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// 200 with this body, on a kept-alive connection.
    Answer(&'static str),
    /// 200 with the request, as received, for a body.
    Echo,
    /// Answers so many requests of a connection like [`Behaviour::Answer`]; reads the next and closes without a byte.
    CloseAfter(usize, &'static str),
    /// Reads requests and never answers.
    Silent,
    /// Reads a request, writes these bytes, closes.
    Raw(&'static str),
    /// Grants every upgrade and then sends back what it receives.
    Tunnel,
    /// 200 with so many bytes, streamed, after reading the whole request body.
    Stream(u64),
}

/// A running instance. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Message>>,
    changed: Notify,
}

impl Upstream {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let listening = tokio::spawn(listen(listener, behaviour, Arc::clone(&state)));
        Ok(Self { address, state, listening })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The requests it has read the head of.
    pub fn requests(&self) -> Vec<Message> {
        self.state.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `condition` holds; it is looked at after every accepted, ended connection and every request.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.state.changed.notified();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, behaviour: Behaviour, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new(); // aborted with this task
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        state.open.fetch_add(1, Ordering::SeqCst);
        state.changed.notify_waiters();
        let (behaviour, state) = (behaviour.clone(), Arc::clone(&state));
        connections.spawn(async move {
            // However the connection ends: the test looks at what was counted.
            let _ = converse(stream, &behaviour, &state).await;
            state.open.fetch_sub(1, Ordering::SeqCst);
            state.changed.notify_waiters();
        });
    }
}

async fn converse(stream: TcpStream, behaviour: &Behaviour, state: &State) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    for count in 0.. {
        let streams = matches!(behaviour, Behaviour::Stream(_));
        let request = if streams { reader.head().await? } else { reader.message(true).await? };
        let Some(request) = request else { return Ok(()) };
        state.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        state.changed.notify_waiters();
        match behaviour {
            Behaviour::Answer(text) => answer(&mut writer, text.as_bytes()).await?,
            Behaviour::Echo => answer(&mut writer, &echo(&request)).await?,
            Behaviour::CloseAfter(limit, _) if count >= *limit => return Ok(()),
            Behaviour::CloseAfter(_, text) => answer(&mut writer, text.as_bytes()).await?,
            Behaviour::Silent => {
                // Until the client gives up.
                reader.skip(u64::MAX).await?;
                return Ok(());
            }
            Behaviour::Raw(bytes) => {
                writer.write_all(bytes.as_bytes()).await?;
                return Ok(());
            }
            Behaviour::Tunnel => {
                let grant =
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                writer.write_all(grant.as_bytes()).await?;
                loop {
                    let bytes = reader.exactly(1).await?;
                    writer.write_all(&bytes).await?;
                }
            }
            Behaviour::Stream(size) => {
                let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
                reader.skip(length).await?;
                stream_body(&mut writer, *size).await?;
            }
        }
    }
    Ok(())
}

async fn answer(writer: &mut (impl AsyncWriteExt + Unpin), body: &[u8]) -> io::Result<()> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    writer.write_all(&bytes).await
}

async fn stream_body(writer: &mut (impl AsyncWriteExt + Unpin), size: u64) -> io::Result<()> {
    writer.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").as_bytes()).await?;
    let block = vec![b'x'; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let now = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        writer.write_all(&block[..now]).await?;
        left -= now as u64;
    }
    Ok(())
}

fn echo(request: &Message) -> Vec<u8> {
    let mut text = request.start.clone() + "\n";
    for (name, value) in &request.headers {
        text += &format!("{name}: {value}\n");
    }
    text += "\n";
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&request.body);
    bytes
}
