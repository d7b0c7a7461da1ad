//! `portolan services`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use consul_api::{AgentService, AgentServices};
use serde::Serialize;

use super::{Common, say_json};
use crate::failure::Failure;
use crate::terminal::{columns, complain, say};

/// Lists services.
#[derive(Debug, Args)]
pub(crate) struct Services {
    #[command(flatten)]
    common: Common,
}

/// One service.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Row {
    name: String,
    instances: usize,
    tags: BTreeSet<String>,
}

impl Services {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let instances: AgentServices = self.common.registry()?.get("/v1/agent/services", &[])?;
        let rows = rows(instances.into_values());
        if self.common.json {
            return say_json(&rows);
        }
        if rows.is_empty() {
            complain("no service is registered");
            return Ok(());
        }
        let head = ["SERVICE", "INSTANCES", "TAGS"].map(str::to_owned);
        let line = |row: &Row| {
            let tags: Vec<&str> = row.tags.iter().map(String::as_str).collect();
            [row.name.clone(), row.instances.to_string(), tags.join(",")]
        };
        say(columns(&[head].into_iter().chain(rows.iter().map(line)).collect::<Vec<_>>()));
        Ok(())
    }
}

fn rows(instances: impl IntoIterator<Item = AgentService>) -> Vec<Row> {
    let mut services: BTreeMap<String, Row> = BTreeMap::new();
    for instance in instances {
        let row = services.entry(instance.service.clone()).or_default();
        row.name = instance.service;
        row.instances += 1;
        row.tags.extend(instance.tags);
    }
    services.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_counted_by_service() {
        let instance = |service: &str, tag: &str| AgentService {
            service: service.to_owned(),
            tags: vec![tag.to_owned()],
            ..AgentService::default()
        };
        let got = rows([instance("web", "b"), instance("api", "x"), instance("web", "a")]);
        let row = |name: &str, instances, tags: &[&str]| Row {
            name: name.to_owned(),
            instances,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        assert_eq!(got, [row("api", 1, &["x"]), row("web", 2, &["a", "b"])]);
    }
}
