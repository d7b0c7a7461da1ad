//! What is asked of ZooKeeper: a complete reading, looks at some paths, one transaction.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use zookeeper_client::{Acl, Acls, Client, CreateMode, Error, MultiReadResult, MultiWriteError, Stat};

use super::layout::{Layout, parent};
use super::plan::{Deed, Put};
use super::table::{Found, Node, Sighting};

/// Reads in one request, so that neither an answer nor a turn of a server is long.
pub(super) const AT_ONCE: usize = 128;

/// Requests of a complete reading on their way.
const IN_FLIGHT: usize = 4;

/// Nodes that are read at most; what is beyond is left out, visibly.
pub(super) const NODES_LIMIT: usize = 200_000;

/// How often a directory is made for a node while somebody else sweeps it.
const MKDIR_TRIES: usize = 8;

/// A complete reading.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) nodes: Vec<(String, Node)>,
    /// The newest transaction seen.
    pub(super) newest: u64,
    /// Whether there was more than is read.
    pub(super) cut: bool,
}

/// Reads every instance. The caller watches already, so that whatever changes meanwhile is looked at again.
pub(super) async fn read_all(client: Client, layout: Layout) -> Result<Reading, Error> {
    // A session that moved to another server, or a new one, must not read an older state than it has seen.
    client.sync(layout.root()).await?;
    let (names, stat) = match client.get_children(layout.root()).await {
        Ok(read) => read,
        Err(Error::NoNode) => return Ok(Reading::default()),
        Err(error) => return Err(error),
    };
    let mut reading = Reading { newest: transaction(stat.pzxid), ..Reading::default() };
    let directories: Vec<_> = names.iter().filter_map(|name| layout.directory_named(name)).collect();
    let mut paths = children(&client, &directories).await?;
    paths.retain(|path| layout.is_instance(path));
    reading.cut = paths.len() > NODES_LIMIT;
    paths.truncate(NODES_LIMIT);
    // Collected, because the compiler cannot see that a lazy one may be sent between threads.
    let chunks: Vec<_> = paths.chunks(AT_ONCE).map(|chunk| look(&client, chunk)).collect();
    let mut chunks = stream::iter(chunks).buffered(IN_FLIGHT);
    while let Some(chunk) = chunks.try_next().await? {
        for (path, found) in chunk {
            // Whatever is gone again has an event.
            let Some((body, stat)) = found else { continue };
            reading.newest = reading.newest.max(transaction(stat.mzxid));
            let node = node(&layout, &path, &body, &stat);
            reading.nodes.push((path, node));
        }
    }
    Ok(reading)
}

/// Looks at some paths; each with whether its removal, if it is gone, was on purpose.
pub(super) async fn read_paths(
    client: Client,
    layout: Layout,
    paths: Vec<(String, bool)>,
) -> Result<Vec<Sighting>, Error> {
    // A node that is gone has no transaction any more; its parent has that of its newest coming or going.
    let parents: BTreeSet<_> = paths.iter().map(|(path, _)| parent(path).to_owned()).collect();
    let mut asked: Vec<_> = paths.iter().map(|(path, _)| path.clone()).collect();
    asked.extend(parents);
    asked.push(layout.root().to_owned());
    let mut seen: BTreeMap<_, _> = BTreeMap::new();
    for chunk in asked.chunks(AT_ONCE) {
        seen.extend(look(&client, chunk).await?);
    }
    let newest_at = |path: &str| Some(transaction(seen.get(path)?.as_ref()?.1.pzxid));
    let sighting = |(path, farewell): (String, bool)| {
        let found = match seen.get(&path) {
            Some(Some((body, stat))) => Found::Here(node(&layout, &path, body, stat)),
            Some(None) | None => {
                let at = newest_at(parent(&path)).or_else(|| newest_at(layout.root()));
                Found::Gone { at: at.unwrap_or_default(), farewell }
            }
        };
        Sighting { path, found }
    };
    Ok(paths.into_iter().map(sighting).collect())
}

/// Does all of `deed` or nothing. What it was made from being out of date is [`is_conflict`].
pub(super) async fn write(client: Client, deed: Deed, acl: Vec<Acl>) -> Result<(), Error> {
    let outcome = transact(&client, &deed, &acl).await;
    if outcome.is_ok() {
        for directory in &deed.sweep {
            // Not empty, or gone already: somebody else's business. Whoever creates below it makes it again.
            let _ = client.delete(directory, None).await;
        }
    }
    outcome
}

