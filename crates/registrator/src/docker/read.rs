//! The engine's words in ours.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerState, EventMessage, EventMessageTypeEnum, HealthConfig,
    HealthStatusEnum, NetworkSettings, PortBinding,
};

use super::time::moment;
use crate::container::{
    Binding, CheckStatus, Container, ContainerId, EngineTime, ExitCode, Life, NetworkMode, Port, Signal,
};
use crate::source::{Event, EventKind, SourceError};

/// How long the engine waits for an end when nobody says.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// "For ever", and the longest stop that is waited for.
const STOP_TIMEOUT_LIMIT: Duration = Duration::from_secs(86_400);

/// The shortest beginning of a network's id that is taken for one: what listings show.
const NETWORK_ID_LENGTH: usize = 12;

/// What the engine says of one container.
pub(crate) fn container(id: ContainerId, found: ContainerInspectResponse) -> Result<Container, SourceError> {
    let name = found.name.unwrap_or_default().trim_start_matches('/').to_owned();
    if name.is_empty() {
        return Err(SourceError(format!("the engine names no name for container {id}")));
    }
    let config = found.config.unwrap_or_default();
    let networks = found.network_settings.unwrap_or_default();
    let mode = found.host_config.and_then(|host| host.network_mode).unwrap_or_default();
    Ok(Container {
        name,
        hostname: config.hostname.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        exposed: config
            .exposed_ports
            .unwrap_or_default()
            .iter()
            .filter_map(|port| port.parse().ok())
            .collect(),
        network_mode: network_mode(&mode, &networks),
        networks: addresses(&networks),
        bindings: bindings(networks),
        life: life(&id, found.state.unwrap_or_default(), config.healthcheck.as_ref())?,
        stop_signal: config.stop_signal.and_then(|signal| signal.parse().ok()).unwrap_or(Signal::TERM),
        stop_timeout: stop_timeout(config.stop_timeout),
        id,
    })
}

fn life(
    id: &ContainerId,
    state: ContainerState,
    healthcheck: Option<&HealthConfig>,
) -> Result<Life, SourceError> {
    let started_at = state.started_at.unwrap_or_default();
    let started_at = moment(&started_at)
        .ok_or_else(|| SourceError(format!("container {id} has the start time {started_at:?}")))?;
    // The engine calls a container that waits for its restart running.
    let yes = |flag: Option<bool>| flag.unwrap_or(false);
    let running = yes(state.running) && !yes(state.restarting) && !yes(state.dead);
    let check = match state.health.and_then(|health| health.status) {
        Some(HealthStatusEnum::STARTING) => Some(CheckStatus::Starting),
        Some(HealthStatusEnum::HEALTHY) => Some(CheckStatus::Healthy),
        Some(HealthStatusEnum::UNHEALTHY) => Some(CheckStatus::Unhealthy),
        Some(HealthStatusEnum::NONE) => None,
        // Between its start and the first word of its check.
        Some(HealthStatusEnum::EMPTY) | None => {
            healthcheck.is_some_and(is_check).then_some(CheckStatus::Starting)
        }
    };
    let exit = (!running).then_some(state.exit_code).flatten().map(ExitCode);
    Ok(Life { running, paused: yes(state.paused), started_at, check, exit })
}

fn is_check(healthcheck: &HealthConfig) -> bool {
    let test = healthcheck.test.as_deref().unwrap_or_default();
    test.first().is_some_and(|kind| !kind.is_empty() && kind != "NONE")
}

/// A network may be named by its id; containers are attached by name.
fn network_mode(mode: &str, settings: &NetworkSettings) -> NetworkMode {
    match (mode, mode.split_once(':')) {
        ("" | "default" | "bridge", _) => NetworkMode::Bridge,
        ("host", _) => NetworkMode::Host,
        ("none", _) => NetworkMode::None,
        (_, Some(("container", other))) => NetworkMode::Container(other.to_owned()),
        (name, _) => {
            let mut networks = settings.networks.iter().flatten();
            let is_id = |id: &String| id.starts_with(name) && name.len() >= NETWORK_ID_LENGTH;
            let by_id = networks.find(|(_, endpoint)| endpoint.network_id.as_ref().is_some_and(is_id));
            NetworkMode::User(by_id.map_or(name, |(known, _)| known).to_owned())
        }
    }
}

