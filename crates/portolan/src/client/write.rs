//! `portolan register`, `portolan drain` and `portolan deregister`.

use clap::Args;
use consul_api::{ServiceRegistration, Weights};
use serde_json::json;

use super::registry::segment;
use super::{Common, say_json};
use crate::failure::Failure;
use crate::terminal::say;

/// Registers an instance.
#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The service it is an instance of
    name: String,
    /// Where it is reached: an IP address or a host name
    #[arg(long)]
    address: String,
    /// The port it listens on
    #[arg(long)]
    port: u16,
    /// What identifies it in the whole registry [default: NAME:ADDRESS:PORT]
    #[arg(long)]
    id: Option<String>,
    /// A label to select it by; may be said more than once
    #[arg(long)]
    tag: Vec<String>,
    /// An attribute; may be said more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// Its share of traffic beside its siblings [default: 1]
    #[arg(long)]
    weight: Option<u16>,
    #[command(flatten)]
    common: Common,
}

/// Removes an instance.
#[derive(Debug, Args)]
pub(crate) struct Deregister {
    /// The instance, not its service
    id: String,
    #[command(flatten)]
    common: Common,
}

/// Takes an instance out of use: it finishes what it has and gets nothing new.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The instance, not its service
    id: String,
    #[command(flatten)]
    common: Common,
}

impl Register {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let registration = ServiceRegistration {
            id: self.id.unwrap_or_else(|| format!("{}:{}:{}", self.name, self.address, self.port)),
            name: self.name,
            address: self.address,
            port: self.port.into(),
            tags: self.tag,
            meta: self.meta.into_iter().collect(),
            weights: self.weight.map(|weight| Weights { passing: weight.into(), ..Weights::default() }),
            ..ServiceRegistration::default()
        };
        self.common.registry()?.put("/v1/agent/service/register", Some(&registration))?;
        done(self.common.json, "registered", &registration.id)
    }
}

impl Deregister {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/agent/service/deregister/{}", segment(&self.id));
        self.common.registry()?.put(&path, None::<&()>)?;
        done(self.common.json, "deregistered", &self.id)
    }
}

impl Drain {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/portolan/drain/{}", segment(&self.id));
        self.common.registry()?.put(&path, None::<&()>)?;
        done(self.common.json, "draining", &self.id)
    }
}

fn done(as_json: bool, what: &str, id: &str) -> Result<(), Failure> {
    if as_json {
        return say_json(&json!({ what: id }));
    }
    say(format_args!("{what} {id}"));
    Ok(())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}
