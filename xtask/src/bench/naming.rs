//! Naming over each backend, as a program in Rust that uses the SDK sees it; and what a registrator costs its host.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::docker::{Container, Docker, Sample};
use super::portolan::{Options, Portolan};
use super::report::Report;
use super::stream::Asker;
use super::{Scratch, each_option, free_addresses, number};
use crate::dist::{self, mebibytes};
use crate::engine::{self, Lifetime};
use crate::npm;
use crate::process::{Outcome, Running, output, resident, stat, tied};
use crate::setup;
use crate::unpack;
use crate::workspace::Workspace;

/// The most memory that a registrator may have with 500 containers that run, in bytes.
const MEMORY_LIMIT: u64 = 25 << 20;
/// How long a registrator is watched while nothing happens.
const REST: Duration = Duration::from_secs(60);
/// How many containers are started at once.
const STARTERS: usize = 4;
/// Clock ticks in a second, as the kernel counts CPU time for everybody (`USER_HZ`).
const TICKS: f64 = 100.0;

struct Plan {
    /// For the measurement of the backends.
    passed_on: Vec<String>,
    containers: u32,
    only: Option<Part>,
    binary: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Backends,
    Registrator,
}

impl Plan {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut plan = Self { passed_on: Vec::new(), containers: 500, only: None, binary: None };
        each_option(words, |name, value| {
            match name {
                "--backends" | "--samples" | "--instances" => {
                    plan.passed_on.extend([name.to_owned(), value()?]);
                }
                "--containers" => plan.containers = number(name, &value()?)?,
                "--binary" => plan.binary = Some(value()?.into()),
                "--only" => {
                    plan.only = match value()?.as_str() {
                        "backends" => Some(Part::Backends),
                        "registrator" => Some(Part::Registrator),
                        other => return Err(format!("--only wants backends or registrator, not {other:?}")),
                    }
                }
                _ => return Err(format!("unknown option {name}")),
            }
            Ok(())
        })?;
        Ok(plan)
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// Measures, prints, keeps; fails when the registrator is over its limit.
pub(crate) fn run(workspace: &Workspace, words: &[&str]) -> Outcome {
    let plan = Plan::parse(words)?;
    let mut report = Report::new("naming");
    if plan.wants(Part::Backends) {
        setup::ensure(setup::CLUSTERS)?;
        unpack::ensure(workspace, &unpack::CONSUL)?;
        npm::WITNESSES.iter().try_for_each(|witness| npm::ensure(workspace, witness))?;
        backends(workspace, &plan, &mut report)?;
    }
    let resident = match plan.wants(Part::Registrator) {
        true => registrator(workspace, &plan, &mut report)?,
        false => 0,
    };
    report.keep(workspace)?;
    if resident > MEMORY_LIMIT { Err("registrator: over its memory limit".to_owned()) } else { Ok(()) }
}

/// Runs the measurement that is a program of the SDK's own.
fn backends(workspace: &Workspace, plan: &Plan, report: &mut Report) -> Outcome {
    let mut command = workspace.cargo();
    command.args(["bench", "--quiet", "--locked", "--package", "portolan-naming", "--all-features"]);
    command.args(["--bench", "naming", "--"]).args(&plan.passed_on).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cargo bench: {e}"))?;
    let told = child.stdout.take().ok_or("cargo bench says nothing")?;
    for line in BufReader::new(told).lines() {
        report.line(line.map_err(|e| format!("cargo bench: {e}"))?);
    }
    let ended = child.wait().map_err(|e| format!("cargo bench: {e}"))?;
    if ended.success() { Ok(()) } else { Err("cargo bench failed".to_owned()) }
}

/// What `portolan registrator` costs while many containers start, and while they only run. Returns the memory
/// that it has with all of them.
fn registrator(workspace: &Workspace, plan: &Plan, report: &mut Report) -> Outcome<u64> {
    setup::ensure(setup::IMAGE)?;
    let binary = plan.binary.clone().map_or_else(|| dist::build(workspace), Ok)?;
    let engine = engine::ensure(workspace, Lifetime::Ours)?;
    let docker = Docker::new(engine.address()?);
    docker.build(&binary)?;
    let version = output(Command::new(&binary).arg("--version"))?;
    report.line(format!("registrator: {}, container engine {}", version.trim(), docker.version()?));
    // The registry is a process of its own: only the registrator is measured.
    let mut book = Portolan::start(tied(&binary), &Options::default())?;
    let scratch = Scratch::new()?;
    let log = scratch.path().join("log");
    let mut registrator = start(&binary, engine.uri(), book.registry, &log)?;
    let begun = Instant::now();
    let containers = start_containers(&docker, plan.containers)?;
    let mut registry = Asker::new(book.registry, "/v1/catalog/service/many");
    let last = Instant::now();
    registry.until("every container registered", |answer| {
        answer.text().matches("\"ServiceID\"").count() == containers.len()
    })?;
    let caught_up = last.elapsed();
    registrator.still_runs(&log)?;
    let pid = registrator.pid();
    let ticks = || stat(pid).map(|stat| stat.ticks).ok_or("the registrator is gone");
    let starting = ticks()?;
    report.line(format!(
        "{} containers started in {:.0} s; all registered {} ms after the last was started",
        containers.len(),
        (last - begun).as_secs_f64(),
        caught_up.as_millis()
    ));
    report.line(format!("CPU per container that started: {:.2} ms", per(starting, containers.len())));
    std::thread::sleep(REST);
    let share = per(ticks()? - starting, 1) / 1e3 / REST.as_secs_f64() * 100.0;
    let memory = resident(pid)?;
    report.line(format!("at rest, with a read of everything each period: {share:.2} % of one core"));
    report.line(format!(
        "resident: {:.1} MiB (limit {:.0} MiB), at its most, while they started, {:.1} MiB",
        mebibytes(memory.now),
        mebibytes(MEMORY_LIMIT),
        mebibytes(memory.most)
    ));
    book.still_runs()?;
    Ok(memory.now)
}

fn start(binary: &Path, engine: &str, registry: SocketAddr, log: &Path) -> Outcome<Running> {
    let file = std::fs::File::create(log).map_err(|e| format!("{}: {e}", log.display()))?;
    let twin = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
    let mut command = tied(binary);
    command.args(["registrator", &format!("portolan://{registry}")]).env("DOCKER_HOST", engine);
    Running::start("registrator", command.stdout(file).stderr(twin))
}

/// Starts many containers, a few at a time.
fn start_containers(docker: &Docker, count: u32) -> Outcome<Vec<Container<'_>>> {
    let count = usize::try_from(count).map_err(|e| e.to_string())?;
    std::thread::scope(|scope| {
        let starters: Vec<_> = (0..STARTERS)
            .map(|first| {
                scope.spawn(move || (first..count).step_by(STARTERS).map(|n| start_one(docker, n)).collect())
            })
            .collect();
        let mut all = Vec::new();
        for starter in starters {
            let started: Outcome<Vec<Container<'_>>> =
                starter.join().map_err(|_| "a starter panicked".to_owned())?;
            all.extend(started?);
        }
        Ok(all)
    })
}

