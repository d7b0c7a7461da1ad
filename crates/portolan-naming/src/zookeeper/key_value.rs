//! Keys in ZooKeeper: persistent nodes `/portolan-keys/<base>/<all but the last segment>/<last segment>`, each of the three
//! parts written as one name (`/` as `%2F`, nothing as `%`). So a directory is never a key, whatever keys there are.
//!
//! A key's revision is the transaction of its last change. Versions of a node begin anew when it is made again, so they
//! cannot tell its lives apart: each batch also compares and raises the version of the common root. With that, batches
//! happen one after the other, and the root's event, the last of each transaction, says that its others have come.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use portolan_model::{After, Entry, Key, KeyValue, Pending, Revision, Step};
use zookeeper_client::{
    Acl, Acls, AddWatchMode, Client, CreateMode, Error, EventType, MultiWriteError, MultiWriteResult,
    PersistentWatcher, SessionState, Stat, WatchedEvent,
};

use super::config::Config;
use super::key_cut::{Cut, Sight};
use super::layout::names::{decoded, encoded};
use super::layout::parent;
use super::wire::{self, AT_ONCE, children, is_conflict, is_loss, look, look_at_ours, mkdir, transaction};
use crate::keys::{Basis, Cluster, Keys, Known, Line, Trouble, connected, follow_on};

/// Writes of one process under way: more would only overtake each other.
const TURNS: usize = 1;
/// How often a transaction is sent anew because a directory was missing: each may miss one of its own.
const DIRECTORIES: usize = 40;
/// How often the first reading is repeated until nothing changes meanwhile.
const QUIET_TRIES: usize = 50;

/// Where keys are.
#[derive(Clone)]
struct Place {
    root: Arc<str>,
    acl: Arc<[Acl]>,
    line: Line<Client>,
}

/// Feeds what is known from a recursive watch, on whatever connection there is.
#[derive(Clone)]
pub(super) struct Follower {
    place: Place,
    known: Known,
    patience: Duration,
}

impl Follower {
    pub(super) fn new(config: &Config, line: Line<Client>) -> Self {
        let base = config.layout.base.trim_start_matches('/');
        let root = format!("/{ROOT}/{}", name_of(Some(base).filter(|base| !base.is_empty()))).into();
        let place = Place { root, acl: config.access.entries().into(), line };
        Self { place, known: Known::default(), patience: config.timeout }
    }

    pub(super) fn handle(&self) -> Arc<dyn KeyValue> {
        Arc::new(Keys::new(self.place.clone(), self.known.clone(), TURNS, self.patience))
    }

    pub(super) async fn run(self) -> Infallible {
        follow_on(self.known.clone(), || async {
            let client = match connected(&self.place.line).await {
                Ok(client) => client,
                Err(gone) => return format!("{gone:?}"),
            };
            match self.follow(&client).await {
                Ok(state) => format!("the session is {state:?}"),
                Err(error) => error.to_string(),
            }
        })
        .await
    }

    /// Follows until the connection ends.
    async fn follow(&self, client: &Client) -> Result<SessionState, Error> {
        let place = &self.place;
        // Who may only read does not mind.
        let _refused = mkdir(client, &place.root, &place.acl).await;
        let mut watcher = client.watch(&place.root, AddWatchMode::PersistentRecursive).await?;
        let mut dirty = BTreeSet::new();
        let (mut seen, mut newest) = place.read_all(client).await?;
        for _ in 0..QUIET_TRIES {
            if let Some(state) = place.drain(&mut watcher, &mut dirty) {
                return Ok(state);
            }
            if dirty.is_empty() {
                break;
            }
            let (sights, at) = place.look_at(client, std::mem::take(&mut dirty)).await?;
            newest = newest.max(at);
            seen.extend(sights);
        }
        let mut cut = Cut::after(newest);
        self.known.reset(newest, seen.into_values().filter_map(Sight::into_entry).collect());
        loop {
            if dirty.is_empty() {
                let event = watcher.changed().await;
                if let Some(state) = place.note(event, &mut dirty) {
                    return Ok(state);
                }
            }
            if let Some(state) = place.drain(&mut watcher, &mut dirty) {
                return Ok(state);
            }
            let (sights, newest) = place.look_at(client, std::mem::take(&mut dirty)).await?;
            // Whatever was done before the look has sent its events before the look's answer.
            if let Some(state) = place.drain(&mut watcher, &mut dirty) {
                return Ok(state);
            }
            let known = |key: &Key| self.known.get(key);
            let (changes, complete) = cut.fold(sights, newest, !dirty.is_empty(), known);
            self.known.apply(changes, complete);
        }
    }
}

impl Place {
    fn path(&self, key: &Key) -> String {
        let (directory, name) = key.split();
        format!("{}/{}/{}", self.root, name_of(directory), encoded(name))
    }

