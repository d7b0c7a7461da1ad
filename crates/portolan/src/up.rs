//! `portolan up` and `portolan gateway`, and the runtime that long-running commands run on.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::app::{self, Roles};
use crate::failure::Failure;
use crate::settings::{self, Config, Environment, Flags};
use crate::signals::Signals;
use crate::terminal::say;
use crate::{book, descriptors, log};

/// Threads for everything but the gateway's request path, which has its own. Two, so that a slow answer of the HTTP
/// face never holds up a registration.
const CONTROL_THREADS: usize = 2;

/// How long blocking calls may outlive the runtime.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Where the HTTP API of a gateway alone listens: a Consul agent, which has 8500, may be its neighbour.
const GATEWAY_HTTP: &str = "127.0.0.1:8510";

/// Runs all roles until a signal.
pub(crate) fn run(flags: &Flags, environment: &Environment) -> Result<(), Failure> {
    play(Roles::All, flags, environment)
}

/// Runs a gateway alone until a signal.
pub(crate) fn run_gateway(flags: Flags, environment: &Environment) -> Result<(), Failure> {
    play(Roles::Gateway, &flags.by_default("http.listen", GATEWAY_HTTP), environment)
}

fn play(roles: Roles, flags: &Flags, environment: &Environment) -> Result<(), Failure> {
    let settled = settings::load(flags, environment)?;
    if roles == Roles::Gateway && book::is_embedded(&settled.config) {
        return Err(Failure::Usage(
            "a gateway alone follows a registry that others write to: name it, as in --registry \
             consul://127.0.0.1:8500 (`portolan up` has one of its own)"
                .to_owned(),
        ));
    }
    start_log(&settled.config, &settled.warnings)?;
    block_on(until_told(settled.config, roles))
}

async fn until_told(config: Config, roles: Roles) -> Result<(), Failure> {
    let signals = Signals::take().map_err(Failure::failed)?;
    let running = app::build(config, roles).await?.start();
    for line in running.found.lines() {
        say(line);
    }
    running.until_told(signals).await;
    Ok(())
}

/// Starts logging, first of all what was strange about the settings.
pub(crate) fn start_log(config: &Config, warnings: &[String]) -> Result<(), Failure> {
    log::start(&log::parse(&config.log).map_err(Failure::Failed)?);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// Runs `task` to its end on a runtime of its own.
pub(crate) fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    descriptors::take_all();
    let runtime = Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("cannot start: {error}")))?;
    let outcome = runtime.block_on(task);
    runtime.shutdown_timeout(LEFT_BEHIND);
    outcome
}
