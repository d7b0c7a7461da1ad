//! `ip:port`, as gliderlabs/registrator wrote it, and a second key with the rest.

use bytes::Bytes;
use portolan_model::{Endpoint, Host};
use serde::{Deserialize, Serialize};

use super::extras::{Extras, bare};
use super::json::encoded;
use super::{Kept, Place, foreign_id, own_id};

/// Where second keys are, below the prefix.
pub(super) const EXTRAS: &str = ".portolan/";

#[derive(Serialize, Deserialize)]
struct Value {
    /// The main key's value that this belongs to: when somebody else has replaced that, this is about nothing.
    at: String,
    #[serde(flatten)]
    extras: Extras,
}

pub(super) fn write(kept: &Kept) -> Vec<Bytes> {
    let at = kept.registration.endpoint.to_string();
    let main = Bytes::from(at.clone());
    vec![main, encoded(&Value { at, extras: Extras::of(kept) })]
}

pub(super) fn read(place: &Place, main: &[u8], extra: Option<&[u8]>) -> Option<Kept> {
    let extra = extra.and_then(|extra| serde_json::from_slice::<Value>(extra).ok());
    match extra.filter(|extra| extra.at.as_bytes() == main && extra.extras.is_known()) {
        Some(extra) => extra.extras.with(place, own_id(place)?, endpoint(main)?),
        None => read_foreign(place, main),
    }
}

/// A plain `ip:port` that somebody else wrote.
pub(super) fn read_foreign(place: &Place, main: &[u8]) -> Option<Kept> {
    bare(place, foreign_id(place)?, endpoint(main)?)
}

fn endpoint(text: &[u8]) -> Option<Endpoint> {
    let (host, port) = std::str::from_utf8(text).ok()?.trim().rsplit_once(':')?;
    Some(Endpoint { host: host.parse::<Host>().ok()?, port: port.parse().ok()? })
}