fn addresses(settings: &NetworkSettings) -> BTreeMap<String, IpAddr> {
    let networks = settings.networks.iter().flatten();
    let address = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    networks
        .filter_map(|(name, endpoint)| {
            let ip = address(&endpoint.ip_address).or_else(|| address(&endpoint.global_ipv6_address))?;
            Some((name.clone(), ip))
        })
        .collect()
}

fn bindings(settings: NetworkSettings) -> BTreeMap<Port, Vec<Binding>> {
    let ports = settings.ports.unwrap_or_default().into_iter();
    ports
        .filter_map(|(port, published)| {
            let published = published.unwrap_or_default();
            Some((port.parse().ok()?, published.iter().filter_map(binding).collect()))
        })
        .collect()
}

fn binding(published: &PortBinding) -> Option<Binding> {
    let port = published.host_port.as_deref()?.parse().ok().filter(|port| *port != 0)?;
    let host: Option<IpAddr> = match published.host_ip.as_deref().unwrap_or_default() {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    Some(Binding { host, port })
}

fn stop_timeout(seconds: Option<i64>) -> Duration {
    match seconds {
        None => STOP_TIMEOUT,
        Some(seconds) => {
            u64::try_from(seconds).map_or(STOP_TIMEOUT_LIMIT, Duration::from_secs).min(STOP_TIMEOUT_LIMIT)
        }
    }
}

/// What an event says, told at `now`; `None` when it is about no container.
pub(super) fn event(message: EventMessage, now: EngineTime) -> Option<Event> {
    let actor = message.actor?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let (container, action) = match message.typ? {
        EventMessageTypeEnum::CONTAINER => (actor.id?, message.action?),
        EventMessageTypeEnum::NETWORK => (attributes.remove("container")?, String::new()),
        _ => return None,
    };
    let kind = match action.as_str() {
        "start" => EventKind::Started,
        "die" => EventKind::Died(attributes.get("exitCode").and_then(|code| code.parse().ok()).map(ExitCode)),
        "kill" => EventKind::Killed(attributes.get("signal")?.parse().ok()?),
        _ => EventKind::Changed,
    };
    let at = EngineTime(message.time_nano.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default());
    let age = Duration::from_nanos(now.0.saturating_sub(at.0));
    Some(Event { container: ContainerId::new(container), kind, at, age })
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;

    use super::*;

    #[test]
    fn every_event_that_is_listened_to() {
        #[track_caller]
        fn check(
            kind: EventMessageTypeEnum,
            action: &str,
            more: &[(&str, &str)],
            expect: Option<(&str, &str)>,
        ) {
            let attributes = more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let message = EventMessage {
                typ: Some(kind),
                action: Some(action.to_owned()),
                actor: Some(EventActor { id: Some("actor".to_owned()), attributes: Some(attributes) }),
                time_nano: Some(40),
                ..EventMessage::default()
            };
            let got = event(message, EngineTime(42)).map(|event| {
                assert_eq!((event.at, event.age), (EngineTime(40), Duration::from_nanos(2)));
                format!("{} {}", event.container.as_str(), event.kind)
            });
            assert_eq!(got, expect.map(|(container, kind)| format!("{container} {kind}")), "{action}");
        }
        use EventMessageTypeEnum::{CONTAINER, IMAGE, NETWORK};
        check(CONTAINER, "start", &[], Some(("actor", "start")));
        check(CONTAINER, "kill", &[("signal", "15")], Some(("actor", "kill (15)")));
        check(CONTAINER, "kill", &[("signal", "SIGTERM")], Some(("actor", "kill (15)")));
        check(CONTAINER, "kill", &[], None);
        check(CONTAINER, "die", &[("exitCode", "137")], Some(("actor", "die (137)")));
        check(CONTAINER, "die", &[], Some(("actor", "die")));
        for action in ["oom", "pause", "unpause", "rename", "update", "destroy", "health_status: healthy"] {
            check(CONTAINER, action, &[], Some(("actor", "change")));
        }
        // A network's events are about the container that they name.
        for action in ["connect", "disconnect"] {
            check(NETWORK, action, &[("container", "web")], Some(("web", "change")));
            check(NETWORK, action, &[], None);
        }
        check(IMAGE, "pull", &[], None);
    }
}
