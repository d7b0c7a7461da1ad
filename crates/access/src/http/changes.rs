//! The whole book, and then each change as it happens, in one answer that does not end: a client that follows everything
//! has work in proportion to what changes, and needs one connection. Consul has nothing of the kind.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use consul_api::ChangeLine;
use futures_util::{FutureExt, stream};
use portolan_model::{Change, Instance, Interest, Subscription};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Face;
use super::blocking::index_of;
use super::error::Error;
use super::query::Params;

/// How often a client hears from us at least.
const ALIVE: Duration = Duration::from_secs(2);
/// How many bytes are sent at a time, roughly, when there is more to tell.
const PIECE: usize = 64 * 1024;

/// `GET /v1/portolan/changes`: a line of JSON for each change, a [`ChangeLine`].
pub(super) async fn changes(State(face): State<Arc<Face>>, params: Params) -> Result<Response, Error> {
    params.asked(&face.site.datacenter)?;
    let seat = Arc::clone(&face.seats).try_acquire_owned();
    let seat = seat.map_err(|_| Error::Crowded(face.limits.blocking))?;
    let subscription = face.registry.subscribe(Interest::All);
    let teller = Teller { face, subscription, rest: Vec::new().into_iter(), whole: None, _seat: seat };
    let pieces = stream::unfold(teller, |mut teller| async move {
        let piece = teller.piece().await?;
        Some((Ok::<_, Error>(piece), teller))
    });
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// Tells one client.
struct Teller {
    face: Arc<Face>,
    subscription: Subscription,
    /// What is still to be told of a reset.
    rest: std::vec::IntoIter<Arc<Instance>>,
    /// The index at which a reset is whole, while it is being told.
    whole: Option<u64>,
    _seat: OwnedSemaphorePermit,
}

impl Teller {
    /// What to send next; `None` when the face or the registry shuts down.
    async fn piece(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        if self.whole.is_none() {
            let next = timeout(ALIVE, self.subscription.next());
            let change = tokio::select! {
                biased;
                () = self.face.shutdown.triggered() => return None,
                change = next => change,
            };
            match change {
                Ok(change) => self.tell(change?, &mut piece)?,
                Err(_) => write(&mut piece, &ChangeLine::Alive {})?,
            }
        }
        while piece.len() < PIECE {
            if let Some(index) = self.whole {
                match self.rest.next() {
                    Some(instance) => {
                        write(&mut piece, &self.upsert(index_of(instance.modified), &instance))?;
                    }
                    None => {
                        self.whole = None;
                        write(&mut piece, &ChangeLine::Whole { index })?;
                    }
                }
                continue;
            }
            // What is there already goes with it.
            let Some(Some(change)) = self.subscription.next().now_or_never() else { break };
            self.tell(change, &mut piece)?;
        }
        Some(piece.into())
    }

    fn tell(&mut self, change: Change, piece: &mut Vec<u8>) -> Option<()> {
        let index = index_of(change.revision());
        match change {
            Change::Reset { revision: _, instances } => {
                self.rest = instances.into_iter();
                self.whole = Some(index);
                write(piece, &ChangeLine::Reset {})
            }
            Change::Upsert { revision: _, instance } => write(piece, &self.upsert(index, &instance)),
            Change::Remove { revision: _, service, id } => {
                let (service, id) = (service.to_string(), id.to_string());
                write(piece, &ChangeLine::Remove { index, service, id })
            }
        }
    }

    fn upsert(&self, index: u64, instance: &Instance) -> ChangeLine {
        ChangeLine::Upsert { index, entry: Box::new(self.face.site.entry(instance)) }
    }
}

/// `None` ends the answer: it cannot be told, and nothing may be left out.
fn write(piece: &mut Vec<u8>, line: &ChangeLine) -> Option<()> {
    if let Err(error) = serde_json::to_writer(&mut *piece, line) {
        tracing::error!(%error, "a change cannot be told");
        return None;
    }
    piece.push(b'\n');
    Some(())
}
