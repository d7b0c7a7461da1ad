//! The Docker engine (or one that speaks its API) as a container source.

mod certificates;
mod exec;
pub(crate) mod read;
mod time;
mod transport;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use futures_util::{Stream, StreamExt};
use portolan_model::Pending;

use crate::container::{Container, ContainerId, EngineTime};
use crate::source::{
    ContainerSource, Event, EventStream, Exec, Executed, Listening, REPLAY, SourceError, Which,
};
pub use certificates::Unusable;
use transport::{Place, Way};

/// Where the engine is when nobody says.
const DEFAULT_URI: &str = "unix:///var/run/docker.sock";

/// The ports where engines listen when nobody says another, as the docker client has it.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// How long the engine may take to begin an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How many events of the past are taken, and how long they are waited for. Engines remember 256.
const PAST_LIMIT: usize = 1024;
const PAST_TIMEOUT: Duration = Duration::from_secs(1);

/// What is listened to. The engine matches by prefix, so `health_status` takes `health_status: healthy` as well; and
/// the events of health checks themselves (`exec_*`), which are many, stay away.
const EVENTS: [&str; 12] = [
    "start",
    "kill",
    "die",
    "oom",
    "pause",
    "unpause",
    "rename",
    "update",
    "destroy",
    "health_status",
    "connect",
    "disconnect",
];

/// A Docker engine.
#[derive(Debug)]
pub struct Engine {
    uri: String,
    address: Address,
    client: Mutex<Option<Docker>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(Place),
    /// With the folder of the certificates.
    Tls(Place, PathBuf),
}

/// Why an engine cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The address begins otherwise.
    #[error("{uri:?} is no address of a container engine: it must begin with unix://, tcp:// or http://")]
    Scheme {
        /// The text.
        uri: String,
    },
    /// Nothing follows the scheme.
    #[error("{uri:?} names no place after its scheme")]
    Empty {
        /// The text.
        uri: String,
    },
    /// What follows the scheme is no place.
    #[error("{uri:?} names no host and port after its scheme")]
    Place {
        /// The text.
        uri: String,
    },
    /// It is to be plain and by TLS.
    #[error("{uri:?} asks for no TLS, and TLS is asked for: begin it with tcp://")]
    Plain {
        /// The text.
        uri: String,
    },
    /// There is no TLS without them.
    #[error("TLS to the container engine: {0}")]
    Certificates(#[from] Unusable),
}

impl Engine {
    /// The engine at `uri`, else at `DOCKER_HOST`, else at the usual socket. Does not connect yet.
    ///
    /// With `certificates`, the folder of `ca.pem`, `cert.pem` and `key.pem`, TCP is by TLS. They are read here, so that
    /// mistakes show, and again for each connection, so that renewed ones count. A unix socket has no use for them.
    ///
    /// # Errors
    /// When the URI is not one of a container engine, or a certificate is of no use.
    pub fn new(uri: Option<&str>, certificates: Option<&Path>) -> Result<Self, EngineError> {
        let from_environment = || std::env::var("DOCKER_HOST").ok().filter(|uri| !uri.is_empty());
        let uri = uri.map(str::to_owned).or_else(from_environment).unwrap_or_else(|| DEFAULT_URI.to_owned());
        let address = address(&uri, certificates)?;
        if let Address::Tls(_, folder) = &address {
            certificates::read(folder)?;
        }
        Ok(Self { address, client: Mutex::new(None), uri })
    }

    /// A client that speaks a version the engine speaks too. Made anew for every connection: the engine may have been
    /// replaced by another version meanwhile. bollard puts no version into its paths, so no engine refuses it for being
    /// too old or too new; what is negotiated is what it may ask for.
    async fn connect(&self) -> Result<Docker, SourceError> {
        let way = match self.address.clone() {
            Address::Unix(path) => Way::Unix(path),
            Address::Tcp(place) => Way::Tcp(place),
            Address::Tls(place, folder) => {
                let reading = tokio::task::spawn_blocking(move || certificates::read(&folder));
                let config = reading.await.map_err(|error| SourceError::from_chain(&error))?;
                Way::Tls(place, Arc::new(config.map_err(|error| SourceError(error.to_string()))?))
            }
        };
        transport::client(way, ANSWER_TIMEOUT)
            .map_err(|error| failure(&error))?
            .negotiate_version()
            .await
            .map_err(|error| failure(&error))
    }

    fn client(&self) -> Result<Docker, SourceError> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or_else(|| SourceError("not connected".to_owned()))
    }
}

impl ContainerSource for Engine {
    fn location(&self) -> String {
        self.uri.clone()
    }

