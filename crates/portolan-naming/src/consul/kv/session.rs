//! One server's time: everything as it is, then whatever happens: news, answers, orders, time.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt, stream};
use runtime::{Reporter, Shutdown, State as Standing};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::super::cursor::{Cursor, Moved, answer_limit, long_wait, pause};
use super::super::line::{Ask, Line, Lines, Server, Trouble};
use super::super::wanted::encoded;
use super::config::Config;
use super::form::{self, Entry};
use crate::leased::{Call, Failed, KeyValue, LeaseId, Order, State, Transaction, Write};

/// How long an answer may take that waits for nothing.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long a call may take before it is made again; a write then compares with what it finds.
const SOON: Duration = Duration::from_secs(2);
/// How often, and how long, to ask whether the server lives and who leads.
const PROBE: Duration = Duration::from_millis(500);
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(3);
/// How many keys there may be in all.
const KEYS_LIMIT: usize = 1 << 20;

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// As asked.
    Shutdown,
    /// The server is of no use (any more).
    Lost(String),
}

/// What outlives a server's time.
pub(super) struct Desk<'a> {
    pub(super) config: &'a Config,
    pub(super) state: &'a mut State,
    pub(super) orders: &'a mut mpsc::Receiver<Order>,
    pub(super) reporter: &'a Reporter,
    pub(super) shutdown: &'a Shutdown,
    /// The moment that `now` counts from.
    pub(super) since: Instant,
    pub(super) server: Arc<Server>,
}

enum Answer {
    Written(u64, Result<(bool, i64), Failed>),
    Granted(Result<LeaseId, Failed>),
    Asked(LeaseId, Result<bool, Failed>),
    Renewed(LeaseId, Result<bool, Failed>),
}

type Calls = FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>;

/// What a follower tells.
enum Told {
    /// All keys as they are at an index.
    Read(i64, Vec<KeyValue>),
    /// The index went back: the store may have lost its memory.
    Back,
}

enum Stop {
    Shutdown,
    Reread,
}

