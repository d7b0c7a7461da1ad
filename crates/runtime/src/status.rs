//! What every part of the process says of itself right now, in one place for operators.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// How a part fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// On its way up.
    Starting,
    /// Does its work.
    Running,
    /// Works, but not as it should; the detail says what is missing.
    Degraded,
    /// Has ended as asked.
    Stopped,
    /// Has ended by a panic.
    Failed,
}

/// What one part says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How it fares.
    pub state: State,
    /// The reason, or what it is at; for people.
    pub detail: String,
}

/// All reports by part. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StatusBoard(Arc<Mutex<BTreeMap<String, Report>>>);

/// One part's pen on the board.
#[derive(Debug, Clone)]
pub struct Reporter {
    board: StatusBoard,
    part: String,
}

impl StatusBoard {
    /// A pen for `part`, which is [`State::Starting`] from now on.
    pub fn reporter(&self, part: impl Into<String>) -> Reporter {
        let reporter = Reporter { board: self.clone(), part: part.into() };
        reporter.say(State::Starting, "");
        reporter
    }

    /// All reports, by part.
    pub fn snapshot(&self) -> BTreeMap<String, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Reporter {
    /// Replaces what the part said before. Returns whether the state is another, so that a caller can log once.
    pub fn say(&self, state: State, detail: impl Into<String>) -> bool {
        let report = Report { state, detail: detail.into() };
        let mut board = self.board.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = board.insert(self.part.clone(), report);
        before.is_none_or(|before| before.state != state)
    }
}
