//! Requests one after the other, each noted with its time and who answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::{Address, Answer, Client};
use crate::process::Outcome;

/// Between two requests of one connection.
const PAUSE: Duration = Duration::from_micros(200);
/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Nanoseconds since 1970: the clock that container engines stamp events with.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// One kept-alive connection that asks the same again and again.
pub(super) struct Asker {
    address: Address,
    path: String,
    client: Option<Client>,
}

impl Asker {
    pub(super) fn new(at: SocketAddr, path: &str) -> Self {
        Self { address: Address::Tcp(at), path: path.to_owned(), client: None }
    }

    /// Asks once. After a failure the next question goes over a new connection.
    pub(super) fn ask(&mut self) -> std::io::Result<Answer> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.address, LIMIT)?,
        };
        let answer = client.get(&self.path)?;
        self.client = Some(client);
        Ok(answer)
    }

    /// Asks until `wanted` likes an answer, and returns when that answer was there.
    pub(super) fn until(&mut self, what: &str, wanted: impl Fn(&Answer) -> bool) -> Outcome<u64> {
        let deadline = now() + 20_000_000_000;
        loop {
            let answer = self.ask();
            let at = now();
            if answer.as_ref().is_ok_and(&wanted) {
                return Ok(at);
            }
            if at > deadline {
                let last = answer.map(|answer| format!("{} {}", answer.status, answer.text().trim_end()));
                return Err(format!("{what}: not within 20 s; last: {last:?}"));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// One request of a stream.
pub(super) struct Sent {
    /// When it was sent.
    pub(super) at: u64,
    /// The body of a 200, or what went wrong.
    pub(super) answer: Result<String, String>,
}

/// Requests over several connections, until [`Stream::finish`].
pub(super) struct Stream {
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Vec<Sent>>>,
}

impl Stream {
    pub(super) fn start(at: SocketAddr, path: &str, connections: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sender = |_| {
            let (stop, mut asker) = (Arc::clone(&stop), Asker::new(at, path));
            std::thread::spawn(move || {
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let at = now();
                    let answer = match asker.ask() {
                        Ok(answer) if answer.status == 200 => Ok(answer.text()),
                        Ok(answer) => Err(format!("{} {}", answer.status, answer.text().trim_end())),
                        Err(error) => Err(error.to_string()),
                    };
                    sent.push(Sent { at, answer });
                    std::thread::sleep(PAUSE);
                }
                sent
            })
        };
        let senders = (0..connections).map(sender).collect();
        Self { stop, senders }
    }

    /// Stops and returns all that was sent.
    pub(super) fn finish(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.senders.into_iter().flat_map(|sender| sender.join().unwrap_or_default()).collect()
    }
}
