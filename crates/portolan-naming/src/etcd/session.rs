//! One connection's life: who we are, everything as it is, then whatever happens: events, answers, orders, time.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use runtime::{Reporter, Shutdown, State as Standing};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::config::Config;
use super::form;
use super::grpc::{Asks, Client, Fault, Messages};
use super::proto::{
    AuthenticateRequest, AuthenticateResponse, Event, KeyValue, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, RangeRequest, RangeResponse, TxnResponse, WatchAsk, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse, range_end,
};
use crate::leased::{Call, Failed, LeaseId, Order, State};

const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// How long a call may take without which nothing goes on.
const CALL: Duration = Duration::from_secs(3);
/// How long a write, or a question about a lease, may take before it is sent again, as it is when another member leads.
/// Sent again, it finds what it compares with changed if the first came true; should the first come true much later, it
/// is seen to be nobody's wish any more.
pub(super) const SOON: Duration = Duration::from_millis(1500);
/// How often a watch is asked how far it is, and how long it may be silent.
const PROGRESS: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(10);
/// How often deadlines are looked at.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(3);
/// How many keys a page of a full read has.
const PAGE: i64 = 2000;
/// How many keys there may be in all.
const KEYS_LIMIT: usize = 1 << 20;

/// How a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// As asked.
    Shutdown,
    /// The connection is of no use any more.
    Lost(Fault),
}

/// What outlives a session.
pub(super) struct Desk<'a> {
    pub(super) config: &'a Config,
    pub(super) state: &'a mut State,
    pub(super) orders: &'a mut mpsc::Receiver<Order>,
    pub(super) reporter: &'a Reporter,
    pub(super) shutdown: &'a Shutdown,
    /// Where the connection is shown to whoever shares it.
    pub(super) line: &'a watch::Sender<Option<Client>>,
    /// The moment that `now` counts from.
    pub(super) since: Instant,
    /// Who is at the other end.
    pub(super) server: &'a str,
}

enum Answer {
    Written(u64, Result<TxnResponse, Fault>),
    Granted(Result<LeaseGrantResponse, Fault>),
    Asked(LeaseId, Result<LeaseTimeToLiveResponse, Fault>),
    Keeping(Result<Keeping, Fault>),
}

type Calls = FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>;
type Keeping = (Asks, Messages<LeaseKeepAliveResponse>);

/// Why events are followed no more.
enum Stop {
    Shutdown,
    /// What was missed is compacted away.
    Compacted,
}

