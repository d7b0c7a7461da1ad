//! Everything that can go wrong with a request, and the one table of answers to it. Where Consul has a text for it, the
//! text is Consul's: clients match on them.

use std::fmt;

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portolan_model::{KeyError, KeyLimit, KeyValueError, RegistryError};

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("no such endpoint: {0}")]
    NoSuchEndpoint(String),
    #[error("method {0} not allowed")]
    Method(Method),
    #[error(transparent)]
    Query(#[from] BadQuery),
    #[error("No path to datacenter")]
    UnknownDatacenter,
    #[error("Missing service name")]
    MissingServiceName,
    #[error("Missing service ID")]
    MissingServiceId,
    /// The part of the path that names something is malformed.
    #[error("bad path: {0}")]
    Path(String),
    #[error("Request body too large, max size: {0} bytes")]
    BodyTooLarge(usize),
    #[error("the request body did not arrive in time")]
    BodyTooSlow,
    #[error("the request body did not arrive: {0}")]
    BodyBroken(String),
    #[error("Request decode failed: {0}")]
    Decode(String),
    /// A field of a registration cannot be taken as it is.
    #[error("{field}: {why}")]
    Field { field: String, why: String },
    /// A text of Consul's about the registration as a whole.
    #[error("{0}")]
    Registration(&'static str),
    #[error("Unknown service ID {0:?}. Ensure that the service ID is passed, not the service name.")]
    UnknownService(String),
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck(String),
    /// It is a check, and one that asks by itself.
    #[error("CheckID {0:?} does not have associated TTL")]
    NoTtl(String),
    #[error("Invalid check status: '{0}'")]
    CheckStatus(String),
    #[error("too many blocking queries: {0} are waiting already")]
    Crowded(usize),
    #[error(transparent)]
    Registry(RegistryError),
    #[error("Missing key name")]
    MissingKeyName,
    /// No registry keeps such a key.
    #[error(transparent)]
    Key(KeyError),
    #[error("Transaction contains too many operations ({asked} > {limit})")]
    TooManyOperations { asked: usize, limit: usize },
    /// One operation of a transaction cannot be taken as it is.
    #[error("operation {at}: {why}")]
    Operation { at: usize, why: String },
    #[error(transparent)]
    Keys(#[from] KeyValueError),
    #[error("internal error: {0}")]
    Internal(String),
}

/// What is wrong with a query string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadQuery {
    #[error("bad query string: {0}")]
    Malformed(String),
    #[error("Invalid index")]
    Index,
    #[error("Invalid wait time")]
    Wait,
    #[error("Invalid value for ?passing")]
    Passing,
    #[error("Cannot specify ?{0} with ?consistent, conflicting semantics.")]
    Conflict(&'static str),
    #[error("Bad request: Invalid query parameter: {0:?} - {1} are a Consul Enterprise feature")]
    Enterprise(&'static str, &'static str),
    #[error("?{0} is not supported: leave it out and select on your side")]
    Unsupported(&'static str),
    #[error("?{0} is not supported: keys have {1} here")]
    NotOfKeys(&'static str, &'static str),
    #[error("Conflicting flags: {0}, {1}")]
    Both(&'static str, &'static str),
    #[error("Invalid value for ?{0}")]
    Number(&'static str),
}

impl Error {
    pub(super) fn field(field: impl Into<String>, why: &(impl fmt::Display + ?Sized)) -> Self {
        Self::Field { field: field.into(), why: why.to_string() }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchEndpoint(_) | Self::UnknownService(_) | Self::UnknownCheck(_) => {
                StatusCode::NOT_FOUND
            }
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Query(_)
            | Self::MissingServiceName
            | Self::MissingServiceId
            | Self::Path(_)
            | Self::BodyBroken(_)
            | Self::Decode(_)
            | Self::Field { .. }
            | Self::CheckStatus(_)
            | Self::Registration(_)
            | Self::MissingKeyName
            | Self::Key(_)
            | Self::Operation { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge(_) | Self::TooManyOperations { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Crowded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::UnknownDatacenter | Self::NoTtl(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Registry(error) => match error {
                RegistryError::UnknownInstance(_) => StatusCode::NOT_FOUND,
                RegistryError::NotOwner { .. } | RegistryError::StaleIncarnation { .. } => {
                    StatusCode::CONFLICT
                }
                RegistryError::Limit(_) => StatusCode::BAD_REQUEST,
                RegistryError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Keys(error) => match error {
                KeyValueError::Conflict { .. } => StatusCode::CONFLICT,
                KeyValueError::Limit(limit) => match limit {
                    KeyLimit::Value { .. } | KeyLimit::Bytes(_) | KeyLimit::Operations(_) => {
                        StatusCode::PAYLOAD_TOO_LARGE
                    }
                    KeyLimit::Twice(_) | KeyLimit::Keys | KeyLimit::Total => StatusCode::BAD_REQUEST,
                },
                // Nothing was done, so that it may be asked again.
                KeyValueError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                // It may have been done: Consul says this of a leader that was lost meanwhile.
                KeyValueError::Uncertain(_) => StatusCode::INTERNAL_SERVER_ERROR,
                KeyValueError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            },
        }
    }
}

impl From<KeyLimit> for Error {
    fn from(limit: KeyLimit) -> Self {
        Self::Keys(limit.into())
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::UnknownInstance(id) => Self::UnknownService(id.to_string()),
            other => Self::Registry(other),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, self.to_string()).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // The rest of that body may still arrive; it must not be taken for the next request.
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        response
    }
}
