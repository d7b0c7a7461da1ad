//! A connection to ZooKeeper, with the client's own task in a runtime that ends with it.
//!
//! The client comes back by itself when a connection is lost, but not in a way to rely on: its pauses grow to many
//! seconds, and when its time is up on a machine without any network it tries again and again within one turn of its
//! task, for ever. So a connection that is lost is ended here, task and all, and the driver makes the next one, in the
//! same session if there still is one.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use zookeeper_client::{Client, Connector, Error, SessionInfo, TlsOptions};

use super::config::{Config, Tls};

/// How long a server may take to hear that a session ends.
const CLOSING: Duration = Duration::from_secs(1);

/// See the module's head.
pub(super) struct Connection {
    home: Home,
    /// Holds the client for as long as its task lives: without one, the task would end the session.
    keeper: AbortHandle,
    pub(super) client: Client,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The session to resume is no more.
    #[error("the session has ended")]
    Expired,
    /// The server is not there, says nothing, or closes: the client does not tell which.
    #[error("it does not answer, or refuses")]
    Silent,
    /// The server, or the client, says why not.
    #[error("{0}")]
    Client(Error),
    /// A file of the settings cannot be used.
    #[error("{0}")]
    File(String),
    /// This machine lacks what a connection needs.
    #[error("{0}")]
    Machine(String),
}

impl Connection {
    /// Connects to a server, in the session `resumed` if there is one, else in a new one. `patience`: how long it may take, and
    /// be silent thereafter.
    pub(super) async fn open(
        config: &Config,
        server: &str,
        patience: Duration,
        resumed: Option<&SessionInfo>,
    ) -> Result<Self, Refusal> {
        let mut connector = Client::connector()
            .with_session_timeout(config.session_timeout)
            .with_connection_timeout(patience)
            .with_fail_eagerly();
        if let Some(credentials) = &config.credentials {
            let text = format!("{}:{}", credentials.user, credentials.password);
            connector = connector.with_auth("digest", text.as_bytes());
        }
        if let Some(session) = resumed {
            connector = connector.with_session(session.clone());
        }
        if let Some(tls) = &config.tls {
            connector = connector.with_tls(options(tls)?);
        }
        let home = Home::new().map_err(|error| Refusal::Machine(error.to_string()))?;
        let (client, keeper) = home.connect(connector, server.to_owned(), config.tls.is_some()).await?;
        Ok(Self { home, keeper, client })
    }

    /// Ends the session too. The caller has dropped whatever it has of the client.
    pub(super) async fn close(self) {
        let Self { home, keeper, client } = self;
        let mut watcher = client.state_watcher();
        keeper.abort();
        drop(client);
        let closed = async { while !watcher.changed().await.is_terminated() {} };
        if tokio::time::timeout(CLOSING, closed).await.is_err() {
            tracing::debug!("zookeeper: the session ends by its timeout only");
        }
        drop(home);
    }
}

/// Where the client's task lives.
struct Home(Option<Runtime>);

impl Home {
    fn new() -> io::Result<Self> {
        // The client brings its own timers and sockets.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("zookeeper").build()?;
        Ok(Self(Some(runtime)))
    }

    async fn connect(
        &self,
        connector: Connector,
        server: String,
        tls: bool,
    ) -> Result<(Client, AbortHandle), Refusal> {
        let Some(runtime) = &self.0 else { return Err(Refusal::Client(Error::ClientClosed)) };
        let connecting = runtime.spawn(async move {
            if tls { connector.secure_connect(&server).await } else { connector.connect(&server).await }
        });
        match connecting.await {
            Ok(Ok(client)) => {
                let kept = client.clone();
                let keeping = runtime.spawn(async move {
                    std::future::pending::<()>().await;
                    drop(kept);
                });
                Ok((client, keeping.abort_handle()))
            }
            Ok(Err(Error::SessionExpired)) => Err(Refusal::Expired),
            Ok(Err(Error::NoHosts)) => Err(Refusal::Silent),
            Ok(Err(error)) => Err(Refusal::Client(error)),
            // The client panics on a host name that no certificate can have.
            Err(panic) => Err(Refusal::Machine(format!("connecting failed: {panic}"))),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Read for each connection, so that files may be replaced.
fn options(tls: &Tls) -> Result<TlsOptions, Refusal> {
    let wrong = |file: &Path, error: Error| Refusal::File(format!("{}: {error}", file.display()));
    let options = TlsOptions::new().with_pem_ca(&text(&tls.ca)?).map_err(|error| wrong(&tls.ca, error))?;
    let Some((certificate, key)) = &tls.identity else { return Ok(options) };
    let (chain, secret) = (text(certificate)?, text(key)?);
    options.with_pem_identity(&chain, &secret).map_err(|error| wrong(certificate, error))
}

fn text(file: &Path) -> Result<String, Refusal> {
    fs::read_to_string(file).map_err(|error| Refusal::File(format!("{}: {error}", file.display())))
}
