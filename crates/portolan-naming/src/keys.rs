//! Keys over a cluster: what every backend has in common.
//!
//! A write is planned with what the cluster says is kept, read for it, and holds only if that is still so; whoever is
//! overtaken plans again. Reads and watches answer from a book that a follower of the backend feeds: nothing is read
//! before somebody asks for keys, as most processes never do.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Batch, Entry, Key, KeyBook, KeyListing, KeySubscription, KeyValue, KeyValueError, Pending, Prefix,
    Revision, Step,
};
use runtime::Backoff;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};

/// How long a write that changed nothing waits until reads show what it saw, before it looks again.
const SETTLING: Duration = Duration::from_secs(1);
/// Why such a write has no answer.
const BEHIND: &str = "what is known here is behind what is kept";
/// How long a transaction may take at least.
const LEAST: Duration = Duration::from_secs(1);

/// What a backend does for keys.
pub(crate) trait Cluster: Send + Sync + 'static {
    /// What [`Cluster::write`] needs to know beside the steps.
    type Basis: Send + 'static;

    /// Reads what is kept under `keys` as of now, once there is a connection.
    fn read<'a>(&'a self, keys: &'a [Key]) -> Pending<'a, Result<Basis<Self::Basis>, Trouble>>;

    /// Does `steps` in one transaction, if everything is as it was read. `None`: it is not.
    fn write<'a>(
        &'a self,
        basis: Self::Basis,
        steps: &'a [Step],
    ) -> Pending<'a, Result<Option<Revision>, Trouble>>;
}

/// What a batch is planned with.
pub(crate) struct Basis<B> {
    /// What is kept, in the order of the keys asked for.
    pub(crate) kept: Vec<Option<Arc<Entry>>>,
    pub(crate) more: B,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing was done, and it is worth trying again.
    Away(String),
    /// Nothing was done, and the cluster has its reasons.
    Refused(String),
    /// Nobody knows whether it was done.
    Lost(String),
}

/// What is known of a cluster's keys. Clones share it: one is the follower's.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    book: KeyBook,
    wanted: Arc<watch::Sender<bool>>,
    /// Up to where everything is known; `None` until anything is.
    reached: Arc<watch::Sender<Option<Revision>>>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            book: KeyBook::default(),
            wanted: Arc::new(watch::Sender::new(false)),
            reached: Arc::new(watch::Sender::new(None)),
        }
    }
}

impl Known {
    /// Resolves once anybody asked for keys.
    async fn wanted(&self) {
        // The sender is ours, so it is there.
        let _ = self.wanted.subscribe().wait_for(|wanted| *wanted).await;
    }

    /// Takes the whole truth as of `revision`.
    pub(crate) fn reset(&self, revision: Revision, entries: Vec<Arc<Entry>>) {
        self.book.reset(revision, entries);
        self.reached.send_replace(Some(revision));
    }

    /// Takes changes in their order. After them nothing up to `revision` is missing.
    #[cfg(any(feature = "zookeeper", feature = "etcd", test))]
    pub(crate) fn apply(&self, changes: Vec<portolan_model::KeyChange>, revision: Revision) {
        self.book.apply(changes);
        self.book.advance(revision);
        self.reached.send_modify(|reached| *reached = (*reached).max(Some(revision)));
    }

    /// What is known to be kept under `key`.
    #[cfg(feature = "zookeeper")]
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.book.get(key)
    }

    fn want(&self) {
        self.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
    }

    /// Waits for what is known to be as wanted.
    async fn until(&self, deadline: Instant, as_wanted: impl Fn(Option<Revision>) -> bool) -> bool {
        let mut reached = self.reached.subscribe();
        let waited = reached.wait_for(|reached| as_wanted(*reached));
        matches!(timeout_at(deadline, waited).await, Ok(Ok(_)))
    }
}

/// The handle.
pub(crate) struct Keys<C> {
    cluster: C,
    known: Known,
    /// Writes under way.
    turns: Semaphore,
    patience: Duration,
}

