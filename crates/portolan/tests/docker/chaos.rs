//! Everything at once: containers churn, the engine is killed, Portolan is killed; soon after, the registry is what runs.
#![allow(clippy::print_stdout, reason = "what is measured is printed")]

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::own_engine::OwnEngine;
use super::process::{Up, until};
use super::rig::{PORT, Rig};

/// How soon the registry is what runs, once the last thing has happened.
const SETTLED: Duration = Duration::from_secs(2);

/// How many containers come and go, in how many hands.
const CONTAINERS: usize = 100;
const HANDS: usize = 4;

#[test]
fn the_registry_is_what_runs_after_all_of_it() {
    let mut own = OwnEngine::start();
    let (rig, dir) = (Rig::on(own.engine()), tempfile::tempdir().unwrap());
    let follow = || rig.up_with(&dir, &["--docker", rig.engine.uri()]);
    let up = follow();

    churn(&rig, 0..CONTAINERS / 2);
    settles(&rig, &up, "churn", Instant::now());

    // Killed in the middle of it.
    let up = thread::scope(|scope| {
        let churning = scope.spawn(|| churn(&rig, CONTAINERS / 2..CONTAINERS));
        until("half of it", || (rig.running().len() > CONTAINERS / 4).then_some(()));
        up.process.kill();
        let up = follow();
        churning.join().unwrap();
        up
    });
    settles(&rig, &up, "churn, registrator killed in the middle", Instant::now());

    up.process.kill();
    change(&rig, "kill");
    let began = Instant::now();
    let up = follow();
    settles(&rig, &up, "registrator killed and restarted", began);

    // The engine: containers outlive it, and some end while it is away.
    let before = rig.registered(&up);
    let ending: Vec<String> = rig.running().into_iter().take(2).collect();
    let pids = ending.iter().map(|name| rig.inspect(name)["State"]["Pid"].to_string()).collect::<Vec<_>>();
    own.kill();
    assert!(Command::new("kill").arg("-9").args(&pids).status().unwrap().success());
    assert_eq!(rig.registered(&up), before, "no knowledge is not absence");
    own.launch();
    let began = Instant::now();
    assert!(rig.running().iter().all(|name| !ending.contains(name)));
    settles(&rig, &up, "engine killed and restarted", began);

    // Both, and the engine last.
    up.process.kill();
    own.kill();
    let up = follow();
    own.launch();
    let began = Instant::now();
    settles(&rig, &up, "both killed and restarted", began);
    change(&rig, "stop");
    settles(&rig, &up, "and followed on", Instant::now());
    drop(rig);
}

/// Creates containers and does to each what its number says; about half of them run at the end.
fn churn(rig: &Rig, numbers: std::ops::Range<usize>) {
    let recipe = rig.sample("churn").on_host_network();
    thread::scope(|scope| {
        for hand in 0..HANDS {
            let (numbers, recipe) = (numbers.clone(), &recipe);
            scope.spawn(move || {
                for number in numbers.filter(|number| number % HANDS == hand) {
                    let name = format!("c{number}");
                    rig.run(&name, recipe);
                    match (number / HANDS) % 6 {
                        0 | 1 => {}
                        2 => rig.restart(&name),
                        3 => rig.remove(&name),
                        4 => rig.kill(&name),
                        _ => {
                            rig.stop(&name);
                            rig.start(&name);
                            rig.remove(&name);
                            rig.run(&name, recipe);
                        }
                    }
                }
            });
        }
    });
}

/// Ends some of those that run, and starts some that ended.
fn change(rig: &Rig, how: &str) {
    for name in rig.running().into_iter().step_by(5) {
        match how {
            "kill" => rig.kill(&name),
            _ => rig.stop(&name),
        }
    }
    let running = rig.running();
    let killed =
        (0..CONTAINERS).filter(|number| (number / HANDS) % 6 == 4).map(|number| format!("c{number}"));
    killed.filter(|name| !running.contains(name)).take(3).for_each(|name| rig.start(&name));
}

/// Waits until the registry is what runs, counting from `began`.
#[track_caller]
fn settles(rig: &Rig, up: &Up, what: &str, began: Instant) {
    let running: BTreeSet<String> = rig.running().iter().map(|name| rig.id(name, PORT)).collect();
    assert!(running.len() > 20, "{} run", running.len());
    let mut found = BTreeSet::new();
    until(what, || {
        found = rig.registered(up).into_keys().collect();
        (found == running).then_some(())
    });
    let took = began.elapsed();
    println!("{what}: {} containers, {took:?}", running.len());
    assert!(took < SETTLED, "{what}: {took:?}");
}
