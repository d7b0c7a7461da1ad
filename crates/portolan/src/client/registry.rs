//! The client's end of the HTTP API.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::failure::Failure;

/// How long an answer may take that nobody asked to be delayed.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer that is read.
const ANSWER_LIMIT: u64 = 256 << 20;

/// Everything but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A registry somewhere.
#[derive(Debug)]
pub(super) struct Registry {
    agent: Agent,
    base: String,
}

/// An answer and the index that a blocking query continues from.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) body: T,
    pub(super) index: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nobody answers.
    #[error("cannot reach the registry at {base}: {}; is `portolan up` running?", plain(source))]
    Unreachable {
        /// Where.
        base: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// It says no.
    #[error("the registry at {base} says {status}: {reason}")]
    Refused {
        /// Where.
        base: String,
        /// The status code.
        status: u16,
        /// Its own words.
        reason: String,
    },
    /// It says something else than a registry would.
    #[error("{base} answers, but not as a registry: {source}")]
    Strange {
        /// Where.
        base: String,
        /// What is strange.
        source: serde_json::Error,
    },
}

impl Registry {
    /// The registry at this URL; `http://` may be left out.
    pub(super) fn at(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Err(Failure::Usage(format!("--http-addr {url:?}: {why}")));
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return wrong("the HTTP API is not served over TLS; write http://HOST:PORT");
            }
            Some(_) => return wrong("write http://HOST:PORT"),
            None => url,
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return wrong("write http://HOST:PORT");
        }
        // The registry is near; a proxy meant for the world outside would only lose the way to loopback.
        let config = Agent::config_builder().http_status_as_error(false).proxy(None).max_redirects(0);
        Ok(Self { agent: config.build().into(), base: format!("http://{authority}") })
    }

    /// Where it is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Reads.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        self.get_within(path, query, TIMEOUT).map(|answer| answer.body)
    }

    /// Reads, waiting up to `timeout` for the answer.
    pub(super) fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<Answer<T>, ClientError> {
        let request = self.agent.get(format!("{}{path}", self.base)).query_pairs(query.iter().copied());
        let response = request.config().timeout_global(Some(timeout)).build().call();
        let response = response.map_err(|source| self.unreachable(source))?;
        let index =
            response.headers().get("x-consul-index").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = self.text(response)?;
        let strange = |source| ClientError::Strange { base: self.base.clone(), source };
        Ok(Answer { body: serde_json::from_str(&text).map_err(strange)?, index: index.unwrap_or_default() })
    }

    /// Writes.
    pub(super) fn put(&self, path: &str, body: Option<&impl Serialize>) -> Result<(), ClientError> {
        let strange = |source| ClientError::Strange { base: self.base.clone(), source };
        let body = body.map(serde_json::to_vec).transpose().map_err(strange)?.unwrap_or_default();
        let request = self.agent.put(format!("{}{path}", self.base)).content_type("application/json");
        let response = request.config().timeout_global(Some(TIMEOUT)).build().send(&body);
        let response = response.map_err(|source| self.unreachable(source))?;
        self.text(response).map(drop)
    }

    fn text(&self, mut response: ureq::http::Response<ureq::Body>) -> Result<String, ClientError> {
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_LIMIT).lossy_utf8(true);
        let text = body.read_to_string().map_err(|source| self.unreachable(source))?;
        if status.is_success() {
            return Ok(text);
        }
        let reason = text.trim().chars().take(1000).collect();
        Err(ClientError::Refused { base: self.base.clone(), status: status.as_u16(), reason })
    }

    fn unreachable(&self, source: ureq::Error) -> ClientError {
        ClientError::Unreachable { base: self.base.clone(), source: Box::new(source) }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::failed(error)
    }
}

/// The system's own words where there are any.
fn plain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// `text` as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        #[track_caller]
        fn check(url: &str, expect: Result<&str, &str>) {
            let got = Registry::at(url).map(|registry| registry.base).map_err(|failure| failure.to_string());
            match expect {
                Ok(base) => assert_eq!(got.as_deref(), Ok(base)),
                Err(part) => assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{got:?}"),
            }
        }
        check("http://127.0.0.1:8500", Ok("http://127.0.0.1:8500"));
        check("http://registry/", Ok("http://registry"));
        check("127.0.0.1:8500", Ok("http://127.0.0.1:8500"));
        check("https://registry", Err("not served over TLS"));
        check("ftp://registry", Err("write http://HOST:PORT"));
        check("http://registry/v1", Err("write http://HOST:PORT"));
        check("", Err("write http://HOST:PORT"));
    }

    #[test]
    fn segments() {
        assert_eq!(segment("host:web/1 é"), "host%3Aweb%2F1%20%C3%A9");
    }
}