/// Makes a directory and all above it.
pub(super) async fn mkdir(client: &Client, path: &str, acl: &[Acl]) -> Result<(), Error> {
    if path == "/" {
        return Ok(());
    }
    client.mkdir(path, &CreateMode::Persistent.with_acls(Acls::new(acl))).await
}

/// Whether another look and another plan may help.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::NodeExists | Error::NoNode | Error::BadVersion | Error::NotEmpty)
}

/// Whether it is unknown if the request was carried out, or is worth repeating when the session is well again.
pub(super) fn is_loss(error: &Error) -> bool {
    !is_conflict(error)
        && !matches!(
            error,
            Error::NoAuth
                | Error::InvalidAcl
                | Error::BadArguments(_)
                | Error::QuotaExceeded
                | Error::MarshallingError
                | Error::Unimplemented
                | Error::NoChildrenForEphemerals
                | Error::NotReadOnly
        )
}

async fn transact(client: &Client, deed: &Deed, acl: &[Acl]) -> Result<(), Error> {
    for _ in 0..MKDIR_TRIES {
        let mut writer = client.new_multi_writer();
        for (path, version) in &deed.delete {
            if deed.farewell {
                writer.add_set_data(path, b"", Some(*version))?;
                writer.add_delete(path, None)?;
            } else {
                writer.add_delete(path, Some(*version))?;
            }
        }
        match &deed.put {
            Some(Put::Create(path, body)) => {
                writer.add_create(path, body, &CreateMode::Ephemeral.with_acls(Acls::new(acl)))?;
            }
            Some(Put::Change(path, body, version)) => writer.add_set_data(path, body, Some(*version))?,
            None => {}
        }
        match (writer.commit().await, &deed.put) {
            (Ok(_), _) => return Ok(()),
            // The last of the transaction is what is put.
            (
                Err(MultiWriteError::OperationFailed { index, source: Error::NoNode }),
                Some(Put::Create(path, _)),
            ) if index == deed.delete.len() => {
                mkdir(client, parent(path), acl).await?;
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
    Err(Error::NoNode)
}

pub(super) async fn children(client: &Client, directories: &[String]) -> Result<Vec<String>, Error> {
    let mut paths = Vec::new();
    for chunk in directories.chunks(AT_ONCE) {
        let mut reader = client.new_multi_reader();
        for directory in chunk {
            reader.add_get_children(directory)?;
        }
        for (directory, result) in chunk.iter().zip(reader.commit().await?) {
            match result {
                MultiReadResult::Children { children } => {
                    paths.extend(children.iter().map(|name| format!("{directory}/{name}")));
                }
                MultiReadResult::Error { err: Error::NoNode } => {}
                MultiReadResult::Error { err } => {
                    tracing::warn!(directory, %err, "zookeeper: directory not readable");
                }
                _ => {}
            }
        }
    }
    Ok(paths)
}

pub(super) type Look = (String, Option<(Vec<u8>, Stat)>);

/// Looks at some paths. What may not be read is as if it were not there.
pub(super) async fn look(client: &Client, paths: &[String]) -> Result<Vec<Look>, Error> {
    let found = read_each(client, paths).await?.into_iter().map(Result::ok);
    Ok(paths.iter().cloned().zip(found).collect())
}

/// The same of nodes that are all ours to read.
pub(super) async fn look_at_ours(
    client: &Client,
    paths: &[String],
) -> Result<Vec<Option<(Vec<u8>, Stat)>>, Error> {
    let found = read_each(client, paths).await?.into_iter().map(|found| match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(error),
    });
    found.collect()
}

async fn read_each(client: &Client, paths: &[String]) -> Result<Vec<Result<(Vec<u8>, Stat), Error>>, Error> {
    let mut reader = client.new_multi_reader();
    for path in paths {
        reader.add_get_data(path)?;
    }
    let results = reader.commit().await?;
    let found = |result| match result {
        MultiReadResult::Data { data, stat } => Ok((data, stat)),
        MultiReadResult::Error { err } => Err(err),
        _ => Err(Error::UnexpectedError("an answer to nothing asked".to_owned())),
    };
    Ok(results.into_iter().map(found).collect())
}

fn node(layout: &Layout, path: &str, body: &[u8], stat: &Stat) -> Node {
    Node {
        said: layout.read(path, body),
        version: stat.version,
        session: stat.ephemeral_owner,
        created: transaction(stat.czxid),
        modified: transaction(stat.mzxid),
    }
}

pub(super) fn transaction(zxid: i64) -> u64 {
    u64::try_from(zxid).unwrap_or_default()
}