    /// The key at `path`; `None` for a directory, and for what somebody else put there.
    fn key(&self, path: &str) -> Option<Key> {
        let (directory, name) = path.strip_prefix(&*self.root)?.strip_prefix('/')?.split_once('/')?;
        let text = match directory {
            NOTHING => decoded(name),
            directory => format!("{}/{}", decoded(directory), decoded(name)),
        };
        Key::new(text).ok().filter(|key| self.path(key) == path)
    }

    /// Takes what waits. Returns how the connection has ended, if it has.
    fn drain(&self, watcher: &mut PersistentWatcher, dirty: &mut BTreeSet<String>) -> Option<SessionState> {
        while let Some(event) = watcher.changed().now_or_never() {
            if let Some(state) = self.note(event, dirty) {
                return Some(state);
            }
        }
        None
    }

    fn note(&self, event: WatchedEvent, dirty: &mut BTreeSet<String>) -> Option<SessionState> {
        if event.event_type == EventType::Session {
            return Some(event.session_state).filter(|state| *state != SessionState::SyncConnected);
        }
        dirty.insert(event.path);
        None
    }

    /// Everything there is, each as of some moment from now on.
    async fn read_all(&self, client: &Client) -> Result<(BTreeMap<Key, Sight>, Revision), Error> {
        client.sync(&self.root).await?;
        let names = match client.get_children(&self.root).await {
            Ok((names, _)) => names,
            Err(Error::NoNode) => Vec::new(),
            Err(error) => return Err(error),
        };
        let directories: Vec<_> = names.iter().map(|name| format!("{}/{name}", self.root)).collect();
        let paths = children(client, &directories).await?;
        if paths.len() > wire::NODES_LIMIT {
            return Err(Error::UnexpectedError(format!("{} nodes are too many", paths.len())));
        }
        let (sights, newest) = self.look_at(client, paths.into_iter().collect()).await?;
        Ok((sights.into_iter().collect(), newest))
    }

    /// Looks at some paths. The newest transaction that anything was seen of comes with it.
    async fn look_at(
        &self,
        client: &Client,
        paths: BTreeSet<String>,
    ) -> Result<(Vec<(Key, Sight)>, Revision), Error> {
        let keys: Vec<_> = paths.iter().filter_map(|path| Some((path.clone(), self.key(path)?))).collect();
        let mut newest = 0;
        let mut sights = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(AT_ONCE).chain(keys.is_empty().then_some(&[][..])) {
            // The root first: what is seen after it is at least as new.
            let mut asked = vec![self.root.to_string()];
            asked.extend(chunk.iter().map(|(path, _)| path.clone()));
            let mut found = look(client, &asked).await?.into_iter().map(|(_, found)| found);
            let root = found.next().flatten().map_or(0, |(_, stat)| transaction(stat.mzxid));
            newest = newest.max(root);
            for ((_, key), found) in chunk.iter().zip(found) {
                let sight = match found {
                    Some((value, stat)) => Sight::Here(entry(key, &value, &stat)),
                    None => Sight::Gone(Revision(root)),
                };
                newest = newest.max(sight.at().0);
                sights.push((key.clone(), sight));
            }
        }
        Ok((sights, Revision(newest)))
    }

    async fn read(&self, keys: &[Key]) -> Result<Basis<More>, Trouble> {
        let client = connected(&self.line).await?;
        let mut asked = vec![self.root.to_string()];
        asked.extend(keys.iter().map(|key| self.path(key)));
        loop {
            client.sync(&self.root).await.map_err(|error| trouble(&error, Trouble::Away))?;
            let found = look_at_ours(&client, &asked).await;
            let mut found = found.map_err(|error| trouble(&error, Trouble::Away))?.into_iter();
            let Some((_, root)) = found.next().flatten() else {
                let made = mkdir(&client, &self.root, &self.acl).await;
                made.map_err(|error| trouble(&error, Trouble::Away))?;
                continue;
            };
            let (mut kept, mut versions) = (Vec::new(), BTreeMap::new());
            for (key, found) in keys.iter().zip(found) {
                kept.push(found.map(|(value, stat)| {
                    versions.insert(key.clone(), stat.version);
                    entry(key, &value, &stat)
                }));
            }
            return Ok(Basis { kept, more: More { client, root: root.version, versions } });
        }
    }

    async fn write(&self, more: More, steps: &[Step]) -> Result<Option<Revision>, Trouble> {
        let mut made = Ok(None);
        for _ in 0..DIRECTORIES {
            made = match self.transact(&more, steps).await {
                Ok(revision) => {
                    self.sweep(&more.client, steps).await;
                    return Ok(Some(revision));
                }
                Err((Error::NoNode, Some(directory))) => {
                    let made = mkdir(&more.client, &directory, &self.acl).await;
                    made.map_err(|error| trouble(&error, Trouble::Away))?;
                    continue;
                }
                Err((error, _)) if is_conflict(&error) => Ok(None),
                Err((error, _)) => Err(trouble(&error, Trouble::Lost)),
            };
            break;
        }
        made
    }

