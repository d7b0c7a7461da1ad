//! One JSON value with everything: `{"host":"10.0.0.1","port":80,"v":1,"owner":…}`.

use bytes::Bytes;
use portolan_model::{Endpoint, Host};
use serde::{Deserialize, Serialize};

use super::extras::Extras;
use super::{Kept, Place, own_id, registrator};

#[derive(Serialize, Deserialize)]
struct Value {
    host: Host,
    port: u16,
    #[serde(flatten)]
    extras: Extras,
}

pub(super) fn write(kept: &Kept) -> Bytes {
    let Endpoint { host, port } = kept.registration.endpoint.clone();
    encoded(&Value { host, port, extras: Extras::of(kept) })
}

pub(super) fn read(place: &Place, main: &[u8]) -> Option<Kept> {
    match serde_json::from_slice::<Value>(main) {
        Ok(Value { host, port, extras }) => {
            let known = extras.is_known().then_some(extras)?;
            known.with(place, own_id(place)?, Endpoint { host, port })
        }
        Err(_) => registrator::read_foreign(place, main),
    }
}

pub(super) fn encoded(value: &impl Serialize) -> Bytes {
    // Only maps with keys that are no texts, or a failing writer, could fail; neither is here.
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}
