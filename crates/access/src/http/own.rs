//! Endpoints about the server itself, and those that Consul does not have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use portolan_model::Guard;
use runtime::Report;
use serde::Serialize;

use super::Face;
use super::error::Error;
use super::query::Params;
use super::render::json;
use super::request::Id;

/// `GET /`: for a person who finds the port open.
pub(super) async fn greeting(State(face): State<Arc<Face>>) -> String {
    format!(
        "Portolan {} on {} ({}): a service registry that speaks Consul's HTTP API under /v1/.\n\
         Try /v1/catalog/services, /v1/health/service/<name> and /v1/portolan/status.\n",
        env!("CARGO_PKG_VERSION"),
        face.site.node,
        face.site.datacenter,
    )
}

/// `GET /v1/status/leader`: clients take any address as "there is one".
pub(super) async fn leader(State(face): State<Arc<Face>>, params: Params) -> Result<Response, Error> {
    json(&params, &SocketAddr::new(face.site.address, face.port).to_string())
}

/// `PUT /v1/portolan/drain/:id`: an operator takes an instance out of use.
pub(super) async fn drain(State(face): State<Arc<Face>>, Id(id): Id) -> Result<(), Error> {
    let revision = face.registry.drain(id.clone(), Guard::Anyone).await?;
    tracing::info!(%id, %revision, "draining by hand");
    Ok(())
}

/// What `GET /v1/portolan/status` answers.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    node: String,
    datacenter: String,
    parts: BTreeMap<String, Report>,
}

/// `GET /v1/portolan/status`: what every part of the process says of itself.
pub(super) async fn status(State(face): State<Arc<Face>>, params: Params) -> Result<Response, Error> {
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        node: face.site.node.clone(),
        datacenter: face.site.datacenter.clone(),
        parts: face.board.snapshot(),
    };
    json(&params, &status)
}
