//! Keys in etcd: `portolan-keys<prefix of the instances>/<key>`, so never among the instances, whose keys begin with `/`.
//! The two `/` in a row keep the keys of one prefix apart from those of another below it.
//!
//! A key's revision is etcd's own. The connection is the session's; its owner notices when it is of no use.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use portolan_model::{After, Entry, Key, KeyChange, KeyValue, Pending, Revision, Step};
use tokio::time::{MissedTickBehavior, interval};

use super::config::Config;
use super::grpc::{Client, Fault};
use super::proto::{self, Event, EventKind, TxnRequest, TxnResponse, unmodified_since};
use super::session::{SOON, TICK, TXN, Told, Watch, read};
use crate::keys::{Basis, Cluster, Keys, Known, Line, Trouble, connected, follow_on};
use crate::leased::revision_of;

/// Writes of one process under way.
const TURNS: usize = 64;

/// Feeds what is known from a watch, on whatever connection there is.
#[derive(Clone)]
pub(super) struct Follower {
    prefix: Arc<str>,
    line: Line<Client>,
    known: Known,
    patience: std::time::Duration,
}

impl Follower {
    pub(super) fn new(config: &Config, line: Line<Client>) -> Self {
        let prefix = format!("portolan-keys{}/", String::from_utf8_lossy(config.layout.prefix())).into();
        Self { prefix, line, known: Known::default(), patience: config.timeout }
    }

    pub(super) fn handle(&self) -> Arc<dyn KeyValue> {
        let cluster = Etcd { prefix: Arc::clone(&self.prefix), line: self.line.clone() };
        Arc::new(Keys::new(cluster, self.known.clone(), TURNS, self.patience))
    }

    pub(super) async fn run(self) -> Infallible {
        follow_on(self.known.clone(), || async {
            match connected(&self.line).await {
                Ok(client) => match self.follow(&client).await {
                    Ok(()) => "changes were compacted away".to_owned(),
                    Err(fault) => fault.to_string(),
                },
                Err(gone) => format!("{gone:?}"),
            }
        })
        .await
    }

    /// Ends well when changes that were missed are compacted away.
    async fn follow(&self, client: &Client) -> Result<(), Fault> {
        let prefix = self.prefix.as_bytes();
        let (revision, found) = read(client, prefix).await?;
        let entries = found.into_iter().filter_map(|kv| self.entry(&kv)).collect();
        self.known.reset(revision_of(revision), entries);
        let mut watch = Watch::open(client, prefix, revision + 1).await?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = watch.next() => match told? {
                    Told::Compacted => return Ok(()),
                    Told::Events(groups) => groups.into_iter().for_each(|(revision, events)| {
                        let changes = events.into_iter().filter_map(|event| self.change(event)).collect();
                        self.known.apply(changes, revision_of(revision));
                    }),
                },
                _ = ticks.tick() => watch.check()?,
            }
        }
    }

    fn change(&self, event: Event) -> Option<KeyChange> {
        let kv = event.kv?;
        if event.r#type == i32::from(EventKind::Delete) {
            let key = self.key(&kv.key)?;
            return Some(KeyChange::Remove { key, revision: revision_of(kv.mod_revision) });
        }
        self.entry(&kv).map(KeyChange::Upsert)
    }

    /// Somebody else may have written what is no key; that is left alone.
    fn entry(&self, kv: &proto::KeyValue) -> Option<Arc<Entry>> {
        let key = self.key(&kv.key)?;
        Some(Arc::new(Entry { key, value: (*kv.value).into(), revision: revision_of(kv.mod_revision) }))
    }

    fn key(&self, name: &[u8]) -> Option<Key> {
        Key::new(std::str::from_utf8(name).ok()?.strip_prefix(&*self.prefix)?).ok()
    }
}

/// The other half: what a handle does.
struct Etcd {
    prefix: Arc<str>,
    line: Line<Client>,
}

impl Etcd {
    fn name(&self, key: &Key) -> Bytes {
        format!("{}{key}", self.prefix).into()
    }

    async fn read(&self, keys: &[Key]) -> Result<Basis<Client>, Trouble> {
        let client = connected(&self.line).await?;
        let success = keys.iter().map(|key| proto::get(self.name(key))).collect();
        let ask = TxnRequest { compare: Vec::new(), success };
        let told = client.call::<TxnResponse>(TXN, &ask, SOON).await.map_err(|fault| {
            if fault.is_final() {
                Trouble::Refused(refusal(&fault))
            } else {
                Trouble::Away(fault.to_string())
            }
        })?;
        let mut found = told.responses.into_iter().map(|response| response.range?.kvs.pop());
        let entry = |key: &Key| {
            let kv = found.next().flatten()?;
            let revision = revision_of(kv.mod_revision);
            Some(Arc::new(Entry { key: key.clone(), value: (*kv.value).into(), revision }))
        };
        Ok(Basis { kept: keys.iter().map(entry).collect(), more: client })
    }

    async fn write(&self, client: Client, steps: &[Step]) -> Result<Option<Revision>, Trouble> {
        let ask = transaction(steps, |key| self.name(key));
        match client.call::<TxnResponse>(TXN, &ask, SOON).await {
            Ok(TxnResponse { header, succeeded, .. }) => {
                Ok(succeeded.then(|| revision_of(header.map_or(0, |header| header.revision))))
            }
            Err(fault) if fault.is_final() => Err(Trouble::Refused(refusal(&fault))),
            // It looks at the token before anything else; there is a connection with a new one soon.
            Err(fault) if fault.is_stale_token() => Err(Trouble::Away(fault.to_string())),
            // The server looks for its leader before it looks at the request.
            Err(Fault::Status { message, .. }) if message == "etcdserver: no leader" => {
                Err(Trouble::Away(message))
            }
            Err(fault) => Err(Trouble::Lost(fault.to_string())),
        }
    }
}

impl Cluster for Etcd {
    type Basis = Client;

    fn read<'a>(&'a self, keys: &'a [Key]) -> Pending<'a, Result<Basis<Client>, Trouble>> {
        Box::pin(self.read(keys))
    }

    fn write<'a>(
        &'a self,
        client: Client,
        steps: &'a [Step],
    ) -> Pending<'a, Result<Option<Revision>, Trouble>> {
        Box::pin(self.write(client, steps))
    }
}

fn refusal(fault: &Fault) -> String {
    format!("etcd refuses: {fault}")
}

/// Every key as it was read, then what changes.
fn transaction(steps: &[Step], name: impl Fn(&Key) -> Bytes) -> TxnRequest {
    let read_at = |step: &Step| step.before.as_ref().map_or(0, |entry| entry.revision.0);
    let compare = |step| {
        let at = i64::try_from(read_at(step)).unwrap_or(i64::MAX);
        unmodified_since(name(&step.key), at)
    };
    let change = |step: &Step| match &step.after {
        After::Same => None,
        After::Value(value) => Some(proto::put(name(&step.key), Bytes::copy_from_slice(value), 0)),
        After::Nothing => Some(proto::delete(name(&step.key))),
    };
    TxnRequest {
        compare: steps.iter().map(compare).collect(),
        success: steps.iter().filter_map(change).collect(),
    }
}
