//! What the driver's tasks do on their own: ask servers, and come back with a word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consul_api::{AgentSelf, AgentService};
use portolan_model::InstanceId;
use runtime::Backoff;
use tokio::time::sleep;

use super::config::Config;
use super::desk::{Act, At, Done};
use super::form;
use super::line::{Ask, Lines, Trouble};
use super::wanted::Call;

/// How long one call may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(3);
/// How often the home is asked whether it lives, and how long it may think about it.
const PULSE: Duration = Duration::from_millis(500);
const PULSE_LIMIT: Duration = Duration::from_millis(1500);
/// What a task of the driver's own came to.
pub(super) enum Told {
    Done(Done),
    /// A server is somebody's agent. The one to register with, if `home`.
    Met {
        at: At,
        about: AgentSelf,
        home: bool,
    },
    /// The home does not answer.
    Lost {
        at: At,
        why: String,
    },
    /// A server that was the home answers again; these are registered with it by us or others of us.
    Back {
        at: At,
        held: Vec<InstanceId>,
    },
    /// Nobody else was met; nothing follows from it.
    Nothing,
}

/// Makes the calls of an act, one after the other.
pub(super) async fn acted(servers: Vec<Lines>, config: Arc<Config>, act: Act) -> Told {
    let (mut failed, mut index) = (None, None);
    for (n, (at, call)) in act.calls.iter().enumerate() {
        let answer = match call.ask(&config) {
            Ok(ask) => servers[*at].ask(&ask, CALL_LIMIT).await,
            // The handle has checked it before; so it is said as a server would.
            Err(limit) => Err(Trouble::Refused { status: 400, text: limit.to_string() }),
        };
        let trouble = match answer {
            Ok(answer) => {
                index = answer.index;
                continue;
            }
            Err(trouble) => trouble,
        };
        // An agent and the catalog are told apart from each other: one that is gone or does not know it stops nothing.
        let goes_on = matches!(call, Call::Deregister { .. } | Call::Forget { .. });
        if matches!(trouble, Trouble::Refused { status: 404, .. }) && goes_on {
            continue;
        }
        tracing::debug!(id = %act.id, server = %servers[*at].server(), %trouble, "a call failed");
        failed = Some((*at, call.clone(), trouble));
        if !goes_on || n + 1 == act.calls.len() {
            break;
        }
    }
    Told::Done(Done { act, failed, index })
}

/// Asks one server after the other who it is, until one answers.
pub(super) async fn seek(servers: Vec<Lines>, from: At) -> Told {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        for n in 0..servers.len() {
            let at = (from + n) % servers.len();
            if let Ok(about) = about(&servers[at]).await {
                return Told::Met { at, about, home: true };
            }
        }
        sleep(backoff.next(fastrand::u64(..))).await;
    }
}

pub(super) async fn meet(server: Lines, at: At) -> Told {
    let met = about(&server).await;
    met.map_or(Told::Nothing, |about| Told::Met { at, about, home: false })
}

/// Asks a server that was the home what it holds, until it answers.
pub(super) async fn revisit(server: Lines, at: At) -> Told {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
    loop {
        let answer = server.ask(&Ask::get("/v1/agent/services"), CALL_LIMIT).await;
        if let Ok(services) = answer.and_then(|answer| answer.json::<BTreeMap<String, AgentService>>()) {
            let ours = services.into_values().filter(|service| service.meta.contains_key(form::OWNER));
            return Told::Back {
                at,
                held: ours.filter_map(|service| InstanceId::new(service.id).ok()).collect(),
            };
        }
        sleep(backoff.next(fastrand::u64(..))).await;
    }
}

async fn about(server: &Lines) -> Result<AgentSelf, Trouble> {
    server.ask(&Ask::get("/v1/agent/self"), PULSE_LIMIT).await?.json()
}

/// Asks the home whether it lives, until it does not. An agent without a leader lives: what it was told it keeps.
pub(super) async fn pulse(server: Lines, at: At) -> Told {
    loop {
        sleep(PULSE).await;
        let answer = server.ask(&Ask::get("/v1/status/leader"), PULSE_LIMIT).await;
        if let Err(Trouble::Unreachable(why)) = answer {
            return Told::Lost { at, why };
        }
    }
}