impl<C: Cluster> Keys<C> {
    /// `turns`: how many writes of this process may be under way.
    pub(crate) fn new(cluster: C, known: Known, turns: usize, patience: Duration) -> Self {
        Self { cluster, known, turns: Semaphore::new(turns), patience }
    }

    async fn filled(&self) -> Result<(), KeyValueError> {
        self.known.want();
        let deadline = Instant::now() + self.patience;
        if self.known.book.is_filled() || self.known.until(deadline, |reached| reached.is_some()).await {
            return Ok(());
        }
        Err(KeyValueError::Unavailable("its keys could not be read yet".into()))
    }

    async fn write(&self, batch: &Batch) -> Result<Revision, KeyValueError> {
        self.filled().await?;
        let deadline = Instant::now() + self.patience;
        let late = |why: &str| KeyValueError::Unavailable(why.into());
        let turn = timeout_at(deadline, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| late("too many writes wait"))?;
        let keys: Vec<_> = batch.keys().cloned().collect();
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(200));
        let mut why = "others write the same all the time".to_owned();
        loop {
            match self.attempt(batch, &keys, deadline).await? {
                Tried::Done(revision) => {
                    // It is done, whatever becomes of the connection by which this process would see it.
                    self.known.until(deadline, |reached| reached >= Some(revision)).await;
                    return Ok(revision);
                }
                Tried::Overtaken => {}
                Tried::Away(reason) => why = reason,
            }
            let pause = Instant::now() + backoff.next(fastrand::u64(..));
            if pause >= deadline {
                return Err(late(&why));
            }
            tokio::time::sleep_until(pause).await;
        }
    }

    async fn attempt(&self, batch: &Batch, keys: &[Key], deadline: Instant) -> Result<Tried, KeyValueError> {
        let late = || "no answer in time".to_owned();
        let read = timeout_at(deadline, self.cluster.read(keys)).await;
        let Basis { kept, more } = match read.unwrap_or_else(|_| Err(Trouble::Away(late()))) {
            Ok(basis) => basis,
            Err(Trouble::Away(why) | Trouble::Lost(why)) => return Ok(Tried::Away(why)),
            Err(Trouble::Refused(why)) => return Err(KeyValueError::Unavailable(why.into())),
        };
        let at = |key: &Key| keys.iter().position(|asked| asked == key).and_then(|at| kept.get(at)?.clone());
        let steps = match batch.plan(at) {
            Ok(steps) => steps,
            Err(conflict) if self.settle(keys, &kept, deadline).await => return Err(conflict),
            Err(_) => return Ok(Tried::Away(BEHIND.to_owned())),
        };
        if !steps.iter().any(Step::is_change) {
            return Ok(match self.settle(keys, &kept, deadline).await {
                true => Tried::Done(self.known.book.revision()),
                false => Tried::Away(BEHIND.to_owned()),
            });
        }
        self.known.book.check_room(&steps)?;
        // What is begun late is not given up at once: its outcome would not be known.
        let written =
            timeout_at(deadline.max(Instant::now() + LEAST), self.cluster.write(more, &steps)).await;
        match written.unwrap_or_else(|_| Err(Trouble::Lost(late()))) {
            Ok(Some(revision)) => Ok(Tried::Done(revision)),
            Ok(None) => Ok(Tried::Overtaken),
            Err(Trouble::Away(why)) => Ok(Tried::Away(why)),
            Err(Trouble::Refused(why)) => Err(KeyValueError::Unavailable(why.into())),
            Err(Trouble::Lost(why)) => Err(KeyValueError::Uncertain(why.into())),
        }
    }

    /// Waits until reads show what a write saw: who was refused reads, and must not find what was refused. Tells whether they
    /// do.
    async fn settle(&self, keys: &[Key], kept: &[Option<Arc<Entry>>], deadline: Instant) -> bool {
        let shows = |key: &Key, kept: &Option<Arc<Entry>>| match (kept, self.known.book.get(key)) {
            (Some(kept), Some(known)) => known.revision >= kept.revision,
            (Some(kept), None) => self.known.book.revision() >= kept.revision,
            (None, known) => known.is_none(),
        };
        let all = |_| keys.iter().zip(kept).all(|(key, kept)| shows(key, kept));
        self.known.until(deadline.min(Instant::now() + SETTLING), all).await
    }
}