impl Desk<'_> {
    /// Uses the connection until it is lost, or shutdown.
    pub(super) async fn sit(&mut self, client: Client) -> Ended {
        match self.work(client).await {
            Ok(()) => Ended::Shutdown,
            Err(fault) => Ended::Lost(fault),
        }
    }

    async fn work(&mut self, client: Client) -> Result<(), Fault> {
        let shutdown = self.shutdown;
        let client = tokio::select! {
            client = self.authenticated(client) => client?,
            () = shutdown.triggered() => return Ok(()),
        };
        self.line.send_replace(Some(client.clone()));
        self.stay(&client).await?;
        self.end_lease(&client).await;
        Ok(())
    }

    /// Until shutdown.
    async fn stay(&mut self, client: &Client) -> Result<(), Fault> {
        let prefix = self.config.layout.prefix();
        let shutdown = self.shutdown;
        let mut calls = Calls::new();
        let mut lease = LeaseKeeper::new(self.config.ttl);
        loop {
            let begun = async {
                let (revision, found) = read(client, prefix).await?;
                let watch = Watch::open(client, prefix, revision + 1).await?;
                Ok::<_, Fault>((revision, found, watch))
            };
            let (revision, found, mut watch) = tokio::select! {
                begun = begun => begun?,
                () = shutdown.triggered() => return Ok(()),
            };
            let found = found.into_iter().map(form::key_value).collect();
            self.state.reset(revision, found, self.since.elapsed());
            match self.follow(client, &mut watch, &mut lease, &mut calls).await? {
                Stop::Shutdown => return Ok(()),
                Stop::Compacted => tracing::info!("changes were compacted away; reading everything again"),
            }
        }
    }

    /// Whatever still hangs on it goes with it, and what was under way cannot come true any more.
    async fn end_lease(&self, client: &Client) {
        if let (Some(lease), false) = (self.state.lease(), self.state.leaves_nothing()) {
            let ask = LeaseRevokeRequest { id: form::number(lease) };
            // It would end by itself.
            let _ended = client.call::<()>(REVOKE, &ask, SOON).await;
        }
    }

    async fn authenticated(&self, client: Client) -> Result<Client, Fault> {
        let Some(credentials) = &self.config.credentials else { return Ok(client) };
        let ask =
            AuthenticateRequest { name: credentials.user.clone(), password: credentials.password.clone() };
        let AuthenticateResponse { token } = client.call(AUTHENTICATE, &ask, CALL).await?;
        client.with_token(&token)
    }

    async fn follow(
        &mut self,
        client: &Client,
        watch: &mut Watch,
        lease: &mut LeaseKeeper,
        calls: &mut Calls,
    ) -> Result<Stop, Fault> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = None;
        loop {
            let now = self.since.elapsed();
            lease.look_after(self.state.lease().map(form::number), client, calls)?;
            for call in self.state.calls(now) {
                calls.push(make(client.clone(), call, self.config.ttl));
            }
            if leaving.is_some() && self.state.is_idle() {
                return Ok(Stop::Shutdown);
            }
            tokio::select! {
                Some(answer) = calls.next() => self.answered(answer, lease)?,
                told = watch.next() => match told? {
                    Told::Events(groups) => {
                        let now = self.since.elapsed();
                        for (revision, events) in groups {
                            let events = events.into_iter().filter_map(form::event).collect();
                            self.state.take(revision, events, now);
                        }
                    }
                    Told::Compacted => return Ok(Stop::Compacted),
                },
                kept = lease.next() => {
                    let kept = kept?;
                    self.state.kept_alive(form::lease(kept.id), kept.ttl > 0, self.since.elapsed());
                }
                Some(order) = self.orders.recv(), if leaving.is_none() && self.state.has_room() => {
                    self.state.order(order);
                }
                _ = ticks.tick() => {
                    watch.check()?;
                    self.state.tick(self.since.elapsed());
                    self.report();
                }
                () = self.shutdown.triggered(), if leaving.is_none() => {
                    leaving = Some(Instant::now() + FAREWELL);
                    self.state.leave();
                }
                Some(()) = OptionFuture::from(leaving.map(sleep_until)) => {
                    tracing::warn!("not everything could be deregistered in time; the end of the lease does it");
                    return Ok(Stop::Shutdown);
                }
            }
        }
    }

    fn answered(&mut self, answer: Answer, lease: &mut LeaseKeeper) -> Result<(), Fault> {
        let now = self.since.elapsed();
        match answer {
            Answer::Written(number, answer) => {
                let answer = answer.map(|TxnResponse { header, succeeded, .. }| {
                    (succeeded, header.map_or(0, |header| header.revision))
                });
                self.state
                    .written(number, answer.map_err(Failed::from), now)
                    .map_err(|broken| Fault::Broken(broken.to_string()))
            }
            Answer::Granted(Ok(LeaseGrantResponse { id, ttl })) => {
                tracing::debug!(lease = id, ttl, "lease granted");
                self.state.granted(form::lease(id), now);
                Ok(())
            }
            Answer::Granted(Err(fault)) => match fault.into() {
                // One that was granted all the same ends by itself.
                Failed::Late => {
                    self.state.not_granted();
                    Ok(())
                }
                // Out of space, for one: another connection would not help.
                Failed::Refused(why) => {
                    self.state.lease_refused(&why, now);
                    Ok(())
                }
                broken @ (Failed::UnknownLease | Failed::Broken(_)) => Err(Fault::Broken(broken.to_string())),
            },
            Answer::Asked(id, Err(Fault::Late(_) | Fault::Overtaken)) => {
                self.state.not_told(id);
                Ok(())
            }
            Answer::Asked(id, answer) => {
                let LeaseTimeToLiveResponse { ttl } = answer?;
                self.state.asked(id, ttl > 0, now);
                Ok(())
            }
            Answer::Keeping(keeping) => {
                lease.keeping = Some(keeping?);
                Ok(())
            }
        }
    }

    fn report(&self) {
        let (server, held, doubted) = (self.server, self.state.held(), self.state.doubted());
        if doubted > 0 {
            let detail = format!("{server}: {doubted} instances are kept although their leases ended");
            self.reporter.say(Standing::Degraded, detail);
        } else {
            self.reporter.say(Standing::Running, format!("{server}: {held} instances registered here"));
        }
    }
}

/// Reads every key below `prefix`, all as of one revision.
pub(super) async fn read(client: &Client, prefix: &[u8]) -> Result<(i64, Vec<KeyValue>), Fault> {
    let end = range_end(prefix);
    let (mut key, mut limit, mut revision) = (Bytes::copy_from_slice(prefix), PAGE, 0);
    let mut found = Vec::new();
    loop {
        let ask = RangeRequest { key: key.clone(), range_end: end.clone(), limit, revision };
        let page = match client.call::<RangeResponse>(RANGE, &ask, CALL).await {
            Err(Fault::TooLong(_)) if limit > 1 => {
                limit = (limit / 8).max(1);
                continue;
            }
            page => page?,
        };
        if revision == 0 {
            revision = page.header.map_or(0, |header| header.revision);
        }
        if let Some(last) = page.kvs.last() {
            key = [&last.key[..], &[0]].concat().into();
        }
        found.extend(page.kvs);
        if !page.more {
            return Ok((revision, found));
        }
        if found.len() > KEYS_LIMIT {
            return Err(Fault::TooLong(found.len()));
        }
    }
}

