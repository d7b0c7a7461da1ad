//! From a URI to a backend: the one list of them.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use portolan_model::{KeyValue, Registry};
use runtime::{Shutdown, StatusBoard};

use crate::naming::OpenError;
use crate::uri::RegistryUri;

#[cfg(any(feature = "consul", feature = "etcd", feature = "zookeeper"))]
use self::kept::Kept;

/// What may be said of a registry beside its URI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A file in which the last known table is kept: a process that finds its cluster away at start answers from there.
    pub keep: Option<PathBuf>,
}

/// What connects a registry to its cluster and keeps it connected. Nothing happens until it runs.
pub struct Driver {
    drive: Box<dyn FnOnce(Shutdown) -> Driving + Send>,
    keys: Arc<dyn KeyValue>,
    #[cfg(any(feature = "consul", feature = "etcd", feature = "zookeeper"))]
    kept: Option<Kept>,
}

type Driving = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Driver {
    /// One that keeps no table on disk.
    #[cfg(feature = "embedded")]
    fn plain(keys: Arc<dyn KeyValue>, drive: impl FnOnce(Shutdown) -> Driving + Send + 'static) -> Self {
        Self {
            drive: Box::new(drive),
            keys,
            #[cfg(any(feature = "consul", feature = "etcd", feature = "zookeeper"))]
            kept: None,
        }
    }

    /// The keys that the cluster keeps beside the instances. They live by this driver as the registry does, and are read
    /// once somebody asks for them.
    pub fn key_value(&self) -> Arc<dyn KeyValue> {
        Arc::clone(&self.keys)
    }

    /// Runs until shutdown; never ends because of an error. What was registered is removed at the end.
    pub async fn run(self, shutdown: Shutdown) {
        // Whoever else has them keeps them open, not we.
        drop(self.keys);
        #[cfg(any(feature = "consul", feature = "etcd", feature = "zookeeper"))]
        if let Some(kept) = self.kept {
            return kept.run(self.drive, shutdown).await;
        }
        (self.drive)(shutdown).await;
    }

    /// The same, but what was registered stays for as long as the cluster keeps what gives no sign of life any more: a
    /// successor with the same ids that comes in that time leaves no gap.
    pub async fn run_and_leave(self, shutdown: Shutdown) {
        let Self {
            drive,
            keys,
            #[cfg(any(feature = "consul", feature = "etcd", feature = "zookeeper"))]
            kept,
        } = self;
        let leaving = Self {
            drive: Box::new(|shutdown| Box::pin(until_shutdown(drive, shutdown))),
            keys,
            #[cfg(any(feature = "consul", feature = "etcd", feature = "zookeeper"))]
            kept,
        };
        leaving.run(shutdown).await;
    }
}

/// Drops a driver in the middle: every backend ends then as if the process had died.
async fn until_shutdown(drive: Box<dyn FnOnce(Shutdown) -> Driving + Send>, shutdown: Shutdown) {
    let (_kept, never) = Shutdown::new();
    tokio::select! {
        biased;
        () = shutdown.triggered() => {}
        () = drive(never) => {}
    }
}

/// Builds the registry that `uri` names; it says how it fares on `board`, as `registry`. It connects once its driver
/// runs.
///
/// # Errors
/// When the URI is malformed or names no registry that this build knows.
pub fn build(uri: &str, board: &StatusBoard) -> Result<(Arc<dyn Registry>, Driver), OpenError> {
    build_with(uri, Options::default(), board)
}

/// The same with more to say. Reads the file of [`Options::keep`]; whatever is wrong with it is logged, and no failure.
///
/// # Errors
/// As for [`build`].
#[cfg_attr(
    not(any(feature = "consul", feature = "etcd", feature = "zookeeper")),
    expect(unused_variables, clippy::needless_pass_by_value, reason = "there is no cluster in this build")
)]
pub fn build_with(
    uri: &str,
    options: Options,
    board: &StatusBoard,
) -> Result<(Arc<dyn Registry>, Driver), OpenError> {
    let uri: RegistryUri = uri.parse()?;
    match Backend::of(&uri)? {
        #[cfg(feature = "consul")]
        Backend::Consul(config) => {
            let (mirror, kept) = kept::begin(options, &uri, board);
            let (registry, driver) = crate::consul::build_over(*config, mirror, board);
            let keys = driver.key_value();
            Ok((registry, Driver { drive: Box::new(|shutdown| Box::pin(driver.run(shutdown))), keys, kept }))
        }
        #[cfg(feature = "consul")]
        Backend::ConsulKeys(config) => {
            let (mirror, kept) = kept::begin(options, &uri, board);
            let (registry, driver) = crate::consul::kv::build_over(*config, mirror, board);
            let keys = driver.key_value();
            Ok((registry, Driver { drive: Box::new(|shutdown| Box::pin(driver.run(shutdown))), keys, kept }))
        }
        #[cfg(feature = "etcd")]
        Backend::Etcd(config) => {
            let (mirror, kept) = kept::begin(options, &uri, board);
            let (registry, driver) = crate::etcd::build_over(*config, mirror, board);
            let keys = driver.key_value();
            Ok((registry, Driver { drive: Box::new(|shutdown| Box::pin(driver.run(shutdown))), keys, kept }))
        }
        #[cfg(feature = "zookeeper")]
        Backend::ZooKeeper(config) => {
            let (mirror, kept) = kept::begin(options, &uri, board);
            let (registry, driver) = crate::zookeeper::build_over(*config, mirror, board);
            let keys = driver.key_value();
            Ok((registry, Driver { drive: Box::new(|shutdown| Box::pin(driver.run(shutdown))), keys, kept }))
        }
        #[cfg(feature = "embedded")]
        Backend::Embedded(place) => {
            // It is durable, or to be thrown away: there is nothing to keep beside it.
            let (registry, driver) = crate::embedded::build(place, board)?;
            let keys = driver.key_value();
            Ok((registry, Driver::plain(keys, |shutdown| Box::pin(driver.run(shutdown)))))
        }
    }
}

