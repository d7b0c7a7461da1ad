//! `portolan watch`: blocking queries, and what is different after each.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use consul_api::ServiceEntry;
use runtime::Backoff;
use serde::Serialize;

use super::Common;
use super::instances::{address, health, path, phase};
use super::registry::{Answer, ClientError, Registry};
use crate::failure::Failure;
use crate::terminal::{complain, say};

/// How long one blocking query waits for a change.
const WAIT: Duration = Duration::from_secs(300);

/// What the registry adds to the wait (up to a sixteenth), and what the network may take.
const MARGIN: Duration = Duration::from_secs(30);

/// Follows the instances of a service.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The service
    name: String,
    #[command(flatten)]
    common: Common,
}

/// What is shown of an instance; a change of anything else is no line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Shown {
    address: String,
    health: String,
    phase: String,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line<'a> {
    change: Change,
    id: &'a str,
    #[serde(flatten)]
    shown: &'a Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Added,
    Changed,
    Removed,
}

impl Watch {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let registry = self.common.registry()?;
        let mut known = BTreeMap::new();
        let mut index = 0;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut lost = false;
        loop {
            match self.ask(&registry, index) {
                Ok(answer) => {
                    if std::mem::take(&mut lost) {
                        complain(format_args!("the registry at {} is back", registry.base()));
                    }
                    backoff.reset();
                    let now =
                        answer.body.iter().map(|entry| (entry.service.id.clone(), shown(entry))).collect();
                    if !self.print(&known, &now)? {
                        return Ok(());
                    }
                    known = now;
                    // An index that went back belongs to another history: Consul's rule is to start over.
                    index = if answer.index < index { 0 } else { answer.index };
                }
                Err(error @ ClientError::Unreachable { .. }) => {
                    if !std::mem::replace(&mut lost, true) {
                        complain(format_args!("{error} Trying again until it answers."));
                    }
                    index = 0;
                    std::thread::sleep(backoff.next(u64::from(std::process::id())));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ask(&self, registry: &Registry, index: u64) -> Result<Answer<Vec<ServiceEntry>>, ClientError> {
        let (index, wait) = (index.to_string(), format!("{}s", WAIT.as_secs()));
        registry.get_within(
            &path(&self.name),
            &[("index", &index), ("wait", &wait)],
            WAIT + WAIT / 16 + MARGIN,
        )
    }

    /// Prints what is different. Returns whether somebody still reads.
    fn print(
        &self,
        before: &BTreeMap<String, Shown>,
        now: &BTreeMap<String, Shown>,
    ) -> Result<bool, Failure> {
        for line in difference(before, now) {
            let text = match self.common.json {
                true => serde_json::to_string(&line).map_err(Failure::failed)?,
                false => line.to_string(),
            };
            if !say(text) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shown { address, health, phase } = self.shown;
        match self.change {
            Change::Added => write!(f, "+ {}  {address}  {health}  {phase}", self.id),
            Change::Changed => write!(f, "~ {}  {address}  {health}  {phase}", self.id),
            Change::Removed => write!(f, "- {}  {address}", self.id),
        }
    }
}

fn shown(entry: &ServiceEntry) -> Shown {
    Shown { address: address(entry), health: health(entry), phase: phase(entry).to_owned() }
}

fn difference<'a>(before: &'a BTreeMap<String, Shown>, now: &'a BTreeMap<String, Shown>) -> Vec<Line<'a>> {
    let gone = before.iter().filter(|(id, _)| !now.contains_key(*id));
    let gone = gone.map(|(id, shown)| Line { change: Change::Removed, id, shown });
    let here = now.iter().filter_map(|(id, shown)| match before.get(id) {
        None => Some(Line { change: Change::Added, id, shown }),
        Some(was) if was != shown => Some(Line { change: Change::Changed, id, shown }),
        Some(_) => None,
    });
    gone.chain(here).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_differs() {
        let book = |rows: &[(&str, &str)]| -> BTreeMap<String, Shown> {
            let shown = |phase: &str| Shown {
                address: "a:1".to_owned(),
                health: "passing".to_owned(),
                phase: phase.to_owned(),
            };
            rows.iter().map(|(id, phase)| ((*id).to_owned(), shown(phase))).collect()
        };
        let (before, now) = (
            book(&[("a", "adult"), ("b", "adult"), ("c", "adult")]),
            book(&[("b", "draining"), ("c", "adult"), ("d", "young")]),
        );
        let lines: Vec<String> = difference(&before, &now).iter().map(Line::to_string).collect();
        assert_eq!(lines, ["- a  a:1", "~ b  a:1  passing  draining", "+ d  a:1  passing  young"]);
        assert!(difference(&now, &now).is_empty());
    }
}
