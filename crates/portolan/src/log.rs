//! Where log lines go: stderr, in colour only when a person is looking.

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A library that has a line for every server that it does not reach, several times a second while a cluster is away.
/// What matters of it is said by whoever uses it, once.
const TALKATIVE: &str = "zookeeper_client";

/// Reads a filter: a level, or `part=level` pairs with commas between.
pub(crate) fn parse(filter: &str) -> Result<Targets, String> {
    let wrong = || format!("{filter:?} is not a log filter; write a level, or part=level,…");
    // `Targets` would take any single word for the name of a part, and a misspelt level would silence everything.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let level = |part: &str| {
        part.rsplit('=').next().is_some_and(|l| levels.contains(&l.to_ascii_lowercase().as_str()))
    };
    if !filter.split(',').all(level) {
        return Err(wrong());
    }
    let targets: Targets = filter.parse().map_err(|_| wrong())?;
    let asked_for = filter.contains(TALKATIVE) || targets.default_level() > Some(LevelFilter::INFO);
    Ok(if asked_for { targets } else { targets.with_target(TALKATIVE, LevelFilter::ERROR) })
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

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn who_is_heard() {
        #[track_caller]
        fn check(filter: &str, ours: bool, talkative: bool) {
            let targets = parse(filter).unwrap();
            let heard = |target| targets.would_enable(target, &Level::WARN);
            assert_eq!((heard("gateway"), heard("zookeeper_client::session")), (ours, talkative), "{filter}");
        }
        check("info", true, false);
        check("warn", true, false);
        check("error", false, false);
        check("debug", true, true);
        check("info,zookeeper_client=warn", true, true);
        check("gateway=debug", true, false);
        assert!(parse("inof").is_err() && parse("gateway=inof").is_err());
    }
}
