//! What was acknowledged is there, whatever happens to the process or the disk.
//!
//! Two of these tests start their own binary again as the process that something happens to; an environment variable
//! tells the child what it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's verdict is a panic")]
#![allow(clippy::print_stderr, reason = "a child reports on stderr")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_model::{
    Condition, Filter, Guard, Interest, Key, KeyValue, KeyValueError, Phase, Prefix, Registration, Registry,
    RegistryError, Revision, View,
};
use registry::{BuildError, Config, build};
use runtime::{State, StatusBoard};
use support::{Running, fresh, id, next, open, said, service};

const CHILD_DIR: &str = "PORTOLAN_TEST_CHILD_DIR";
const CHILD_START: &str = "PORTOLAN_TEST_CHILD_START";
const ROUNDS: u64 = 50;

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let start = std::env::var(CHILD_START).unwrap().parse().unwrap();
        return write_until_killed(Path::new(&dir), start).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut up, mut down) = (BTreeSet::new(), BTreeSet::new());
    let mut revision = Revision::default();
    let mut counted = 0_u64;
    let mut opened = Vec::new();
    for round in 0..ROUNDS {
        let mut child = child("kill_9_loses_nothing_acknowledged", &[])
            .env(CHILD_DIR, dir.path())
            .env(CHILD_START, (round * 1_000_000).to_string())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let acknowledged = kill_after(&mut child, dice.usize(..150));
        for line in &acknowledged {
            let [what, which, at] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
            if what == "count" {
                counted = which.parse().unwrap();
                continue;
            }
            let set = if what == "up" { &mut up } else { &mut down };
            set.insert(which.to_owned());
            revision = revision.max(Revision(at.parse().unwrap()));
        }

        let begun = Instant::now();
        let (registry, task) = open(dir.path(), Duration::ZERO, &StatusBoard::default());
        opened.push(begun.elapsed());
        let listing = Registry::list(&*registry).await.unwrap();
        assert!(listing.revision >= revision, "{} after {revision}", listing.revision);
        revision = listing.revision;
        let there: BTreeSet<_> =
            listing.services.values().flatten().map(|instance| instance.id().to_string()).collect();
        for which in &up {
            // Of those that are removed again, the removal may be done without having been acknowledged.
            assert!(is_removed(which) || there.contains(which), "{which} was acknowledged and is lost");
        }
        let count = read(&registry, &counter()).await;
        // The last one may be done without having been acknowledged; it is taken up by the next round.
        assert!((counted..=counted + 1).contains(&count), "counted {count} where {counted} was acknowledged");
        counted = count;
        assert_eq!(there.intersection(&down).count(), 0, "removed and acknowledged, and there again");
        drop(task);
    }
    opened.sort();
    let (median, most) = (opened[opened.len() / 2], opened[opened.len() - 1]);
    println!("{ROUNDS} kills, {} acknowledged; opened in {median:?} (median), {most:?} (most)", up.len());
    assert!(up.len() > ROUNDS as usize && !down.is_empty());
    assert!(median < Duration::from_millis(300), "{median:?}");
}

/// Every third registration is taken back.
fn is_removed(which: &str) -> bool {
    which.parse::<u64>().unwrap() % 3 == 0
}

