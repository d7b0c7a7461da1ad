//! `portolan registrator`: the registrator alone, under the command line of gliderlabs/registrator 7.4.0.

mod backend;
mod command_line;

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use runtime::{State, StatusBoard};
use tokio::time::{Instant, sleep, timeout_at};

use crate::app::{self, Roles};
use crate::failure::Failure;
use crate::settings::{self, Config, Environment, Flags};
use crate::signals::Signals;
use crate::terminal::say;
use crate::up::{block_on, start_log};
use crate::{book, terminal};
use command_line::{Asked, Options, Usage, Wrong};

/// Where gliderlabs/registrator is given the engine's socket, inside its container.
const SOCKET: &str = "/tmp/docker.sock";

/// How long a registry that answers may take to do so.
const ANSWER: Duration = Duration::from_secs(5);

/// Does what the words after `portolan registrator` say.
pub(crate) fn run(words: &[String], environment: &Environment) -> Result<(), Failure> {
    let options = match command_line::read(words) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            say(Usage);
            return Ok(());
        }
        Ok(Asked::Version) => {
            say(format_args!("portolan {}, in place of registrator v7.4.0", env!("CARGO_PKG_VERSION")));
            return Ok(());
        }
        Err(Wrong::Usage(what)) => return Err(Failure::Usage(format!("{what}\n\n{Usage}"))),
        Err(Wrong::Sense(what)) => return Err(Failure::failed(what)),
    };
    let name = environment.host_name();
    let mut settled = settings::load(&flags(&options, environment, &name), environment)?;
    if book::is_embedded(&settled.config) {
        return Err(Failure::Usage(
            "embedded: nobody could read it; name a registry others reach, or run `portolan up`".to_owned(),
        ));
    }
    start_log(&settled.config, &settled.warnings)?;
    let docker = &mut settled.config.docker;
    if !settled.said.contains("docker.ip") {
        if docker.ip.is_loopback() && !docker.internal {
            terminal::complain(format_args!(
                "the host name {name:?} resolves to no address that other hosts reach: until it does, ports published on \
                 every address are registered with {}; say -ip",
                docker.ip
            ));
        }
        docker.own_name = Some(name);
    }
    block_on(follow(settled.config, options.patience))
}

/// What the options say, in our settings.
fn flags(options: &Options, environment: &Environment, name: &str) -> Flags {
    let Options {
        uri,
        internal,
        explicit,
        ip,
        ip_label,
        tags,
        deregister,
        cleanup,
        ttl,
        resync,
        patience: _,
    } = options;
    let texts = [
        (
            "registry.uri",
            Some(backend::translated(uri, *ttl, &|name| environment.get(name).map(str::to_owned))),
        ),
        ("docker.enabled", Some("true".to_owned())),
        ("docker.internal", internal.then(|| "true".to_owned())),
        ("docker.explicit", explicit.then(|| "true".to_owned())),
        ("docker.ip", said(ip)),
        ("docker.force_ip", said(ip).map(|_| "true".to_owned())),
        ("docker.ip_label", said(ip_label)),
        ("docker.tags", said(tags)),
        ("docker.deregister", deregister.clone()),
        ("docker.cleanup", cleanup.then(|| "true".to_owned())),
        ("docker.period", resync.map(|resync| format!("{}s", resync.as_secs()))),
    ];
    let mut flags = Flags::default().by_default("http.listen", "off");
    for (key, text) in texts {
        if let Some(text) = text {
            flags = flags.or(key, text);
        }
    }
    if environment.get("DOCKER_HOST").is_none() && std::fs::exists(SOCKET).unwrap_or(false) {
        flags = flags.by_default("docker.host", format!("unix://{SOCKET}"));
    }
    match own_address(name) {
        Some(address) => flags.by_default("docker.ip", address.to_string()),
        None => flags,
    }
}

fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// What the host's own name resolves to: an address that others reach if there is one, and IPv4 first.
fn own_address(name: &str) -> Option<IpAddr> {
    let found: Vec<IpAddr> = (name, 0).to_socket_addrs().ok()?.map(|address| address.ip()).collect();
    found.into_iter().min_by_key(|ip| (ip.is_loopback(), !ip.is_ipv4()))
}

async fn follow(config: Config, patience: Option<Duration>) -> Result<(), Failure> {
    let mut signals = Signals::take().map_err(Failure::failed)?;
    let running = app::build(config, Roles::Registrator).await?.start();
    for line in running.found.lines() {
        say(line);
    }
    if let Some(patience) = patience {
        let reached = tokio::select! {
            reached = reach(&running.board, patience + ANSWER) => reached,
            signal = signals.next() => {
                running.told(signal, signals).await;
                return Ok(());
            }
        };
        if let Err(detail) = reached {
            let place = running.found.book.clone();
            running.stop().await;
            return Err(Failure::failed(format_args!("cannot reach the registry {place}: {detail}")));
        }
    }
    running.until_told(signals).await;
    Ok(())
}

/// Waits until the registry answers, or says how it fares when the time is over.
async fn reach(board: &StatusBoard, patience: Duration) -> Result<(), String> {
    const LOOK: Duration = Duration::from_millis(20);
    let report = || board.snapshot().remove("registry");
    let answers = async {
        while report().is_none_or(|report| report.state != State::Running) {
            sleep(LOOK).await;
        }
    };
    let reached = timeout_at(Instant::now() + patience, answers).await;
    reached.map_err(|_| report().map_or_else(String::new, |report| report.detail))
}
