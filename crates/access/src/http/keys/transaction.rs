//! `PUT /v1/txn`: operations on keys that are done together or not at all.
//!
//! What it comes to is judged over what is known here, and holds only if the registry still is so. Whoever is overtaken
//! is judged again; whoever is refused is so by what the registry held then, not by what was known of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use consul_api::{Base64, KeyEntry, TxnAnswer, TxnError, TxnOperation, TxnResult};
use portolan_model::{Batch, Key, KeyValueError, Prefix, Revision};

use super::super::Face;
use super::super::error::Error;
use super::super::query::Params;
use super::super::render::json;
use super::super::request;
use super::find::refresh;
use super::index_of;
use super::judge::{At, Op, Told, Verdict, View, judge, understood};

/// How many operations Consul takes in one transaction.
const OPERATIONS: usize = 64;
/// How often a transaction may be overtaken by others.
const ATTEMPTS: usize = 16;

/// `PUT /v1/txn`.
pub(in super::super) async fn transact(
    State(face): State<Arc<Face>>,
    params: Params,
    request: Request,
) -> Result<Response, Error> {
    params.asked_of_keys(&face.site.datacenter)?;
    let asked: Vec<TxnOperation> = request::json(request, &face.limits).await?;
    if asked.len() > OPERATIONS {
        return Err(Error::TooManyOperations { asked: asked.len(), limit: OPERATIONS });
    }
    let ops =
        asked.into_iter().enumerate().map(|(at, TxnOperation::Kv(operation))| understood(at, operation));
    let ops = ops.collect::<Result<Vec<_>, _>>()?;
    match done(&face, &ops).await? {
        Ok(results) => json(&params, &TxnAnswer { results: Some(results), errors: None }),
        Err(errors) => {
            let mut response = json(&params, &TxnAnswer { results: None, errors: Some(errors) })?;
            *response.status_mut() = StatusCode::CONFLICT;
            Ok(response)
        }
    }
}

async fn done(face: &Face, ops: &[Op]) -> Result<Result<Vec<TxnResult>, Vec<TxnError>>, Error> {
    let only_reads = ops.iter().all(Op::only_reads);
    if !only_reads && let Some(at) = ops.iter().position(|op| matches!(op, Op::GetTree(_))) {
        // A key that comes into the tree meanwhile would not be noticed.
        let why = "get-tree is not supported beside operations that change something".to_owned();
        return Err(Error::Operation { at, why });
    }
    let mut fresh = false;
    for _ in 0..ATTEMPTS {
        let (operations, told) = match judge(ops, &view(face, ops).await?) {
            Verdict::Batch(operations, told) => (operations, told),
            Verdict::Refused(errors) if fresh => return Ok(Err(errors)),
            Verdict::Refused(errors) => {
                let about = errors.iter().filter_map(|error| ops.get(error.op_index)?.key());
                refresh(face, about.collect::<BTreeSet<_>>()).await?;
                fresh = true;
                continue;
            }
        };
        if only_reads {
            // All of it is as it was at one moment.
            return Ok(Ok(told.into_iter().map(|told| result(told, Revision::default())).collect()));
        }
        match face.keys.commit(Batch::new(operations)?).await {
            Ok(revision) => return Ok(Ok(results(face, told, revision).await?)),
            Err(KeyValueError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let why = Arc::from("others change the same keys all the time");
    Err(KeyValueError::Unavailable(why).into())
}

/// What is kept of what `ops` are about.
async fn view(face: &Face, ops: &[Op]) -> Result<View, Error> {
    let (keys, trees) = (ops.iter().filter_map(Op::key), ops.iter().filter_map(Op::tree));
    let mut view = View::new();
    if ops.iter().all(Op::only_reads) {
        let all = face.keys.list(Prefix::all()).await?;
        let (keys, trees): (BTreeSet<&Key>, Vec<_>) = (keys.collect(), trees.collect());
        let wanted = |key: &Key| keys.contains(key) || trees.iter().any(|tree| tree.includes(key));
        view.extend(all.entries.into_iter().filter(|e| wanted(&e.key)).map(|e| (e.key.clone(), e)));
        return Ok(view);
    }
    for tree in trees {
        let (_, entries) = tree.entries(face).await?;
        view.extend(entries.into_iter().map(|entry| (entry.key.clone(), entry)));
    }
    for key in keys {
        if let Some(entry) = face.keys.get(key.clone()).await? {
            view.insert(key.clone(), entry);
        }
    }
    Ok(view)
}

/// What is told of a transaction that was done by `revision`. A value that was put where it was already has kept its
/// index; what somebody else changed since has not.
async fn results(face: &Face, told: Vec<Told>, revision: Revision) -> Result<Vec<TxnResult>, Error> {
    let mut results = Vec::with_capacity(told.len());
    for told in told {
        let kept = match told.at {
            At::Now => face.keys.get(told.key.clone()).await?,
            At::Never | At::Before(_) => None,
        };
        let at = kept.map_or(revision, |entry| entry.revision.min(revision));
        results.push(result(told, at));
    }
    Ok(results)
}

fn result(told: Told, now: Revision) -> TxnResult {
    let Told { key, value, at } = told;
    let index = match at {
        At::Never => 0,
        At::Before(revision) => index_of(revision),
        At::Now => index_of(now),
    };
    let value = value.filter(|value| !value.is_empty()).map(|value| Base64(value.to_vec()));
    let (create_index, modify_index) = (index, index);
    TxnResult::Kv(KeyEntry { key: key.to_string(), value, create_index, modify_index, ..KeyEntry::default() })
}
