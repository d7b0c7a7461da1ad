//! The agent's endpoints: who answers, what is registered, registering and deregistering.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use consul_api::AgentServices;
use portolan_model::Guard;

use super::Face;
use super::error::Error;
use super::query::Params;
use super::register;
use super::render::json;
use super::request::{self, Id};

/// `GET /v1/agent/self`.
pub(super) async fn about(State(face): State<Arc<Face>>, params: Params) -> Result<Response, Error> {
    json(&params, &face.site.about(face.port))
}

/// `GET /v1/agent/services`: all of them, since there is one agent.
pub(super) async fn services(State(face): State<Arc<Face>>, params: Params) -> Result<Response, Error> {
    let listing = face.registry.list().await?;
    let instances = listing.services.values().flatten();
    let services: AgentServices =
        instances.map(|instance| (instance.id().to_string(), face.site.service(instance))).collect();
    json(&params, &services)
}

/// `PUT /v1/agent/service/register`. A registration replaces all that was said of the id before, its checks included,
/// so that `replace-existing-checks` asks for what happens anyway.
pub(super) async fn register(State(face): State<Arc<Face>>, request: Request) -> Result<(), Error> {
    let body = request::json(request, &face.limits).await?;
    let registration = register::understood(body, face.site.address)?;
    let (id, service) = (registration.id.clone(), registration.service.clone());
    let revision = face.registry.register(registration).await?;
    tracing::debug!(%id, %service, %revision, "registered over http");
    Ok(())
}

/// `PUT /v1/agent/service/deregister/:id`.
pub(super) async fn deregister(State(face): State<Arc<Face>>, Id(id): Id) -> Result<(), Error> {
    let revision = face.registry.deregister(id.clone(), Guard::Anyone).await?;
    tracing::debug!(%id, %revision, "deregistered over http");
    Ok(())
}
