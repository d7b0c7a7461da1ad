//! What handlers take out of a request: names from the path, the body.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use consul_api::ServiceRegistration;
use portolan_model::{InstanceId, ServiceName};
use tokio::time::timeout;

use super::error::Error;

/// The service that the rest of the path names.
pub(super) struct Service(pub(super) ServiceName);

/// The instance that the rest of the path names; the rest may hold slashes, encoded or not.
pub(super) struct Id(pub(super) InstanceId);

impl<S: Send + Sync> FromRequestParts<S> for Service {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let rest = rest_of_path(parts, state).await?;
        ServiceName::new(rest).map(Self).map_err(|bad| Error::Path(bad.to_string()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let rest = rest_of_path(parts, state).await?;
        InstanceId::new(rest).map(Self).map_err(|bad| Error::Path(bad.to_string()))
    }
}

async fn rest_of_path<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Error> {
    let rest = Path::<String>::from_request_parts(parts, state).await;
    rest.map(|Path(rest)| rest).map_err(|bad| Error::Path(bad.body_text()))
}

/// Reads a registration within `limit` bytes (which the router enforces) and `time`.
pub(super) async fn registration(
    request: Request,
    limit: usize,
    time: Duration,
) -> Result<ServiceRegistration, Error> {
    let body = match timeout(time, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(bad)) if bad.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return Err(Error::BodyTooLarge(limit));
        }
        Ok(Err(bad)) => return Err(Error::BodyBroken(bad.body_text())),
        Err(_) => return Err(Error::BodyTooSlow),
    };
    let mut json = serde_json::Deserializer::from_slice(&body);
    let registration = serde_path_to_error::deserialize(&mut json).map_err(|bad| {
        let place = bad.path().to_string();
        let why = bad.into_inner();
        Error::Decode(if place == "." { why.to_string() } else { format!("{place}: {why}") })
    })?;
    json.end().map_err(|bad| Error::Decode(bad.to_string()))?;
    Ok(registration)
}
