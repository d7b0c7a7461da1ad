//! What must hold before a request is looked at: one reading of it, the same for us and for every instance.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri, Version};
use routing::{Question, Rewrite, normalise};

use super::answer::Refusal;
use crate::body::Body;

/// Where a vetted request is aimed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// With the port, if the client sent one.
    host: Option<String>,
    /// The path in normal form where that differs from the one sent.
    normal: Option<String>,
    /// The path as sent.
    path: String,
}

/// Checks framing, host and path.
pub(super) fn vet(request: &Request<Body>) -> Result<Target, Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    framing(request.headers())?;
    let host = host(request)?;
    let path = request.uri().path();
    let normal = match normalise(path)? {
        Cow::Borrowed(_) => None,
        Cow::Owned(normal) => Some(normal),
    };
    Ok(Target { host, normal, path: path.to_owned() })
}

impl Target {
    pub(super) fn question<'q>(&'q self, headers: &'q HeaderMap) -> Question<'q> {
        Question { host: self.host.as_deref(), path: self.path(), headers }
    }

    /// The request target for the instance: origin form (RFC 9112 section 3.2.1), the query as it came.
    pub(super) fn rewritten(&self, rewrite: &Rewrite, sent: &Uri) -> Result<Uri, Refusal> {
        if *rewrite == Rewrite::Keep && self.normal.is_none() && sent.authority().is_none() {
            return Ok(sent.clone());
        }
        let path = rewrite.apply(self.path());
        let target = match sent.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        PathAndQuery::try_from(target).map(Uri::from).map_err(|_| Refusal::Target)
    }

    fn path(&self) -> &str {
        self.normal.as_deref().unwrap_or(&self.path)
    }
}

/// A body has one length (RFC 9112 section 6): whoever reads the same bytes must find the same end, or the next
/// request on the connection is an attacker's.
fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !chunked || codings.next().is_some() || headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::Framing);
    }
    Ok(())
}

/// The codec drops a `Content-Length` that stands beside `Transfer-Encoding` before anybody can see it. What is
/// forwarded is then sound; but whoever sent both must not get another request read from that connection (RFC 9112
/// section 6.1), and as they cannot be told from other senders of chunked bodies, none of these do.
pub(super) fn may_have_had_two_lengths(request: &Request<Body>) -> bool {
    request.headers().contains_key(TRANSFER_ENCODING)
}

/// Exactly one host in HTTP/1.1 (RFC 9112 section 3.2); an absolute target overrides the header.
fn host(request: &Request<Body>) -> Result<Option<String>, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() || (header.is_none() && request.version() >= Version::HTTP_11) {
        return Err(Refusal::Host);
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.as_str().rsplit('@').next().unwrap_or_default().to_owned()));
    }
    let Some(header) = header else { return Ok(None) };
    let text = header.to_str().ok().filter(|text| text.bytes().all(is_host_byte));
    text.map(|text| Some(text.to_owned())).ok_or(Refusal::Host)
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']' | b'%' | b'~' | b'!')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<Body> {
        let mut builder = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::default()).unwrap()
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn check(method: &str, target: &str, headers: &[(&str, &str)], expect: &str) {
            let got = vet(&request(method, target, headers)).map_or_else(|r| r.cause(), |_| "ok");
            assert_eq!(got, expect, "{method} {target} {headers:?}");
        }
        let host = ("host", "a");
        check("GET", "/", &[host], "ok");
        check("GET", "/", &[], "host_invalid");
        check("GET", "/", &[host, ("host", "b")], "host_invalid");
        check("GET", "/", &[("host", "a b")], "host_invalid");
        check("GET", "/", &[("host", "a/b")], "host_invalid");
        check("CONNECT", "a:80", &[host], "connect_not_supported");
        check("POST", "/", &[host, ("transfer-encoding", "chunked")], "ok");
        check(
            "POST",
            "/",
            &[host, ("transfer-encoding", "chunked"), ("content-length", "3")],
            "framing_invalid",
        );
        check("POST", "/", &[host, ("transfer-encoding", "gzip, chunked")], "framing_invalid");
        check(
            "POST",
            "/",
            &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "x")],
            "framing_invalid",
        );
        check("GET", "/a%00", &[host], "path_invalid");
    }

    #[test]
    fn targets() {
        #[track_caller]
        fn check(target: &str, rewrite: &Rewrite, expect: &str) {
            let request = request("GET", target, &[("host", "a")]);
            let vetted = vet(&request).unwrap_or_else(|r| panic!("{r}"));
            let uri = vetted.rewritten(rewrite, request.uri()).unwrap_or_else(|r| panic!("{r}"));
            assert_eq!(uri.to_string(), expect);
        }
        check("/a/b?c=1", &Rewrite::Keep, "/a/b?c=1");
        check("/a/b?c=1", &Rewrite::Strip(2), "/b?c=1");
        check("/a?c=1", &Rewrite::Strip(2), "/?c=1");
        check("/a?", &Rewrite::Strip(2), "/?");
        check("/services?id=1", &Rewrite::Replace("/user".into()), "/user?id=1");
        check("/a/../b?c=../d", &Rewrite::Keep, "/b?c=../d");
        check("http://other:1/a/b?c", &Rewrite::Keep, "/a/b?c");
        check("http://other:1", &Rewrite::Keep, "/");
    }
}