enum Tried {
    Done(Revision),
    /// Somebody else wrote in between.
    Overtaken,
    Away(String),
}

impl<C: Cluster> KeyValue for Keys<C> {
    fn get(&self, key: Key) -> Pending<'_, Result<Option<Arc<Entry>>, KeyValueError>> {
        Box::pin(async move {
            self.filled().await?;
            Ok(self.known.book.get(&key))
        })
    }

    fn list(&self, prefix: Prefix) -> Pending<'_, Result<KeyListing, KeyValueError>> {
        Box::pin(async move {
            self.filled().await?;
            Ok(self.known.book.list(&prefix))
        })
    }

    fn commit(&self, batch: Batch) -> Pending<'_, Result<Revision, KeyValueError>> {
        Box::pin(async move { self.write(&batch).await })
    }

    fn watch(&self, prefix: Prefix) -> KeySubscription {
        self.known.want();
        self.known.book.watch(prefix)
    }
}

/// Runs `follow` again and again: it returns why it could not go on. All watches end when this is dropped.
pub(crate) async fn follow_on<F: Future<Output = String>>(
    known: Known,
    follow: impl Fn() -> F,
) -> Infallible {
    let _end = End(known.book.clone());
    known.wanted().await;
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        let begun = Instant::now();
        let why = follow().await;
        tracing::debug!(why, "keys are followed no more; again");
        if begun.elapsed() > Duration::from_secs(1) {
            backoff.reset();
        }
        sleep(backoff.next(fastrand::u64(..))).await;
    }
}

struct End(KeyBook);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Where the owner of a connection shows it to whoever shares it.
#[cfg(any(feature = "zookeeper", feature = "etcd"))]
pub(crate) type Line<L> = watch::Receiver<Option<L>>;

