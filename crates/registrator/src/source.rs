//! The seam to a container engine: it can be asked what runs, asked about one container, and listened to.

use std::fmt;
use std::time::Duration;

use portolan_model::Pending;

use crate::container::{Container, ContainerId, EngineTime, ExitCode, Signal};

/// How far back events are told to whoever never listened before: the longest stop that is likely to be under way.
pub const REPLAY: Duration = Duration::from_secs(600);

/// A container engine, as far as the registrator needs one.
pub trait ContainerSource: Send + Sync + 'static {
    /// Where the engine is, for messages (a URI).
    fn location(&self) -> String;

    /// Connects and starts listening. Events from `since` on are told again as far as the engine remembers them;
    /// without it those of the last [`REPLAY`], so that a stop under way is known.
    fn listen(&self, since: Option<EngineTime>) -> Pending<'_, Result<Listening, SourceError>>;

    /// The containers there are now.
    fn list(&self, which: Which) -> Pending<'_, Result<Vec<ContainerId>, SourceError>>;

    /// One container as it is now; `None` when the engine does not know it (any more).
    fn inspect(&self, id: ContainerId) -> Pending<'_, Result<Option<Container>, SourceError>>;

    /// Runs a command inside a container that runs, and waits for its end. Not waiting any longer does not end it. An
    /// error is the engine's own; a program that cannot be run ends with a code.
    fn exec(&self, id: ContainerId, exec: Exec) -> Pending<'_, Result<Executed, SourceError>>;
}

/// A command to run inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Environment as `KEY=value` lines, on top of the container's.
    pub env: Vec<String>,
    /// How many bytes of what it writes are kept.
    pub output_limit: usize,
}

/// How a command inside a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code; engines say 126 or 127 of a program that is not there.
    pub code: i64,
    /// What it wrote to either output, up to the limit.
    pub output: Vec<u8>,
}

/// Which containers to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that run, paused ones included.
    Running,
    /// Also those that ended and were not removed.
    All,
}

/// An engine that is listened to.
pub struct Listening {
    /// What happened before; some of it may be told once more by the stream.
    pub past: Vec<Event>,
    /// What happens from now on.
    pub stream: Box<dyn EventStream>,
}

/// What an engine tells while it is listened to.
pub trait EventStream: Send {
    /// The next event, waiting for it. `None` when the engine closed the stream. Must be safe to drop while waiting.
    fn next(&mut self) -> Pending<'_, Option<Result<Event, SourceError>>>;
}

/// Something happened to a container. It says which container to read again; the only facts taken from it are those
/// that cannot be read in time, and they can only take an instance out, never put one in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which container.
    pub container: ContainerId,
    /// What happened.
    pub kind: EventKind,
    /// When, by the engine's clock.
    pub at: EngineTime,
    /// How long ago that was when it was told; more than nothing for events told again.
    pub age: Duration,
}

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It began to run.
    Started,
    /// It was sent a signal. The engine does not let one read this afterwards.
    Killed(Signal),
    /// It ended, and how, where that is known. The engine answers reads of it only after it has taken its network down,
    /// which is too late.
    Died(Option<ExitCode>),
    /// Anything else that may have changed it: health, pause, rename, update, networks, destroy.
    Changed,
}

/// Why an engine did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

impl SourceError {
    /// The whole chain of `error` in one line.
    pub fn from_chain(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        Self(text)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("start"),
            Self::Killed(signal) => write!(f, "kill ({})", signal.0),
            Self::Died(None) => f.write_str("die"),
            Self::Died(Some(exit)) => write!(f, "die ({})", exit.0),
            Self::Changed => f.write_str("change"),
        }
    }
}
