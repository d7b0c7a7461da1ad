use std::fs;
use std::path::Path;
use std::sync::Arc;

use portolan_model::{Change, Instance, Revision, ServiceName};
use runtime::Tasks;

use super::*;
use crate::fixture::{ids, instance, moved};

const URI: &str = "etcd://me:secret@b:1,a:2/p?token=hidden&layout=json";

fn uri(text: &str) -> RegistryUri {
    text.parse().unwrap()
}

fn web(mirror: &Mirror) -> Vec<Arc<Instance>> {
    mirror.find(&ServiceName::new("web").unwrap(), &portolan_model::Filter::default()).instances
}

fn said(board: &StatusBoard) -> String {
    let report = &board.snapshot()["last known table"];
    format!("{:?} {}", report.state, report.detail)
}

/// What a process that starts now begins with.
fn begun(path: &Path, text: &str) -> (Mirror, StatusBoard) {
    let (mirror, board) = (Mirror::default(), StatusBoard::default());
    Keeper::open(path.to_owned(), &uri(text), mirror.clone(), &board);
    (mirror, board)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    testkit::wait::until(Duration::from_secs(60), what, async || condition()).await;
}

#[test]
fn tables_belong_to_a_registry() {
    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(identity(&uri(text)), expect);
    }
    check(URI, "etcd://a:2,b:1/p?layout=json");
    check("etcd://a:2,b:1/p?ttl=9s&layout=json", "etcd://a:2,b:1/p?layout=json");
    check("consul://a?dc=east", "consul://a?dc=east");
    check("zookeeper://a/x/", "zookeeper://a/x");
}

#[tokio::test]
async fn what_was_known_is_served_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/yet/table.json");
    let (mirror, board) = (Mirror::default(), StatusBoard::default());
    let keeper = Keeper::open(path.clone(), &uri(URI), mirror.clone(), &board);
    assert!(!mirror.is_filled());
    let (last, ended) = oneshot::channel();
    let tasks = Tasks::new(board.clone());
    tasks.spawn("keeper", keeper.run(ended));
    mirror.reset(Revision(7), vec![instance("web", "a", 3), instance("db", "d", 4)]);
    until("written", || said(&board).contains("2 instances, written at 2")).await;
    mirror.apply(Change::Upsert { revision: Revision(8), instance: instance("web", "b", 8) });
    until("written again", || said(&board).contains("3 instances")).await;
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");

    // Killed now, it would begin with this.
    let (next, _) = begun(&path, "etcd://a:2,b:1/p?layout=json");
    assert!(next.is_filled() && !next.is_read());
    assert_eq!((ids(&web(&next)), next.list().revision), (vec!["a", "b"], Revision(8)));
    assert!(
        next.meanwhile("etcd is away").contains("etcd is away; not reached yet, serving what was known at 2")
    );

    // Told to end, it leaves what it is told to, also what changed just now.
    mirror.apply(Change::Upsert { revision: Revision(9), instance: instance("web", "c", 9) });
    last.send(snapshot(&mirror)).unwrap();
    tasks.finish(Duration::from_secs(60)).await.unwrap();
    assert_eq!(ids(&web(&begun(&path, URI).0)), ["a", "b", "c"]);
    let left: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["table.json"], "no drafts are left");

    // One that never reached its cluster leaves the file as it is.
    assert_eq!(snapshot(&begun(&path, URI).0), None);
}

#[tokio::test]
async fn a_file_of_no_use_is_an_empty_start() {
    #[track_caller]
    fn check(path: &Path, text: &str) {
        let (mirror, _) = begun(path, text);
        assert!(!mirror.is_filled());
        assert_eq!(mirror.meanwhile("away"), "away");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.json");
    check(&path, URI);
    fs::write(&path, "{\"version\":1,\"reg").unwrap();
    check(&path, URI);
    fs::File::create(&path).unwrap().set_len(file::LIMIT + 1).unwrap();
    check(&path, URI);
    let table =
        Seed { revision: Revision(1), known_at: SystemTime::now(), instances: vec![instance("w", "a", 1)] };
    file::write(&path, &form::write(&table, &identity(&uri(URI)))).unwrap();
    check(&path, "etcd://elsewhere/p?layout=json");
    assert!(begun(&path, URI).0.is_filled());
    check(dir.path(), URI);
}

#[tokio::test]
async fn a_disk_that_fails_is_said_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (in_the_way, mirror, board) = (dir.path().join("x"), Mirror::default(), StatusBoard::default());
    fs::write(&in_the_way, "").unwrap();
    let keeper = Keeper::open(in_the_way.join("table.json"), &uri(URI), mirror.clone(), &board);
    let (last, ended) = oneshot::channel();
    let tasks = Tasks::new(board.clone());
    tasks.spawn("keeper", keeper.run(ended));
    mirror.reset(Revision(1), vec![instance("web", "a", 1)]);
    until("said", || said(&board).starts_with("Degraded")).await;
    fs::remove_file(&in_the_way).unwrap();
    mirror.apply(Change::Upsert { revision: Revision(2), instance: instance("web", "b", 2) });
    until("well again", || said(&board).starts_with("Running")).await;
    drop(last);
    tasks.finish(Duration::from_secs(60)).await.unwrap();
}

/// What is kept although the registry lacks it goes when its time has come.
#[tokio::test(start_paused = true)]
async fn doubts_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.json");
    let table = Seed {
        revision: Revision(500),
        known_at: SystemTime::now(),
        instances: vec![moved(&instance("web", "a", 1), 1), moved(&instance("db", "d", 1), 2)],
    };
    file::write(&path, &form::write(&table, &identity(&uri(URI)))).unwrap();
    let (mirror, board) = (Mirror::default(), StatusBoard::default());
    let keeper = Keeper::open(path, &uri(URI), mirror.clone(), &board);
    let (_last, ended) = oneshot::channel();
    let tasks = Tasks::new(board.clone());
    tasks.spawn("keeper", keeper.run(ended));
    mirror.reset(Revision(3), vec![]);
    assert_eq!((mirror.list().services.len(), mirror.kept()), (2, 2));
    mirror.reset(Revision(4), vec![moved(&instance("cache", "c", 4), 3)]);
    mirror.apply(Change::Upsert { revision: Revision(5), instance: moved(&instance("db", "d", 5), 2) });
    assert_eq!((mirror.list().services.len(), mirror.kept()), (3, 1));
    let begun = Instant::now();
    until("gone", || mirror.kept() == 0).await;
    assert!(begun.elapsed() < Duration::from_secs(31));
    assert_eq!(ids(&web(&mirror)), [""; 0]);
    assert_eq!(mirror.list().revision, Revision(6));
    assert!(said(&board).starts_with("Running"));
}