fn make(client: Client, call: Call, ttl: Duration) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    Box::pin(async move {
        match call {
            Call::Write(number, txn) => {
                Answer::Written(number, client.call_leader(TXN, &form::transaction(txn), SOON).await)
            }
            Call::Grant => {
                let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
                Answer::Granted(client.call_leader(GRANT, &LeaseGrantRequest { ttl }, SOON).await)
            }
            Call::Ask(id) => {
                let ask = LeaseTimeToLiveRequest { id: form::number(id) };
                Answer::Asked(id, client.call_leader(TIME_TO_LIVE, &ask, SOON).await)
            }
        }
    })
}

/// Keeps the lease alive on a stream of its own.
struct LeaseKeeper {
    ttl: Duration,
    opening: bool,
    keeping: Option<Keeping>,
    /// The lease, and when it was asked for and last answered.
    kept: Option<(i64, Instant, Instant)>,
}

impl LeaseKeeper {
    fn new(ttl: Duration) -> Self {
        Self { ttl, opening: false, keeping: None, kept: None }
    }

    /// Asks for `lease` as often as it needs.
    fn look_after(&mut self, lease: Option<i64>, client: &Client, calls: &mut Calls) -> Result<(), Fault> {
        let Some(id) = lease else {
            self.kept = None;
            return Ok(());
        };
        let now = Instant::now();
        let (asked, answered) = match self.kept {
            Some((known, asked, answered)) if known == id => (Some(asked), answered),
            _ => (None, now),
        };
        if now - answered > self.ttl.mul_f64(0.6) {
            return Err(Fault::Late(self.ttl.mul_f64(0.6)));
        }
        if asked.is_some_and(|asked| now - asked < self.ttl / 4) {
            return Ok(());
        }
        let ask = LeaseKeepAliveRequest { id };
        match &mut self.keeping {
            Some((asks, _)) => asks.send(&ask)?,
            None if self.opening => return Ok(()),
            None => {
                self.opening = true;
                let client = client.clone();
                calls.push(Box::pin(
                    async move { Answer::Keeping(client.stream(KEEP_ALIVE, &ask, CALL).await) },
                ));
            }
        }
        self.kept = Some((id, now, answered));
        Ok(())
    }

    async fn next(&mut self) -> Result<LeaseKeepAliveResponse, Fault> {
        let Some((_, messages)) = &mut self.keeping else { return std::future::pending().await };
        let ended = || Fault::Broken("the keep-alive stream ended".to_owned());
        let kept = messages.next().await?.ok_or_else(ended)?;
        if let Some((id, _, answered)) = &mut self.kept
            && *id == kept.id
        {
            *answered = Instant::now();
        }
        Ok(kept)
    }
}

/// A watch of everything below the prefix.
pub(super) struct Watch {
    asks: Asks,
    messages: Messages<WatchResponse>,
    /// Events of a revision that is not complete.
    waiting: Vec<Event>,
    heard: Instant,
    asked: Instant,
}

pub(super) enum Told {
    /// Events, by revision.
    Events(Vec<(i64, Vec<Event>)>),
    Compacted,
}

impl Watch {
    pub(super) async fn open(client: &Client, prefix: &[u8], start_revision: i64) -> Result<Self, Fault> {
        let key = Bytes::copy_from_slice(prefix);
        let create = WatchCreateRequest { range_end: range_end(&key), key, start_revision, fragment: true };
        let first = WatchRequest { ask: Some(WatchAsk::Create(create)) };
        let (asks, messages) = client.stream(WATCH, &first, CALL).await?;
        Ok(Self { asks, messages, waiting: Vec::new(), heard: Instant::now(), asked: Instant::now() })
    }

    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Told, Fault> {
        let ended = || Fault::Broken("the watch ended".to_owned());
        let told = self.messages.next().await?.ok_or_else(ended)?;
        self.heard = Instant::now();
        if told.canceled && told.compact_revision > 0 {
            return Ok(Told::Compacted);
        }
        if told.canceled {
            return Err(Fault::Broken(format!("the watch was cancelled: {}", told.cancel_reason)));
        }
        self.waiting.extend(told.events);
        if told.fragment {
            return Ok(Told::Events(Vec::new()));
        }
        Ok(Told::Events(by_revision(std::mem::take(&mut self.waiting))))
    }

    /// Notices a watch that is silent, although it was asked how far it is.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        if now - self.heard > SILENCE {
            return Err(Fault::Late(SILENCE));
        }
        if now - self.asked > PROGRESS {
            self.asked = now;
            self.asks.send(&WatchRequest { ask: Some(WatchAsk::Progress(WatchProgressRequest {})) })?;
        }
        Ok(())
    }
}

/// etcd sends them in order.
fn by_revision(events: Vec<Event>) -> Vec<(i64, Vec<Event>)> {
    let mut groups: Vec<(i64, Vec<Event>)> = Vec::new();
    for event in events {
        let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        match groups.last_mut() {
            Some((last, group)) if *last == revision => group.push(event),
            _ => groups.push((revision, vec![event])),
        }
    }
    groups
}
