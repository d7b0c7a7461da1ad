//! What the driver's tasks do on their own: ask servers, and come back with a word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consul_api::{AgentSelf, AgentService};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use portolan_model::{Incarnation, InstanceId, Limit, Owner};
use runtime::Backoff;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::config::{Config, Flavour};
use super::desk::{Act, At, Done, Held};
use super::form;
use super::leader::{first, is_led, until_led};
use super::line::{Answer, Ask, Lines, Trouble};
use super::wanted::Call;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// How long an agent may take to let go of an id: longer than it looks for a leader.
const LET_GO_LIMIT: Duration = Duration::from_secs(10);
/// How often the home is asked whether it lives, which costs it next to nothing; and how often whether it reaches a leader,
/// which is asked too.
const PULSE: Duration = Duration::from_millis(200);
const LED_PULSE: Duration = Duration::from_millis(400);
/// How long the home may think about whether it lives.
const PULSE_LIMIT: Duration = Duration::from_secs(1);
/// How long it may be silent while another server answers the same question: then it is not this machine that is slow.
const SILENCE: Duration = Duration::from_millis(500);
/// How much later than the other it may answer.
const LAG: Duration = Duration::from_millis(100);
/// How much later than another server it may reach a leader. A question that an agent holds back until then is asked
/// again within some 450 ms.
const LED_LAG: Duration = Duration::from_millis(700);
/// The longest pause before servers that could not be reached are tried again.
const SEEK_PAUSE: Duration = Duration::from_millis(250);

/// What a task of the driver's own came to.
pub(super) enum Told {
    Done(Vec<Done>),
    /// A server is somebody's agent. The one to register with, if `home`.
    Met {
        at: At,
        about: Box<AgentSelf>,
        home: bool,
    },
    /// The home lives, and reaches a leader now, or does not any more.
    Led {
        at: At,
        led: bool,
    },
    /// The home does not answer.
    Lost {
        at: At,
        why: String,
    },
    /// A server that was the home lives again.
    Alive {
        at: At,
    },
    /// A server that was the home can do again what it is asked; these are registered with it by us or others of us.
    Back {
        at: At,
        held: Vec<Held>,
    },
    /// An agent was told to let go of an id, and has if there was no trouble.
    LetGo {
        id: InstanceId,
        at: At,
        trouble: Option<Trouble>,
    },
    /// Nobody else was met; nothing follows from it.
    Nothing,
}

/// Servers that are given up: nothing that they were asked is waited for.
pub(super) type Away = watch::Receiver<BTreeSet<At>>;

