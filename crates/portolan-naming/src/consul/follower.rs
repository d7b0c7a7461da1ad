//! Following one service of Consul's catalog, by blocking queries.
//!
//! All of it is read at each change, as far as the server's [`Pace`](super::pace::Pace) allows. While that must wait, and from time to
//! time as well, those instances that a write waits for are asked for by name: Consul looks through the service all the same, but does not
//! send it, which costs a sixth.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{InstanceId, ServiceName};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::cursor::{Cursor, Moved, long_wait, pause};
use super::line::{Line, Trouble};
use super::pace::News;
use super::row::{Reader, Row};
use super::wanted::encoded;
use super::watch::{Context, Seen};

/// How many instances are asked for by name at a time.
const NAMES: usize = 32;
/// How often all of a service is read at most while news of some is waited for: many that register at once change it all
/// the time. And how long such a question waits at most, so that all of it is read in time.
const BETWEEN: Duration = Duration::from_millis(250);

/// A service with a query of its own. Dropping it ends that.
pub(super) struct Follower {
    task: AbortHandle,
    /// Of which instances news is waited for.
    awaited: watch::Sender<BTreeSet<InstanceId>>,
}

impl Follower {
    pub(super) fn start(context: Context, service: ServiceName, tasks: &mut JoinSet<()>) -> Self {
        let (awaited, names) = watch::channel(BTreeSet::new());
        Self { task: tasks.spawn(follow(Following::new(context, service), names)), awaited }
    }

    /// News of this instance is waited for. One that cannot be named comes with all the others.
    pub(super) fn await_news(&self, id: &InstanceId) {
        if is_nameable(id) {
            self.awaited.send_if_modified(|names| names.insert(id.clone()));
        }
    }

