//! Consul's key-value store: `/v1/kv` and `/v1/txn`.
//!
//! What differs from Consul on purpose, beside what a registry's keys are (no empty segments, at most
//! [`Batch::BYTES`] in a value, no flags, no sessions, nothing known of their making, so that `CreateIndex` is the last
//! change as well): keys that cannot be are not found, and are refused where they would be written; a removal of more
//! than [`Batch::OPERATIONS`] keys is not done at one moment; a list's index is that of the newest change of any key, so
//! that whoever asks on after a change elsewhere is answered at once, with nothing new.

mod find;
mod judge;
mod transaction;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use consul_api::{Base64, KeyEntry};
use portolan_model::{Batch, Condition, Effect, Entry, Key, KeyValueError, Operation, Revision};

use super::Face;
use super::error::{BadQuery, Error};
use super::query::Params;
use super::render::{indexed, json};
use super::request::{self, Text};
use find::{Beginning, Found, Sought};

pub(super) use transaction::transact;

/// `GET /v1/kv/`.
pub(super) async fn read_all(state: State<Arc<Face>>, params: Params) -> Result<Response, Error> {
    read(state, Text(String::new()), params).await
}

/// `GET /v1/kv/:key`.
pub(super) async fn read(
    State(face): State<Arc<Face>>,
    Text(text): Text,
    params: Params,
) -> Result<Response, Error> {
    let asked = params.asked(&face.site.datacenter)?;
    let (names, all) = (params.is_there("keys")?, params.is_there("recurse")?);
    let root = text.is_empty();
    let sought = match names || all {
        true => Sought::All(Beginning(text)),
        false if root => return Err(Error::MissingKeyName),
        false => Sought::One(text),
    };
    sought.until_change(&face, &asked).await?;
    let Found { index, entries } = sought.find(&face, asked.consistency).await?;
    let response = if entries.is_empty() && !(names && root) {
        StatusCode::NOT_FOUND.into_response()
    } else if let (true, Sought::All(beginning)) = (names, &sought) {
        // Consul has spelled it both ways.
        let separator = match params.said("separator")? {
            None => params.said("seperator")?,
            said => said,
        };
        let separator = separator.unwrap_or_default();
        json(&params, &beginning.names(&entries, separator))?
    } else if let (false, true, [entry]) = (all, params.is_there("raw")?, &entries[..]) {
        raw(entry)
    } else {
        json(&params, &entries.iter().map(|entry| rendered(entry)).collect::<Vec<_>>())?
    };
    Ok(indexed(response, &asked, index))
}

/// `PUT /v1/kv/:key`.
pub(super) async fn write(
    State(face): State<Arc<Face>>,
    Text(text): Text,
    params: Params,
    request: Request,
) -> Result<Response, Error> {
    let condition = condition(params.asked_of_keys(&face.site.datacenter)?);
    let key = Key::new(text).map_err(Error::Key)?;
    let value = request::bytes(request, &face.limits).await?;
    match face.keys.put(key, Arc::from(&value[..]), condition).await {
        Ok(_) => json(&params, &true),
        Err(KeyValueError::Conflict { .. }) => json(&params, &false),
        Err(error) => Err(error.into()),
    }
}

/// `DELETE /v1/kv/`.
pub(super) async fn delete_all(state: State<Arc<Face>>, params: Params) -> Result<Response, Error> {
    delete(state, Text(String::new()), params).await
}

/// `DELETE /v1/kv/:key`. What is not there is deleted already.
pub(super) async fn delete(
    State(face): State<Arc<Face>>,
    Text(text): Text,
    params: Params,
) -> Result<Response, Error> {
    let cas = params.asked_of_keys(&face.site.datacenter)?;
    if params.is_there("recurse")? {
        if cas.is_some() {
            return Err(BadQuery::Both("recurse", "cas").into());
        }
        delete_all_of(&face, &Beginning(text)).await?;
        return json(&params, &true);
    }
    if text.is_empty() {
        return Err(Error::MissingKeyName);
    }
    let Ok(key) = Key::new(text) else { return json(&params, &true) };
    match face.keys.delete(key, condition(cas)).await {
        Ok(_) | Err(KeyValueError::Conflict { current: None, .. }) => json(&params, &true),
        Err(KeyValueError::Conflict { current: Some(_), .. }) => json(&params, &false),
        Err(error) => Err(error.into()),
    }
}

/// Deletes what is there when it begins, as many at a time as a batch holds.
async fn delete_all_of(face: &Face, beginning: &Beginning) -> Result<(), Error> {
    let (_, entries) = beginning.entries(face).await?;
    for entries in entries.chunks(Batch::OPERATIONS) {
        let gone = |entry: &Arc<Entry>| Operation {
            key: entry.key.clone(),
            condition: Condition::Always,
            effect: Effect::Delete,
        };
        face.keys.commit(Batch::new(entries.iter().map(gone).collect())?).await?;
    }
    Ok(())
}

/// What `cas` asks for: index 0 is that of what is not there.
fn condition(cas: Option<u64>) -> Condition {
    match cas {
        None => Condition::Always,
        Some(0) => Condition::Absent,
        Some(index) => Condition::At(Revision(index)),
    }
}

/// The index that stands for a revision. It is never 0, for clients would loop; no key was ever changed at 0.
fn index_of(revision: Revision) -> u64 {
    revision.0.max(1)
}

/// An entry in Consul's form, which has `null` for no bytes.
fn rendered(entry: &Entry) -> KeyEntry {
    let Entry { key, value, revision } = entry;
    let value = (!value.is_empty()).then(|| Base64(value.to_vec()));
    let index = index_of(*revision);
    KeyEntry { key: key.to_string(), value, create_index: index, modify_index: index, ..KeyEntry::default() }
}

/// A value alone. Nobody knows what it is: no browser shall find out.
fn raw(entry: &Entry) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("content-security-policy"), "sandbox"),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), entry.value.to_vec())
        .into_response()
}
