//! `portolan explain`.

use clap::Args;
use routing::{Explanation, InstanceNote, Verdict};

use super::{Common, say_json};
use crate::explain::PATH;
use crate::failure::Failure;
use crate::terminal::{columns, say};

/// Says where a request would go, and why.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The host of the request
    #[arg(long)]
    host: Option<String>,
    /// The path of the request
    #[arg(long, default_value = "/")]
    path: String,
    /// A header of the request; may be said more than once
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Explain {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut query = vec![("path", self.path.as_str())];
        query.extend(self.host.as_deref().map(|host| ("host", host)));
        query.extend(self.headers.iter().map(|header| ("header", header.as_str())));
        let told: Explanation = self.common.registry()?.get(PATH, &query)?;
        if self.common.json {
            return say_json(&told);
        }
        say(page(&told));
        Ok(())
    }
}

fn page(told: &Explanation) -> String {
    let mut page = told.summary.clone();
    if let Some(path) = &told.upstream_path {
        page.push_str(&format!("\nthe instance sees path {path}"));
    }
    if !told.instances.is_empty() {
        let head = ["INSTANCE", "ADDRESS", "HEALTH", "PHASE", "ROUTED TO", "WHY"].map(str::to_owned);
        let rows: Vec<_> = [head].into_iter().chain(told.instances.iter().map(row)).collect();
        page.push_str(&format!("\n\n{}", columns(&rows)));
    }
    page
}

fn row(note: &InstanceNote) -> [String; 6] {
    let routed = match note.verdict {
        Verdict::Candidate => "yes",
        Verdict::Parked => "no",
    };
    [
        note.id.clone(),
        note.endpoint.clone(),
        note.health.to_string(),
        note.phase.to_string(),
        routed.to_owned(),
        note.reason.clone(),
    ]
}
