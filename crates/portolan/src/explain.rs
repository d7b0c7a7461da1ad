//! `GET /v1/portolan/explain`: asks the gateway where a request would go. It hangs on the registry's HTTP face, which
//! knows nothing of gateways; they meet here.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gateway::{Handle, Question};

/// Where it is served.
pub(crate) const PATH: &str = "/v1/portolan/explain";

/// The most headers one question may have.
const HEADERS_LIMIT: usize = 100;

/// The endpoint, for this gateway.
pub(crate) fn router(gateway: Handle) -> Router {
    Router::new().route(PATH, get(explain)).with_state(gateway)
}

async fn explain(State(gateway): State<Handle>, Query(pairs): Query<Vec<(String, String)>>) -> Response {
    let question = match question(pairs) {
        Ok(question) => question,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    match serde_json::to_vec(&gateway.explain(&question)) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn question(pairs: Vec<(String, String)>) -> Result<Question, String> {
    let mut question = Question { path: "/".to_owned(), host: None, headers: HeaderMap::new() };
    for (name, value) in pairs {
        match name.as_str() {
            "path" => question.path = value,
            "host" => question.host = Some(value).filter(|host| !host.is_empty()),
            "header" => {
                let (name, value) = parse_header(&value)?;
                question.headers.append(name, value);
            }
            _ => return Err(format!("unknown parameter {name:?}; there are path, host and header")),
        }
        if question.headers.len() > HEADERS_LIMIT {
            return Err(format!("more than {HEADERS_LIMIT} headers"));
        }
    }
    // As in a request: who says the host by header means the host.
    if question.host.is_none() {
        let host = question.headers.get(header::HOST);
        question.host = host.and_then(|host| host.to_str().ok()).map(str::to_owned);
    }
    match question.path.starts_with('/') {
        true => Ok(question),
        false => Err(format!("path {:?} does not start with /", question.path)),
    }
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("{text:?} is not a header; write NAME: VALUE");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        #[track_caller]
        fn check(pairs: &[(&str, &str)], expect: Result<(&str, Option<&str>, usize), &str>) {
            let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let got = question(owned);
            let got = got.as_ref().map(|q| (q.path.as_str(), q.host.as_deref(), q.headers.len()));
            assert_eq!(got.map_err(String::as_str), expect);
        }
        check(&[], Ok(("/", None, 0)));
        check(&[("path", "/a?b"), ("host", "h")], Ok(("/a?b", Some("h"), 0)));
        check(&[("header", "a: 1"), ("header", "a:2")], Ok(("/", None, 2)));
        check(&[("header", "Host: web.localhost")], Ok(("/", Some("web.localhost"), 1)));
        check(&[("path", "a")], Err("path \"a\" does not start with /"));
        check(&[("header", "a")], Err("\"a\" is not a header; write NAME: VALUE"));
        check(&[("header", "a b: c")], Err("\"a b: c\" is not a header; write NAME: VALUE"));
        check(&[("colour", "red")], Err("unknown parameter \"colour\"; there are path, host and header"));
    }
}
