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
#[cfg_attr(
    not(any(feature = "consul", feature = "etcd", feature = "zookeeper")),
    expect(unused_variables, reason = "there is no backend in this build")
)]
pub fn build(uri: &str, board: &StatusBoard) -> Result<(Arc<dyn Registry>, Driver), OpenError> {
    let uri: RegistryUri = uri.parse()?;
    match uri.scheme.as_str() {
        #[cfg(feature = "consul")]
        scheme if crate::consul::SCHEMES.contains(&scheme) => {
            let (registry, driver) = crate::consul::build(crate::consul::Config::from_uri(uri)?, board);
            Ok((registry, Driver(Box::new(|shutdown| Box::pin(driver.run(shutdown))))))
        }
        #[cfg(feature = "etcd")]
        "etcd" | "etcd-tls" => {
            let (registry, driver) = crate::etcd::build(crate::etcd::Config::from_uri(uri)?, board);
            Ok((registry, Driver(Box::new(|shutdown| Box::pin(driver.run(shutdown))))))
        }
        #[cfg(feature = "zookeeper")]
        scheme if crate::zookeeper::SCHEMES.contains(&scheme) => {
            let config = crate::zookeeper::Config::from_uri(uri)?;
            let (registry, driver) = crate::zookeeper::build(config, board);
            Ok((registry, Driver(Box::new(|shutdown| Box::pin(driver.run(shutdown))))))
        }
        _ => Err(unknown(uri.scheme)),
    }
}

/// Schemes that this build knows.
const KNOWN: &[&str] = &[
    #[cfg(feature = "consul")]
    "consul",
    #[cfg(feature = "consul")]
    "consul-tls",
    #[cfg(feature = "consul")]
    "consul-unix",
    #[cfg(feature = "consul")]
    "portolan",
    #[cfg(feature = "etcd")]
    "etcd",
    #[cfg(feature = "etcd")]
    "etcd-tls",
    #[cfg(feature = "zookeeper")]
    "zookeeper",
    #[cfg(feature = "zookeeper")]
    "zookeeper-tls",
];

fn unknown(scheme: String) -> OpenError {
    OpenError::Scheme { scheme, known: KNOWN.join(", ") }
}
