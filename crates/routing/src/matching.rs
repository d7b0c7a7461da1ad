//! Which service a request is for, and with which path.
//!
//! Routes come first: the more specific host, then the longer prefix, then more headers, then the order written, then
//! what instances ask for. After them the articles' contracts: `service_name` + `api_name` headers on `/services…`, then
//! `Host: <service>.<domain>`, then `/<service>/<rest>`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use portolan_model::ServiceName;

use crate::balance::Upstream;
use crate::path::{decode, normalise};
use crate::route::{Origin, Route};
use crate::table::RouteTable;

/// The prefix of the header contract.
const SERVICES: &str = "/services";

/// What matching looks at.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// The request's host, with or without a port.
    pub host: Option<&'q str>,
    /// The path in normal form (see [`normalise`]), without the query.
    pub path: &'q str,
    /// The request's headers.
    pub headers: &'q HeaderMap,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Matched<'t> {
    /// What decided it.
    pub rule: Rule<'t>,
    /// The service's instances.
    pub upstream: &'t Arc<Upstream>,
    /// What becomes of the path.
    pub rewrite: Rewrite,
}

/// What decided where a request goes.
#[derive(Debug, Clone, Copy)]
pub enum Rule<'t> {
    /// A route, configured or asked for by instances.
    Route(&'t Route),
    /// The `service_name` and `api_name` headers on `/services…`.
    ServiceHeaders,
    /// `Host: <service>.<domain>`.
    ServiceHost,
    /// `/<service>/<rest>`.
    ServicePath,
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(route) => match route.origin {
                Origin::Config => write!(f, "route {:?}", route.name),
                Origin::Labels => {
                    write!(f, "route {:?} from labels of service {}", route.name, route.service)
                }
            },
            Self::ServiceHeaders => f.write_str("headers service_name and api_name"),
            Self::ServiceHost => f.write_str("host <service>.<domain>"),
            Self::ServicePath => f.write_str("path /<service>/<rest>"),
        }
    }
}

/// What becomes of the path; the query always stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// It is forwarded as it is.
    Keep,
    /// So many bytes are taken off its front; what is left may be empty, which means `/`.
    Strip(usize),
    /// It is replaced.
    Replace(String),
}

impl Rewrite {
    /// The path to forward instead of `path`.
    pub fn apply<'p>(&'p self, path: &'p str) -> &'p str {
        match self {
            Self::Keep => path,
            Self::Strip(count) if path.len() <= *count => "/",
            Self::Strip(count) => &path[*count..],
            Self::Replace(path) => path,
        }
    }
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    /// No route and no contract fits.
    #[error("no route fits this host, path and headers")]
    NoRoute,
    /// A contract names a service that was never registered.
    #[error("no service is called {0:?}")]
    UnknownService(String),
    /// The registry has not said yet what there is, so that nobody can know whether anything fits.
    #[error("the registry has not been read yet: nothing is known of what it holds")]
    RegistryUnread,
    /// `/services…` without saying which service.
    #[error("requests to /services name the service in a service_name header; it is missing")]
    ServiceNameMissing,
    /// `/services…` without saying which path.
    #[error("requests to /services name the upstream path in an api_name header; it is missing")]
    ApiNameMissing,
    /// The `api_name` is not a plain path.
    #[error("the api_name header must be a path that starts with / and has no query, fragment or space")]
    ApiNameInvalid,
}

