//! Keys in Consul: `portolan-keys/<key>`, in its own key/value store. Over our own HTTP API, which speaks the same, a key
//! is called there what it is called here: nobody else's are among them, and whoever runs the registry in its own
//! process has the same keys as whoever comes by HTTP.
//!
//! A key's revision is its `ModifyIndex`. A blocking query follows the whole prefix and answers with all of it at each
//! change: Consul knows no differences. Writes are transactions of checks and changes; a guarded removal is two steps,
//! because `delete-cas` takes a key that is gone already for one that it removed.
//!
//! Each write has a connection of its own, and one that breaks is not asked again: the first request may have been done,
//! and a second would find its own change in the way.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use consul_api::{Base64, KeyEntry, KeyOperation, KeyVerb, TxnAnswer, TxnOperation, TxnResult};
use portolan_model::{After, Entry, Key, KeyValue, Pending, Revision, Step};

use super::config::Flavour;
use super::leader::{Lead, LeaderWatch, first, until_led};
use super::line::{Answer, Ask, Line, Lines, Server, Trouble};
use super::reach::Reach;
use super::wanted::encoded;
use super::{DEADLINE, DENIED};
use crate::keys::{self, Basis, Cluster, Keys, Known, follow_on};

/// What Consul says of nothing.
const NOT_FOUND: u16 = 404;
/// Where all keys are in Consul.
const ROOT: &str = "portolan-keys/";
/// Writes of one process under way: each has a connection.
const TURNS: usize = 16;
/// How long a request may take that waits for nothing.
const LIMIT: Duration = Duration::from_secs(3);
/// How long a query waits for news, and how long its answer may take then: Consul adds up to a sixteenth.
const WAIT: &str = "45s";
const WAIT_LIMIT: Duration = Duration::from_secs(55);

/// Where keys are.
#[derive(Clone)]
struct Store {
    flavour: Flavour,
    servers: Arc<[Arc<Server>]>,
    /// The one to ask next.
    at: Arc<AtomicUsize>,
    /// As it stands in a query.
    datacenter: Arc<str>,
}

/// A server, and its place among all.
struct Turn {
    at: usize,
    server: Arc<Server>,
}

impl Turn {
    fn line(&self) -> Line {
        Line::new(Arc::clone(&self.server))
    }
}

/// Where a write is asked: where its basis was read.
struct More {
    turn: Turn,
    line: Line,
}

/// Feeds what is known from a blocking query, on whichever server answers.
#[derive(Clone)]
pub(super) struct Follower {
    store: Store,
    known: Known,
}

impl Follower {
    pub(super) fn new(reach: &Reach, datacenter: Option<&str>) -> Self {
        let datacenter = datacenter.map(|name| format!("&dc={}", encoded(name)));
        Self::of(Flavour::Consul, reach, datacenter.unwrap_or_default())
    }

    pub(super) fn of_portolan(reach: &Reach) -> Self {
        Self::of(Flavour::Portolan, reach, String::new())
    }

    fn of(flavour: Flavour, reach: &Reach, datacenter: String) -> Self {
        let (servers, datacenter) = (Server::all(reach).into(), datacenter.into());
        Self { store: Store { flavour, servers, at: Arc::default(), datacenter }, known: Known::default() }
    }

    pub(super) fn handle(&self) -> Arc<dyn KeyValue> {
        Arc::new(Keys::new(self.store.clone(), self.known.clone(), TURNS, DEADLINE))
    }

    pub(super) async fn run(self) -> Infallible {
        follow_on(self.known.clone(), || self.store.follow(&self.known)).await
    }
}