/// The connection, once there is one.
///
/// # Errors
/// When its owner is gone.
#[cfg(any(feature = "zookeeper", feature = "etcd"))]
pub(crate) async fn connected<L: Clone>(line: &Line<L>) -> Result<L, Trouble> {
    let mut line = line.clone();
    let found = line.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
    found.ok_or_else(|| Trouble::Refused("the registry is shut down".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use portolan_model::{Condition, Effect, Operation};

    use super::*;

    /// Answers writes as told, and reads with what is known, or what is kept.
    struct Scripted {
        known: Known,
        kept: Option<Arc<Entry>>,
        answers: Mutex<VecDeque<Result<Option<Revision>, Trouble>>>,
    }

    impl Cluster for Scripted {
        type Basis = ();

        fn read<'a>(&'a self, keys: &'a [Key]) -> Pending<'a, Result<Basis<()>, Trouble>> {
            let kept =
                keys.iter().map(|key| self.kept.clone().or_else(|| self.known.book.get(key))).collect();
            Box::pin(std::future::ready(Ok(Basis { kept, more: () })))
        }

        fn write<'a>(&'a self, (): (), steps: &'a [Step]) -> Pending<'a, Result<Option<Revision>, Trouble>> {
            Box::pin(async move {
                let Some(answer) = self.answers.lock().unwrap().pop_front() else {
                    return std::future::pending().await;
                };
                if let Ok(Some(revision)) = &answer {
                    let changes = steps.iter().cloned().filter_map(|step| step.into_change(*revision));
                    self.known.apply(changes.collect(), *revision);
                }
                answer
            })
        }
    }

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    async fn put(answers: Vec<Result<Option<Revision>, Trouble>>, condition: Condition) -> String {
        let known = Known::default();
        let entry = Entry { key: key(), value: (*b"old").into(), revision: Revision(5) };
        known.reset(Revision(6), vec![Arc::new(entry)]);
        let cluster = Scripted { known: known.clone(), kept: None, answers: Mutex::new(answers.into()) };
        let keys = Keys::new(cluster, known, 1, Duration::from_secs(5));
        let written = keys.put(key(), (*b"new").into(), condition).await;
        let left = keys.cluster.answers.lock().unwrap().len();
        let outcome = written.map_or_else(|error| error.to_string(), |revision| format!("at {revision}"));
        format!("{outcome}, {left} left")
    }

    #[tokio::test(start_paused = true)]
    async fn writes_end_in_one_way() {
        use Condition::{Absent, Always};
        let words = str::to_owned;
        #[track_caller]
        fn check(got: &str, expect: &str) {
            assert_eq!(got, expect);
        }
        check(&put(vec![Ok(Some(Revision(7)))], Always).await, "at 7, 0 left");
        check(&put(vec![Ok(None), Ok(None), Ok(Some(Revision(9)))], Always).await, "at 9, 0 left");
        check(
            &put(vec![Err(Trouble::Away(words("gone"))), Ok(Some(Revision(8)))], Always).await,
            "at 8, 0 left",
        );
        check(&put(vec![Ok(None)], Absent).await, "key k is at revision 5, 1 left");
        let lost = "it is not known whether the registry has written: ";
        let broken = vec![Err(Trouble::Lost(words("broken"))), Ok(Some(Revision(8)))];
        check(&put(broken, Always).await, &format!("{lost}broken, 1 left"));
        check(&put(vec![], Always).await, &format!("{lost}no answer in time, 0 left"));
        let full = vec![Err(Trouble::Refused(words("it is full")))];
        check(&put(full, Always).await, "registry unavailable: it is full, 0 left");
        let away = || Err(Trouble::Away(words("nobody leads")));
        let got = put(std::iter::repeat_with(away).take(10_000).collect(), Always).await;
        assert!(got.starts_with("registry unavailable: nobody leads, 9"), "{got}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_see_what_is_kept_says_so() {
        let entry =
            |revision| Arc::new(Entry { key: key(), value: (*b"old").into(), revision: Revision(revision) });
        let known = Known::default();
        known.reset(Revision(6), vec![entry(5)]);
        let cluster = Scripted { known: known.clone(), kept: Some(entry(7)), answers: Mutex::default() };
        let keys = Keys::new(cluster, known.clone(), 1, Duration::from_secs(5));
        for (condition, effect) in [(Condition::Always, Effect::Check), (Condition::Absent, Effect::Delete)] {
            let told = keys.do_one(Operation { key: key(), condition, effect }).await.unwrap_err();
            assert_eq!(told.to_string(), format!("registry unavailable: {BEHIND}"));
        }
        // Whoever catches up meanwhile is answered.
        let check = || Operation { key: key(), condition: Condition::Absent, effect: Effect::Check };
        let catches_up = async {
            sleep(3 * SETTLING).await;
            known.reset(Revision(7), vec![entry(7)]);
        };
        let (told, ()) = tokio::join!(keys.do_one(check()), catches_up);
        assert!(matches!(told, Err(KeyValueError::Conflict { .. })), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_before_it_is_asked_for() {
        let known = Known::default();
        let cluster = Scripted { known: known.clone(), kept: None, answers: Mutex::default() };
        let keys = Keys::new(cluster, known.clone(), 1, Duration::from_secs(5));
        let wanted = || tokio::time::timeout(Duration::from_secs(60), known.wanted());
        assert!(wanted().await.is_err());
        let early = keys.get(key()).await;
        assert!(matches!(early, Err(KeyValueError::Unavailable(_))), "nothing is known: {early:?}");
        assert!(wanted().await.is_ok());
        known.reset(Revision(1), Vec::new());
        assert_eq!(keys.get(key()).await, Ok(None));
        let check = Operation { key: key(), condition: Condition::Absent, effect: Effect::Check };
        assert_eq!(keys.do_one(check).await, Ok(Revision(1)), "nothing is written");
    }
}
