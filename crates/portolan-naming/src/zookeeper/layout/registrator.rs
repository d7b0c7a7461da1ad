//! gliderlabs/registrator's layout: `<base>/<service>/<ip>:<port>`. Readers such as the articles' Node gateway look at the
//! names only; the path is what counts for the endpoint.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::origin_meta::Origin;
use portolan_model::{Endpoint, Health, InstanceId, Phase, Registration};
use serde::{Deserialize, Serialize};

use super::extras::{Extras, Plain};
use super::{Place, Said};

/// How many instances of one service may share an endpoint.
const NAMESAKES: usize = 9;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Written<'a> {
    name: &'a str,
    #[serde(rename = "IP")]
    ip: String,
    public_port: u16,
    private_port: u16,
    #[serde(rename = "ContainerID")]
    container_id: &'a str,
    tags: &'a BTreeSet<String>,
    attrs: BTreeMap<String, String>,
    portolan: Extras,
}

/// Members of another type than registrator writes are as good as absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Found {
    tags: Option<BTreeSet<String>>,
    attrs: Option<BTreeMap<String, String>>,
    private_port: Option<serde_json::Value>,
    #[serde(rename = "ContainerID")]
    container_id: Option<serde_json::Value>,
    portolan: Option<serde_json::Value>,
}

/// `ip:port`, and then with zeros before the port: tcp and udp on one port are two instances with one endpoint, and a name
/// like `10.0.0.9:053` still is that endpoint to whoever parses it.
pub(super) fn names(endpoint: &Endpoint) -> Vec<String> {
    let plain = endpoint.to_string();
    let (host, port) = plain.rsplit_once(':').unwrap_or((&plain, ""));
    (0..NAMESAKES).map(|zeros| format!("{host}:{}{port}", "0".repeat(zeros))).collect()
}

pub(super) fn body(registration: &Registration, phase: Phase) -> Vec<u8> {
    let mut attrs = registration.meta.clone();
    let said = Origin::take(&mut attrs);
    let mut extras = Extras::of(registration, phase);
    extras.origin = said.is_some();
    let origin = said.unwrap_or_else(|| guessed(registration));
    let written = Written {
        name: registration.service.as_str(),
        ip: registration.endpoint.host.to_string(),
        public_port: registration.endpoint.port,
        private_port: origin.port,
        container_id: &origin.container,
        tags: &registration.tags,
        attrs,
        portolan: extras,
    };
    // Nothing in it can fail to be written.
    serde_json::to_vec(&written).unwrap_or_default()
}

pub(super) fn read(place: &Place<'_>, body: &[u8]) -> Option<Said> {
    let (host, port) = place.name.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let endpoint = Endpoint { host: host.parse().ok()?, port: port.parse().ok().filter(|_| digits)? };
    let found: Found = serde_json::from_slice(body).unwrap_or_default();
    let service = place.service.clone();
    let (tags, mut meta) = (found.tags.unwrap_or_default(), found.attrs.unwrap_or_default());
    let extras = Extras::parse(found.portolan);
    if extras.as_ref().is_some_and(|extras| extras.origin) {
        let port = found.private_port.and_then(|port| u16::try_from(port.as_u64()?).ok());
        let container = found.container_id.and_then(|id| Some(id.as_str()?.to_owned()));
        if let Some((port, container)) = port.zip(container) {
            Origin { container, port }.put(&mut meta);
        }
    }
    let plain = Plain { service, endpoint, tags, meta };
    match extras {
        Some(extras) => Some(extras.with(plain)),
        // An endpoint may be in several services, and an id is one instance in the whole registry.
        None => {
            plain.alone(InstanceId::new(format!("{}/{}", place.service, place.name)).ok()?, Health::Passing)
        }
    }
}

/// What the id says of a registration that does not say it itself: container and port of `host:container:port[:udp]`, else
/// the whole id and the port that is reached.
fn guessed(registration: &Registration) -> Origin {
    let (id, reached) = (registration.id.as_str(), registration.endpoint.port);
    let rest = id.strip_suffix(":udp").unwrap_or(id);
    let parsed = rest.rsplit_once(':').and_then(|(rest, port)| {
        let (_, container) = rest.split_once(':')?;
        Some((container, port.parse().ok()?))
    });
    let (container, port) = parsed.unwrap_or((id, reached));
    Origin { container: container.to_owned(), port }
}
