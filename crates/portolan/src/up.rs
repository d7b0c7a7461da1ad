//! `portolan up`, and the runtime that long-running commands run on.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::failure::Failure;
use crate::settings::{self, Config, Environment, Flags};
use crate::signals::Signals;
use crate::terminal::say;
use crate::{app, descriptors, log};

/// Threads for everything but the gateway's request path, which has its own. Two, so that a slow answer of the HTTP
/// face never holds up a registration.
const CONTROL_THREADS: usize = 2;

/// How long blocking calls may outlive the runtime.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Runs all roles until a signal.
pub(crate) fn run(flags: &Flags, environment: &Environment) -> Result<(), Failure> {
    let settled = settings::load(flags, environment)?;
    start_log(&settled.config, &settled.warnings)?;
    block_on(up(settled.config))
}

async fn up(config: Config) -> Result<(), Failure> {
    let signals = Signals::take().map_err(Failure::failed)?;
    let running = app::build(config).await?.start();
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
