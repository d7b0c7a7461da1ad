//! `portolan instances`, and how one instance is shown.

use clap::Args;
use consul_api::{CheckStatus, ServiceEntry};

use super::registry::segment;
use super::{Common, say_json};
use crate::failure::Failure;
use crate::terminal::{columns, complain, say};

/// Lists the instances of a service.
#[derive(Debug, Args)]
pub(crate) struct Instances {
    /// The service
    name: String,
    /// Only those that are passing
    #[arg(long)]
    passing: bool,
    /// Only those with this tag; may be said more than once
    #[arg(long)]
    tag: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Instances {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut query: Vec<(&str, &str)> = self.tag.iter().map(|tag| ("tag", tag.as_str())).collect();
        if self.passing {
            query.push(("passing", "true"));
        }
        let entries: Vec<ServiceEntry> = self.common.registry()?.get(&path(&self.name), &query)?;
        if self.common.json {
            return say_json(&entries);
        }
        if entries.is_empty() {
            complain(format_args!("service {:?} has no such instance", self.name));
            return Ok(());
        }
        let head = ["INSTANCE", "ADDRESS", "HEALTH", "PHASE", "WEIGHT", "TAGS"].map(str::to_owned);
        let line = |entry: &ServiceEntry| {
            let weight = entry.service.weights.passing.to_string();
            [
                entry.service.id.clone(),
                address(entry),
                health(entry),
                phase(entry).to_owned(),
                weight,
                entry.service.tags.join(","),
            ]
        };
        say(columns(&[head].into_iter().chain(entries.iter().map(line)).collect::<Vec<_>>()));
        Ok(())
    }
}

/// Where the instances of a service are read.
pub(super) fn path(service: &str) -> String {
    format!("/v1/health/service/{}", segment(service))
}

/// Where it listens: its own address, else its node's.
pub(super) fn address(entry: &ServiceEntry) -> String {
    let own = &entry.service.address;
    let host = if own.is_empty() { &entry.node.address } else { own };
    let port = entry.service.port;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// How it fares: what Portolan says, else the worst of Consul's checks.
pub(super) fn health(entry: &ServiceEntry) -> String {
    let said = entry.service.portolan.as_ref().and_then(|more| more.health.clone());
    let severity = |status: &CheckStatus| match status {
        CheckStatus::Passing => 0,
        CheckStatus::Warning => 1,
        CheckStatus::Critical => 2,
        CheckStatus::Unknown(_) => 3,
    };
    let worst = || entry.checks.iter().map(|check| &check.status).max_by_key(|status| severity(status));
    said.unwrap_or_else(|| worst().unwrap_or(&CheckStatus::Passing).as_str().to_owned())
}

/// Where it is in its life, if the registry knows.
pub(super) fn phase(entry: &ServiceEntry) -> &str {
    entry.service.portolan.as_ref().and_then(|more| more.phase.as_deref()).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use consul_api::{HealthCheck, Particulars};

    #[test]
    fn entries_of_ours_and_of_consul() {
        let mut entry = ServiceEntry::default();
        entry.node.address = "fd00::1".to_owned();
        entry.service.port = 80;
        assert_eq!(
            (address(&entry).as_str(), health(&entry).as_str(), phase(&entry)),
            ("[fd00::1]:80", "passing", "-")
        );

        entry.checks = [CheckStatus::Passing, CheckStatus::Critical, CheckStatus::Warning]
            .map(|status| HealthCheck { status, ..HealthCheck::default() })
            .into();
        assert_eq!(health(&entry), "critical");

        entry.service.address = "10.0.0.1".to_owned();
        entry.service.portolan = Some(Particulars {
            health: Some("maintenance".to_owned()),
            phase: Some("draining".to_owned()),
            ..Particulars::default()
        });
        let got = (address(&entry), health(&entry), phase(&entry));
        assert_eq!((got.0.as_str(), got.1.as_str(), got.2), ("10.0.0.1:80", "maintenance", "draining"));
    }
}
