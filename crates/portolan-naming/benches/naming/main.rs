//! Naming over each backend, in numbers that are printed and not judged: `cargo xtask bench naming` keeps them.
//!
//! The servers are processes of their own, so the CPU and memory told are the client's.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement prints, and ends when it cannot measure"
)]

mod backends;
mod peer;

use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::{
    Change, Endpoint, Guard, Health, Incarnation, InstanceId, Interest, Owner, Protocol, Registration,
    ServiceName, Subscription, Weight,
};
use portolan_naming::Naming;

use backends::{Backend, Kind};

/// How many services the instances belong to.
const SERVICES: usize = 100;

/// How many registrations are under way at once.
const WRITERS: usize = 64;

/// How long nothing is done, to see what keeping instances alive costs.
const REST: Duration = Duration::from_secs(10);

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is measured, and how much of it.
struct Plan {
    backends: Vec<Kind>,
    samples: usize,
    instances: usize,
}

fn main() {
    let plan = Plan::parse();
    if let [kind] = plan.backends[..] {
        return measure_one(kind, &plan);
    }
    println!(
        "one by one: a registration until another handle's subscriber has it, ms; then {} of",
        plan.instances
    );
    println!("{SERVICES} services, {WRITERS} at a time; CPU and memory are the client's\n");
    // Each in a process of its own, so that none has the memory that another left.
    for kind in &plan.backends {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--backends", kind.name(), "--samples", &plan.samples.to_string()]);
        let measured = command.args(["--instances", &plan.instances.to_string()]).status().unwrap();
        assert!(measured.success(), "{} could not be measured", kind.name());
    }
}

fn measure_one(kind: Kind, plan: &Plan) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let backend = Backend::start(kind);
        measure(kind, &backend, plan).await;
        backend.end().await;
    });
}

impl Plan {
    fn parse() -> Self {
        let mut plan = Self { backends: Kind::ALL.to_vec(), samples: 500, instances: 10_000 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
            match word.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--samples" => plan.samples = value().parse().unwrap(),
                "--instances" => plan.instances = value().parse().unwrap(),
                "--backends" => plan.backends = value().split(',').map(Kind::named).collect(),
                _ => panic!("unknown option {word}; there are --backends, --samples and --instances"),
            }
        }
        plan
    }
}

async fn measure(kind: Kind, backend: &Backend, plan: &Plan) {
    let (owner, other) = backend.open_two();
    let ours = one_by_one(kind, &owner, &other, plan.samples).await;
    if let Some(peer) = peer::measure(kind, backend, plan.samples) {
        compare(kind, &ours, peer);
    }
    many(kind, backend, &owner, &other, plan.instances).await;
    for naming in [other, owner] {
        // What was registered goes with the servers.
        drop(naming);
    }
}

/// What was measured one by one, times in order.
struct Ours {
    registered: Vec<Duration>,
    deregistered: Vec<Duration>,
    cpu: Duration,
}

/// How soon a registration, and a removal, is seen by somebody else.
async fn one_by_one(kind: Kind, owner: &Naming, other: &Naming, samples: usize) -> Ours {
    let mut changes = other.registry().subscribe(Interest::All);
    changes.next().await.unwrap();
    let (mut arrivals, mut answers, mut removals) = (Vec::new(), Vec::new(), Vec::new());
    let cpu = cpu();
    for n in 0..samples {
        let said = registration("timed", n);
        let id = said.id.clone();
        let begun = Instant::now();
        let answered = async {
            owner.registry().register(said).await.unwrap();
            begun.elapsed()
        };
        let (answer, arrival) =
            tokio::join!(answered, seen(&mut changes, begun, |change| upserts(change, &id)));
        answers.push(answer);
        arrivals.push(arrival);
    }
    let cpu = self::cpu() - cpu;
    for n in 0..samples {
        let id = registration("timed", n).id;
        let begun = Instant::now();
        let gone = owner.registry().deregister(id.clone(), Guard::Anyone);
        let (gone, removal) = tokio::join!(gone, seen(&mut changes, begun, |change| removes(change, &id)));
        gone.unwrap();
        removals.push(removal);
    }
    spread(kind, "register, answered", &mut answers);
    spread(kind, "register, seen by another", &mut arrivals);
    spread(kind, "deregister, seen by another", &mut removals);
    let each = cpu / u32::try_from(samples.max(1)).unwrap();
    line(kind, "client CPU per registration, both sides", &format!("{} us", each.as_micros()));
    Ours { registered: arrivals, deregistered: removals, cpu: each }
}

/// The same of somebody else's client on the same servers.
fn compare(kind: Kind, ours: &Ours, peer: peer::Measured) {
    let peer::Measured { client, mut registered, mut deregistered, cpu } = peer;
    let of_peer = |what: &str| format!("{client}: {what}");
    spread(kind, &of_peer("register, seen"), &mut registered);
    spread(kind, &of_peer("deregister, seen"), &mut deregistered);
    line(kind, &of_peer("CPU per registration"), &format!("{} us", cpu.as_micros()));
    let ratio = |ours: Duration, theirs: Duration| ours.as_secs_f64() / theirs.as_secs_f64();
    let medians = ratio(at(&ours.registered, 50), at(&registered, 50));
    let removals = ratio(at(&ours.deregistered, 50), at(&deregistered, 50));
    let cpu = ratio(ours.cpu, cpu);
    line(kind, "ours by theirs", &format!("seen {medians:.3}, gone {removals:.3}, CPU {cpu:.3}"));
}