impl Desk<'_> {
    /// Uses the server until it is lost, or shutdown.
    pub(super) async fn sit(&mut self) -> Ended {
        match self.work().await {
            Ok(()) => Ended::Shutdown,
            Err(why) => Ended::Lost(why),
        }
    }

    async fn work(&mut self) -> Result<(), String> {
        let lines = Lines::new(Arc::clone(&self.server));
        self.stay(&lines).await?;
        self.end_session(&lines).await;
        Ok(())
    }

    /// Until shutdown.
    async fn stay(&mut self, lines: &Lines) -> Result<(), String> {
        let mut calls = Calls::new();
        let mut renewal = Renewal::new(self.config.ttl);
        let mut lost = pin!(probe(Arc::clone(&self.server)));
        loop {
            let mut news = pin!(follow(Arc::clone(&self.server), path(self.config.layout.prefix())));
            let first = tokio::select! {
                first = news.next() => first.ok_or("nothing is told any more")??,
                why = &mut lost => return Err(why),
                () = self.shutdown.triggered() => return Ok(()),
            };
            let Told::Read(index, found) = first else { continue };
            self.state.reset(index, found, self.since.elapsed());
            let stop = tokio::select! {
                stop = self.follow(lines, news, &mut renewal, &mut calls) => stop?,
                why = &mut lost => return Err(why),
            };
            match stop {
                Stop::Shutdown => return Ok(()),
                Stop::Reread => tracing::warn!("the index of the store went back; reading everything again"),
            }
        }
    }

    async fn follow(
        &mut self,
        lines: &Lines,
        mut news: Pin<&mut impl Stream<Item = Result<Told, String>>>,
        renewal: &mut Renewal,
        calls: &mut Calls,
    ) -> Result<Stop, String> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = None;
        loop {
            let now = self.since.elapsed();
            if let Some(session) = renewal.due(self.state.lease())? {
                calls.push(renewed(lines.clone(), session));
            }
            for call in self.state.calls(now) {
                calls.push(self.make(lines.clone(), call));
            }
            if leaving.is_some() && self.state.is_idle() {
                return Ok(Stop::Shutdown);
            }
            tokio::select! {
                Some(answer) = calls.next() => self.answered(answer, renewal)?,
                told = news.next() => match told.ok_or("nothing is told any more")?? {
                    Told::Read(index, found) => self.state.reread(index, found, self.since.elapsed()),
                    Told::Back => return Ok(Stop::Reread),
                },
                Some(order) = self.orders.recv(), if leaving.is_none() && self.state.has_room() => {
                    self.state.order(order);
                }
                _ = ticks.tick() => {
                    self.state.tick(self.since.elapsed());
                    self.report();
                }
                () = self.shutdown.triggered(), if leaving.is_none() => {
                    leaving = Some(Instant::now() + FAREWELL);
                    self.state.leave();
                }
                Some(()) = OptionFuture::from(leaving.map(sleep_until)) => {
                    tracing::warn!("not everything could be deregistered in time; the end of the session does it");
                    return Ok(Stop::Shutdown);
                }
            }
        }
    }

    fn answered(&mut self, answer: Answer, renewal: &mut Renewal) -> Result<(), String> {
        let now = self.since.elapsed();
        match answer {
            Answer::Written(number, answer) => {
                return self.state.written(number, answer, now).map_err(|broken| broken.to_string());
            }
            Answer::Granted(Ok(session)) => {
                tracing::debug!(session = form::session(session), "session created");
                self.state.granted(session, now);
            }
            // One that was created all the same ends by itself.
            Answer::Granted(Err(Failed::Late)) => self.state.not_granted(),
            // Another server would refuse it too.
            Answer::Granted(Err(Failed::Refused(why))) => self.state.lease_refused(&why, now),
            Answer::Asked(session, Ok(alive)) => self.state.asked(session, alive, now),
            Answer::Asked(session, Err(Failed::Late)) => self.state.not_told(session),
            Answer::Renewed(session, Ok(alive)) => {
                renewal.answered();
                self.state.kept_alive(session, alive, now);
            }
            Answer::Renewed(_, Err(Failed::Late)) => {}
            Answer::Granted(Err(why)) | Answer::Asked(_, Err(why)) | Answer::Renewed(_, Err(why)) => {
                return Err(why.to_string());
            }
        }
        Ok(())
    }

    fn make(&self, lines: Lines, call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let (ttl, path) = (self.config.ttl, path(self.config.layout.prefix()));
        Box::pin(async move {
            match call {
                Call::Write(number, txn) => {
                    let written = timeout(SOON, written(&lines, &txn, &path)).await;
                    Answer::Written(number, written.unwrap_or(Err(Failed::Late)))
                }
                Call::Grant => Answer::Granted(soon(granted(&lines, ttl)).await),
                Call::Ask(session) => Answer::Asked(session, soon(is_alive(&lines, session)).await),
            }
        })
    }

    /// Whatever still hangs on it goes with it.
    async fn end_session(&self, lines: &Lines) {
        if let Some(session) = self.state.lease() {
            let ask = Ask::put(format!("/v1/session/destroy/{}", form::session(session)), Bytes::new());
            // It would end by itself.
            let _ended = lines.ask(&ask, PROBE_LIMIT).await;
        }
    }

    fn report(&self) {
        let (server, held, doubted) = (&self.server, self.state.held(), self.state.doubted());
        if doubted > 0 {
            let detail = format!("{server}: {doubted} instances are kept although their sessions ended");
            self.reporter.say(Standing::Degraded, detail);
        } else {
            self.reporter.say(Standing::Running, format!("{server}: {held} instances registered here"));
        }
    }
}

/// The path of all keys below a prefix.
fn path(prefix: &[u8]) -> String {
    let prefix = String::from_utf8_lossy(prefix);
    let segments: Vec<_> = prefix.split('/').map(encoded).collect();
    format!("/v1/kv/{}", segments.join("/"))
}