    /// News is waited for of these alone, out of those it was waited for.
    pub(super) fn await_only(&self, still: impl Fn(&InstanceId) -> bool) {
        self.awaited.send_if_modified(|names| {
            let before = names.len();
            names.retain(still);
            names.len() != before
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows until it cannot go on, which it tells.
async fn follow(mut following: Following, mut awaited: watch::Receiver<BTreeSet<InstanceId>>) {
    loop {
        let names: BTreeSet<_> = awaited.borrow_and_update().iter().take(NAMES).cloned().collect();
        let outcome = if following.is_due(!names.is_empty()) {
            following.read_all().await
        } else if !names.is_empty() {
            following.read_named(names).await
        } else {
            match timeout_at(following.due, awaited.changed()).await {
                Ok(Ok(())) | Err(_) => continue,
                Ok(Err(_)) => return,
            }
        };
        if let Err(broken) = outcome {
            return following.asked.context.see(broken).await;
        }
    }
}

struct Following {
    asked: Asked,
    all: Sight,
    /// When all of it was read last, and when it may be asked for again.
    read: Option<Instant>,
    due: Instant,
    some: Sight,
    /// Which instances `some` is about.
    named: BTreeSet<InstanceId>,
}

/// Whom to ask for what.
struct Asked {
    context: Context,
    service: ServiceName,
    path: String,
    line: Line,
}

/// How far something was read, and how many rows there were.
struct Sight {
    cursor: Cursor,
    reader: Reader,
    rows: usize,
}

/// What an answer says.
struct Told {
    rows: Vec<Arc<Row>>,
    /// Nothing, if the wait was over without news.
    news: Option<u64>,
    /// How long to leave the server alone in any case, and from when on to read as much again.
    pause: Duration,
    due: Instant,
}

impl Following {
    fn new(context: Context, service: ServiceName) -> Self {
        let sight = || Sight { cursor: Cursor::default(), reader: context.reader(&service), rows: 0 };
        let (all, some) = (sight(), sight());
        let path = format!("/v1/health/service/{}", encoded(service.as_str()));
        let line = Line::new(Arc::clone(&context.server));
        let asked = Asked { context, service, path, line };
        Self { asked, all, read: None, due: Instant::now(), some, named: BTreeSet::new() }
    }

    /// Whether to ask for all of it; `awaited` says that one could ask for some instead.
    fn is_due(&self, awaited: bool) -> bool {
        let now = Instant::now();
        self.due <= now && self.read.filter(|_| awaited).is_none_or(|read| read + BETWEEN <= now)
    }

    async fn read_all(&mut self) -> Result<(), Seen> {
        let first = !self.all.cursor.is_somewhere();
        let wait = long_wait(fastrand::f64());
        let told = self.asked.about(&mut self.all, wait, None).await?;
        // Reading it for the first time is no following: everybody needs that once.
        if !first {
            self.due = told.due;
        }
        self.read = Some(Instant::now());
        let service = self.asked.service.clone();
        self.asked.see(told, |rows, index| Seen::Read { service, rows, index, in_turn: false }).await;
        Ok(())
    }

    async fn read_named(&mut self, names: BTreeSet<InstanceId>) -> Result<(), Seen> {
        // Of others nothing was said yet: the answer must not wait for the next change.
        if !names.is_subset(&self.named) {
            self.some.cursor = Cursor::default();
        }
        self.named = names;
        let filter: Vec<_> = self.named.iter().map(|id| format!("Service.ID == `{id}`")).collect();
        let told = self.asked.about(&mut self.some, BETWEEN, Some(filter.join(" or "))).await?;
        let (service, ids) = (self.asked.service.clone(), self.named.clone());
        self.asked.see(told, |rows, index| Seen::ReadOf { service, ids, rows, index }).await;
        Ok(())
    }
}

impl Asked {
    fn broken(&self, why: &Trouble) -> Seen {
        Seen::broken(&self.context.server, why)
    }

    /// Asks for news. An error is what ends following.
    async fn about(
        &mut self,
        sight: &mut Sight,
        wait: Duration,
        filter: Option<String>,
    ) -> Result<Told, Seen> {
        let (mut ask, limit) = self.context.query(&self.path, sight.cursor, wait);
        if let Some(filter) = filter {
            ask.path += &format!("&filter={}", encoded(&filter));
        }
        let begun = Instant::now();
        let answer = self.line.ask(&ask, limit).await.map_err(|trouble| self.broken(&trouble))?;
        let now = Instant::now();
        let rows = sight.reader.read(&answer.body);
        let rows = rows.map_err(|error| self.broken(&Trouble::Nonsense(error.to_string())))?;
        let brought = news(&rows, sight.cursor, sight.rows);
        sight.rows = rows.len();
        let moved = sight.cursor.advance(answer.index);
        if moved == Moved::Back {
            // The list tells whether the cluster has lost its memory; it is read first when reading begins anew.
            let why = format!("the index of {} went back", self.service);
            return Err(Seen::Broken { why, again: true });
        }
        Ok(Told {
            rows,
            news: (moved != Moved::Nowhere).then_some(answer.index.unwrap_or_default()),
            pause: pause(moved, answer.body.len()),
            due: self.context.pace.spend(answer.body.len(), now - begun, brought, now),
        })
    }

    async fn see(&mut self, told: Told, seen: impl FnOnce(Vec<Arc<Row>>, u64) -> Seen) {
        if let Some(index) = told.news {
            self.context.see(seen(told.rows, index)).await;
        }
        sleep(told.pause).await;
    }
}

/// How many changes these rows bring to whoever has read so far, and so many.
fn news(rows: &[Arc<Row>], before: Cursor, many: usize) -> News {
    let since = |index: fn(&Row) -> u64| rows.iter().filter(|row| before.is_before(index(row))).count();
    let gone = (many + since(|row| row.created)).saturating_sub(rows.len());
    match since(|row| row.modified) + gone {
        0 | 1 => News::Single,
        _ => News::Crowd,
    }
}

/// Whether an id can be named in a filter, where there is no escape.
fn is_nameable(id: &InstanceId) -> bool {
    !id.as_str().contains('`')
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::line::Server;
    use super::*;
    use testkit::cluster::consul::Consul;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(1);

    /// What was seen, the ids in order.
    async fn seen(
        events: &mut mpsc::Receiver<(u64, Seen)>,
        within: Duration,
    ) -> Option<(&'static str, String)> {
        let ids = |rows: Vec<Arc<Row>>| {
            let mut ids: Vec<_> = rows.iter().map(|row| row.service_id.clone()).collect();
            ids.sort();
            ids.join(" ")
        };
        match timeout(within, events.recv()).await.ok()?? {
            (_, Seen::Read { rows, .. }) => Some(("all", ids(rows))),
            (_, Seen::ReadOf { rows, .. }) => Some(("some", ids(rows))),
            (_, other) => panic!("{other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn while_all_must_wait_some_are_asked_for_by_name() {
        let consul = Consul::start(1);
        let register = |id: &str| {
            let body = serde_json::json!({ "ID": id, "Name": "web", "Address": "10.0.0.1", "Port": 80 });
            consul.put(0, "/v1/agent/service/register", &body.to_string()).unwrap();
        };
        let id = |id: &str| InstanceId::new(id).unwrap();
        let config = Config::from_uri(format!("consul://{}", consul.authority(0)).parse().unwrap()).unwrap();
        let server = Server::all(&config.reach).remove(0);
        let (events, mut news) = mpsc::channel(16);
        let context = Context::new(Arc::new(config), server, 1, events);
        let (pace, mut tasks) = (Arc::clone(&context.pace), JoinSet::new());

        register("a");
        let service = ServiceName::new("web").unwrap();
        let follower = Follower::start(context, service, &mut tasks);
        assert_eq!(seen(&mut news, 10 * SOON).await, Some(("all", "a".to_owned())));
        let now = Instant::now();
        // It has never been quick, as far as is remembered.
        for size in [0; 16].into_iter().chain([1 << 20; 3]) {
            pace.spend(size, SOON, News::Single, now);
        }
        register("b");
        assert_eq!(seen(&mut news, SOON).await, Some(("all", "a b".to_owned())), "it was asked before");

        register("c\"\\é");
        assert_eq!(seen(&mut news, SOON).await, None, "much is owed");
        follower.await_news(&id("c\"\\é"));
        assert_eq!(seen(&mut news, SOON).await, Some(("some", "c\"\\é".to_owned())));
        follower.await_news(&id("d"));
        // The question for both may be under way; then it is answered, and asked anew.
        register("d");
        let both = "c\"\\é d".to_owned();
        while seen(&mut news, SOON).await != Some(("some", both.clone())) {}
        follower.await_only(|_| false);
        follower.await_news(&id("`"));
        consul.put(0, "/v1/agent/service/deregister/a", "").unwrap();
        let all = loop {
            let (what, ids) = seen(&mut news, 10 * SOON).await.unwrap();
            if what == "all" {
                break ids;
            }
        };
        assert_eq!(all, "b c\"\\é d");
        drop(follower);
        assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
    }
}