/// What many instances cost.
async fn many(kind: Kind, backend: &Backend, owner: &Naming, other: &Naming, count: usize) {
    let (owners, how) = backend.open_many().unwrap_or_else(|| (vec![owner.clone()], String::new()));
    let (before, begun, resident) = (cpu(), Instant::now(), resident());
    let writers = (0..WRITERS).map(|first| {
        let (registry, mut late) = (Arc::clone(owners[first % owners.len()].registry()), 0);
        tokio::spawn(async move {
            for n in (first..count).step_by(WRITERS) {
                let said = registration(&format!("many-{}", n % SERVICES), n);
                // As a registrator does: what is not known to be done in time is asked for again.
                while registry.register(said.clone()).await.is_err() {
                    late += 1;
                    assert!(begun.elapsed() < PATIENCE, "registering takes for ever");
                }
            }
            late
        })
    });
    let mut late = 0;
    for writer in writers.collect::<Vec<_>>() {
        late += writer.await.unwrap();
    }
    let took = begun.elapsed();
    if late > 0 {
        line(kind, "of which asked for again", &format!("{late}"));
    }
    let (seconds, cpu_seconds) = (took.as_secs_f64(), (cpu() - before).as_secs_f64());
    let value = [format!("{seconds:.2} s, client CPU {cpu_seconds:.2} s"), how];
    line(kind, &format!("{count} registered"), value.join(" ").trim_end());
    let begun = Instant::now();
    until(async || known(other).await == count).await;
    line(kind, "another knows them all after", &format!("{} ms more", begun.elapsed().as_millis()));
    if let Some(fresh) = backend.open() {
        let begun = Instant::now();
        until(async || known(&fresh).await == count).await;
        line(kind, "read by a fresh handle", &format!("{} ms", begun.elapsed().as_millis()));
    }
    let before = cpu();
    tokio::time::sleep(REST).await;
    let share = (cpu() - before).as_secs_f64() / REST.as_secs_f64() * 100.0;
    line(kind, "client CPU at rest, of one core", &format!("{share:.2} %"));
    let grown = self::resident().saturating_sub(resident);
    line(kind, "client memory for them, all handles", &format!("{} MiB\n", grown / 1024));
}

/// When `wanted` came.
async fn seen(changes: &mut Subscription, begun: Instant, wanted: impl Fn(&Change) -> bool) -> Duration {
    loop {
        let change = tokio::time::timeout(PATIENCE, changes.next()).await.unwrap().unwrap();
        if wanted(&change) {
            return begun.elapsed();
        }
    }
}

fn upserts(change: &Change, id: &InstanceId) -> bool {
    match change {
        Change::Upsert { instance, .. } => instance.id() == id,
        Change::Reset { instances, .. } => instances.iter().any(|instance| instance.id() == id),
        Change::Remove { .. } => false,
    }
}

fn removes(change: &Change, id: &InstanceId) -> bool {
    match change {
        Change::Remove { id: gone, .. } => gone == id,
        Change::Reset { instances, .. } => !instances.iter().any(|instance| instance.id() == id),
        Change::Upsert { .. } => false,
    }
}

async fn known(naming: &Naming) -> usize {
    let Ok(listing) = naming.registry().list().await else { return 0 };
    listing
        .services
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("many-"))
        .map(|(_, all)| all.len())
        .sum()
}

async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn registration(service: &str, n: usize) -> Registration {
    let (high, low) = (n / 60_000, n % 60_000);
    Registration {
        id: InstanceId::new(format!("host-1:{service}-{n}:8080")).unwrap(),
        service: ServiceName::new(service).unwrap(),
        endpoint: Endpoint {
            host: format!("10.0.{high}.1").parse().unwrap(),
            port: 1024 + u16::try_from(low).unwrap(),
        },
        protocol: Protocol::Tcp,
        tags: ["blue".to_owned(), "v1".to_owned()].into(),
        meta: [("region".to_owned(), "eu".to_owned())].into(),
        weight: Weight::default(),
        zone: None,
        owner: Owner::new("bench").unwrap(),
        incarnation: Incarnation(1),
        health: Health::Passing,
    }
}

fn spread(kind: Kind, what: &str, times: &mut [Duration]) {
    times.sort();
    let ms = |percent| at(times, percent).as_secs_f64() * 1e3;
    line(kind, what, &format!("p50 {:.2}  p99 {:.2}  max {:.2} ms", ms(50), ms(99), ms(100)));
}

/// A percentile of times in order.
fn at(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent).div_ceil(100).max(1) - 1]
}

fn line(kind: Kind, what: &str, value: &str) {
    println!("{:<10} {what:<40} {value}", kind.name());
}

/// CPU time of this process so far, in all its threads, ended ones too.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
