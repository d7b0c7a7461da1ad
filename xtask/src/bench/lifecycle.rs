//! How fast routing follows containers, on a real engine: from the engine's own event times to what a client sees.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::docker::{Container, Docker, Events, Sample};
use super::portolan::{Options, Portolan};
use super::report::Report;
use super::stats::{maximum, percentile};
use super::stream::{Asker, Sent, Stream, now};
use super::{each_option, free_addresses, number};
use crate::dist;
use crate::engine::{self, Lifetime};
use crate::process::{Outcome, output, tied};
use crate::setup;
use crate::workspace::Workspace;

/// How long requests are watched after the engine said that a container is asked to end.
const WATCH: Duration = Duration::from_millis(150);
/// Connections of the stream that a draining instance must not be sent.
const CONNECTIONS: usize = 2;
/// Fewer requests than this within the watch are no stream: silence would prove nothing.
const LEAST_WATCHED: usize = 50;

struct Plan {
    cycles: u32,
    binary: Option<PathBuf>,
}

impl Plan {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut plan = Self { cycles: 100, binary: None };
        each_option(words, |name, value| {
            match name {
                "--cycles" => plan.cycles = number(name, &value()?)?,
                "--binary" => plan.binary = Some(value()?.into()),
                _ => return Err(format!("unknown option {name}")),
            }
            Ok(())
        })?;
        Ok(plan)
    }
}

/// What is measured, each in milliseconds.
#[derive(Debug, Clone, Copy)]
enum Measure {
    /// From the `start` event, or when the sample listens if that is later, to the first 200 through the gateway.
    Arrives,
    /// The same from the `start` event alone: what the sample needs to listen is in it.
    ArrivesFromEvent,
    /// From the `kill` event to the last request that was sent there.
    Drains,
    /// From the `die` event after SIGKILL until the registry lists it no more.
    Leaves,
}

impl Measure {
    const ALL: [Self; 4] = [Self::Arrives, Self::ArrivesFromEvent, Self::Drains, Self::Leaves];

    fn name(self) -> &'static str {
        match self {
            Self::Arrives => "start, listening → first 200",
            Self::ArrivesFromEvent => "start event → first 200",
            Self::Drains => "kill event → last request sent",
            Self::Leaves => "die event → out of the registry",
        }
    }

    /// The most that its p99 may be.
    fn limit(self) -> Option<f64> {
        match self {
            Self::Arrives | Self::Drains => Some(50.0),
            Self::Leaves => Some(100.0),
            Self::ArrivesFromEvent => None,
        }
    }
}

/// One row of the raw output, in the order of [`Measure::ALL`].
type Cycle = [f64; 4];

/// Measures, prints, keeps; fails when a limit is passed or a request failed.
pub(crate) fn run(workspace: &Workspace, words: &[&str]) -> Outcome {
    let plan = Plan::parse(words)?;
    setup::ensure(setup::IMAGE)?;
    let binary = plan.binary.clone().map_or_else(|| dist::build(workspace), Ok)?;
    let engine = engine::ensure(workspace, Lifetime::Ours)?;
    let docker = Docker::new(engine.address()?);
    docker.build(&binary)?;
    let mut report = Report::new("lifecycle");
    let version = output(Command::new(&binary).arg("--version"))?;
    report.line(format!("programs: {}, container engine {}", version.trim(), docker.version()?));
    let options = Options { docker: Some(engine.uri().to_owned()), cores: None };
    let mut portolan = Portolan::start(tied(&binary), &options)?;
    let mut bench = Bench {
        docker: &docker,
        events: docker.events()?,
        proxy: portolan.proxy,
        registry: portolan.registry,
    };
    let cycles = bench.cycles(plan.cycles, &mut report);
    portolan.still_runs()?;
    let cycles = cycles.map_err(|failure| format!("{failure}\n{}", portolan.log()))?;
    let verdict = judge(&cycles, &mut report);
    report.keep(workspace)?;
    verdict
}