    fn listen(&self, since: Option<EngineTime>) -> Pending<'_, Result<Listening, SourceError>> {
        Box::pin(async move {
            let client = self.connect().await?;
            let version = client.client_version().to_string();
            tracing::debug!(engine = self.uri, api = version, "connected to the container engine");
            let since = since.unwrap_or_else(|| {
                let EngineTime(now) = now();
                EngineTime(now.saturating_sub(u64::try_from(REPLAY.as_nanos()).unwrap_or(0)))
            });
            let past = past(Events::new(&client, since, Some(now()))).await;
            let stream = Box::new(Events::new(&client, since, None));
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
            Ok(Listening { past, stream })
        })
    }

    fn list(&self, which: Which) -> Pending<'_, Result<Vec<ContainerId>, SourceError>> {
        Box::pin(async move {
            let options = ListContainersOptions { all: which == Which::All, ..Default::default() };
            let found =
                self.client()?.list_containers(Some(options)).await.map_err(|error| failure(&error))?;
            Ok(found.into_iter().filter_map(|summary| summary.id.map(ContainerId::new)).collect())
        })
    }

    fn inspect(&self, id: ContainerId) -> Pending<'_, Result<Option<Container>, SourceError>> {
        Box::pin(async move {
            let found = self.client()?.inspect_container(id.as_str(), None::<InspectContainerOptions>).await;
            match found {
                Ok(found) => read::container(id, found).map(Some),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(failure(&error)),
            }
        })
    }

    fn exec(&self, id: ContainerId, exec: Exec) -> Pending<'_, Result<Executed, SourceError>> {
        Box::pin(async move { exec::run(&self.client()?, &id, exec).await.map_err(|error| failure(&error)) })
    }
}

fn address(uri: &str, certificates: Option<&Path>) -> Result<Address, EngineError> {
    let said = || uri.to_owned();
    let (scheme, place) = uri.split_once("://").ok_or_else(|| EngineError::Scheme { uri: said() })?;
    if !matches!(scheme, "unix" | "tcp" | "http") {
        return Err(EngineError::Scheme { uri: said() });
    }
    if place.is_empty() {
        return Err(EngineError::Empty { uri: said() });
    }
    let reached = |port| Place::parse(place, port).ok_or_else(|| EngineError::Place { uri: said() });
    match (scheme, certificates) {
        ("unix", _) => Ok(Address::Unix(PathBuf::from(place))),
        ("http", Some(_)) => Err(EngineError::Plain { uri: said() }),
        (_, Some(folder)) => Ok(Address::Tls(reached(TLS_PORT)?, folder.to_owned())),
        (_, None) => Ok(Address::Tcp(reached(PLAIN_PORT)?)),
    }
}

/// All that an ended span of time tells. An engine whose clock lags waits for the end of the span; it is not waited for.
async fn past(mut span: Events) -> Vec<Event> {
    let mut past = Vec::new();
    let listen = async {
        while let Some(Ok(event)) = span.next().await
            && past.len() < PAST_LIMIT
        {
            past.push(event);
        }
    };
    let _ = tokio::time::timeout(PAST_TIMEOUT, listen).await;
    past
}

fn events_options(since: EngineTime, until: Option<EngineTime>) -> EventsOptions {
    let stamp =
        |EngineTime(nanos): EngineTime| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    EventsOptions {
        since: Some(stamp(since)),
        until: until.map(stamp),
        filters: Some(HashMap::from([
            ("type".to_owned(), strings(&["container", "network"])),
            ("event".to_owned(), strings(&EVENTS)),
        ])),
    }
}

/// This machine's clock, in the engine's terms.
fn now() -> EngineTime {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EngineTime(u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX))
}

fn failure(error: &Error) -> SourceError {
    SourceError::from_chain(error)
}

struct Events(Pin<Box<dyn Stream<Item = Result<EventMessage, Error>> + Send>>);

impl Events {
    fn new(client: &Docker, since: EngineTime, until: Option<EngineTime>) -> Self {
        Self(Box::pin(client.events(Some(events_options(since, until)))))
    }
}

impl EventStream for Events {
    fn next(&mut self) -> Pending<'_, Option<Result<Event, SourceError>>> {
        Box::pin(async move {
            loop {
                match self.0.next().await? {
                    Err(error) => return Some(Err(failure(&error))),
                    Ok(message) => {
                        if let Some(event) = read::event(message, now()) {
                            return Some(Ok(event));
                        }
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        #[track_caller]
        fn check(uri: &str, certificates: Option<&str>, expect: Result<Address, &str>) {
            let got = address(uri, certificates.map(Path::new)).map_err(|error| error.to_string());
            assert_eq!(got, expect.map_err(str::to_owned));
        }
        let place = |port| Place { host: "127.0.0.1".to_owned(), port };
        let socket = || Address::Unix("/run/docker.sock".into());
        check("unix:///run/docker.sock", None, Ok(socket()));
        check("tcp://127.0.0.1:1", None, Ok(Address::Tcp(place(1))));
        check("tcp://127.0.0.1", None, Ok(Address::Tcp(place(2375))));
        check("http://127.0.0.1:2375", None, Ok(Address::Tcp(place(2375))));
        check("unix://", None, Err("\"unix://\" names no place after its scheme"));
        check("tcp://a:b", None, Err("\"tcp://a:b\" names no host and port after its scheme"));
        let other = "is no address of a container engine: it must begin with unix://, tcp:// or http://";
        check("/run/docker.sock", None, Err(&format!("\"/run/docker.sock\" {other}")));
        check("https://127.0.0.1:2376", None, Err(&format!("\"https://127.0.0.1:2376\" {other}")));

        check("unix:///run/docker.sock", Some("/certs"), Ok(socket()));
        check("tcp://127.0.0.1", Some("/certs"), Ok(Address::Tls(place(2376), "/certs".into())));
        let plain = "\"http://127.0.0.1\" asks for no TLS, and TLS is asked for: begin it with tcp://";
        check("http://127.0.0.1", Some("/certs"), Err(plain));
    }

    #[test]
    fn since_is_in_seconds_with_nanoseconds() {
        let options = events_options(EngineTime(1_700_000_000_000_000_042), None);
        assert_eq!(options.since.as_deref(), Some("1700000000.000000042"));
    }
}
