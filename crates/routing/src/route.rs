//! A checked route, and what is wrong with one that cannot be checked.

use std::fmt;

use http::{HeaderMap, HeaderName};
use portolan_model::{IdError, ServiceName};

use crate::balance::Policy;
use crate::config::RouteSpec;

/// A route that holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What people call it.
    pub name: String,
    /// Which hosts it is for.
    pub(crate) host: HostPattern,
    /// The path prefix without a trailing `/`; empty fits every path.
    pub(crate) prefix: String,
    /// Headers it asks for.
    pub(crate) headers: Vec<(HeaderName, String)>,
    /// The service that gets the requests.
    pub service: ServiceName,
    /// Take the prefix off before forwarding.
    pub(crate) strip_prefix: bool,
    /// Forward the client's `Host`.
    pub preserve_host: bool,
    /// How to balance, where the route says.
    pub balance: Option<Policy>,
    /// Who wants it.
    pub origin: Origin,
}

/// Who wants a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// The user, in the config.
    #[default]
    Config,
    /// Instances of its service, in their meta.
    Labels,
}

/// Which hosts a route is for; lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostPattern {
    Any,
    Exact(String),
    /// Holds `.example.com` for `*.example.com`.
    Under(String),
}

/// A [`HostPattern`] that owns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostRef<'h> {
    Any,
    Exact(&'h str),
    Under(&'h str),
}

/// A route that does not hold together: it is reported, and routes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRoute {
    /// The route's name, or its place when it has none.
    pub name: String,
    /// What is wrong, for people.
    pub reason: String,
}

impl Route {
    pub(crate) fn check(index: usize, spec: &RouteSpec) -> Result<Self, BrokenRoute> {
        let name = if spec.name.is_empty() { format!("route {}", index + 1) } else { spec.name.clone() };
        Self::parse(&name, spec).map_err(|flaw| BrokenRoute { name, reason: flaw.to_string() })
    }

    pub(crate) fn parse(name: &str, spec: &RouteSpec) -> Result<Self, Flaw> {
        Ok(Self {
            name: name.to_owned(),
            host: spec.host.as_deref().map_or(Ok(HostPattern::Any), host_pattern)?,
            prefix: spec.path.as_deref().map_or(Ok(String::new()), prefix)?,
            headers: spec.headers.iter().map(header).collect::<Result<_, _>>()?,
            service: ServiceName::new(&spec.service)?,
            strip_prefix: spec.strip_prefix,
            preserve_host: spec.preserve_host,
            balance: spec.balance,
            origin: Origin::Config,
        })
    }

    /// How many segments its path has.
    pub(crate) fn depth(&self) -> usize {
        depth(&self.prefix)
    }

    pub(crate) fn headers_fit(&self, headers: &HeaderMap) -> bool {
        self.headers
            .iter()
            .all(|(name, value)| headers.get_all(name).iter().any(|v| v.as_bytes() == value.as_bytes()))
    }
}

impl HostPattern {
    pub(crate) fn as_ref(&self) -> HostRef<'_> {
        match self {
            Self::Any => HostRef::Any,
            Self::Exact(host) => HostRef::Exact(host),
            Self::Under(suffix) => HostRef::Under(suffix),
        }
    }
}

impl<'h> HostRef<'h> {
    /// Every pattern that fits `host`, the more specific before the less.
    pub(crate) fn fitting(host: &'h str, wildcards: bool) -> impl Iterator<Item = Self> {
        // No name is longer; nor is time spent on what is no name.
        let dots = (wildcards && host.len() <= NAME_LIMIT).then(|| host.match_indices('.'));
        let under =
            dots.into_iter().flatten().filter(|(at, _)| *at > 0).map(|(at, _)| Self::Under(&host[at..]));
        std::iter::once(Self::Exact(host)).chain(under).chain([Self::Any])
    }
}

/// As people write it; any host is written by its absence.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Exact(host) => f.write_str(host),
            Self::Under(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// How many segments a path prefix has.
pub(crate) fn depth(prefix: &str) -> usize {
    prefix.bytes().filter(|b| *b == b'/').count()
}

/// The longest host name (RFC 1035).
const NAME_LIMIT: usize = 253;

/// What is wrong with a route.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("host {0:?} is not a host name; write shop.example.com or *.example.com, without a port")]
    Host(String),
    #[error("path {0:?} does not start with /")]
    Path(String),
    #[error("path {0:?} holds `.` or `..` segments, a query or a fragment")]
    PathForm(String),
    #[error("header {0:?} is not a header name")]
    Header(String),
    #[error("portolan_strip {0:?} is neither true nor false")]
    Strip(String),
    #[error("it names neither a host nor a path, and would take every request")]
    Everything,
    #[error("the path has more than {} segments", crate::labels::DEPTH_LIMIT)]
    Depth,
    #[error(transparent)]
    Service(#[from] IdError),
}

fn host_pattern(text: &str) -> Result<HostPattern, Flaw> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let fits = !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
    match (fits, lower.strip_prefix('*')) {
        (false, _) => Err(Flaw::Host(text.to_owned())),
        (true, Some(suffix)) => Ok(HostPattern::Under(suffix.to_owned())),
        (true, None) => Ok(HostPattern::Exact(lower)),
    }
}

fn prefix(text: &str) -> Result<String, Flaw> {
    if !text.starts_with('/') {
        return Err(Flaw::Path(text.to_owned()));
    }
    let normal = crate::path::normalise(text).ok();
    if normal.as_deref() != Some(text) || text.contains(['?', '#']) {
        return Err(Flaw::PathForm(text.to_owned()));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn header((name, value): (&String, &String)) -> Result<(HeaderName, String), Flaw> {
    let parsed = HeaderName::try_from(name.as_str()).map_err(|_| Flaw::Header(name.clone()))?;
    Ok((parsed, value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaws_are_named() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut RouteSpec), expect: &str) {
            let mut spec = RouteSpec { service: "web".into(), ..RouteSpec::default() };
            change(&mut spec);
            let got =
                Route::check(2, &spec).map_or_else(|b| format!("{}: {}", b.name, b.reason), |r| r.prefix);
            assert_eq!(got, expect);
        }
        check(|_| (), "");
        check(|s| s.path = Some("/".into()), "");
        check(|s| s.path = Some("/api/".into()), "/api");
        check(|s| s.path = Some("api".into()), "route 3: path \"api\" does not start with /");
        check(
            |s| s.path = Some("/a/../b".into()),
            "route 3: path \"/a/../b\" holds `.` or `..` segments, a query or a fragment",
        );
        check(|s| s.service.clear(), "route 3: service name is empty");
        check(
            |s| (s.name, s.host) = ("shop".into(), Some("a:80".into())),
            "shop: host \"a:80\" is not a host name; write shop.example.com or *.example.com, without a port",
        );
        check(|s| s.host = Some("*.Example.com".into()), "");
        check(
            |s| s.headers = [("x y".to_owned(), "1".to_owned())].into(),
            "route 3: header \"x y\" is not a header name",
        );
    }
}
