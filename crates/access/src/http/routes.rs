//! Every endpoint in one table, and what all of them share.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Router, body::Body};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::error::Error;
use super::{Face, agent, catalog, changes, check, keys, own};

/// The face with its endpoints and those of `extra`.
pub(super) fn router(face: Arc<Face>, extra: Router) -> Router {
    let body = DefaultBodyLimit::max(face.limits.body);
    Router::new()
        .route("/v1/agent/self", get(agent::about))
        .route("/v1/agent/services", get(agent::services))
        .route("/v1/agent/service/register", put(agent::register))
        .route("/v1/agent/service/deregister/", put(missing_service_id))
        .route("/v1/agent/service/deregister/{*id}", put(agent::deregister))
        .route("/v1/agent/check/pass/{*id}", put(check::pass))
        .route("/v1/agent/check/warn/{*id}", put(check::warn))
        .route("/v1/agent/check/fail/{*id}", put(check::fail))
        .route("/v1/agent/check/update/{*id}", put(check::update))
        .route("/v1/agent/check/pass/", put(missing_check_id))
        .route("/v1/agent/check/warn/", put(missing_check_id))
        .route("/v1/agent/check/fail/", put(missing_check_id))
        .route("/v1/agent/check/update/", put(missing_check_id))
        .route("/v1/catalog/services", get(catalog::services))
        .route("/v1/catalog/service/", get(missing_service_name))
        .route("/v1/catalog/service/{*name}", get(catalog::service))
        .route("/v1/health/service/", get(missing_service_name))
        .route("/v1/health/service/{*name}", get(catalog::health))
        .route("/v1/kv/", get(keys::read_all).put(missing_key_name).delete(keys::delete_all))
        .route("/v1/kv/{*key}", get(keys::read).put(keys::write).delete(keys::delete))
        .route("/v1/txn", put(keys::transact))
        .route("/v1/status/leader", get(own::leader))
        .route("/v1/portolan/changes", get(changes::changes))
        .route("/v1/portolan/drain/", put(missing_service_id))
        .route("/v1/portolan/drain/{*id}", put(own::drain))
        .route("/v1/portolan/status", get(own::status))
        .route("/", get(own::greeting))
        .with_state(face)
        .merge(extra)
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(other_method)
        .layer(body)
        .layer(middleware::from_fn(observe))
}

async fn missing_service_name() -> Error {
    Error::MissingServiceName
}

async fn missing_service_id() -> Error {
    Error::MissingServiceId
}

async fn missing_key_name() -> Error {
    Error::MissingKeyName
}

/// Consul takes it for an id like others.
async fn missing_check_id() -> Error {
    Error::UnknownCheck(String::new())
}

async fn no_such_endpoint(uri: Uri) -> Error {
    Error::NoSuchEndpoint(uri.path().to_owned())
}

/// The router adds `Allow` to this answer.
async fn other_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else {
        Error::Method(method).into_response()
    }
}

/// Logs every request, and makes a panic of its handler one 500.
async fn observe(request: Request<Body>, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = outcome.unwrap_or_else(|_| {
        tracing::error!(%method, path, "handler panicked");
        Error::Internal("the handler panicked; the log of this server has its words".into()).into_response()
    });
    let (status, took) = (response.status().as_u16(), started.elapsed());
    tracing::debug!(%method, path, status, ?took, "answered");
    response
}
