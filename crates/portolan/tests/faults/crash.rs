//! `kill -9` at any moment: what was acknowledged over HTTP is there after the restart, and the index only grows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{io, thread};

use fastrand::Rng;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::process::{Process, Up, command};
use crate::scene::{Face, Row, Rows, Scene, within};

const KILLS: usize = 50;
const CLIENTS: usize = 4;
const SLOTS: usize = 8;
/// Instances that nobody touches: a restart has something to read.
const CARGO: u16 = 500;

/// What one client knows of its own service. Nobody else writes to it.
struct Book {
    service: String,
    dice: Rng,
    slots: Vec<Slot>,
    /// The highest index it was ever told.
    index: u64,
}

/// One instance.
#[derive(Default)]
struct Slot {
    known: Option<Known>,
    /// What was asked for last and not acknowledged.
    asked: Option<Wish>,
}

/// An acknowledged registration; the row once it was read as well.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    port: u16,
    row: Option<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wish {
    Port(u16),
    Gone,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = Rng::with_seed(seed);
    let mut books: Vec<Book> = (0..CLIENTS).map(|n| Book::new(n, dice.fork())).collect();
    load_cargo(&dir).await;

    let (mut starts, mut acknowledged, mut unsure, mut revision) = (Vec::new(), 0, 0, 0);
    for round in 0..KILLS {
        if round % 10 == 9 {
            die_while_starting(&dir, dice.u64(..30_000));
        }
        let started = Instant::now();
        let scene = Scene::start(dir.path());
        let leader = within(scene.face().await.get("/v1/status/leader")).await.unwrap();
        starts.push(started.elapsed());
        assert_eq!(leader.status(), 200);

        assert!(scene.up.revision >= revision, "revision {} after {revision}", scene.up.revision);
        revision = scene.up.revision;
        let mut face = scene.face().await;
        for book in &mut books {
            assert!(revision + 1 >= book.index, "revision {revision}, index {} was seen", book.index);
            unsure += book.compare(&face.rows(&book.service).await.unwrap());
        }
        assert_eq!(face.rows("cargo").await.unwrap().by_id.len(), usize::from(CARGO));

        let (count, mut counted) = watch::channel(0_usize);
        let running: Vec<_> = books
            .drain(..)
            .map(|book| tokio::spawn(book.write_until_killed(scene.http, count.clone())))
            .collect();
        let enough = dice.usize(..60);
        within(counted.wait_for(|count| *count >= enough)).await.unwrap();
        // Somewhere within the next writes, not always right after an acknowledgement.
        spin(dice.u64(..3_000));
        scene.up.process.kill();
        for book in running {
            books.push(within(book).await.unwrap());
        }
        acknowledged += *counted.borrow();
    }
    starts.sort();
    println!(
        "{KILLS} kills: {acknowledged} writes acknowledged, {unsure} in flight were done all the same; spawn to \
         first answer: median {:?}, max {:?}",
        starts[KILLS / 2],
        starts[KILLS - 1]
    );
    assert!(acknowledged > KILLS);
}

impl Book {
    fn new(number: usize, dice: Rng) -> Self {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Self { service: format!("crash-{number}"), dice, slots, index: 0 }
    }

    async fn write_until_killed(mut self, face: SocketAddr, acknowledged: watch::Sender<usize>) -> Self {
        // The connection breaks sooner or later: that is what ends it.
        let _: io::Result<()> = async {
            let mut face = Face::connect(face).await?;
            loop {
                self.write(&mut face, &acknowledged).await?;
            }
        }
        .await;
        self
    }

    async fn write(&mut self, face: &mut Face, acknowledged: &watch::Sender<usize>) -> io::Result<()> {
        let at = self.dice.usize(..SLOTS);
        let (id, slot) = (format!("{}-{at}", self.service), &mut self.slots[at]);
        let wish = match slot.known {
            Some(_) if self.dice.bool() => Wish::Gone,
            _ => Wish::Port(self.dice.u16(1..)),
        };
        slot.asked = Some(wish);
        let status = match wish {
            Wish::Port(port) => face.register(&self.service, &id, port).await?,
            Wish::Gone => face.deregister(&id).await?,
        };
        assert_eq!(status, 200, "{id}: {wish:?}");
        slot.done(wish);
        acknowledged.send_modify(|count| *count += 1);
        let rows = face.rows(&self.service).await?;
        assert_eq!(self.compare(&rows), 0);
        Ok(())
    }

    /// Holds what is there against what is known; how many writes were done without having been acknowledged.
    fn compare(&mut self, rows: &Rows) -> usize {
        assert!(rows.index >= self.index, "{}: index {} after {}", self.service, rows.index, self.index);
        self.index = rows.index;
        let mut unsure = 0;
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let id = format!("{}-{at}", self.service);
            unsure += usize::from(slot.compare(&id, rows.by_id.get(&id)));
        }
        let known = self.slots.iter().filter(|slot| slot.known.is_some()).count();
        assert_eq!(rows.by_id.len(), known, "nobody else is there: {:?}", rows.by_id);
        unsure
    }
}

impl Slot {
    fn done(&mut self, wish: Wish) {
        self.known = match wish {
            Wish::Port(port) => Some(Known { port, row: None }),
            Wish::Gone => None,
        };
        self.asked = None;
    }

    /// Whether what was asked for last was done, though nobody said so.
    fn compare(&mut self, id: &str, found: Option<&Row>) -> bool {
        let asked = self.asked.take();
        let as_known = match (&self.known, found) {
            (None, None) => true,
            (Some(Known { row: Some(row), .. }), Some(found)) => row == found,
            (Some(Known { port, row: None }), Some(found)) => *port == found.port,
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !as_known {
            let wish = found.map_or(Wish::Gone, |row| Wish::Port(row.port));
            assert_eq!(asked, Some(wish), "{id}: {:?} was acknowledged, {found:?} is there", self.known);
            self.done(wish);
        }
        if let (Some(known), Some(found)) = (&mut self.known, found) {
            known.row = Some(found.clone());
        }
        !as_known
    }
}

async fn load_cargo(dir: &TempDir) {
    let scene = Scene::start(dir.path());
    let workers = (0..8).map(|worker| {
        let http = scene.http;
        tokio::spawn(async move {
            let mut face = Face::connect(http).await.unwrap();
            for port in (1..=CARGO).filter(|port| port % 8 == worker) {
                let meta =
                    json!({ "image": "registry.example/team/cargo:1.2.3", "started": port.to_string() });
                let body =
                    json!({ "Name": "cargo", "ID": format!("cargo-{port}"), "Port": port, "Meta": meta });
                let answer = face.put("/v1/agent/service/register", &body.to_string()).await.unwrap();
                assert_eq!(answer.status(), 200, "{}", answer.text());
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        within(worker).await.unwrap();
    }
    scene.up.process.kill();
}

/// Killed before it has said a word, perhaps; while it opens or repairs its book, perhaps.
fn die_while_starting(dir: &TempDir, after_micros: u64) {
    let more = ["--http", "127.0.0.1:0"];
    let process = Process::of(command(&[&Up::args(dir.path())[..], &more].concat()));
    spin(after_micros);
    process.kill();
}

/// Lets a random time pass: not waiting for anything is the point.
fn spin(micros: u64) {
    let end = Instant::now() + Duration::from_micros(micros);
    while Instant::now() < end {
        thread::yield_now();
    }
}