impl Store {
    fn root(&self) -> &'static str {
        match self.flavour {
            Flavour::Consul => ROOT,
            Flavour::Portolan => "",
        }
    }

    fn turn(&self) -> Turn {
        let at = self.at.load(Ordering::Relaxed);
        Turn { at, server: Arc::clone(&self.servers[at]) }
    }

    /// This server is of no use now. Whoever else was at it has perhaps turned away already.
    fn turn_away(&self, from: &Turn) {
        let next = (from.at + 1) % self.servers.len();
        let _others = self.at.compare_exchange(from.at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Follows one server for as long as it answers, and has the leader that it had. Returns why no longer.
    async fn follow(&self, known: &Known) -> String {
        self.turn_to_a_leader().await;
        let turn = self.turn();
        tokio::select! {
            why = self.query(&turn, known) => why,
            why = self.is_left(&turn) => why,
        }
    }

    /// Where there is a choice, waits for a server that a leader answers.
    async fn turn_to_a_leader(&self) {
        if self.flavour == Flavour::Portolan || self.servers.len() < 2 {
            return;
        }
        let servers: Vec<_> = self.servers.iter().cloned().map(Lines::new).collect();
        let led = first(&servers, self.at.load(Ordering::Relaxed), |at, server| async move {
            until_led(server).await;
            at
        });
        if let Some(at) = led.await {
            self.at.store(at, Ordering::Relaxed);
        }
    }

    /// Ends when a query that waits at a server may have no answer any more.
    async fn is_left(&self, turn: &Turn) -> String {
        if self.flavour == Flavour::Portolan {
            return std::future::pending().await;
        }
        let mut leader = LeaderWatch::new(self.flavour, Arc::clone(&turn.server));
        loop {
            match leader.next().await {
                Lead::Led(true) => {}
                Lead::Led(false) => {
                    self.turn_to_a_leader().await;
                    if self.turn().at != turn.at {
                        return format!("{}: no leader answers it", turn.server);
                    }
                }
                Lead::Moved(leader) => return format!("the leader is {leader} now"),
                Lead::Gone(trouble) => {
                    self.turn_away(turn);
                    return trouble.to_string();
                }
            }
        }
    }

    async fn query(&self, turn: &Turn, known: &Known) -> String {
        let (mut line, root) = (turn.line(), self.root());
        let mut index = 0;
        loop {
            // No answer may be older than what is known: also one to a query that waits, for a leader that was elected
            // meanwhile would show what it has applied so far.
            let how = if index == 0 { String::new() } else { format!("&index={index}&wait={WAIT}") };
            let ask =
                nothing_is_an_answer(format!("/v1/kv/{root}?recurse&consistent{how}{}", self.datacenter));
            let limit = if index == 0 { LIMIT } else { WAIT_LIMIT };
            let read = line.ask(&ask, limit).await.and_then(|answer| listed(root, &answer));
            match read {
                Ok((at, entries)) => {
                    known.reset(Revision(at), entries);
                    // Consul's rule for an index that went back.
                    index = if at < index { 0 } else { at.max(1) };
                }
                Err(trouble) => {
                    self.turn_away(turn);
                    return trouble.to_string();
                }
            }
        }
    }

    async fn read(&self, keys: &[Key]) -> Result<Basis<More>, keys::Trouble> {
        let (turn, root) = (self.turn(), self.root());
        let mut line = turn.line();
        let mut kept = Vec::with_capacity(keys.len());
        for key in keys {
            let name = encoded(&format!("{root}{key}"));
            let ask = nothing_is_an_answer(format!("/v1/kv/{name}?consistent{}", self.datacenter));
            let read = line.ask(&ask, LIMIT).await.and_then(|answer| listed(root, &answer));
            let (_, found) = read.map_err(|trouble| self.unread(&turn, &trouble))?;
            kept.push(found.into_iter().find(|entry| entry.key == *key));
        }
        Ok(Basis { kept, more: More { turn, line } })
    }

    async fn write(&self, more: More, steps: &[Step]) -> Result<Option<Revision>, keys::Trouble> {
        let More { turn, mut line } = more;
        let refused = |error: serde_json::Error| keys::Trouble::Refused(error.to_string());
        let root = self.root();
        let body = serde_json::to_vec(&transaction(root, steps)).map_err(refused)?;
        let query = self.datacenter.replacen('&', "?", 1);
        let answer = match line.ask(&Ask::put(format!("/v1/txn{query}"), body), LIMIT).await {
            Ok(answer) => answer,
            Err(trouble) => return self.unwritten(&turn, &trouble),
        };
        let lost = |trouble: Trouble| keys::Trouble::Lost(trouble.to_string());
        let TxnAnswer { results, errors: _ } = answer.json().map_err(lost)?;
        let indexes = results.into_iter().flatten().map(|TxnResult::Kv(entry)| entry.modify_index);
        if let (true, Some(newest)) = (steps.iter().any(is_put), indexes.max()) {
            return Ok(Some(Revision(newest)));
        }
        // Nobody says when a key went; what is read after it is at least as new.
        let ask = format!("/v1/kv/{root}?keys&separator=%2F&consistent{}", self.datacenter);
        let answer = line.ask(&nothing_is_an_answer(ask), LIMIT).await.map_err(lost)?;
        Ok(Some(Revision(answer.index.unwrap_or_default())))
    }

    fn unread(&self, turn: &Turn, trouble: &Trouble) -> keys::Trouble {
        if matches!(trouble, Trouble::Refused { status: 401 | 403, .. }) {
            return keys::Trouble::Refused(format!("consul {trouble}"));
        }
        self.turn_away(turn);
        keys::Trouble::Away(trouble.to_string())
    }

    fn unwritten(&self, turn: &Turn, trouble: &Trouble) -> Result<Option<Revision>, keys::Trouble> {
        let said = format!("consul {trouble}");
        match trouble {
            // A transaction that may not be written has the same status as one that does not hold.
            Trouble::Refused { status: 409, text } if !text.contains(DENIED) => Ok(None),
            Trouble::Refused { status: 400..=499, .. } => Err(keys::Trouble::Refused(said)),
            // Our own face says so of what it has not done.
            Trouble::Refused { status: 503, .. } if self.flavour == Flavour::Portolan => {
                Err(keys::Trouble::Away(said))
            }
            // It looks for its leader before it does anything.
            Trouble::Refused { text, .. } if text.contains("No cluster leader") => {
                self.turn_away(turn);
                Err(keys::Trouble::Away(said))
            }
            Trouble::Refused { .. } | Trouble::Unreachable(_) | Trouble::Nonsense(_) => {
                self.turn_away(turn);
                Err(keys::Trouble::Lost(said))
            }
        }
    }
}

impl Cluster for Store {
    type Basis = More;

    fn read<'a>(&'a self, keys: &'a [Key]) -> Pending<'a, Result<Basis<More>, keys::Trouble>> {
        Box::pin(self.read(keys))
    }

    fn write<'a>(
        &'a self,
        more: More,
        steps: &'a [Step],
    ) -> Pending<'a, Result<Option<Revision>, keys::Trouble>> {
        Box::pin(self.write(more, steps))
    }
}