async fn write_until_killed(dir: &Path, start: u64) {
    let running = Running::start(dir, Duration::ZERO);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let registry = Arc::clone(&running.registry);
            tokio::spawn(async move {
                for n in (start + writer..).step_by(4) {
                    let which = n.to_string();
                    let revision = registry.register(said("web", &which)).await.unwrap();
                    eprintln!("up {which} {}", revision.0);
                    if is_removed(&which) {
                        let revision = registry.deregister(id(&which), Guard::Anyone).await.unwrap();
                        eprintln!("down {which} {}", revision.0);
                    }
                }
            })
        })
        .collect();
    for n in read(&running.registry, &counter()).await + 1.. {
        let known = running.registry.get(counter()).await.unwrap().map(|entry| entry.revision);
        let condition = known.map_or(Condition::Absent, Condition::At);
        let value = n.to_string().into_bytes().into();
        let revision = running.registry.put(counter(), value, condition).await.unwrap();
        eprintln!("count {n} {revision}");
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

fn counter() -> Key {
    Key::new("counter").unwrap()
}

async fn read(registry: &registry::Embedded, key: &Key) -> u64 {
    let entry = registry.get(key.clone()).await.unwrap();
    entry.map_or(0, |entry| String::from_utf8(entry.value.to_vec()).unwrap().parse().unwrap())
}

/// Kills the child once it has said `lines` lines; all it said by then and on the way is returned.
fn kill_after(child: &mut Child, lines: usize) -> Vec<String> {
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    for _ in 0..lines {
        said.read_line(&mut text).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    said.read_to_string(&mut text).unwrap();
    // A line without its end was cut off by the kill, and so may be the number in it.
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// This binary again, running only `test`; `shell` is run before it in the same process.
fn child(test: &str, shell: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = shell.iter().chain(&["exec \"$0\" \"$@\""]).copied().collect::<Vec<_>>().join("; ");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The disk is full for a while: writes are refused and leave no trace, reads go on, and once there is room again the
/// registry mends itself.
#[tokio::test]
async fn a_full_disk_is_told_and_outlived() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        return outlive_a_full_disk(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    // The kernel sends a signal to who writes past the limit; ignored, the write fails as on a full disk.
    let child = child("a_full_disk_is_told_and_outlived", &["trap '' XFSZ"])
        .env(CHILD_DIR, dir.path())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let running = Running::start(dir.path(), Duration::ZERO);
    assert!(running.registry.counts().instances > 1, "what the child was told is there");
    running.stop().await;
}

async fn outlive_a_full_disk(dir: &Path) {
    let running = Running::start(dir, Duration::ZERO);
    let registry = &running.registry;
    let state = || running.status.snapshot()["registry"].state;
    let first = registry.register(said("web", "first")).await.unwrap();
    let mut watcher = registry.subscribe(Interest::All);
    let mut view = View::default();
    view.apply(next(&mut watcher).await);

    let room = std::fs::metadata(dir.join("store.redb")).unwrap().len();
    let unlimited = limit_files(Some(room));
    let mut acknowledged = vec!["first".to_owned()];
    let mut last = first;
    let refused = loop {
        let which = format!("big-{}", acknowledged.len());
        match registry.register(big(&which)).await {
            Ok(revision) => {
                last = revision;
                acknowledged.push(which);
            }
            Err(RegistryError::Unavailable(_)) => break which,
            Err(other) => panic!("{other}"),
        }
        assert!(acknowledged.len() < 1000, "the disk never gets full");
    };
    assert_eq!(state(), State::Degraded);
    assert!(registry.register(said("web", "other")).await.is_err(), "still refused");
    let put = || registry.put(counter(), vec![1; 100_000].into(), Condition::Absent);
    let refused_key = put().await;
    assert!(
        matches!(refused_key, Err(KeyValueError::Unavailable(_) | KeyValueError::Uncertain(_))),
        "{refused_key:?}"
    );
    assert_eq!(KeyValue::list(&**registry, Prefix::all()).await.unwrap().entries, []);
    let listing = Registry::list(&**registry).await.unwrap();
    assert_eq!(listing.revision, last, "nothing of what was refused is seen");
    assert_eq!(listing.services[&service("web")].len(), acknowledged.len());

    limit_files(unlimited);
    while view.revision() < last {
        view.apply(next(&mut watcher).await);
    }
    // The writer tries again by itself, and everybody starts over from what the disk has.
    view.apply(next(&mut watcher).await);
    let after = registry.register(big(&refused)).await.unwrap();
    assert!(after >= last);
    assert_eq!(state(), State::Running);
    acknowledged.push(refused);
    put().await.unwrap();
    let web = registry.find(service("web"), Filter::default()).await.unwrap();
    let there: BTreeSet<_> = web.instances.iter().map(|instance| instance.id().to_string()).collect();
    assert!(acknowledged.iter().all(|which| there.contains(which)));
    running.stop().await;
}

/// Sets how large a file of this process may become, and returns what it was.
fn limit_files(bytes: Option<u64>) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
    current
}

fn big(which: &str) -> Registration {
    let meta = (0..100).map(|n| (n.to_string(), "x".repeat(Registration::VALUE_LIMIT))).collect();
    Registration { meta, ..said("web", which) }
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::from_secs(3600));
    let registry = &running.registry;
    for (name, which) in [("web", "a"), ("web", "b"), ("shop", "c"), ("mail", "d"), ("gone", "e")] {
        registry.register(said(name, which)).await.unwrap();
    }
    registry.drain(id("a"), Guard::Anyone).await.unwrap();
    registry.deregister(id("b"), Guard::Anyone).await.unwrap();
    registry.deregister(id("e"), Guard::Anyone).await.unwrap();
    let extinct = registry.register(said("web", "c")).await.unwrap();
    let names = ["web", "shop", "mail", "gone", "never"];
    let mut before = Vec::new();
    for name in names {
        before.push(registry.find(service(name), Filter::default()).await.unwrap());
    }
    assert_eq!(
        before[0].instances.iter().map(|i| i.phase).collect::<Vec<_>>(),
        [Phase::Draining, Phase::Young]
    );
    assert_eq!(before[4].revision.next(), extinct, "the move left the other service empty");
    let listing = Registry::list(&**registry).await.unwrap();
    for name in ["a", "a/b", "counter"] {
        registry.put(Key::new(name).unwrap(), (*b"v").into(), Condition::Absent).await.unwrap();
    }
    registry.delete(counter(), Condition::Always).await.unwrap();
    let keys = KeyValue::list(&**registry, Prefix::all()).await.unwrap();
    assert_eq!((keys.entries.len(), keys.revision), (2, Revision(5)), "keys have a history of their own");
    assert_eq!(Registry::list(&**registry).await.unwrap(), listing);
    let view = fresh(registry, &Interest::All).await;
    running.stop().await;

    let running = Running::start(dir.path(), Duration::from_secs(3600));
    let registry = &running.registry;
    for (name, before) in names.iter().zip(before) {
        assert_eq!(registry.find(service(name), Filter::default()).await.unwrap(), before, "{name}");
    }
    assert_eq!(Registry::list(&**registry).await.unwrap(), listing);
    assert_eq!(KeyValue::list(&**registry, Prefix::all()).await.unwrap(), keys);
    let later = registry.put(counter(), (*b"1").into(), Condition::Absent).await.unwrap();
    assert_eq!(later, keys.revision.next(), "also the revision of a removal is not given again");
    assert_eq!(fresh(registry, &Interest::All).await, view);
    assert_eq!(registry.register(said("web", "c")).await, Ok(listing.revision), "it is so already");
    let next = registry.deregister(id("c"), Guard::Anyone).await.unwrap();
    assert_eq!(next, listing.revision.next());
    running.stop().await;
}

#[tokio::test]
async fn a_directory_has_one_registry() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), Duration::ZERO);
    let config = Config { data_dir: dir.path().to_owned(), warm_up: Duration::ZERO };
    let refused = build(config, &StatusBoard::default()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, BuildError::Open(store::OpenError::InUse { .. })), "{refused}");
    running.stop().await;
}
