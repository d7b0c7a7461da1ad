//! From a URI to a backend: the one list of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use portolan_model::Registry;
use runtime::{Shutdown, StatusBoard};

use crate::naming::OpenError;
use crate::uri::RegistryUri;

/// What connects a registry to its cluster and keeps it connected. Nothing happens until it runs.
pub struct Driver(Box<dyn FnOnce(Shutdown) -> Driving + Send>);

type Driving = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Driver {
    /// Runs until shutdown; never ends because of an error.
    pub async fn run(self, shutdown: Shutdown) {
        (self.0)(shutdown).await;
    }
}

/// Builds the registry that `uri` names; it says how it fares on `board`, as `registry`. It connects once its driver
/// runs.
///
/// # Errors
/// When the URI is malformed or names no registry that this build knows.
#[cfg_attr(not(feature = "etcd"), expect(unused_variables, reason = "there is no backend in this build"))]
pub fn build(uri: &str, board: &StatusBoard) -> Result<(Arc<dyn Registry>, Driver), OpenError> {
    let uri: RegistryUri = uri.parse()?;
    match uri.scheme.as_str() {
        #[cfg(feature = "etcd")]
        "etcd" | "etcd-tls" => {
            let (registry, driver) = crate::etcd::build(crate::etcd::Config::from_uri(uri)?, board);
            Ok((registry, Driver(Box::new(|shutdown| Box::pin(driver.run(shutdown))))))
        }
        _ => Err(unknown(uri.scheme)),
    }
}

/// Schemes that this build knows.
const KNOWN: &[&str] = &[
    #[cfg(feature = "etcd")]
    "etcd",
    #[cfg(feature = "etcd")]
    "etcd-tls",
];

fn unknown(scheme: String) -> OpenError {
    OpenError::Scheme { scheme, known: KNOWN.join(", ") }
}
