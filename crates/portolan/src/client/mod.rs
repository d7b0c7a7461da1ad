//! Commands that ask a running Portolan through its HTTP API.

mod explain;
mod instances;
mod registry;
mod services;
mod watch;
mod write;

use clap::Args;
use serde::Serialize;

pub(crate) use explain::Explain;
pub(crate) use instances::Instances;
pub(crate) use services::Services;
pub(crate) use watch::Watch;
pub(crate) use write::{Deregister, Drain, Register};

use crate::failure::Failure;
use crate::terminal::say;
use registry::Registry;

/// What every such command takes.
#[derive(Debug, Args)]
struct Common {
    /// Where the HTTP API is
    #[arg(long, value_name = "URL", env = "PORTOLAN_HTTP_ADDR", default_value = "http://127.0.0.1:8500")]
    http_addr: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Common {
    fn registry(&self) -> Result<Registry, Failure> {
        Registry::at(&self.http_addr)
    }
}

fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    say(serde_json::to_string_pretty(value).map_err(Failure::failed)?);
    Ok(())
}