/// Finds out whether `uri` names a registry of this build, and makes sense to it. Nothing is opened.
///
/// # Errors
/// As for [`build`].
pub fn check(uri: &str) -> Result<(), OpenError> {
    Backend::of(&uri.parse()?).map(|_| ())
}

/// A backend, and what a URI means to it.
enum Backend {
    #[cfg(feature = "consul")]
    Consul(Box<crate::consul::Config>),
    #[cfg(feature = "consul")]
    ConsulKeys(Box<crate::consul::kv::Config>),
    #[cfg(feature = "etcd")]
    Etcd(Box<crate::etcd::Config>),
    #[cfg(feature = "zookeeper")]
    ZooKeeper(Box<crate::zookeeper::Config>),
    #[cfg(feature = "embedded")]
    Embedded(crate::embedded::Place),
}

impl Backend {
    fn of(uri: &RegistryUri) -> Result<Self, OpenError> {
        match uri.scheme.as_str() {
            #[cfg(feature = "consul")]
            scheme if crate::consul::SCHEMES.contains(&scheme) => {
                Ok(Self::Consul(Box::new(crate::consul::Config::from_uri(uri.clone())?)))
            }
            #[cfg(feature = "consul")]
            scheme if crate::consul::kv::SCHEMES.contains(&scheme) => {
                Ok(Self::ConsulKeys(Box::new(crate::consul::kv::Config::from_uri(uri.clone())?)))
            }
            #[cfg(feature = "etcd")]
            "etcd" | "etcd-tls" => Ok(Self::Etcd(Box::new(crate::etcd::Config::from_uri(uri.clone())?))),
            #[cfg(feature = "zookeeper")]
            scheme if crate::zookeeper::SCHEMES.contains(&scheme) => {
                Ok(Self::ZooKeeper(Box::new(crate::zookeeper::Config::from_uri(uri.clone())?)))
            }
            #[cfg(feature = "embedded")]
            "embedded" => Ok(Self::Embedded(crate::embedded::Place::from_uri(uri)?)),
            scheme => Err(OpenError::Scheme { scheme: scheme.to_owned(), known: KNOWN.join(", ") }),
        }
    }
}

/// A driver whose mirror is kept on disk.
#[cfg(any(feature = "consul", feature = "etcd", feature = "zookeeper"))]
mod kept {
    use std::time::Duration;

    use runtime::{Shutdown, StatusBoard, Tasks};
    use tokio::sync::oneshot;

    use super::{Driving, Options};
    use crate::keep::{Keeper, snapshot};
    use crate::mirror::Mirror;
    use crate::uri::RegistryUri;

    /// How long the last writing may take.
    const LAST_WRITING: Duration = Duration::from_secs(3);

    pub(super) struct Kept {
        keeper: Keeper,
        tasks: Tasks,
    }

    /// A mirror, knowing what was kept of it, and what keeps it.
    pub(super) fn begin(options: Options, uri: &RegistryUri, board: &StatusBoard) -> (Mirror, Option<Kept>) {
        let mirror = Mirror::default();
        let Options { keep } = options;
        let keeper = keep.map(|path| Keeper::open(path, uri, mirror.clone(), board));
        (mirror, keeper.map(|keeper| Kept { keeper, tasks: Tasks::new(board.clone()) }))
    }

    impl Kept {
        /// Runs both. The table that is left behind is that of the moment before the driver takes its leave: what it
        /// deregisters then is most likely registered again by the next run, which may find its cluster away.
        pub(super) async fn run(self, drive: impl FnOnce(Shutdown) -> Driving, shutdown: Shutdown) {
            let Self { keeper, tasks } = self;
            let mirror = keeper.mirror().clone();
            let (last, ended) = oneshot::channel();
            let (leave, told) = Shutdown::new();
            tasks.spawn("last known table", keeper.run(ended));
            let ending = async {
                shutdown.triggered().await;
                let _keeper_is_gone = last.send(snapshot(&mirror));
                leave.trigger();
            };
            tokio::join!(drive(told), ending);
            if tasks.finish(LAST_WRITING).await.is_err() {
                tracing::warn!("the last known table could not be written in time");
            }
        }
    }
}

/// Schemes that this build knows.
const KNOWN: &[&str] = &[
    #[cfg(feature = "embedded")]
    "embedded",
    #[cfg(feature = "consul")]
    "consul",
    #[cfg(feature = "consul")]
    "consul-tls",
    #[cfg(feature = "consul")]
    "consul-unix",
    #[cfg(feature = "consul")]
    "consulkv",
    #[cfg(feature = "consul")]
    "consulkv-tls",
    #[cfg(feature = "consul")]
    "consulkv-unix",
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
