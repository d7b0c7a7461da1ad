//! What the sample answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use serde_json::json;

use super::Config;
use super::body::Filler;
use super::serve::OwnEnd;

/// The longest `/slow` answer.
const SLOWEST: Duration = Duration::from_secs(600);

/// The longest `/bytes` answer.
const MOST_BYTES: u64 = 64 << 30;

/// The largest body that `/echo` puts into JSON; `/echo/body` takes any.
const ECHO_LIMIT: usize = 64 << 10;

type Params = Query<BTreeMap<String, String>>;

/// All endpoints.
pub(super) fn router(config: &Config) -> Router {
    let greeting = format!("This is {}.\n", title(&config.name));
    let instance = HeaderValue::from_str(&config.instance).unwrap_or(HeaderValue::from_static("unnamed"));
    Router::new()
        .route("/", get(move || async move { greeting }))
        .route("/user", get(user))
        .route("/getRemoteIp", get(own_ip))
        .route("/slow", any(slow))
        .route("/echo", any(echo))
        .route("/echo/body", any(echo_body))
        .route("/bytes", get(bytes))
        .route("/health", get(health).put(set_health))
        .layer(Extension(Wellness(Arc::new(AtomicU16::new(StatusCode::OK.as_u16())))))
        .layer(map_response_with_state(instance, name_instance))
}

/// `service_1` is called "Service 1", as in the articles; any other name is its own title.
fn title(name: &str) -> String {
    match name.strip_prefix("service_") {
        Some(number) if !number.is_empty() => format!("Service {number}"),
        _ => name.to_owned(),
    }
}

async fn name_instance(State(instance): State<HeaderValue>, mut response: Response) -> Response {
    response.headers_mut().insert("x-instance", instance);
    response
}

/// What `/health` answers. A `PUT` changes it, so that checks can be seen to notice.
#[derive(Clone)]
struct Wellness(Arc<AtomicU16>);

async fn health(Extension(Wellness(status)): Extension<Wellness>) -> Response {
    let status = StatusCode::from_u16(status.load(Relaxed)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let words = if status.is_success() { "ok\n" } else { "not well\n" };
    (status, words).into_response()
}

async fn set_health(Extension(Wellness(now)): Extension<Wellness>, Query(params): Params) -> Response {
    match params.get("status").and_then(|status| status.parse().ok()) {
        Some(status @ 200..=599) => {
            now.store(status, Relaxed);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => bad("say which status, from 200 to 599: /health?status=500"),
    }
}

async fn user(Query(params): Params) -> Response {
    match params.get("id") {
        Some(id) => format!("It's user {id}.\n").into_response(),
        None => bad("say which user: /user?id=1"),
    }
}

/// Named as in the articles, where a gateway's client learns from it which instance answered.
async fn own_ip(Extension(OwnEnd(address)): Extension<OwnEnd>) -> Response {
    let ip = match address.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip @ IpAddr::V4(_) => ip,
    };
    json(&json!({ "ip": ip }))
}

async fn slow(Query(params): Params) -> Response {
    let millis = params.get("ms").map_or(Some(1000), |ms| ms.parse().ok());
    match millis.map(Duration::from_millis) {
        Some(time) if time <= SLOWEST => {
            tokio::time::sleep(time).await;
            format!("That took {} ms.\n", time.as_millis()).into_response()
        }
        _ => bad("say how many milliseconds, up to 600000: /slow?ms=1000"),
    }
}

async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, "that is for /echo/body\n").into_response();
    if body.size_hint().lower() > ECHO_LIMIT as u64 {
        return too_large();
    }
    let Ok(body) = to_bytes(body, ECHO_LIMIT).await else { return too_large() };
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        names.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    json(&json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": names,
        "body": String::from_utf8_lossy(&body),
    }))
}

async fn echo_body(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body());
    let unknown = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind.unwrap_or(unknown));
    response
}

async fn bytes(Query(params): Params) -> Response {
    match params.get("n").and_then(|n| n.parse().ok()) {
        Some(n) if n <= MOST_BYTES => {
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            (kind, Body::new(Filler::new(n))).into_response()
        }
        _ => bad("say how many bytes, up to 68719476736: /bytes?n=1024"),
    }
}

fn json(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn bad(hint: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{hint}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::title;

    #[test]
    fn titles() {
        #[track_caller]
        fn check(name: &str, expect: &str) {
            assert_eq!(title(name), expect);
        }
        check("service_1", "Service 1");
        check("service_", "service_");
        check("orders", "orders");
    }
}
