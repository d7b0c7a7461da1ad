//! The Docker engine (or one that speaks its API) as a container source.

mod exec;
pub(crate) mod read;
mod time;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use portolan_model::Pending;

use crate::container::{Container, ContainerId, EngineTime};
use crate::source::{ContainerSource, Event, EventStream, Exec, Executed, Listening, SourceError, Which};

/// Where the engine is when nobody says.
const DEFAULT_URI: &str = "unix:///var/run/docker.sock";

/// How long the engine may take to begin an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How far back to ask for events on the first connection: the longest stop that is likely to be under way.
const REPLAY: Duration = Duration::from_secs(120);

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address {
    Unix,
    Tcp,
}

/// Why a text does not say where an engine is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It begins otherwise.
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
}

impl Engine {
    /// The engine at `uri`, else at `DOCKER_HOST`, else at the usual socket. Does not connect yet.
    ///
    /// # Errors
    /// When the URI is not one of a container engine.
    pub fn new(uri: Option<&str>) -> Result<Self, EngineError> {
        let from_environment = || std::env::var("DOCKER_HOST").ok().filter(|uri| !uri.is_empty());
        let uri = uri.map(str::to_owned).or_else(from_environment).unwrap_or_else(|| DEFAULT_URI.to_owned());
        let (address, place) = match uri.split_once("://") {
            Some(("unix", place)) => (Address::Unix, place),
            Some(("tcp" | "http", place)) => (Address::Tcp, place),
            _ => return Err(EngineError::Scheme { uri }),
        };
        if place.is_empty() {
            return Err(EngineError::Empty { uri });
        }
        Ok(Self { address, client: Mutex::new(None), uri })
    }

    /// A client that speaks a version the engine speaks too. Made anew for every connection: the engine may have been
    /// replaced by another version meanwhile. bollard puts no version into its paths, so no engine refuses it for being
    /// too old or too new; what is negotiated is what it may ask for.
    async fn connect(&self) -> Result<Docker, Error> {
        let seconds = ANSWER_TIMEOUT.as_secs();
        let client = match self.address {
            Address::Unix => Docker::connect_with_unix(&self.uri, seconds, API_DEFAULT_VERSION)?,
            Address::Tcp => Docker::connect_with_http(&self.uri, seconds, API_DEFAULT_VERSION)?,
        };
        client.negotiate_version().await
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
            let client = self.connect().await.map_err(failure)?;
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
            let found = self.client()?.list_containers(Some(options)).await.map_err(failure)?;
            Ok(found.into_iter().filter_map(|summary| summary.id.map(ContainerId::new)).collect())
        })
    }

    fn inspect(&self, id: ContainerId) -> Pending<'_, Result<Option<Container>, SourceError>> {
        Box::pin(async move {
            let found = self.client()?.inspect_container(id.as_str(), None::<InspectContainerOptions>).await;
            match found {
                Ok(found) => read::container(id, found).map(Some),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(failure(error)),
            }
        })
    }

    fn exec(&self, id: ContainerId, exec: Exec) -> Pending<'_, Result<Executed, SourceError>> {
        Box::pin(async move { exec::run(&self.client()?, &id, exec).await.map_err(failure) })
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

fn failure(error: Error) -> SourceError {
    match error {
        Error::SocketNotFoundError(path) => SourceError(format!("there is no socket {path}")),
        error => SourceError::from_chain(&error),
    }
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
                    Err(error) => return Some(Err(failure(error))),
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
        fn check(uri: &str, expect: Result<Address, &str>) {
            let got = Engine::new(Some(uri)).map(|engine| engine.address).map_err(|e| e.to_string());
            assert_eq!(got, expect.map_err(str::to_owned));
        }
        check("unix:///run/docker.sock", Ok(Address::Unix));
        check("tcp://127.0.0.1:2375", Ok(Address::Tcp));
        check("http://127.0.0.1:2375", Ok(Address::Tcp));
        check("unix://", Err("\"unix://\" names no place after its scheme"));
        let other = "is no address of a container engine: it must begin with unix://, tcp:// or http://";
        check("/run/docker.sock", Err(&format!("\"/run/docker.sock\" {other}")));
        check("https://127.0.0.1:2376", Err(&format!("\"https://127.0.0.1:2376\" {other}")));
    }

    #[test]
    fn since_is_in_seconds_with_nanoseconds() {
        let options = events_options(EngineTime(1_700_000_000_000_000_042), None);
        assert_eq!(options.since.as_deref(), Some("1700000000.000000042"));
    }
}
