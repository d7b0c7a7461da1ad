//! The last known table on disk: a process whose registry is away at start serves what was known before.
//!
//! A task follows the mirror and writes the whole table when something in it has changed: at most once a second, and
//! never for more than a twentieth of the time. A new file takes the place of the old in one step, so that whatever
//! happens there is a whole one. A file that cannot be used, or that is of another registry, is no failure: the start is
//! as without one.

mod file;
mod form;
mod time;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use runtime::{Reporter, State, StatusBoard};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::mirror::{Mirror, Seed};
use crate::uri::RegistryUri;

pub(crate) use time::utc;

/// The least time from one writing to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// How many times as long as a writing takes is the least time to the next.
const LEISURE: u32 = 20;
/// Options of a URI by which one registry is another.
const DISTINCTIVE: [&str; 2] = ["dc", "layout"];

/// Keeps the table of one registry in a file. See the module's head.
pub(crate) struct Keeper {
    path: PathBuf,
    registry: String,
    mirror: Mirror,
    reporter: Reporter,
    trouble: Option<String>,
    written: Option<(usize, SystemTime)>,
}

impl Keeper {
    /// Keeps what `mirror` knows of the registry that `uri` names in the file at `path`. What the file holds already goes
    /// into the mirror. Reads the disk.
    pub(crate) fn open(path: PathBuf, uri: &RegistryUri, mirror: Mirror, board: &StatusBoard) -> Self {
        let (registry, reporter) = (identity(uri), board.reporter("last known table"));
        let shown = path.display();
        match file::read(&path).and_then(|bytes| bytes.map(|bytes| form::read(&bytes, &registry)).transpose())
        {
            Ok(Some(seed)) => {
                let (instances, known_at) = (seed.instances.len(), utc(seed.known_at));
                tracing::info!(file = %shown, instances, known_at, "beginning with what was known before");
                mirror.seed(seed);
            }
            Ok(None) => {}
            Err(why) => tracing::warn!(file = %shown, %why, "what was known before is of no use"),
        }
        Self { path, registry, mirror, reporter, trouble: None, written: None }
    }

    /// What is followed.
    pub(crate) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Follows until it is told the last word: the table to leave behind.
    pub(crate) async fn run(mut self, mut last: oneshot::Receiver<Option<Seed>>) {
        let (mut stale, mut not_before) = (false, Instant::now());
        loop {
            self.report();
            let expiry = self.mirror.next_expiry();
            tokio::select! {
                biased;
                last = &mut last => {
                    if let Ok(Some(table)) = last {
                        self.write(table).await;
                    }
                    self.reporter.say(State::Stopped, "");
                    return;
                }
                () = sleep_until(expiry.unwrap_or(not_before)), if expiry.is_some() => self.mirror.expire(),
                () = sleep_until(not_before), if stale => {
                    stale = false;
                    let begun = Instant::now();
                    if let Some(table) = snapshot(&self.mirror) {
                        self.write(table).await;
                    }
                    not_before = Instant::now() + PAUSE.max(begun.elapsed() * LEISURE);
                }
                () = self.mirror.touched() => stale = true,
            }
        }
    }

    async fn write(&mut self, table: Seed) {
        let (path, registry) = (self.path.clone(), self.registry.clone());
        let (count, known_at) = (table.instances.len(), table.known_at);
        let writing =
            tokio::task::spawn_blocking(move || file::write(&path, &form::write(&table, &registry)));
        let trouble = match writing.await {
            Ok(written) => written.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        match &trouble {
            None => self.written = Some((count, known_at)),
            Some(why) if self.trouble.is_none() => {
                tracing::warn!(file = %self.path.display(), why, "what is known cannot be kept on disk");
            }
            Some(_) => {}
        }
        self.trouble = trouble;
    }

    fn report(&self) {
        let path = self.path.display();
        let (state, detail) = match (&self.trouble, self.mirror.kept(), self.written) {
            (Some(why), ..) => (State::Degraded, format!("{path}: {why}")),
            (None, kept @ 1.., _) => {
                let why = "from before this start that the registry lacks are kept for a while";
                (State::Degraded, format!("{kept} instances {why}"))
            }
            (None, 0, Some((count, at))) => {
                (State::Running, format!("{path}: {count} instances, written at {}", utc(at)))
            }
            (None, 0, None) => (State::Running, format!("{path}: nothing written yet")),
        };
        self.reporter.say(state, detail);
    }
}

/// What is known now; `None` before the backend was read in this run: then the file is as good.
pub(crate) fn snapshot(mirror: &Mirror) -> Option<Seed> {
    let listing = mirror.is_read().then(|| mirror.list())?;
    let instances = listing.services.into_values().flatten().collect();
    Some(Seed { revision: listing.revision, known_at: SystemTime::now(), instances })
}

/// Which registry a table is of: the URI without credentials, servers in order, and only options that matter.
fn identity(uri: &RegistryUri) -> String {
    let mut uri = uri.clone();
    uri.servers.sort();
    let options = DISTINCTIVE.iter().filter_map(|name| Some(format!("{name}={}", uri.options.get(*name)?)));
    let options: Vec<_> = options.collect();
    let mark = if options.is_empty() { "" } else { "?" };
    format!("{uri}{mark}{}", options.join("&"))
}

#[cfg(test)]
mod tests;
