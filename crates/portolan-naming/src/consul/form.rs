//! How a registration looks in Consul, and how it is read again.
//!
//! What Consul has a word for is said in that word, so that its other clients understand it:
//!
//! - A check `service:<id>` that lives by our signs of life: passing, and critical when they stop. Consul removes the
//!   instance `deregister_after` later.
//! - A check `portolan-health:<id>` with the health that the owner says, once that is not passing. It is one more check
//!   because Consul removes what is critical for long, and an instance that says "critical" while its owner is there
//!   must stay.
//! - Consul's own maintenance mode, with the reason `portolan: draining` and/or `maintenance`.
//!
//! What Consul has no word for is in `Meta` under `portolan-…`: `portolan-owner` (which marks an instance as ours),
//! `portolan-incarnation`, `portolan-zone`, `portolan-protocol` (only `udp`), `portolan-weight` (only `0`, which Consul
//! refuses), and `portolan-meta-0…` with those attributes, as JSON, that Consul would refuse (its keys are letters,
//! digits, `-` and `_`, up to 128 of them; its values have up to 512 bytes; there are 64 entries at most).

use std::collections::BTreeMap;

use consul_api::{CheckRegistration, GoDuration, Particulars, ServiceRegistration, Weights};
use portolan_model::{Health, Limit, Protocol, Registration};

use super::config::{Config, Flavour};

/// What all our extras in `Meta` begin with.
const OURS: &str = "portolan-";
pub(super) const OWNER: &str = "portolan-owner";
pub(super) const INCARNATION: &str = "portolan-incarnation";
pub(super) const ZONE: &str = "portolan-zone";
pub(super) const PROTOCOL: &str = "portolan-protocol";
pub(super) const WEIGHT: &str = "portolan-weight";
/// Followed by a number.
const PACKED: &str = "portolan-meta-";

const META_LIMIT: usize = 64;
const KEY_LIMIT: usize = 128;
const VALUE_LIMIT: usize = 512;
/// The most extras beside packed attributes: owner, incarnation, zone, protocol, weight.
const EXTRAS: usize = 5;

/// As good as for ever: it holds a word, not a sign of life.
const WORD_TTL: GoDuration = GoDuration(10 * 365 * 86_400 * 1_000_000_000);

/// The check that our signs of life keep passing.
pub(super) fn alive_check(id: &str) -> String {
    format!("service:{id}")
}

/// The check with the health that the owner says.
pub(super) fn health_check(id: &str) -> String {
    format!("portolan-health:{id}")
}

/// What Consul shows as the owner's word. In maintenance mode it shows that instead.
pub(super) fn status_word(health: Health) -> &'static str {
    match health {
        Health::Passing | Health::Maintenance => "passing",
        Health::Warning => "warning",
        Health::Critical => "critical",
    }
}

/// Why an instance is in Consul's maintenance mode on our behalf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) draining: bool,
    pub(super) maintenance: bool,
}

impl Marks {
    const BEGIN: &str = "portolan: ";

    /// The reason shown by Consul; `None` when there is none to be in maintenance mode.
    pub(super) fn reason(self) -> Option<String> {
        let words: Vec<_> = [(self.draining, "draining"), (self.maintenance, "maintenance")]
            .into_iter()
            .filter_map(|(marked, word)| marked.then_some(word))
            .collect();
        (!words.is_empty()).then(|| format!("{}{}", Self::BEGIN, words.join(", ")))
    }

    /// Reads a reason. Somebody else's is maintenance.
    pub(super) fn of_reason(reason: &str) -> Self {
        let Some(words) = reason.strip_prefix(Self::BEGIN) else {
            return Self { draining: false, maintenance: true };
        };
        let has = |word| words.split(", ").any(|w| w == word);
        Self { draining: has("draining"), maintenance: has("maintenance") }
    }
}

/// The body that registers.
pub(super) fn body(config: &Config, said: &Registration) -> Result<ServiceRegistration, Limit> {
    let Registration {
        id,
        service,
        endpoint,
        protocol,
        tags,
        meta,
        weight,
        zone,
        owner,
        incarnation,
        health,
    } = said;
    let share = i64::from(weight.0);
    let mut body = ServiceRegistration {
        id: id.to_string(),
        name: service.to_string(),
        tags: tags.iter().cloned().collect(),
        port: endpoint.port.into(),
        address: endpoint.host.to_string(),
        weights: Some(Weights { passing: share, warning: share }),
        ..ServiceRegistration::default()
    };
    match config.flavour {
        Flavour::Portolan => {
            body.meta = meta.clone();
            body.portolan = Some(Particulars {
                phase: None,
                health: Some(health.as_str().to_owned()),
                owner: Some(owner.to_string()),
                zone: zone.as_ref().map(ToString::to_string),
                protocol: Some(protocol_word(*protocol).to_owned()),
                incarnation: Some(incarnation.0),
            });
        }
        Flavour::Consul => {
            body.weights = Some(Weights { passing: share.max(1), warning: share.max(1) });
            body.meta = packed(meta)?;
            let mut extra = |key: &str, value: String| body.meta.insert(key.to_owned(), value);
            extra(OWNER, owner.to_string());
            extra(INCARNATION, incarnation.0.to_string());
            if let Some(zone) = zone {
                extra(ZONE, zone.to_string());
            }
            if *protocol != Protocol::default() {
                extra(PROTOCOL, protocol_word(*protocol).to_owned());
            }
            if weight.0 == 0 {
                extra(WEIGHT, "0".to_owned());
            }
            body.checks = vec![CheckRegistration {
                check_id: alive_check(id.as_str()),
                name: "Portolan: sign of life".to_owned(),
                status: "passing".to_owned(),
                ttl: go(config.ttl),
                deregister_critical_service_after: go(config.deregister_after),
                ..CheckRegistration::default()
            }];
            if status_word(*health) != "passing" {
                body.checks.push(word_check(id.as_str(), *health));
            }
        }
    }
    Ok(body)
}