struct Bench<'d> {
    docker: &'d Docker,
    events: Events,
    proxy: SocketAddr,
    registry: SocketAddr,
}

impl<'d> Bench<'d> {
    fn cycles(&mut self, count: u32, report: &mut Report) -> Outcome<Vec<Cycle>> {
        let (stays, _) = self.container("stays", "leave", 0, false)?;
        self.docker.start(&stays.id)?;
        self.gateway("/leave/").until("the one that stays", says("stays"))?;
        report.line("cycle  ms: start+listening  start event  kill  die");
        let mut cycles = Vec::new();
        for cycle in 1..=count {
            let [arrives, from_event, leaves] = self.arrive_and_die(cycle)?;
            let drains = self.drain(cycle)?;
            report.line(format!("{cycle:>5} {arrives:>20.2} {from_event:>12.2} {drains:>5.2} {leaves:>5.2}"));
            cycles.push([arrives, from_event, drains, leaves]);
        }
        Ok(cycles)
    }

    /// A service with one instance: from nothing to the first answer, and by SIGKILL to nothing again.
    fn arrive_and_die(&mut self, cycle: u32) -> Outcome<[f64; 3]> {
        let (container, published) = self.container("arrives", "arrive", cycle, false)?;
        let (docker, events, id) = (self.docker, &mut self.events, container.id.as_str());
        let mut gateway = Asker::new(self.proxy, "/arrive/");
        let (first, began) = std::thread::scope(|scope| {
            let starter = scope.spawn(|| docker.start(id));
            let began = scope.spawn(move || {
                let event = events.wait(id, "start")?;
                Ok::<_, String>((event, listens(published, event)?))
            });
            let first = gateway.until("the first answer", says("arrives"));
            let started = starter.join().map_err(|_| "the starter panicked")?;
            started.and(first).and_then(|first| {
                let began = began.join().map_err(|_| "the watcher panicked")??;
                Ok::<_, String>((first, began))
            })
        })?;
        let (event, listening) = began;

        let mut registry = Asker::new(self.registry, "/v1/catalog/service/arrive");
        let listed = registry.ask().map_err(|e| format!("registry: {e}"))?;
        if listed.text().trim() == "[]" {
            return Err("routed to, and yet not in the registry".to_owned());
        }
        let gone = std::thread::scope(|scope| {
            let killer = scope.spawn(|| docker.kill(id, "KILL"));
            let gone = registry.until("out of the registry", |answer| answer.text().trim() == "[]");
            killer.join().map_err(|_| "the killer panicked")?.and(gone)
        })?;
        let died = self.events.wait(id, "die")?;
        Ok([millis(listening.max(event), first), millis(event, first), millis(died, gone)])
    }

    /// A service with two instances, one of which is asked to end while requests come, and goes on serving whoever
    /// still asks it.
    fn drain(&mut self, cycle: u32) -> Outcome<f64> {
        let (container, published) = self.container("leaves", "leave", cycle, true)?;
        self.docker.start(&container.id)?;
        self.gateway("/leave/").until("the one that leaves", says("leaves"))?;
        let stream = Stream::start(self.proxy, "/leave/", CONNECTIONS);
        std::thread::sleep(WATCH / 3);
        self.docker.kill(&container.id, "TERM")?;
        let killed = self.events.wait(&container.id, "kill")?;
        std::thread::sleep(WATCH);
        let sent = stream.finish();
        let direct = Asker::new(published, "/").ask();
        if !direct.is_ok_and(|answer| says("leaves")(&answer)) {
            return Err("the instance that should go on serving does not".to_owned());
        }
        last_sent(&sent, killed)
    }

