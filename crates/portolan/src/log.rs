//! Where log lines go: stderr, in colour only when a person is looking.

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Reads a filter: a level, or `part=level` pairs with commas between.
pub(crate) fn parse(filter: &str) -> Result<Targets, String> {
    let wrong = || format!("{filter:?} is not a log filter; write a level, or part=level,…");
    // `Targets` would take any single word for the name of a part, and a misspelt level would silence everything.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let level = |part: &str| {
        part.rsplit('=').next().is_some_and(|l| levels.contains(&l.to_ascii_lowercase().as_str()))
    };
    if filter.split(',').all(level) { filter.parse().map_err(|_| wrong()) } else { Err(wrong()) }
}

/// Starts logging what `filter` lets through. Later calls change nothing.
pub(crate) fn start(filter: &Targets) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter.clone());
    // A second start can only be a test in the same process, which has its subscriber already.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}