/// Reads all keys, again and again, whenever something has happened to one.
fn follow(server: Arc<Server>, path: String) -> impl Stream<Item = Result<Told, String>> + Send {
    let begun = (Line::new(server), Cursor::default(), Duration::ZERO);
    stream::unfold(begun, move |(mut line, mut cursor, mut wait)| {
        let path = path.clone();
        async move {
            loop {
                sleep(wait).await;
                let long = long_wait(fastrand::f64());
                let (query, limit) = match cursor.is_somewhere() {
                    true => (format!("&{}", cursor.waiting(long)), answer_limit(long)),
                    false => (String::new(), READ_LIMIT),
                };
                // `consistent`: a new leader answers otherwise while it has not applied all that its log holds, and keys
                // that it has not come to yet would count as deleted. 404: there is no such key.
                let ask = Ask::get(format!("{path}?recurse&consistent{query}")).or(&[404]);
                let answer = match line.ask(&ask, limit).await {
                    Ok(answer) => answer,
                    Err(trouble) => return Some((Err(trouble.to_string()), (line, cursor, wait))),
                };
                let moved = cursor.advance(answer.index);
                wait = pause(moved, answer.body.len());
                let told = match moved {
                    Moved::Nowhere => continue,
                    Moved::Back => Ok(Told::Back),
                    Moved::On | Moved::Blind => {
                        let index = i64::try_from(answer.index.unwrap_or_default()).unwrap_or(i64::MAX);
                        keys(&answer.body).map(|found| Told::Read(index, found))
                    }
                };
                return Some((told.map_err(|trouble| trouble.to_string()), (line, cursor, wait)));
            }
        }
    })
}

fn keys(body: &Bytes) -> Result<Vec<KeyValue>, Trouble> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let nonsense = |why: String| Trouble::Nonsense(why);
    let entries: Vec<Entry> = serde_json::from_slice(body).map_err(|error| nonsense(error.to_string()))?;
    if entries.len() > KEYS_LIMIT {
        return Err(nonsense(format!("{} keys are too many", entries.len())));
    }
    Ok(entries.into_iter().filter_map(Entry::key_value).collect())
}

/// Resolves when the server does not live, or knows no leader, or follows another one: a query that waits at a server
/// whose leader has changed may wait for an answer that never comes.
async fn probe(server: Arc<Server>) -> String {
    let mut line = Line::new(server);
    let mut known = None;
    loop {
        let leader: String = match line.ask(&Ask::get("/v1/status/leader"), PROBE_LIMIT).await {
            Ok(answer) => answer.json().unwrap_or_default(),
            Err(trouble) => return trouble.to_string(),
        };
        if leader.is_empty() {
            return "the cluster has no leader".to_owned();
        }
        if *known.get_or_insert_with(|| leader.clone()) != leader {
            return format!("the leader is {leader} now");
        }
        sleep(PROBE).await;
    }
}

async fn soon<T>(asked: impl Future<Output = Result<T, Trouble>>) -> Result<T, Failed> {
    timeout(SOON, asked).await.map_err(|_| Failed::Late)?.map_err(|trouble| form::failed(&trouble))
}

async fn written(lines: &Lines, txn: &Transaction, path: &str) -> Result<(bool, i64), Failed> {
    let ask = Ask::put("/v1/txn", form::body(txn).to_string()).or(&[409]);
    // On a line of its own, which is not renewed: the first request may have been done, and a second would find its own
    // change in the way.
    let mut line = Line::new(Arc::clone(lines.server()));
    let answer = line.ask(&ask, READ_LIMIT).await.map_err(|trouble| form::failed(&trouble))?;
    let (held, index) = form::verdict(answer.status, &answer.body)?;
    if !held || txn.writes.iter().any(|write| matches!(write, Write::Put { .. })) {
        return Ok((held, index));
    }
    // Of what it has deleted it tells no index.
    let ask = Ask::get(format!("{path}?keys&separator=/&consistent")).or(&[404]);
    let index = lines.ask(&ask, READ_LIMIT).await.ok().and_then(|answer| answer.index).unwrap_or_default();
    Ok((true, i64::try_from(index).unwrap_or_default()))
}