    fn container(
        &self,
        name: &str,
        service: &str,
        cycle: u32,
        deaf: bool,
    ) -> Outcome<(Container<'d>, SocketAddr)> {
        let [published] = free_addresses()?;
        let container = format!("portolan-bench-{}-{name}-{cycle}", std::process::id());
        let sample = Sample { container: &container, service, name, published, deaf };
        Ok((Container::create(self.docker, &sample)?, published))
    }

    fn gateway(&self, path: &str) -> Asker {
        Asker::new(self.proxy, path)
    }
}

/// Whether an answer is the sample's own, by its name.
fn says(name: &str) -> impl Fn(&crate::http::Answer) -> bool {
    let text = format!("This is {name}.");
    move |answer| answer.status == 200 && answer.text().trim_end() == text
}

/// The latest time at which the sample may not have listened yet: never too late, so that no measure gets too short.
fn listens(published: SocketAddr, event: u64) -> Outcome<u64> {
    let mut refused = event;
    loop {
        let at = now();
        // A connection of its own each time: one that an engine's proxy accepted too early never answers.
        if Asker::new(published, "/").ask().is_ok() {
            return Ok(refused);
        }
        if millis(event, at) > 20_000.0 {
            return Err("the sample does not listen".to_owned());
        }
        refused = at;
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// How long after `killed` the last request was sent to the instance that leaves.
fn last_sent(sent: &[Sent], killed: u64) -> Outcome<f64> {
    if let Some(failure) = sent.iter().find_map(|sent| sent.answer.as_ref().err()) {
        return Err(format!("a request failed while an instance left: {failure}"));
    }
    let after = sent.iter().filter(|sent| sent.at > killed);
    let (count, last) = after.fold((0, killed), |(count, last), sent| {
        let there = sent.answer.as_deref().is_ok_and(|body| body.trim_end() == "This is leaves.");
        (count + 1, if there { last.max(sent.at) } else { last })
    });
    match count {
        LEAST_WATCHED.. => Ok(millis(killed, last)),
        few => Err(format!("only {few} requests were sent after the kill event: too few to tell")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "spans of seconds are far below 2^52 ns")]
fn millis(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

fn judge(cycles: &[Cycle], report: &mut Report) -> Outcome {
    report.line(format!("{:<32}    p50    p99    max  limit of p99, ms ({} cycles)", "", cycles.len()));
    let mut over = Vec::new();
    for (at, measure) in Measure::ALL.into_iter().enumerate() {
        let values: Vec<f64> = cycles.iter().map(|cycle| cycle[at]).collect();
        let p99 = percentile(&values, 99);
        let limit = measure.limit();
        let shown = limit.map_or("-".to_owned(), |limit| format!("{limit:.0}"));
        report.line(format!(
            "{:<32} {:>6.2} {p99:>6.2} {:>6.2}  {shown}",
            measure.name(),
            percentile(&values, 50),
            maximum(&values)
        ));
        if limit.is_some_and(|limit| p99 >= limit) {
            over.push(measure.name());
        }
    }
    report.line(format!("verdict: {}", if over.is_empty() { "within" } else { "over" }));
    if over.is_empty() { Ok(()) } else { Err(format!("over the limit: {}", over.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_counts() {
        #[track_caller]
        fn check(leaver_until: u64, failed: bool, count: u64, expect: Result<f64, &str>) {
            let sent: Vec<Sent> = (0..count)
                .map(|at| {
                    let name = if at <= leaver_until && at % 2 == 0 { "leaves" } else { "stays" };
                    let answer =
                        if failed { Err("502".to_owned()) } else { Ok(format!("This is {name}.\n")) };
                    Sent { at: at * 1_000_000, answer }
                })
                .collect();
            assert_eq!(last_sent(&sent, 10_000_000), expect.map_err(str::to_owned));
        }
        check(10, false, 100, Ok(0.0));
        check(14, false, 100, Ok(4.0));
        check(14, true, 100, Err("a request failed while an instance left: 502"));
        check(14, false, 20, Err("only 9 requests were sent after the kill event: too few to tell"));
    }
}