/// Makes the calls of an act, one after the other.
pub(super) async fn acted(servers: Vec<Lines>, config: Arc<Config>, act: Act, mut away: Away) -> Done {
    let (mut failed, mut index) = (None, None);
    for (n, (at, call)) in act.calls.iter().enumerate() {
        let answer = match call.ask(&config) {
            Ok(ask) => unless_away(&servers, *at, &ask, &mut away).await,
            // The handle has checked it before.
            Err(limit) => Err(refusal(&limit)),
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
    Done { act, failed, index }
}

/// Asks a server, and waits for the answer unless the server is given up.
pub(super) async fn unless_away(
    servers: &[Lines],
    at: At,
    ask: &Ask,
    away: &mut Away,
) -> Result<Answer, Trouble> {
    tokio::select! {
        answer = servers[at].ask(ask, CALL_LIMIT) => answer,
        Ok(_) = away.wait_for(|away| away.contains(&at)) => {
            Err(Trouble::Unreachable(format!("{}: given up", servers[at].server())))
        }
    }
}

/// Asks all servers who they are, until one answers. Where there is a choice, it is one that reaches a leader: what others
/// are asked for they hand to a leader who may have vanished, and then answer nobody any more. `unmet` is told what is wrong
/// with each.
pub(super) async fn seek(
    servers: Vec<Lines>,
    flavour: Flavour,
    from: At,
    unmet: watch::Sender<BTreeMap<At, String>>,
) -> Told {
    let (choosy, unmet) = (servers.len() > 1, &unmet);
    let met = first(&servers, from, |at, server| async move {
        let mut backoff = Backoff::new(Duration::from_millis(100), SEEK_PAUSE);
        loop {
            let why = match about(server).await {
                Ok(about) if !choosy || is_led(flavour, server).await => {
                    return Told::Met { at, about, home: true };
                }
                Ok(_) => format!("{}: no leader answers it", server.server()),
                Err(trouble) => trouble.with(server.server()),
            };
            unmet.send_if_modified(|unmet| unmet.insert(at, why.clone()) != Some(why));
            sleep(backoff.next(fastrand::u64(..))).await;
        }
    });
    met.await.unwrap_or(Told::Nothing)
}

pub(super) async fn meet(server: Lines, at: At) -> Told {
    let met = about(&server).await;
    met.map_or(Told::Nothing, |about| Told::Met { at, about, home: false })
}

/// Waits until a server that was the home lives.
pub(super) async fn revisit(server: Lines, at: At) -> Told {
    // A question that has waited in vain is asked again at once: what hangs goes on at any moment.
    let mut ticks = interval(SEEK_PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = server.ask(&Ask::get("/v1/status/leader"), PULSE_LIMIT).await;
        if !matches!(answer, Err(Trouble::Unreachable(_))) {
            return Told::Alive { at };
        }
    }
}

/// Asks a server that lives what it holds, until it answers and can do what it is asked.
pub(super) async fn holdings(server: Lines, at: At) -> Told {
    let mut backoff = Backoff::new(Duration::from_millis(100), SEEK_PAUSE);
    loop {
        // Before it reaches a leader it brings nothing back.
        if is_led(Flavour::Consul, &server).await
            && let Ok(answer) = server.ask(&Ask::get("/v1/agent/services"), CALL_LIMIT).await
            && let Ok(services) = answer.json::<BTreeMap<String, AgentService>>()
        {
            return Told::Back { at, held: services.into_values().filter_map(held).collect() };
        }
        sleep(backoff.next(fastrand::u64(..))).await;
    }
}

/// Tells an agent to let go of an id. It may answer late: while it looks for a leader it keeps whoever asks waiting for some
/// seconds, and does all that it was asked afterwards.
pub(super) async fn let_go(server: Lines, config: Arc<Config>, id: InstanceId, at: At) -> Told {
    let call = Call::Deregister { service_id: id.to_string() };
    let trouble = match call.ask(&config) {
        Ok(ask) => server.ask(&ask, LET_GO_LIMIT).await.err(),
        Err(limit) => Some(refusal(&limit)),
    };
    Told::LetGo { id, at, trouble }
}

/// What a server would say, too.
fn refusal(limit: &Limit) -> Trouble {
    Trouble::Refused { status: 400, text: limit.to_string() }
}

/// A registration of Portolan's.
fn held(service: AgentService) -> Option<Held> {
    let said = |name| service.meta.get(name);
    let (owner, incarnation) = (Owner::new(said(form::OWNER)?).ok()?, said(form::INCARNATION)?.parse().ok()?);
    Some(Held { id: InstanceId::new(service.id).ok()?, owner, incarnation: Incarnation(incarnation) })
}

async fn about(server: &Lines) -> Result<Box<AgentSelf>, Trouble> {
    server.ask(&Ask::get("/v1/agent/self"), PULSE_LIMIT).await?.json()
}

/// Asks the home whether it lives and reaches a leader, until it does not any more.
pub(super) async fn pulse(servers: Vec<Lines>, flavour: Flavour, at: At) -> Told {
    let unled = async {
        sleep(LED_PULSE).await;
        while is_led(flavour, &servers[at]).await {
            sleep(LED_PULSE).await;
        }
    };
    tokio::select! {
        biased;
        why = dies(&servers, at) => Told::Lost { at, why },
        () = unled => Told::Led { at, led: false },
    }
}

/// Asks a home that no leader answers, until one does. It lives, and keeps what it was told; so it is given up only if it
/// dies, or if a leader answers another server and this one is late: it may not hear for long how to reach that leader.
pub(super) async fn unled_pulse(servers: Vec<Lines>, at: At) -> Told {
    let is_late = async {
        let mut others: FuturesUnordered<_> = others(&servers, at)
            .map(|other| async {
                until_led(other).await;
                other.server()
            })
            .collect();
        match others.next().await {
            Some(other) => {
                sleep(LED_LAG).await;
                format!("{}: no leader answers it, while one answers {other}", servers[at].server())
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = until_led(&servers[at]) => Told::Led { at, led: true },
        why = dies(&servers, at) => Told::Lost { at, why },
        why = is_late => Told::Lost { at, why },
    }
}

fn others(servers: &[Lines], at: At) -> impl Iterator<Item = &Lines> {
    servers.iter().enumerate().filter(move |(other, _)| *other != at).map(|(_, other)| other)
}

/// Asks a server for signs of life until there is none, and says why.
async fn dies(servers: &[Lines], at: At) -> String {
    loop {
        sleep(PULSE).await;
        if let Err(why) = lives(servers, at).await {
            return why;
        }
    }
}

/// Asks a server for a sign of life, and others as well once it is late with that. An error says that there is none.
async fn lives(servers: &[Lines], at: At) -> Result<(), String> {
    let ask = Ask::get("/v1/status/leader");
    let late = async {
        sleep(SILENCE).await;
        let mut others: FuturesUnordered<_> = others(servers, at)
            .map(|other| async { other.ask(&ask, PULSE_LIMIT).await.ok().map(|_| other.server()) })
            .collect();
        while let Some(answered) = others.next().await {
            if let Some(other) = answered {
                sleep(LAG).await;
                return format!(
                    "{}: no answer within {SILENCE:?}, while {other} answers",
                    servers[at].server()
                );
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        answer = servers[at].ask(&ask, PULSE_LIMIT) => match answer {
            Err(Trouble::Unreachable(why)) => Err(why),
            Ok(_) | Err(Trouble::Refused { .. } | Trouble::Nonsense(_)) => Ok(()),
        },
        why = late => Err(why),
    }
}
