//! CPU per proxied request on one core, beside nginx and HAProxy in the same run.
//!
//! Timings on a shared machine scatter, and the scatter only adds. So the programs alternate, ratios are taken within a
//! round, and minimum and median are reported, never a mean.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::portolan::{Options, Portolan};
use super::report::Report;
use super::stats::{median, minimum};
use super::{Scratch, each_option, free_addresses, number, peers};
use crate::dist;
use crate::http::{Address, Answer, Client};
use crate::process::{Outcome, Running, family, output, stat, wait_for};
use crate::setup;
use crate::workspace::Workspace;

/// How much more CPU than the better peer a request may cost.
const LIMIT: f64 = 1.15;
const CONNECTIONS: u32 = 64;
/// What `/proc` counts CPU time in; fixed in Linux's interface on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

struct Plan {
    rounds: u32,
    seconds: u32,
    binary: Option<PathBuf>,
    peers_only: bool,
}

impl Plan {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut plan = Self { rounds: 7, seconds: 5, binary: None, peers_only: false };
        each_option(words, |name, value| {
            match name {
                "--rounds" => plan.rounds = number(name, &value()?)?,
                "--seconds" => plan.seconds = number(name, &value()?)?,
                "--binary" => plan.binary = Some(value()?.into()),
                "--peers-only" => plan.peers_only = true,
                _ => return Err(format!("unknown option {name}")),
            }
            Ok(())
        })?;
        Ok(plan)
    }
}

/// One program under measurement, and what it cost so far.
struct Contestant {
    name: &'static str,
    at: SocketAddr,
    process: Process,
    rounds: Vec<Round>,
}

enum Process {
    Peer(Running),
    Portolan(Portolan),
}

impl Contestant {
    fn peer(name: &'static str, at: SocketAddr, running: Running) -> Self {
        Self { name, at, process: Process::Peer(running), rounds: Vec::new() }
    }

    /// CPU time of the process and its workers, in ticks.
    fn ticks(&self) -> u64 {
        let pid = match &self.process {
            Process::Peer(running) => running.pid(),
            Process::Portolan(portolan) => portolan.pid(),
        };
        family(pid).into_iter().filter_map(stat).map(|stat| stat.ticks).sum()
    }

    fn costs(&self) -> Vec<f64> {
        self.rounds.iter().map(Round::micros_per_request).collect()
    }

    fn rates(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.load.rate).collect()
    }
}

struct Round {
    ticks: u64,
    load: Load,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn micros_per_request(&self) -> f64 {
        self.ticks as f64 / TICKS_PER_SECOND * 1e6 / self.load.requests as f64
    }
}

/// Which program runs where. The one under measurement has a core to itself.
struct Cores {
    proxy: usize,
    load: usize,
    backend: usize,
}

impl Cores {
    fn of(count: usize) -> Self {
        Self { proxy: 0, load: 1.min(count - 1), backend: 2.min(count - 1) }
    }
}

/// Measures, prints, keeps; fails when our gateway costs too much.
pub(crate) fn run(workspace: &Workspace, words: &[&str]) -> Outcome {
    let plan = Plan::parse(words)?;
    setup::ensure(setup::PEERS)?;
    let cores = Cores::of(std::thread::available_parallelism().map_or(1, usize::from));
    let scratch = Scratch::new()?;
    let mut report = Report::new("proxy");
    let [backend_at, nginx_at, haproxy_at] = free_addresses()?;
    let _backend = peers::backend(&scratch, cores.backend, backend_at)?;
    let nginx = peers::nginx_proxy(&scratch, cores.proxy, nginx_at, backend_at)?;
    let haproxy = peers::haproxy(&scratch, cores.proxy, haproxy_at, backend_at)?;
    let mut contestants =
        vec![Contestant::peer("nginx", nginx_at, nginx), Contestant::peer("haproxy", haproxy_at, haproxy)];
    let mut versions = peers::versions()?;
    if !plan.peers_only {
        let binary = plan.binary.clone().map_or_else(|| dist::build(workspace), Ok)?;
        versions = format!("{versions}, {}", output(Command::new(&binary).arg("--version"))?.trim());
        let options = Options { docker: None, cores: Some(1) };
        let portolan = Portolan::start(peers::pinned(cores.proxy, &binary), &options)?;
        portolan.register("bench", "bench-1", backend_at)?;
        let (at, rounds) = (portolan.proxy, Vec::new());
        contestants.push(Contestant { name: "portolan", at, process: Process::Portolan(portolan), rounds });
    }
    report.line(format!("programs: {versions}"));
    report.line(format!(
        "load: {CONNECTIONS} connections, {} rounds of {} s, body of {} bytes; cores: proxy {}, load {}, backend {}",
        plan.rounds,
        plan.seconds,
        peers::BODY.len(),
        cores.proxy,
        cores.load,
        cores.backend,
    ));
    for contestant in &contestants {
        wait_for(contestant.name, Duration::from_secs(10), || works(contestant.at))?;
        load(cores.load, contestant.at, 1)?;
    }
    measure(&plan, &cores, &mut contestants, &mut report)?;
    let verdict = judge(&contestants, &mut report);
    if !plan.peers_only {
        report.keep(workspace)?;
    }
    verdict
}

