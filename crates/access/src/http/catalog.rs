//! Reading the book: which services there are, and the instances of one. All of it can be a blocking query.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use consul_api::{CatalogService, CatalogServices, ServiceEntry};
use portolan_model::{Filter, Health, Instance, Interest};

use super::error::Error;
use super::query::Params;
use super::render::indexed_json;
use super::request::Service;
use super::{Face, blocking};

/// `GET /v1/catalog/services`.
pub(super) async fn services(State(face): State<Arc<Face>>, params: Params) -> Result<Response, Error> {
    let asked = params.asked(&face.site.datacenter)?;
    blocking::until_tags_change(&face, &asked).await?;
    let listing = face.registry.list().await?;
    let services: CatalogServices = listing
        .services
        .iter()
        .map(|(name, instances)| {
            let tags = tags_in_use(instances);
            (name.to_string(), tags.into_iter().map(str::to_owned).collect())
        })
        .collect();
    indexed_json(&params, &asked, listing.revision, &services)
}

/// The tags that any of `instances` carries.
pub(super) fn tags_in_use<'i>(instances: impl IntoIterator<Item = &'i Arc<Instance>>) -> BTreeSet<&'i str> {
    instances.into_iter().flat_map(|instance| &instance.registration.tags).map(String::as_str).collect()
}

/// `GET /v1/catalog/service/:name`.
pub(super) async fn service(
    State(face): State<Arc<Face>>,
    Service(name): Service,
    params: Params,
) -> Result<Response, Error> {
    let (asked, tags) = (params.asked(&face.site.datacenter)?, params.tags()?);
    blocking::until_change(&face, &asked, Interest::Service(name.clone())).await?;
    let found = face.registry.find(name, Filter::default()).await?;
    let wanted = found.instances.iter().filter(|instance| tags.accept(instance));
    let rows: Vec<CatalogService> = wanted.map(|instance| face.site.row(instance)).collect();
    indexed_json(&params, &asked, found.revision, &rows)
}

/// `GET /v1/health/service/:name`.
pub(super) async fn health(
    State(face): State<Arc<Face>>,
    Service(name): Service,
    params: Params,
) -> Result<Response, Error> {
    let (asked, tags) = (params.asked(&face.site.datacenter)?, params.tags()?);
    let filter = if params.passing()? { all_checks_pass() } else { Filter::default() };
    blocking::until_change(&face, &asked, Interest::Service(name.clone())).await?;
    let found = face.registry.find(name, filter).await?;
    let wanted = found.instances.iter().filter(|instance| tags.accept(instance));
    let entries: Vec<ServiceEntry> = wanted.map(|instance| face.site.entry(instance)).collect();
    indexed_json(&params, &asked, found.revision, &entries)
}

/// Consul's `passing`: one warning is enough to be left out. A draining instance shows a critical check.
fn all_checks_pass() -> Filter {
    Filter { worst: Some(Health::Passing), without_draining: true, ..Filter::default() }
}
