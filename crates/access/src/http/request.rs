//! What handlers take out of a request: names from the path, the body.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use portolan_model::{InstanceId, ServiceName};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Limits;
use super::error::Error;

/// The service that the rest of the path names.
pub(super) struct Service(pub(super) ServiceName);

/// The instance that the rest of the path names; the rest may hold slashes, encoded or not.
pub(super) struct Id(pub(super) InstanceId);

/// The check that the rest of the path names.
pub(super) struct CheckId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for CheckId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        rest_of_path(parts, state).await.map(Self)
    }
}

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

/// What the rest of the path says of keys: the name of one, or what several begin with.
pub(super) struct Text(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Text {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        rest_of_path(parts, state).await.map(Self)
    }
}

async fn rest_of_path<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Error> {
    let rest = Path::<String>::from_request_parts(parts, state).await;
    rest.map(|Path(rest)| rest).map_err(|bad| Error::Path(bad.body_text()))
}

/// Reads a body of JSON, with its bounds in size (which the router enforces) and time.
pub(super) async fn json<T: DeserializeOwned>(request: Request, limits: &Limits) -> Result<T, Error> {
    let body = bytes(request, limits).await?;
    let mut json = serde_json::Deserializer::from_slice(&body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|bad| {
        let place = bad.path().to_string();
        let why = bad.into_inner();
        Error::Decode(if place == "." { why.to_string() } else { format!("{place}: {why}") })
    })?;
    json.end().map_err(|bad| Error::Decode(bad.to_string()))?;
    Ok(read)
}

/// Reads a body as it is, with the same bounds.
pub(super) async fn bytes(request: Request, limits: &Limits) -> Result<Bytes, Error> {
    match timeout(limits.body_time, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(bad)) if bad.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Error::BodyTooLarge(limits.body))
        }
        Ok(Err(bad)) => Err(Error::BodyBroken(bad.body_text())),
        Err(_) => Err(Error::BodyTooSlow),
    }
}
