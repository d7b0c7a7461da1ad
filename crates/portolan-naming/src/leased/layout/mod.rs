//! How instances are written as keys and values, and read back; pure.
//!
//! An instance is one key, [`Part::Main`], below a prefix: `<prefix>/<service>/<id>`. Where its value cannot hold all that
//! is known of an instance, the rest is in a second key, [`Part::Extra`], that is always written and removed with it.
//! What others wrote is read as far as it goes; what cannot be read is nobody's instance and is left alone.

mod extras;
mod json;
mod registrator;
mod skydns;

use bytes::Bytes;
use portolan_model::{IdError, InstanceId, Limit, Phase, Registration, ServiceName};

/// How instances are kept as keys.
///
/// * `json`: `<prefix>/<service>/<id>` = one JSON value with everything.
/// * `registrator`: `<prefix>/<service>/<id>` = `ip:port`, as gliderlabs/registrator writes it; what that cannot hold is in
///   `<prefix>/.portolan/<service>/<id>`, as JSON.
/// * `skydns`: `/skydns/<reversed domain>/<service>/<id>` = `{"host":…,"port":…,"weight":…}`, as CoreDNS and SkyDNS read it;
///   what they do not know is in the member `portolan`.
///
/// All of them read plain `ip:port` values written by others. The id of such an instance is the last part of its key
/// if that holds a colon, as registrators make ids (`host:container:port`), else `<service>/<part>`: short parts such as `1`
/// repeat between services, and an id is one instance in the whole registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    form: Form,
    /// What all keys begin with; ends with `/`.
    prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Registrator,
    Skydns,
}

/// Where an instance is kept: a service and what tells it from its siblings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) service: ServiceName,
    pub(crate) rest: Box<str>,
}

/// Which of an instance's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Main,
    Extra,
}

/// What is kept of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) registration: Registration,
    pub(crate) phase: Phase,
}

impl Layout {
    pub(crate) fn json(path: &str) -> Self {
        let path = if path.is_empty() { "/portolan" } else { path };
        Self { form: Form::Json, prefix: format!("{path}/") }
    }

    pub(crate) fn registrator(path: &str) -> Self {
        Self { form: Form::Registrator, prefix: format!("{path}/") }
    }

    /// As [`Layout::registrator`] writes it to Consul, whose keys begin with no `/`.
    #[cfg(feature = "consul")]
    pub(crate) fn consulkv(path: &str) -> Self {
        let path = path.trim_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        Self { form: Form::Registrator, prefix }
    }

    /// `path` is a domain, with or without a `/` before it.
    pub(crate) fn skydns(path: &str) -> Self {
        Self { form: Form::Skydns, prefix: skydns::prefix(path.trim_matches('/')) }
    }

    /// What all keys begin with.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.prefix.as_bytes()
    }

    /// Which place a key belongs to; `None` if it is no instance's.
    pub(crate) fn locate(&self, key: &[u8]) -> Option<(Place, Part)> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(self.prefix.as_str())?;
        let (part, rest) = match rest.strip_prefix(registrator::EXTRAS) {
            Some(rest) if self.form == Form::Registrator => (Part::Extra, rest),
            _ => (Part::Main, rest),
        };
        let (service, rest) = rest.split_once('/').filter(|(_, rest)| !rest.is_empty())?;
        let service = ServiceName::new(service).ok()?;
        Some((Place { service, rest: rest.into() }, part))
    }

    /// Where `registration` is to be kept.
    ///
    /// # Errors
    /// When the layout has other uses for the name of the service.
    pub(crate) fn place(&self, registration: &Registration) -> Result<Place, Limit> {
        let service = registration.service.clone();
        if self.form == Form::Registrator && format!("{service}/") == registrator::EXTRAS {
            return Err(Limit::Id(IdError::Character { what: "service name", found: '.' }));
        }
        Ok(Place { service, rest: registration.id.as_str().into() })
    }

    /// The keys of a place: the main one first.
    pub(crate) fn keys(&self, place: &Place) -> Vec<(Part, Bytes)> {
        let Place { service, rest } = place;
        let main = format!("{}{service}/{rest}", self.prefix);
        let extra = || format!("{}{}{service}/{rest}", self.prefix, registrator::EXTRAS);
        match self.form {
            Form::Json | Form::Skydns => vec![(Part::Main, main.into())],
            Form::Registrator => vec![(Part::Main, main.into()), (Part::Extra, extra().into())],
        }
    }

    /// The values of [`Layout::keys`], in the same order.
    pub(crate) fn write(&self, kept: &Kept) -> Vec<Bytes> {
        match self.form {
            Form::Json => vec![json::write(kept)],
            Form::Registrator => registrator::write(kept),
            Form::Skydns => vec![skydns::write(kept)],
        }
    }

    /// What is kept at `place`, if it can be read.
    pub(crate) fn read(&self, place: &Place, main: &[u8], extra: Option<&[u8]>) -> Option<Kept> {
        match self.form {
            Form::Json => json::read(place, main),
            Form::Registrator => registrator::read(place, main, extra),
            Form::Skydns => skydns::read(place, main),
        }
    }
}

/// The id of what we wrote.
fn own_id(place: &Place) -> Option<InstanceId> {
    InstanceId::new(&*place.rest).ok()
}

/// The id of what somebody else wrote.
fn foreign_id(place: &Place) -> Option<InstanceId> {
    if place.rest.contains(':') {
        return own_id(place);
    }
    InstanceId::new(format!("{}/{}", place.service, place.rest)).ok()
}

#[cfg(test)]
mod tests;
