//! Asks by HTTP/1.1. Only the head of the answer counts, and only that is read.

use std::pin::pin;

use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use portolan_model::{Endpoint, Health};

use super::dial::Dialer;
use super::{Finding, Unasked};
use crate::check::spec::Trust;

/// The longest head of an answer.
const HEAD_LIMIT: usize = 16 << 10;
/// How many redirects are followed, and only within the instance itself.
const REDIRECTS_LIMIT: usize = 5;

pub(super) async fn ask(
    dialer: &Dialer,
    to: &Endpoint,
    method: &Method,
    path: &PathAndQuery,
    tls: Option<Trust>,
) -> Result<Finding, Unasked> {
    let mut path = path.clone();
    for _ in 0..=REDIRECTS_LIMIT {
        let (status, headers) = once(dialer, to, method, &path, tls).await?;
        if !status.is_redirection() {
            return Ok(Finding::new(health(status), &format!("it answers {status}")));
        }
        match next(&headers, &path, to, tls) {
            Ok(there) => path = there,
            Err(where_) => {
                let text = format!("it answers {status} and points {where_}, which is not checked");
                return Ok(Finding::critical(text));
            }
        }
    }
    Ok(Finding::critical("it redirects too often"))
}

/// Consul's reading.
fn health(status: StatusCode) -> Health {
    match status {
        status if status.is_success() => Health::Passing,
        StatusCode::TOO_MANY_REQUESTS => Health::Warning,
        _ => Health::Critical,
    }
}

async fn once(
    dialer: &Dialer,
    to: &Endpoint,
    method: &Method,
    path: &PathAndQuery,
    tls: Option<Trust>,
) -> Result<(StatusCode, HeaderMap), Unasked> {
    let stream = dialer.dial(to, tls, b"http/1.1").await?;
    let request = Request::builder()
        .method(method.clone())
        .uri(Uri::from(path.clone()))
        .header(HOST, to.to_string())
        .header(USER_AGENT, "Portolan check")
        .header(ACCEPT, "text/plain, text/*, */*")
        .header(CONNECTION, "close")
        .body(Empty::<&[u8]>::new())?;
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(HEAD_LIMIT).handshake(TokioIo::new(stream)).await?;
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It may have ended with the answer in hand.
        _ = connection => answer.await,
    };
    let (head, _body) = answer?.into_parts();
    Ok((head.status, head.headers))
}

/// The path that a redirect from `path` points to, if that is still the instance; else where it points.
fn next(
    headers: &HeaderMap,
    path: &PathAndQuery,
    to: &Endpoint,
    tls: Option<Trust>,
) -> Result<PathAndQuery, String> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| "nowhere".to_owned())?;
    let origin = format!("{}://{to}", if tls.is_some() { "https" } else { "http" });
    let there = match location.strip_prefix(&origin) {
        Some("") => Some("/".to_owned()),
        Some(rest) => rest.starts_with('/').then(|| rest.to_owned()),
        None if location.contains("://") || location.starts_with("//") => None,
        None if location.starts_with('/') => Some(location.to_owned()),
        None => path.path().rsplit_once('/').map(|(folder, _)| format!("{folder}/{location}")),
    };
    there.and_then(|path| path.parse().ok()).ok_or_else(|| format!("to {location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        #[track_caller]
        fn check(location: &str, tls: Option<Trust>, expect: Result<&str, &str>) {
            let to = Endpoint { host: "10.0.0.9".parse().unwrap(), port: 80 };
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            let path = PathAndQuery::from_static("/a/b?c=d");
            let got = next(&headers, &path, &to, tls).map(|path| path.to_string());
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned));
        }
        check("/login?a=b", None, Ok("/login?a=b"));
        check("http://10.0.0.9:80/login", None, Ok("/login"));
        check("https://10.0.0.9:80/", Some(Trust::System), Ok("/"));
        check("https://10.0.0.9:80/", None, Err("to https://10.0.0.9:80/"));
        check("http://10.0.0.9:81/", None, Err("to http://10.0.0.9:81/"));
        check("http://169.254.0.1/", None, Err("to http://169.254.0.1/"));
        check("//elsewhere/", None, Err("to //elsewhere/"));
        check("http://10.0.0.9:80", None, Ok("/"));
        check("http://10.0.0.9:8080/", None, Err("to http://10.0.0.9:8080/"));
        check("login", None, Ok("/a/login"));
        check("/a b", None, Err("to /a b"));
    }
}