async fn granted(lines: &Lines, ttl: Duration) -> Result<LeaseId, Trouble> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(rename = "ID")]
        id: String,
    }
    // No check of a node: the session lives by being renewed, at whichever agent. `Checks` is how Consul before 1.7 calls
    // them. Whoever was late must be able to write again at once.
    let body = json!({
        "Name": "portolan", "TTL": format!("{}s", ttl.as_secs()), "Behavior": "delete", "LockDelay": "0s",
        "Checks": [], "NodeChecks": [],
    });
    let created: Created =
        lines.ask(&Ask::put("/v1/session/create", body.to_string()), READ_LIMIT).await?.json()?;
    Ok(form::lease(&created.id))
}

async fn is_alive(lines: &Lines, session: LeaseId) -> Result<bool, Trouble> {
    let ask = Ask::get(format!("/v1/session/info/{}?consistent", form::session(session)));
    let found: Option<Vec<serde::de::IgnoredAny>> = lines.ask(&ask, READ_LIMIT).await?.json()?;
    Ok(found.is_some_and(|found| !found.is_empty()))
}

fn renewed(lines: Lines, session: LeaseId) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    Box::pin(async move {
        let ask = Ask::put(format!("/v1/session/renew/{}", form::session(session)), Bytes::new()).or(&[404]);
        let answer = soon(lines.ask(&ask, READ_LIMIT)).await;
        Answer::Renewed(session, answer.map(|answer| answer.status == 200))
    })
}

/// When a session is to be renewed, and whether that is answered at all.
struct Renewal {
    ttl: Duration,
    /// The session, and when its renewal was asked for and answered last.
    of: Option<(LeaseId, Instant, Instant)>,
}

impl Renewal {
    fn new(ttl: Duration) -> Self {
        Self { ttl, of: None }
    }

    /// The session to renew now, if it is time.
    fn due(&mut self, session: Option<LeaseId>) -> Result<Option<LeaseId>, String> {
        let Some(session) = session else {
            self.of = None;
            return Ok(None);
        };
        let now = Instant::now();
        let (asked, answered) = match self.of {
            Some((known, asked, answered)) if known == session => (Some(asked), answered),
            _ => (None, now),
        };
        if now - answered > self.ttl.mul_f64(0.6) {
            return Err("the session is not renewed in time".to_owned());
        }
        if asked.is_some_and(|asked| now - asked < self.ttl / 4) {
            return Ok(None);
        }
        self.of = Some((session, now, answered));
        Ok(Some(session))
    }

    fn answered(&mut self) {
        if let Some((_, _, answered)) = &mut self.of {
            *answered = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::super::reach::{Reach, Target};
    use super::*;

    #[tokio::test]
    async fn a_transaction_is_sent_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = AtomicUsize::new(0);
        // Answers what is read, and hangs up on what is written.
        let accepted = stream::unfold(&listener, async |listener| {
            let (stream, _) = listener.accept().await.unwrap();
            Some((stream, listener))
        });
        let serves = accepted.for_each_concurrent(None, async |mut stream| {
            let mut request = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut request).await {
                if request[..length].starts_with(b"PUT /v1/txn") {
                    sent.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").await.unwrap();
            }
        });
        let servers = vec![Target::Tcp { host: "127.0.0.1".to_owned(), port }];
        let server = Server::all(&Reach { servers, token: None, tls: None }).remove(0);
        let lines = Lines::new(server);
        let asks = async {
            lines.ask(&Ask::get("/v1/kv/p/?recurse"), READ_LIMIT).await.unwrap();
            written(&lines, &Transaction::default(), "/v1/kv/p/").await
        };
        let told = tokio::select! {
            told = asks => told,
            () = serves => panic!("it serves for ever"),
        };
        assert!(matches!(told, Err(Failed::Broken(_))), "{told:?}");
        assert_eq!(sent.load(Ordering::Relaxed), 1);
    }
}
