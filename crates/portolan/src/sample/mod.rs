//! The sample service: what the guides, the demo and the tests put behind the gateway.
//!
//! It behaves as a service should: told to stop, it takes in what the kernel has accepted on its behalf, finishes what
//! runs, closes connections that idle, and ends.

mod body;
mod endpoints;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use runtime::Shutdown;
use tokio::net::TcpListener;

use crate::failure::{Failure, in_use};
use crate::signals::Signals;
use crate::terminal::say;

/// What a sample is.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where it listens; port 0 takes any free one.
    pub(crate) listen: SocketAddr,
    /// The service it plays, e.g. `service_1`.
    pub(crate) name: String,
    /// What it calls itself in `x-instance`.
    pub(crate) instance: String,
    /// How long requests in flight may take to finish.
    pub(crate) drain_timeout: Duration,
}

/// A sample that is bound and not yet served.
pub(crate) struct Sample {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

/// Binds.
pub(crate) async fn build(config: Config) -> io::Result<Sample> {
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    Ok(Sample { listener, address, config })
}

/// Runs a sample as a process of its own, until a signal ends it.
pub(crate) async fn run_process(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::take().map_err(Failure::failed)?;
    let (name, listen) = (config.name.clone(), config.listen);
    let sample = build(config).await.map_err(|error| in_use("--listen", listen, &error))?;
    say(format_args!("sample {name} listening on http://{}", sample.address()));
    let (trigger, shutdown) = Shutdown::new();
    let running = tokio::spawn(sample.run(shutdown));
    signals.next().await;
    trigger.trigger();
    tokio::select! {
        ended = running => ended.map_err(Failure::failed),
        again = signals.next() => std::process::exit(again.code()),
    }
}

impl Sample {
    /// The address it really listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop, then finishes.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let router = endpoints::router(&self.config);
        serve::serve(self.listener, router, shutdown, self.config.drain_timeout).await;
    }
}

#[cfg(test)]
mod tests;