fn start_one(docker: &Docker, n: usize) -> Outcome<Container<'_>> {
    let [published] = free_addresses()?;
    let container = format!("portolan-bench-{}-many-{n}", std::process::id());
    let sample = Sample { container: &container, service: "many", name: "many", published, deaf: false };
    let container = Container::create(docker, &sample)?;
    docker.start(&container.id)?;
    Ok(container)
}

/// Milliseconds of CPU for each of `count`.
#[expect(clippy::cast_precision_loss, reason = "hours of CPU are far below 2^52 ticks")]
fn per(ticks: u64, count: usize) -> f64 {
    ticks as f64 / TICKS * 1e3 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        #[track_caller]
        fn check(words: &[&str], expect: Result<(&str, bool, bool), &str>) {
            let plan = Plan::parse(words).map(|plan| {
                (plan.passed_on.join(" "), plan.wants(Part::Backends), plan.wants(Part::Registrator))
            });
            let expect = expect.map(|(words, a, b)| (words.to_owned(), a, b));
            assert_eq!(plan, expect.map_err(str::to_owned));
        }
        check(&[], Ok(("", true, true)));
        check(&["--samples", "5", "--only", "backends"], Ok(("--samples 5", true, false)));
        check(&["--only", "registrator", "--containers", "20"], Ok(("", false, true)));
        check(&["--only", "x"], Err("--only wants backends or registrator, not \"x\""));
        check(&["--containers", "0"], Err("--containers wants a positive number, not \"0\""));
    }
}