/// The check with the owner's word.
pub(super) fn word_check(id: &str, health: Health) -> CheckRegistration {
    CheckRegistration {
        check_id: health_check(id),
        name: "Portolan: health".to_owned(),
        status: status_word(health).to_owned(),
        ttl: WORD_TTL,
        ..CheckRegistration::default()
    }
}

fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn go(time: std::time::Duration) -> GoDuration {
    GoDuration(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

/// Attributes as Consul takes them: what it refuses is packed into extras.
fn packed(meta: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Limit> {
    let (plain, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
        meta.iter().map(|(k, v)| (k.clone(), v.clone())).partition(|(key, value)| is_plain(key, value));
    let chunks = chunks(&rest);
    if plain.len() + chunks.len() + EXTRAS <= META_LIMIT {
        return Ok(plain.into_iter().chain(chunks).collect());
    }
    // Too many entries: as JSON in a few they may still fit.
    let all = self::chunks(meta);
    if all.len() + EXTRAS <= META_LIMIT {
        return Ok(all.into_iter().collect());
    }
    Err(Limit::Text {
        what: "meta, written as JSON for Consul,",
        length: all.iter().map(|(_, chunk)| chunk.len()).sum(),
        limit: (META_LIMIT - EXTRAS) * VALUE_LIMIT,
    })
}

fn is_plain(key: &str, value: &str) -> bool {
    (1..=KEY_LIMIT).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !key.starts_with(OURS)
        && !key.starts_with("consul-")
        && value.len() <= VALUE_LIMIT
}

/// Entries as JSON, in pieces that Consul takes.
fn chunks(meta: &BTreeMap<String, String>) -> Vec<(String, String)> {
    if meta.is_empty() {
        return Vec::new();
    }
    // A map of texts always has a JSON form.
    let json = serde_json::to_string(meta).unwrap_or_default();
    let mut rest = json.as_str();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let mut end = rest.len().min(VALUE_LIMIT);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (chunk, after) = rest.split_at(end);
        chunks.push((format!("{PACKED}{}", chunks.len()), chunk.to_owned()));
        rest = after;
    }
    chunks
}

/// The user's own attributes out of those that Consul holds.
pub(super) fn unpacked(held: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let pieces = (0..).map_while(|n| held.get(&format!("{PACKED}{n}")).map(String::as_str));
    let json: String = pieces.collect();
    let mut meta: BTreeMap<_, _> = serde_json::from_str(&json).unwrap_or_default();
    meta.extend(held.into_iter().filter(|(key, _)| !key.starts_with(OURS)));
    meta
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive() {
        #[track_caller]
        fn check(meta: &[(&str, &str)], held: &[&str]) {
            let meta: BTreeMap<_, _> = meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let packed = packed(&meta).unwrap();
            assert_eq!(packed.keys().map(String::as_str).collect::<Vec<_>>(), held);
            assert!(packed.values().all(|value| value.len() <= VALUE_LIMIT));
            assert_eq!(unpacked(packed), meta);
        }
        check(&[], &[]);
        check(&[("version", "1"), ("a_b-c", "订单 \"b\"")], &["a_b-c", "version"]);
        check(&[("a.b", "1"), ("c", "2"), ("portolan-owner", "me")], &["c", "portolan-meta-0"]);
        check(&[("long", &"订".repeat(400))], &["portolan-meta-0", "portolan-meta-1", "portolan-meta-2"]);
        check(&[("consul-x", ""), ("", "")], &["portolan-meta-0"]);
    }

    #[test]
    fn many_attributes_are_packed_and_too_many_refused() {
        let meta = |n: usize, value: &str| (0..n).map(|n| (format!("k{n}"), value.to_owned())).collect();
        assert_eq!(packed(&meta(59, "v")).unwrap().len(), 59);
        let many = meta(256, "value");
        let packed_many = packed(&many).unwrap();
        assert!(packed_many.len() < 10);
        assert_eq!(unpacked(packed_many), many);
        let refused = packed(&meta(256, &"v".repeat(500))).unwrap_err();
        assert!(refused.to_string().starts_with("meta, written as JSON for Consul, has "), "{refused}");
    }

    #[test]
    fn marks_survive() {
        for (draining, maintenance) in [(true, false), (false, true), (true, true)] {
            let marks = Marks { draining, maintenance };
            assert_eq!(Marks::of_reason(&marks.reason().unwrap()), marks);
        }
        assert_eq!(Marks::default().reason(), None);
        assert_eq!(Marks::of_reason("by hand"), Marks { draining: false, maintenance: true });
    }
}
