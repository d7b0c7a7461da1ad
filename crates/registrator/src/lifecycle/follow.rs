//! Follows the engine: listens, lists, reads what events name at once and everything once a period; reconnects for ever.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use portolan_model::Pending;
use runtime::{Backoff, Nudge, Shutdown};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::condition::Condition;
use crate::config::{Config, Deregister};
use crate::container::{Container, ContainerId, EngineTime};
use crate::source::{ContainerSource, Event, Listening, REPLAY, SourceError, Which};
use crate::world::{Sight, World};

/// How many containers are read at once, and how many of those may be of the periodic routine: an event must not wait
/// for the routine.
const READS_LIMIT: usize = 32;
const ROUTINE_READS_LIMIT: usize = 8;

/// How soon to ask again for a container that could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// The engine's side of a registrator.
pub(super) struct Follow {
    source: Arc<dyn ContainerSource>,
    publish: watch::Sender<Arc<Sight>>,
    nudge: Nudge,
    condition: Arc<Condition>,
    period: Duration,
    answer_timeout: Duration,
    which: Which,
    world: World,
    since: Option<EngineTime>,
    epoch: Instant,
    backoff: Backoff,
}

impl Follow {
    pub(super) fn new(
        config: &Config,
        source: Arc<dyn ContainerSource>,
        publish: watch::Sender<Arc<Sight>>,
        nudge: Nudge,
        condition: Arc<Condition>,
    ) -> Self {
        Self {
            source,
            publish,
            nudge,
            condition,
            period: config.period,
            answer_timeout: config.answer_timeout,
            // What failed may have to stay registered; whoever is not asked about cannot be told from who was removed.
            which: match config.deregister {
                Deregister::Always => Which::Running,
                Deregister::OnSuccess => Which::All,
            },
            world: World::new(config.margins),
            since: None,
            epoch: Instant::now(),
            // An engine is next door: whoever asks it once a second is no burden, and sees soon that it is back.
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        }
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.triggered() => {}
            () = self.sessions() => {}
        }
    }

    async fn sessions(&mut self) {
        loop {
            let lost = self.session().await;
            self.condition.engine_away(&lost.0);
            self.world.interrupted();
            self.tell();
            sleep(self.backoff.next(fastrand::u64(..))).await;
        }
    }

    /// One connection, until it is lost.
    async fn session(&mut self) -> SourceError {
        let source = Arc::clone(&self.source);
        let Listening { past, mut stream } = match self.answer(source.listen(self.since)).await {
            Ok(listening) => listening,
            Err(error) => return error,
        };
        // Before anything is read: what is about to end is not taken for what serves.
        past.iter().for_each(|event| self.witness(event));
        let mut listing = Some(source.list(self.which));
        let mut list_due = Instant::now() + self.answer_timeout;
        let mut reads = FuturesUnordered::new();
        let mut retry = None;
        loop {
            while reads.len() < READS_LIMIT
                && let Some(id) = self.world.begin_read(reads.len() < ROUTINE_READS_LIMIT)
            {
                reads.push(read(&*source, id, self.answer_timeout));
            }
            let overdue = self.world.next_due().map(|due| self.epoch + due.saturating_sub(REPLAY));
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => self.witness(&event),
                    Some(Err(error)) => return error,
                    None => return SourceError("the engine closed its event stream".to_owned()),
                },
                Some((id, found)) = reads.next() => match found {
                    Ok(found) => self.world.read(&id, found, self.now()),
                    Err(error) => {
                        tracing::debug!(container = %id, %error, "cannot read a container");
                        self.world.unread(&id);
                        retry.get_or_insert(Instant::now() + RETRY);
                    }
                },
                listed = answer(&mut listing) => match listed {
                    Ok(running) => {
                        self.backoff.reset();
                        self.condition.engine_there();
                        self.world.listed(running);
                        list_due = Instant::now() + self.period;
                    }
                    Err(error) => return error,
                },
                () = sleep_until(list_due) => {
                    if listing.is_some() {
                        return no_answer();
                    }
                    listing = Some(source.list(self.which));
                    list_due = Instant::now() + self.answer_timeout;
                }
                () = at(overdue) => self.world.overdue(self.now()),
                () = at(retry) => {
                    retry = None;
                    self.world.retry();
                }
            }
            self.tell();
        }
    }

    fn witness(&mut self, event: &Event) {
        tracing::debug!(container = %event.container, event = %event.kind, "engine event");
        self.since = self.since.max(Some(event.at));
        self.world.witness(event, self.now());
    }

    /// The world's time. It begins so late that an event which is told again has its place in it.
    fn now(&self) -> Duration {
        self.epoch.elapsed() + REPLAY
    }

    fn tell(&mut self) {
        if let Some(sight) = self.world.news() {
            self.publish.send_replace(Arc::new(sight));
            self.nudge.nudge();
        }
    }

    async fn answer<T>(&self, asked: Pending<'_, Result<T, SourceError>>) -> Result<T, SourceError> {
        timeout(self.answer_timeout, asked).await.unwrap_or_else(|_| Err(no_answer()))
    }
}

type Read = (ContainerId, Result<Option<Container>, SourceError>);

async fn read(source: &dyn ContainerSource, id: ContainerId, answer_timeout: Duration) -> Read {
    let found = timeout(answer_timeout, source.inspect(id.clone())).await;
    (id, found.unwrap_or_else(|_| Err(no_answer())))
}

/// The answer to what was asked, which is then asked no more; for ever pending when nothing was.
async fn answer<T>(asked: &mut Option<Pending<'_, T>>) -> T {
    let Some(pending) = asked.as_mut() else { return std::future::pending().await };
    let answer = pending.await;
    *asked = None;
    answer
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn no_answer() -> SourceError {
    SourceError("no answer in time".to_owned())
}