/// Whether the proxy answers with what the backend says, and did its work on the headers.
fn works(at: SocketAddr) -> bool {
    let ask = |mut client: Client| client.get(peers::PATH);
    let answer = Client::connect(&Address::Tcp(at), Duration::from_secs(1)).and_then(ask);
    answer.is_ok_and(|answer: Answer| answer.status == 200 && answer.body == peers::BODY.as_bytes())
}

fn measure(plan: &Plan, cores: &Cores, contestants: &mut [Contestant], report: &mut Report) -> Outcome {
    report.line("round  program    requests    req/s  CPU µs/req");
    for round in 1..=plan.rounds {
        for contestant in &mut *contestants {
            let before = contestant.ticks();
            let load = load(cores.load, contestant.at, plan.seconds)?;
            let measured = Round { ticks: contestant.ticks() - before, load };
            report.line(format!(
                "{round:>5}  {:<8} {:>10} {:>8.0} {:>11.2}",
                contestant.name,
                measured.load.requests,
                measured.load.rate,
                measured.micros_per_request()
            ));
            contestant.rounds.push(measured);
        }
    }
    Ok(())
}

fn judge(contestants: &[Contestant], report: &mut Report) -> Outcome {
    report.line("program    CPU µs/req: min  median    req/s: median");
    for contestant in contestants {
        let costs = contestant.costs();
        let (least, middle, rate) = (minimum(&costs), median(&costs), median(&contestant.rates()));
        report.line(format!("{:<8} {least:>17.2} {middle:>7.2} {rate:>16.0}", contestant.name));
    }
    let Some((ours, peers)) = contestants.split_last().filter(|(last, _)| last.name == "portolan") else {
        return Ok(());
    };
    let mut against = Vec::new();
    for peer in peers {
        let ratios: Vec<f64> =
            ours.costs().iter().zip(peer.costs()).map(|(ours, peer)| ours / peer).collect();
        let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
        let middle = median(&ratios);
        let of_minima = minimum(&ours.costs()) / minimum(&peer.costs());
        report.line(format!(
            "portolan/{}: {}  median {middle:.3}, of minima {of_minima:.3}",
            peer.name,
            each.join(" ")
        ));
        against.push((median(&peer.costs()), peer.name, middle));
    }
    let better = against.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, name, ratio) = better.ok_or("no peer was measured")?;
    let verdict = format!("{ratio:.3} × {name}, the better of the two (limit {LIMIT})");
    report.line(format!("verdict: {verdict}: {}", if ratio <= LIMIT { "within" } else { "over" }));
    if ratio <= LIMIT { Ok(()) } else { Err(verdict) }
}

/// What the load generator counted.
struct Load {
    requests: u64,
    rate: f64,
}

fn load(core: usize, at: SocketAddr, seconds: u32) -> Outcome<Load> {
    let mut wrk = peers::pinned(core, &peers::program("wrk")?);
    wrk.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")]);
    let said = output(wrk.arg(format!("http://{at}{}", peers::PATH)))?;
    parse_load(&said).map_err(|what| format!("wrk against {at}: {what}\n{said}"))
}

fn parse_load(said: &str) -> Result<Load, &'static str> {
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        return Err("not every request succeeded");
    }
    let requests = said.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    match (requests, rate) {
        (Some(requests @ 1..), Some(rate)) => Ok(Load { requests, rate }),
        _ => Err("no count of requests"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_reports() {
        #[track_caller]
        fn check(said: &str, expect: Result<(u64, f64), &str>) {
            assert_eq!(parse_load(said).map(|load| (load.requests, load.rate)), expect);
        }
        let good = "Running 5s test\n  1 threads\n  245102 requests in 5.00s, 41.2MB read\nRequests/sec:  49020.40\n";
        check(good, Ok((245_102, 49020.4)));
        check(&format!("{good}  Non-2xx or 3xx responses: 3\n"), Err("not every request succeeded"));
        check(
            &format!("  Socket errors: connect 0, read 1, write 0, timeout 0\n{good}"),
            Err("not every request succeeded"),
        );
        check("  0 requests in 5.00s, 0B read\nRequests/sec: 0.00\n", Err("no count of requests"));
        check("", Err("no count of requests"));
    }

    #[test]
    fn cost_of_a_request() {
        let round = Round { ticks: 500, load: Load { requests: 250_000, rate: 50_000.0 } };
        assert!((round.micros_per_request() - 20.0).abs() < 1e-9);
    }

    #[test]
    fn cores_for_everybody() {
        #[track_caller]
        fn check(count: usize, expect: [usize; 3]) {
            let cores = Cores::of(count);
            assert_eq!([cores.proxy, cores.load, cores.backend], expect);
        }
        check(1, [0, 0, 0]);
        check(2, [0, 1, 1]);
        check(8, [0, 1, 2]);
    }
}
