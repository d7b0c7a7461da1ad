//! From the body of a registration to what the registry is told: parse, don't validate.

use std::net::IpAddr;

use consul_api::{CheckRegistration, Particulars, ServiceRegistration, Weights};
use portolan_model::{
    Endpoint, Health, Host, Incarnation, InstanceId, Owner, Protocol, Registration, ServiceName, Weight, Zone,
};

use super::error::Error;

/// What a body means. `node` is the address of instances that do not say theirs.
///
/// `TaggedAddresses` and `EnableTagOverride` have no meaning here and are left aside: the former are derived when read,
/// the latter governs writers to the catalog that do not exist.
pub(super) fn understood(body: ServiceRegistration, node: IpAddr) -> Result<Registration, Error> {
    let ServiceRegistration {
        id,
        name,
        tags,
        port,
        address,
        tagged_addresses: _,
        meta,
        weights,
        enable_tag_override: _,
        kind,
        socket_path,
        check,
        checks,
        portolan,
    } = body;
    if name.is_empty() {
        return Err(Error::MissingServiceName);
    }
    if !matches!(kind.as_str(), "" | "typical") {
        return Err(Error::field(
            "Kind",
            &format!("{kind:?} is a part of a service mesh; Portolan has none"),
        ));
    }
    if !socket_path.is_empty() {
        return Err(Error::field("SocketPath", "Unix sockets cannot be registered; give Address and Port"));
    }
    let Particulars { phase: _, health, owner, zone, protocol, incarnation } = portolan.unwrap_or_default();
    let said = health.as_deref().map(health_of_word).transpose()?;
    let registration = Registration {
        id: InstanceId::new(if id.is_empty() { &name } else { &id })
            .map_err(|bad| Error::field("ID", &bad))?,
        service: ServiceName::new(&name).map_err(|bad| Error::field("Name", &bad))?,
        endpoint: Endpoint { host: host(&address, node)?, port: port_of(port)? },
        protocol: protocol.as_deref().map_or(Ok(Protocol::default()), protocol_of_word)?,
        tags: tags.into_iter().collect(),
        meta,
        weight: weights.map_or(Ok(Weight::default()), weight)?,
        zone: zone.map(Zone::new).transpose().map_err(|bad| Error::field("Portolan.Zone", &bad))?,
        owner: Owner::new(owner.as_deref().unwrap_or(Owner::UNSAID))
            .map_err(|bad| Error::field("Portolan.Owner", &bad))?,
        incarnation: Incarnation(incarnation.unwrap_or_default()),
        health: health_of_checks(check.as_ref(), &checks)?.or(said).unwrap_or_default(),
    };
    registration.check_limits().map_err(|limit| Error::Registry(limit.into()))?;
    Ok(registration)
}

fn host(address: &str, node: IpAddr) -> Result<Host, Error> {
    if address.is_empty() {
        return Ok(Host::Ip(node));
    }
    match address.parse().map_err(|bad| Error::field("Address", &bad))? {
        Host::Ip(ip) if ip.is_unspecified() => Err(Error::Registration("Invalid service address")),
        host => Ok(host),
    }
}

fn port_of(port: i64) -> Result<u16, Error> {
    u16::try_from(port).map_err(|_| Error::field("Port", &format!("{port} is not a port (0 to 65535)")))
}

/// The share while passing. Consul refuses 0; here it means "takes none".
fn weight(Weights { passing, warning }: Weights) -> Result<Weight, Error> {
    match (u16::try_from(passing), u16::try_from(warning)) {
        (Ok(passing), Ok(_)) => Ok(Weight(passing)),
        _ => Err(Error::Registration("Invalid Weights: DNS Weight must be between 0 and 65535")),
    }
}

fn protocol_of_word(word: &str) -> Result<Protocol, Error> {
    match word {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(Error::field("Portolan.Protocol", &format!("{word:?} is neither tcp nor udp"))),
    }
}

fn health_of_word(word: &str) -> Result<Health, Error> {
    let all = [Health::Passing, Health::Warning, Health::Critical, Health::Maintenance];
    let known = all.into_iter().find(|health| health.as_str() == word);
    known.ok_or_else(|| {
        let why = format!("{word:?} is none of passing, warning, critical, maintenance");
        Error::field("Portolan.Health", &why)
    })
}

/// The worst status of all checks; `None` when there is no check.
fn health_of_checks(
    check: Option<&CheckRegistration>,
    checks: &[CheckRegistration],
) -> Result<Option<Health>, Error> {
    let one = check.map(|check| ("Check".to_owned(), check));
    let many = checks.iter().enumerate().map(|(at, check)| (format!("Checks[{at}]"), check));
    let mut worst = None;
    for (place, check) in one.into_iter().chain(many) {
        worst = worst.max(health_of_check(&place, check)?);
    }
    Ok(worst)
}

/// What one check says; `None` for one that says nothing at all.
fn health_of_check(place: &str, check: &CheckRegistration) -> Result<Option<Health>, Error> {
    if let Some(runner) = asks_to_run(check) {
        return Err(Error::field(
            format!("{place}.{runner}"),
            "Portolan does not run checks yet, and will not pretend to. Leave it out and say the health yourself: \
             register again with a Check that has only a Status (passing, warning, critical) whenever it changes; \
             for a container, its HEALTHCHECK does that",
        ));
    }
    let CheckRegistration { check_id, name, notes, status, .. } = check;
    match status.as_str() {
        "passing" => Ok(Some(Health::Passing)),
        "warning" => Ok(Some(Health::Warning)),
        "critical" => Ok(Some(Health::Critical)),
        "" if check_id.is_empty() && name.is_empty() && notes.is_empty() => Ok(None),
        "" => Err(Error::field(format!("{place}.Status"), "missing; say passing, warning or critical")),
        _ => Err(Error::Registration("Status for checks must 'passing', 'warning', 'critical'")),
    }
}

