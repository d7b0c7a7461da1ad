//! Reports: how instances say that they fare, as Consul's TTL checks have it.

use std::sync::Arc;

use axum::extract::{Request, State};
use consul_api::CheckUpdate;
use portolan_model::{Health, InstanceId, Report, Reported};

use super::Face;
use super::error::Error;
use super::query::Params;
use super::request::{self, CheckId};

/// What the id of an instance's only check begins with.
const OF_SERVICE: &str = "service:";

/// `PUT /v1/agent/check/pass/:check_id`.
pub(super) async fn pass(face: State<Arc<Face>>, id: CheckId, params: Params) -> Result<(), Error> {
    taken(&face, &id, Health::Passing, params.note()?)
}

/// `PUT /v1/agent/check/warn/:check_id`.
pub(super) async fn warn(face: State<Arc<Face>>, id: CheckId, params: Params) -> Result<(), Error> {
    taken(&face, &id, Health::Warning, params.note()?)
}

/// `PUT /v1/agent/check/fail/:check_id`.
pub(super) async fn fail(face: State<Arc<Face>>, id: CheckId, params: Params) -> Result<(), Error> {
    taken(&face, &id, Health::Critical, params.note()?)
}

/// `PUT /v1/agent/check/update/:check_id`.
pub(super) async fn update(face: State<Arc<Face>>, id: CheckId, request: Request) -> Result<(), Error> {
    let CheckUpdate { status, output } = request::json(request, &face.limits).await?;
    let health = match status.as_str() {
        "passing" => Health::Passing,
        "warning" => Health::Warning,
        "critical" => Health::Critical,
        _ => return Err(Error::CheckStatus(status)),
    };
    taken(&face, &id, health, output)
}

fn taken(face: &Face, CheckId(check): &CheckId, health: Health, note: String) -> Result<(), Error> {
    let unknown = || Error::UnknownCheck(check.clone());
    let id = check.strip_prefix(OF_SERVICE).and_then(|id| InstanceId::new(id).ok()).ok_or_else(unknown)?;
    let reports = face.reports.as_ref().ok_or_else(unknown)?;
    match reports.report(&id, Report { health, note }) {
        Reported::Taken => Ok(()),
        Reported::Unknown => Err(unknown()),
        Reported::Asked => Err(Error::NoTtl(check.clone())),
    }
}
