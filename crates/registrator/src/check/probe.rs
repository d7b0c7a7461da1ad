//! Asks an instance once. What is read of an answer is bounded; how long it may take is the caller's to say.

mod command;
mod dial;
mod grpc;
mod http;

use std::sync::Arc;

use portolan_model::Health;

use super::Check;
use super::spec::Probe;
use crate::source::{ContainerSource, SourceError};
pub(super) use command::Running;
use dial::Dialer;

/// The longest finding, in characters.
const FINDING_LIMIT: usize = 160;

/// What one run of a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) health: Health,
    /// One short line for people.
    pub(super) text: String,
}

/// Asks instances.
pub(super) struct Prober {
    source: Arc<dyn ContainerSource>,
    dialer: Dialer,
}

impl Prober {
    pub(super) fn new(source: Arc<dyn ContainerSource>) -> Self {
        Self { source, dialer: Dialer::default() }
    }

    /// Runs `check` once, within its timeout. `running` is kept from run to run of the same check.
    ///
    /// # Errors
    /// When the engine runs no command for us. That says nothing of the instance.
    pub(super) async fn run<'p>(
        &'p self,
        check: &Check,
        running: &mut Running<'p>,
    ) -> Result<Finding, SourceError> {
        let timeout = check.spec.timeout;
        let late = || Finding::critical(format!("no answer within {timeout:?}"));
        if let Probe::Command { script } = &check.spec.probe {
            let finding = command::run(&*self.source, check, script, running).await?;
            return Ok(finding.unwrap_or_else(late));
        }
        let answer = async {
            match &check.spec.probe {
                Probe::Http { method, path, tls } => {
                    http::ask(&self.dialer, &check.endpoint, method, path, *tls).await
                }
                Probe::Grpc { tls } => grpc::ask(&self.dialer, &check.endpoint, *tls).await,
                Probe::Reports { .. } => Err(Unasked("it is not asked: it reports".to_owned())),
                Probe::Tcp | Probe::Command { .. } => self
                    .dialer
                    .connect(&check.endpoint)
                    .await
                    .map(|_| Finding::passing("it accepts connections")),
            }
        };
        Ok(match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.unwrap_or_else(|Unasked(why)| Finding::critical(why)),
            Err(_) => late(),
        })
    }
}

/// Why there is no answer: for people, and always bad.
#[derive(Debug)]
struct Unasked(String);

impl<E: std::error::Error> From<E> for Unasked {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self(text)
    }
}

impl Finding {
    pub(super) fn new(health: Health, text: &str) -> Self {
        // What it says comes from the instance: one line of it, and nothing that a terminal would obey.
        let line = text.trim().lines().next().unwrap_or_default();
        let text = line.chars().filter(|c| !c.is_control()).take(FINDING_LIMIT).collect();
        Self { health, text }
    }

    fn passing(text: impl AsRef<str>) -> Self {
        Self::new(Health::Passing, text.as_ref())
    }

    fn critical(text: impl AsRef<str>) -> Self {
        Self::new(Health::Critical, text.as_ref())
    }
}
