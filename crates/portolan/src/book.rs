//! Which book the roles share: one embedded in this process, or a cluster's.

use std::sync::Arc;

use portolan_model::{KeyValue, Registry};
use portolan_naming::Options;
use portolan_naming::uri::RegistryUri;
use runtime::{Shutdown, StatusBoard};

use crate::failure::Failure;
use crate::settings::{Config, EMBEDDED, OnExit};

/// In the data directory: what was last known of a cluster.
const LAST_KNOWN: &str = "last-known.json";

/// A registry, and what keeps it.
pub(crate) struct Book {
    /// What every role asks.
    pub(crate) registry: Arc<dyn Registry>,
    /// The keys beside it. Over a cluster nothing is read of them before somebody asks.
    pub(crate) keys: Arc<dyn KeyValue>,
    /// What keeps it going.
    pub(crate) keeper: Keeper,
    /// Where it is, for people.
    pub(crate) place: String,
}

/// What keeps a registry going, until shutdown.
pub(crate) enum Keeper {
    Embedded(Box<registry::RegistryTask>),
    Cluster(portolan_naming::Driver, OnExit),
}

/// Whether `config` names the registry in this process.
pub(crate) fn is_embedded(config: &Config) -> bool {
    config.registry.uri == EMBEDDED
}

/// Whether readers of the registry that `config` names may be told which port of which container an instance is.
pub(crate) fn tells_origins(config: &Config) -> bool {
    let uri = config.registry.uri.parse::<RegistryUri>();
    uri.is_ok_and(|uri| matches!(uri.scheme.as_str(), "zookeeper" | "zookeeper-tls"))
}

/// Opens the book that `config` names. A cluster that is away is no failure: what was last known is served, and
/// caught up with later.
pub(crate) async fn open(config: &Config, board: &StatusBoard) -> Result<Book, Failure> {
    let uri = config.registry.uri.as_str();
    if !is_embedded(config) {
        let options = Options { keep: Some(config.data_dir.join(LAST_KNOWN)) };
        let (registry, driver) = portolan_naming::build_with(uri, options, board)
            .map_err(|error| Failure::failed(format_args!("--registry: {error}")))?;
        let keys = driver.key_value();
        let shown: RegistryUri = uri.parse().map_err(Failure::failed)?;
        let place = shown.to_string(); // without credentials
        let keeper = Keeper::Cluster(driver, config.registry.on_exit);
        return Ok(Book { registry, keys, keeper, place });
    }
    let told = registry::Config { data_dir: config.data_dir.clone(), warm_up: config.registry.warm_up };
    let (registry, task) = registry::build(told, board).map_err(Failure::failed)?;
    let revision = Registry::list(&*registry).await.map_err(Failure::failed)?.revision;
    let place = format!("data in {}, revision {revision}", config.data_dir.display());
    let keys = Arc::clone(&registry) as _;
    Ok(Book { registry, keys, keeper: Keeper::Embedded(Box::new(task)), place })
}

impl Keeper {
    pub(crate) async fn run(self, shutdown: Shutdown) {
        match self {
            Self::Embedded(task) => task.run(shutdown).await,
            Self::Cluster(driver, OnExit::Leave) => driver.run_and_leave(shutdown).await,
            Self::Cluster(driver, OnExit::Deregister) => driver.run(shutdown).await,
        }
    }
}