/// Asks to read what may not be there.
fn nothing_is_an_answer(path: String) -> Ask {
    Ask::get(path).or(&[NOT_FOUND])
}

/// An answer's index, and the entries that are keys.
fn listed(root: &str, answer: &Answer) -> Result<(u64, Vec<Arc<Entry>>), Trouble> {
    let index = answer.index.ok_or_else(|| Trouble::Nonsense("an answer without an index".to_owned()))?;
    if answer.status == NOT_FOUND {
        return Ok((index, Vec::new()));
    }
    let entries: Vec<KeyEntry> = answer.json()?;
    let entry = |KeyEntry { key, value, modify_index, .. }: KeyEntry| {
        let key = Key::new(key.strip_prefix(root)?).ok()?;
        let value = value.unwrap_or_default().0.into();
        Some(Arc::new(Entry { key, value, revision: Revision(modify_index) }))
    };
    Ok((index, entries.into_iter().filter_map(entry).collect()))
}

fn is_put(step: &Step) -> bool {
    matches!(step.after, After::Value(_))
}

/// Every key as it was read, and what changes.
fn transaction(root: &str, steps: &[Step]) -> Vec<TxnOperation> {
    let mut operations = Vec::new();
    for step in steps {
        let index = step.before.as_ref().map(|entry| entry.revision.0);
        let mut push = |verb, value: Option<&[u8]>, index| {
            let (key, value) = (format!("{root}{}", step.key), value.map(|value| Base64(value.to_vec())));
            let (flags, session) = (None, None);
            operations.push(TxnOperation::Kv(KeyOperation { verb, key, value, index, flags, session }));
        };
        match (&step.after, index) {
            (After::Value(value), index) => push(KeyVerb::Cas, Some(value), Some(index.unwrap_or(0))),
            (After::Same | After::Nothing, None) => push(KeyVerb::CheckNotExists, None, None),
            (After::Same, index) => push(KeyVerb::CheckIndex, None, index),
            (After::Nothing, index) => {
                push(KeyVerb::CheckIndex, None, index);
                push(KeyVerb::Delete, None, None);
            }
        }
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::*;

    #[test]
    fn what_a_refusal_means() {
        #[track_caller]
        fn check(status: u16, text: &str, expect: &str) {
            let config = Config::from_uri("consul://a,b".parse().unwrap()).unwrap();
            let Follower { store, .. } = Follower::new(&config.reach, None);
            let trouble = Trouble::Refused { status, text: text.to_owned() };
            let got = match store.unwritten(&store.turn(), &trouble) {
                Ok(_) => "overtaken",
                Err(keys::Trouble::Refused(_)) => "refused",
                Err(keys::Trouble::Away(_)) => "away",
                Err(keys::Trouble::Lost(_)) => "lost",
            };
            assert_eq!(got, expect, "{status} {text}");
        }
        let error = |what: &str| format!(r#"{{"Results":null,"Errors":[{{"OpIndex":0,"What":"{what}"}}]}}"#);
        check(409, &error("failed index check for key a"), "overtaken");
        check(409, &error("Permission denied: token lacks permission 'key:write'"), "refused");
        check(403, "Permission denied", "refused");
        check(500, "No cluster leader", "away");
        check(500, "rpc error", "lost");
    }
}