/// The first field that makes a check one that must be run, watched or acted upon.
fn asks_to_run(check: &CheckRegistration) -> Option<&'static str> {
    let CheckRegistration {
        check_id: _,
        name: _,
        notes: _,
        status: _,
        interval,
        timeout: _,
        ttl,
        http,
        tcp,
        udp,
        grpc,
        h2ping,
        args,
        script,
        docker_container_id,
        os_service,
        alias_node,
        alias_service,
        deregister_critical_service_after,
    } = check;
    let asked = [
        ("HTTP", !http.is_empty()),
        ("TCP", !tcp.is_empty()),
        ("UDP", !udp.is_empty()),
        ("GRPC", !grpc.is_empty()),
        ("H2PING", !h2ping.is_empty()),
        ("Args", !args.is_empty()),
        ("Script", !script.is_empty()),
        ("DockerContainerID", !docker_container_id.is_empty()),
        ("OSService", !os_service.is_empty()),
        ("AliasNode", !alias_node.is_empty()),
        ("AliasService", !alias_service.is_empty()),
        ("TTL", ttl.positive().is_some()),
        ("Interval", interval.positive().is_some()),
        ("DeregisterCriticalServiceAfter", deregister_critical_service_after.positive().is_some()),
    ];
    asked.into_iter().find_map(|(field, asked)| asked.then_some(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Registration, Error> {
        understood(serde_json::from_str(json).unwrap(), "192.0.2.1".parse().unwrap())
    }

    #[test]
    fn defaults() {
        let got = read(r#"{"Name":"web"}"#).unwrap();
        assert_eq!((got.id.as_str(), got.service.as_str(), got.owner.as_str()), ("web", "web", "http"));
        assert_eq!(got.endpoint.to_string(), "192.0.2.1:0");
        assert_eq!((got.weight, got.health, got.protocol), (Weight(1), Health::Passing, Protocol::Tcp));
        assert_eq!((got.incarnation, got.zone), (Incarnation(0), None));
    }

    #[test]
    fn health_follows_the_worst_status() {
        #[track_caller]
        fn check(rest: &str, expect: Health) {
            let got = read(&format!(r#"{{"Name":"web",{rest}}}"#)).unwrap();
            assert_eq!(got.health, expect, "{rest}");
        }
        check(r#""Check":null,"Checks":null"#, Health::Passing);
        check(r#""Check":{},"Checks":[]"#, Health::Passing);
        check(r#""Check":{"Timeout":"1s","HTTP":"","Args":[],"TTL":"0s"}"#, Health::Passing);
        check(r#""Check":{"Status":"warning","Notes":"n","Name":"n","CheckID":"c"}"#, Health::Warning);
        check(
            r#""Check":{"Status":"warning"},"Checks":[{"Status":"passing"},{"Status":"critical"}]"#,
            Health::Critical,
        );
        check(r#""Portolan":{"Health":"maintenance"}"#, Health::Maintenance);
        check(r#""Portolan":{"Health":"critical"},"Check":{"Status":"passing"}"#, Health::Passing);
    }

    #[test]
    fn what_cannot_be_taken_is_refused_by_name() {
        #[track_caller]
        fn check(rest: &str, expect: &str) {
            let got = read(&format!(r#"{{"Name":"web",{rest}}}"#)).unwrap_err().to_string();
            assert!(got.starts_with(expect), "{got:?} should start with {expect:?}");
        }
        check(
            r#""Check":{"HTTP":"http://x/","Status":"passing"}"#,
            "Check.HTTP: Portolan does not run checks yet",
        );
        check(
            r#""Checks":[{"Status":"passing"},{"TTL":"10s"}]"#,
            "Checks[1].TTL: Portolan does not run checks yet",
        );
        check(r#""Check":{"ScriptArgs":["x"]}"#, "Check.Args: ");
        check(r#""Check":{"tcp":"x:1"}"#, "Check.TCP: ");
        check(r#""Check":{"grpc":"x:1"}"#, "Check.GRPC: ");
        check(r#""Check":{"Interval":"10s"}"#, "Check.Interval: ");
        check(r#""Check":{"Name":"n"}"#, "Check.Status: missing");
        check(r#""Check":{"Status":"bogus"}"#, "Status for checks must 'passing', 'warning', 'critical'");
        check(r#""Port":70000"#, "Port: 70000 is not a port");
        check(r#""Port":-1"#, "Port: -1 is not a port");
        check(r#""Address":"a b""#, "Address: \"a b\" is neither an IP address nor a host name");
        check(r#""Address":"0.0.0.0""#, "Invalid service address");
        check(r#""Weights":{"Passing":70000}"#, "Invalid Weights: DNS Weight must be between 0 and 65535");
        check(r#""ID":"a\nb""#, "ID: instance id holds '\\n'");
        check(r#""Kind":"connect-proxy""#, "Kind: \"connect-proxy\" is a part of a service mesh");
        check(r#""SocketPath":"/run/x""#, "SocketPath: ");
        check(r#""Portolan":{"Protocol":"quic"}"#, "Portolan.Protocol: \"quic\" is neither tcp nor udp");
        check(r#""Portolan":{"Health":"fine"}"#, "Portolan.Health: \"fine\" is none of");
        check(r#""Portolan":{"Owner":""}"#, "Portolan.Owner: owner is empty");
        let long = "x".repeat(Registration::KEY_LIMIT + 1);
        check(&format!(r#""Tags":["{long}"]"#), "a tag has 513 bytes; at most 512 are allowed");
    }
}