impl RouteTable {
    /// Finds where a request goes.
    ///
    /// # Errors
    /// Says why it goes nowhere.
    pub fn find(&self, question: &Question<'_>) -> Result<Matched<'_>, Miss> {
        self.look_up(question).map_err(|miss| match miss {
            Miss::NoRoute | Miss::UnknownService(_) if !self.registry_read => Miss::RegistryUnread,
            miss => miss,
        })
    }

    fn look_up(&self, question: &Question<'_>) -> Result<Matched<'_>, Miss> {
        let host = question.host.map_or(Cow::Borrowed(""), bare_host);
        if let Some(matched) = self.routed(&host, question) {
            return Ok(matched);
        }
        if let Some(rest) = under(SERVICES, question.path)
            && let Some(matched) = self.by_headers(rest, question).transpose()
        {
            return matched;
        }
        let suffix = self.routes.domain_suffix.as_deref();
        if let Some(name) =
            suffix.and_then(|suffix| host.strip_suffix(suffix)).filter(|name| !name.is_empty())
        {
            let upstream = self.named(name)?;
            return Ok(Matched { rule: Rule::ServiceHost, upstream, rewrite: Rewrite::Keep });
        }
        self.by_path(question.path)
    }

    fn routed(&self, host: &str, question: &Question<'_>) -> Option<Matched<'_>> {
        let route = self.route(host, question.path, |route| route.headers_fit(question.headers))?;
        let upstream = self.services.get(route.service.as_str())?;
        let strips = route.strip_prefix && !route.prefix.is_empty();
        let rewrite = if strips { Rewrite::Strip(route.prefix.len()) } else { Rewrite::Keep };
        Some(Matched { rule: Rule::Route(route), upstream, rewrite })
    }

    /// `None`: the contract does not apply, because a service is really called `services` and no header says otherwise.
    fn by_headers(&self, rest: &str, question: &Question<'_>) -> Result<Option<Matched<'_>>, Miss> {
        let Some(name) = header(question.headers, "service_name", "service-name") else {
            let called_so = self.services.get(&SERVICES[1..]).is_some();
            return if called_so { Ok(None) } else { Err(Miss::ServiceNameMissing) };
        };
        let api = header(question.headers, "api_name", "api-name").ok_or(Miss::ApiNameMissing)?;
        let api =
            std::str::from_utf8(api).ok().filter(|api| is_plain_path(api)).ok_or(Miss::ApiNameInvalid)?;
        // `/services/?id=1` is `/services?id=1` written differently: a lone `/` adds nothing.
        let rest = if rest == "/" { "" } else { rest };
        let joined =
            if rest.is_empty() { api.to_owned() } else { api.trim_end_matches('/').to_owned() + rest };
        let path = normalise(&joined).map_err(|_| Miss::ApiNameInvalid)?.into_owned();
        let upstream = self.named(&String::from_utf8_lossy(name))?;
        Ok(Some(Matched { rule: Rule::ServiceHeaders, upstream, rewrite: Rewrite::Replace(path) }))
    }

    fn by_path(&self, path: &str) -> Result<Matched<'_>, Miss> {
        let segment = path[1..].split('/').next().unwrap_or_default();
        if segment.is_empty() {
            return Err(Miss::NoRoute);
        }
        let name = decode(segment).ok_or_else(|| unknown(segment))?;
        let upstream = self.named(&name)?;
        Ok(Matched { rule: Rule::ServicePath, upstream, rewrite: Rewrite::Strip(1 + segment.len()) })
    }

    fn named(&self, name: &str) -> Result<&Arc<Upstream>, Miss> {
        self.services.get(name).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> Miss {
    Miss::UnknownService(name.chars().take(ServiceName::LIMIT).collect())
}

/// The host in lower case without its port; IPv6 literals keep their brackets.
fn bare_host(host: &str) -> Cow<'_, str> {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    if bare.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

/// What follows `prefix` in `path`, if it ends there or at a `/`.
fn under<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Both spellings: nginx in front drops header names with `_` unless told otherwise.
fn header<'h>(headers: &'h HeaderMap, name: &'static str, with_dash: &'static str) -> Option<&'h [u8]> {
    let get = |name| headers.get(HeaderName::from_static(name));
    get(name).or_else(|| get(with_dash)).map(http::HeaderValue::as_bytes).filter(|value| !value.is_empty())
}

fn is_plain_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\'))
}

#[cfg(test)]
mod tests;
