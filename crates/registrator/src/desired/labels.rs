//! What `portolan.*` labels say of a container's ports: whether to register them, with which weight, and which route
//! to ask gateways for. A label for one port (`portolan.8080.host`) beats the one for all; an empty one unsets.

use std::collections::BTreeMap;

use portolan_model::route_meta;

use crate::container::{Container, Port, Transport};

const PREFIX: &str = "portolan.";

/// Labels that ask for a route, and the meta keys they travel under.
const ROUTE: [(&str, &str); 3] =
    [("host", route_meta::HOST), ("path", route_meta::PATH), ("strip", route_meta::STRIP)];

/// The `portolan.*` labels of one container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'a>(&'a BTreeMap<String, String>);

impl<'a> Labels<'a> {
    pub(super) fn of(container: &'a Container) -> Self {
        Self(&container.labels)
    }

    /// What is said under `key` of port `number`, of that very port or of all.
    pub(super) fn get(self, number: u16, key: &str) -> Option<&'a str> {
        let said = self.0.get(&format!("{PREFIX}{number}.{key}")).map(String::as_str);
        said.map_or_else(|| self.of_all(key), |text| Some(text).filter(|text| !text.is_empty()))
    }

    /// What is said under `key` of the whole container.
    pub(super) fn of_all(self, key: &str) -> Option<&'a str> {
        self.0.get(&format!("{PREFIX}{key}")).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Whether port `number` is to be registered; a text that is neither yes nor no counts as yes.
    pub(super) fn enabled(self, number: u16) -> bool {
        !matches!(self.get(number, "enable"), Some("false" | "0" | "no" | "off"))
    }

    /// The port whose instance gets the route that is asked for the whole container: the one `portolan.port` names,
    /// else the lowest TCP port. A route leads to one service, and each port is a service of its own.
    pub(super) fn front(self, ports: impl Iterator<Item = Port>) -> Front {
        let mut tcp = ports.filter(|port| port.transport == Transport::Tcp);
        match self.of_all("port") {
            None => tcp.map(|port| port.number).min().map_or(Front::Nowhere, Front::Port),
            Some(text) => match text.parse() {
                Ok(number) if tcp.any(|port| port.number == number) => Front::Port(number),
                _ => Front::Unknown(text.to_owned()),
            },
        }
    }

    /// Adds to `meta` what asks for the route of `port`.
    pub(super) fn ask_for_route(self, port: Port, front: &Front, meta: &mut BTreeMap<String, String>) {
        if port.transport != Transport::Tcp {
            return;
        }
        let is_front = *front == Front::Port(port.number);
        for (key, travels_as) in ROUTE {
            let for_port = self.0.get(&format!("{PREFIX}{}.{key}", port.number)).map(String::as_str);
            let said = for_port.or_else(|| self.of_all(key).filter(|_| is_front));
            if let Some(text) = said.filter(|text| !text.is_empty()) {
                meta.insert(travels_as.to_owned(), text.to_owned());
            }
        }
    }
}

/// Which port of a container the route of the whole container leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Front {
    Port(u16),
    /// No port can be routed to.
    Nowhere,
    /// `portolan.port` says this, which is no TCP port that is registered.
    Unknown(String),
}
