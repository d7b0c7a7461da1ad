//! The gateway's own answers: ONE table from what went wrong to what the client is told.

use std::fmt;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use portolan_model::ServiceName;
use routing::{BadPath, Failure, Miss};
use serde::Serialize;

use super::id::RequestId;
use crate::body::Body;

/// Carries the cause where a program can find it without reading the body.
const CAUSE: HeaderName = HeaderName::from_static("x-portolan-cause");

/// Why a request got no instance's answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// CONNECT asks for a tunnel to anywhere.
    Connect,
    /// The body's length can be read in two ways.
    Framing,
    /// The body broke off, or is not what its framing says.
    Body,
    /// The rest of the body did not come.
    SlowBody,
    /// No host, several, or no host name.
    Host,
    /// The path cannot be forwarded.
    Path(BadPath),
    /// The rewritten target is no target.
    Target,
    /// No route leads anywhere.
    Miss(Miss),
    /// The service is known, and nobody can take requests.
    NoUsableInstance(ServiceName),
    /// Every instance that could be tried failed; this is how the last one did.
    Failed { service: ServiceName, attempts: usize, last: Failure },
    /// A fault of ours.
    Panic,
}

impl From<Miss> for Refusal {
    fn from(miss: Miss) -> Self {
        Self::Miss(miss)
    }
}

impl From<BadPath> for Refusal {
    fn from(bad: BadPath) -> Self {
        Self::Path(bad)
    }
}

impl Refusal {
    /// Status and cause. Causes are a contract: programs branch on them.
    fn verdict(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Connect => (StatusCode::METHOD_NOT_ALLOWED, "connect_not_supported"),
            Self::Framing => (StatusCode::BAD_REQUEST, "framing_invalid"),
            Self::Body => (StatusCode::BAD_REQUEST, "body_broken"),
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::Host => (StatusCode::BAD_REQUEST, "host_invalid"),
            Self::Path(_) | Self::Target => (StatusCode::BAD_REQUEST, "path_invalid"),
            Self::Miss(Miss::NoRoute) => (StatusCode::NOT_FOUND, "no_route"),
            Self::Miss(Miss::UnknownService(_)) => (StatusCode::NOT_FOUND, "unknown_service"),
            Self::Miss(Miss::RegistryUnread) => (StatusCode::SERVICE_UNAVAILABLE, "registry_unread"),
            Self::Miss(Miss::ServiceNameMissing) => (StatusCode::BAD_REQUEST, "service_name_missing"),
            Self::Miss(Miss::ApiNameMissing) => (StatusCode::BAD_REQUEST, "api_name_missing"),
            Self::Miss(Miss::ApiNameInvalid) => (StatusCode::BAD_REQUEST, "api_name_invalid"),
            Self::NoUsableInstance(_) => (StatusCode::SERVICE_UNAVAILABLE, "no_usable_instance"),
            Self::Failed { last: Failure::Connect, .. } => (StatusCode::BAD_GATEWAY, "connect_failed"),
            Self::Failed { last: Failure::NothingSent | Failure::ClosedBeforeAnswer { .. }, .. } => {
                (StatusCode::BAD_GATEWAY, "closed_before_answer")
            }
            Self::Failed { last: Failure::BadAnswer, .. } => (StatusCode::BAD_GATEWAY, "bad_answer"),
            Self::Failed { last: Failure::Timeout, .. } => (StatusCode::GATEWAY_TIMEOUT, "response_timeout"),
            Self::Panic => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// The machine-readable cause.
    pub(super) fn cause(&self) -> &'static str {
        self.verdict().1
    }

    /// What the client gets.
    pub(super) fn answer(&self, id: &RequestId, form: Form) -> Response<Body> {
        let (status, cause) = self.verdict();
        let (media_type, text) = form.write(&Problem {
            error: cause,
            message: self.to_string(),
            status: status.as_u16(),
            request_id: id.as_str(),
        });
        let mut answer = Response::new(Body::whole(text));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CAUSE, HeaderValue::from_static(cause));
        if matches!(self, Self::Connect | Self::Framing | Self::Body | Self::SlowBody) {
            // What follows on this connection cannot be told apart from this request's body.
            super::headers::close_after(headers);
        }
        answer
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("CONNECT is not supported"),
            Self::Framing => f.write_str("the request's body has no single length"),
            Self::Body => f.write_str("the request's body broke off or is malformed"),
            Self::SlowBody => f.write_str("the rest of the request's body did not come in time"),
            Self::Host => f.write_str("the request needs exactly one well-formed Host header"),
            Self::Path(bad) => bad.fmt(f),
            Self::Target => f.write_str("the request's target cannot be forwarded"),
            Self::Miss(miss) => miss.fmt(f),
            Self::NoUsableInstance(service) => write!(f, "no instance of {service:?} can take requests"),
            Self::Failed { service, attempts, last } => {
                let what = match last {
                    Failure::Connect => "no connection to any instance tried",
                    Failure::NothingSent | Failure::ClosedBeforeAnswer { .. } => {
                        "the instance closed the connection before it answered"
                    }
                    Failure::BadAnswer => "the instance's answer is not valid HTTP",
                    Failure::Timeout => "the instance did not answer in time",
                };
                let plural = if *attempts == 1 { "" } else { "s" };
                write!(f, "{service:?}: {what} ({attempts} attempt{plural})")
            }
            Self::Panic => f.write_str("the gateway failed on this request"),
        }
    }
}

/// The body of an answer, serialized form.
#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    message: String,
    status: u16,
    request_id: &'a str,
}

/// What a client can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Text,
}

impl Form {
    /// Text for those who ask for text before JSON (browsers, `Accept: text/plain`), JSON for everybody else.
    pub(super) fn asked(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).map(HeaderValue::as_bytes).unwrap_or_default();
        let kinds = accept.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        for kind in kinds {
            if kind.starts_with(b"text/") {
                return Self::Text;
            }
            if kind.starts_with(b"application/json") || kind.starts_with(b"*/*") {
                return Self::Json;
            }
        }
        Self::Json
    }

    fn write(self, problem: &Problem<'_>) -> (&'static str, String) {
        match self {
            // Serializing strings and numbers cannot fail; an empty body would still carry status and cause.
            Self::Json => ("application/json", serde_json::to_string(problem).unwrap_or_default() + "\n"),
            Self::Text => (
                "text/plain; charset=utf-8",
                format!(
                    "{} {}\n{}\nrequest id: {}\n",
                    problem.status, problem.error, problem.message, problem.request_id
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        #[track_caller]
        fn check(accept: &'static str, expect: Form) {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Form::asked(&headers), expect, "{accept}");
        }
        check("*/*", Form::Json);
        check("application/json", Form::Json);
        check("text/plain", Form::Text);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Form::Text);
        check("image/png", Form::Json);
        assert_eq!(Form::asked(&HeaderMap::new()), Form::Json);
    }
}
