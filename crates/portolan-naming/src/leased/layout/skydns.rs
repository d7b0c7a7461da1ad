//! SkyDNS's JSON, which CoreDNS's etcd plugin reads; what DNS does not know is in a member of our own.

use bytes::Bytes;
use portolan_model::{Endpoint, Host, Weight};
use serde::{Deserialize, Serialize};

use super::extras::{Extras, bare};
use super::json::encoded;
use super::{Kept, Place, foreign_id, own_id, registrator};

#[derive(Serialize, Deserialize)]
struct Value {
    host: Host,
    #[serde(default)]
    port: u16,
    /// For SRV records; zero means unsaid to CoreDNS.
    #[serde(default)]
    weight: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    portolan: Option<Extras>,
}

/// `apps.local` is kept below `/skydns/local/apps/`.
pub(super) fn prefix(domain: &str) -> String {
    let labels = domain.split('.').rev().filter(|label| !label.is_empty());
    labels.fold("/skydns/".to_owned(), |path, label| path + label + "/")
}

pub(super) fn write(kept: &Kept) -> Bytes {
    let Endpoint { host, port } = kept.registration.endpoint.clone();
    let weight = kept.registration.weight.0;
    encoded(&Value { host, port, weight, portolan: Some(Extras::of(kept)) })
}

pub(super) fn read(place: &Place, main: &[u8]) -> Option<Kept> {
    let Ok(Value { host, port, weight, portolan }) = serde_json::from_slice(main) else {
        return registrator::read_foreign(place, main);
    };
    let endpoint = Endpoint { host, port };
    match portolan {
        Some(extras) => extras.is_known().then_some(extras)?.with(place, own_id(place)?, endpoint),
        None => {
            let mut kept = bare(place, foreign_id(place)?, endpoint)?;
            if weight > 0 {
                kept.registration.weight = Weight(weight);
            }
            Some(kept)
        }
    }
}