    /// An error comes with the directory that is missing, if one is.
    async fn transact(&self, more: &More, steps: &[Step]) -> Result<Revision, (Error, Option<String>)> {
        let plain = |error| (error, None);
        let mut writer = more.client.new_multi_writer();
        let options = CreateMode::Persistent.with_acls(Acls::new(&self.acl));
        let mut directories = Vec::new();
        for step in steps {
            let (path, version) = (self.path(&step.key), more.versions.get(&step.key).copied());
            let mut directory = None;
            match (&step.after, version) {
                (After::Same, None) => continue,
                (After::Same, Some(version)) => writer.add_check_version(&path, version).map_err(plain)?,
                (After::Value(value), None) => {
                    directory = Some(parent(&path).to_owned());
                    writer.add_create(&path, value, &options).map_err(plain)?;
                }
                (After::Value(value), Some(_)) => {
                    writer.add_set_data(&path, value, version).map_err(plain)?;
                }
                (After::Nothing, _) => writer.add_delete(&path, version).map_err(plain)?,
            }
            directories.push(directory);
        }
        writer.add_set_data(&self.root, b"", Some(more.root)).map_err(plain)?;
        match writer.commit().await {
            Ok(results) => match results.last() {
                Some(MultiWriteResult::SetData { stat }) => Ok(Revision(transaction(stat.mzxid))),
                _ => Err(plain(Error::UnexpectedError("a transaction without its last answer".to_owned()))),
            },
            Err(MultiWriteError::OperationFailed { index, source }) => {
                Err((source, directories.get(index).cloned().flatten()))
            }
            Err(error) => Err(plain(error.into())),
        }
    }

    /// Removes directories that may have become empty. One that has not stays, as ZooKeeper sees to it.
    async fn sweep(&self, client: &Client, steps: &[Step]) {
        let gone = steps.iter().filter(|step| step.after == After::Nothing);
        let directories: BTreeSet<_> = gone.map(|step| parent(&self.path(&step.key)).to_owned()).collect();
        for directory in directories {
            let _not_empty = client.delete(&directory, None).await;
        }
    }
}

/// What a write is compared with.
struct More {
    client: Client,
    root: i32,
    versions: BTreeMap<Key, i32>,
}

impl Cluster for Place {
    type Basis = More;

    fn read<'a>(&'a self, keys: &'a [Key]) -> Pending<'a, Result<Basis<More>, Trouble>> {
        Box::pin(self.read(keys))
    }

    fn write<'a>(&'a self, more: More, steps: &'a [Step]) -> Pending<'a, Result<Option<Revision>, Trouble>> {
        Box::pin(self.write(more, steps))
    }
}

/// The node below which all keys of all bases are.
pub(super) const ROOT: &str = "portolan-keys";
/// No segments as a name: no text is written like this.
const NOTHING: &str = "%";

fn name_of(segments: Option<&str>) -> String {
    segments.map_or_else(|| NOTHING.to_owned(), encoded)
}

fn entry(key: &Key, value: &[u8], stat: &Stat) -> Arc<Entry> {
    let revision = Revision(transaction(stat.mzxid));
    Arc::new(Entry { key: key.clone(), value: value.into(), revision })
}

/// `lost`: what it means if nobody knows whether it was done.
fn trouble(error: &Error, lost: impl Fn(String) -> Trouble) -> Trouble {
    if is_conflict(error) || is_loss(error) {
        return lost(error.to_string());
    }
    Trouble::Refused(format!("zookeeper refuses: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_back() {
        #[track_caller]
        fn check(base: &str, key: &str, path: &str) {
            let uri = format!("zookeeper://a{base}");
            let config = Config::from_uri(uri.parse().unwrap()).unwrap();
            let (_line, shared) = tokio::sync::watch::channel(None);
            let place = Follower::new(&config, shared).place;
            let key = Key::new(key).unwrap();
            assert_eq!((place.path(&key), place.key(path)), (path.to_owned(), Some(key)));
        }
        check("", "a", "/portolan-keys/%/%/a");
        check("/x/y", "routes/1", "/portolan-keys/x%2Fy/routes/1");
        check("/x", "a/b c%/订", "/portolan-keys/x/a%2Fb c%25/订");
        check("/zookeeper", "zookeeper/zookeeper", "/portolan-keys/%7Aookeeper/%7Aookeeper/%7Aookeeper");
    }

    #[test]
    fn what_is_no_key_is_left_alone() {
        let config = Config::from_uri("zookeeper://a/x".parse().unwrap()).unwrap();
        let (_line, shared) = tokio::sync::watch::channel(None);
        let place = Follower::new(&config, shared).place;
        for path in
            ["/portolan-keys/x", "/portolan-keys/x/a", "/portolan-keys/x/a/b/c", "/portolan-keys/x/a/%41"]
        {
            assert_eq!(place.key(path), None, "{path}");
        }
    }
}
