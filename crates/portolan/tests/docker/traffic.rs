//! 500 requests a second while instances come and go.
//!
//! What can be promised depends on the engine. Where published ports are the kernel's business alone, a connection to a
//! container that does not listen is refused, and the gateway goes elsewhere. An engine's user-space proxy accepts it
//! first and closes it without a byte: the request may have been acted on, so the gateway must not repeat it.

use std::time::Instant;

use super::load::{Account, Load, Method, Sent};
use super::process::Up;
use super::rig::Rig;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How often all of it is done.
const ROUNDS: usize = 3;

/// What a request may end in that met a connection which its instance closed at that moment, or never answered.
const BROKEN: &str = "502 closed_before_answer";

/// Three instances that all get requests.
fn begin(rig: &Rig, up: &Up) -> Load {
    NAMES.iter().for_each(|name| rig.run(name, &rig.sample("web")));
    rig.serves(up, &NAMES);
    let load = Load::start(&up.gateway, &rig.name("web"));
    NAMES.iter().for_each(|name| load.is_answered_by(name));
    load
}

#[allow(clippy::print_stderr, reason = "what was measured is worth keeping")]
fn report(what: &str, proxied: bool, account: &Account) {
    let engine = if proxied { "with the engine's proxy" } else { "without a proxy" };
    eprintln!("{what}, {engine}: {account}");
}

#[test]
fn no_request_fails_while_instances_come_and_go() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let proxied = rig.is_proxied();
    let up = rig.up(&dir);
    let load = begin(&rig, &up);
    for _ in 0..ROUNDS {
        for name in NAMES {
            rig.stop(name);
            rig.start(name);
            load.is_answered_by(name);
            rig.restart(name);
            load.is_answered_by(name);
        }
        for name in ["d", "e"] {
            rig.run(name, &rig.sample("web"));
            load.is_answered_by(name);
        }
        for name in ["d", "a", "e"] {
            rig.stop(name);
            rig.remove(name);
        }
        rig.serves(&up, &["b", "c"]);
        rig.run("a", &rig.sample("web"));
        NAMES.iter().for_each(|name| load.is_answered_by(name));
    }
    let account = load.end();
    report("stop, start, restart, scale", proxied, &account);

    assert!(account.rate() > 450.0, "{account}");
    for method in [Method::Get, Method::Post] {
        let mut failures = account.failures(method);
        // A POST that crosses the end of a kept-alive connection may have been acted on; so may any request that an
        // engine's proxy swallows.
        let mut allowed = if method == Method::Post { account.count(method) / 200 } else { 0 };
        if proxied {
            allowed = account.count(method) / 50;
        }
        let broken = failures.remove(BROKEN).unwrap_or_default();
        assert!(broken <= allowed && failures.is_empty(), "{method:?}: {account}");
    }
}

#[test]
fn a_kill_costs_at_most_what_was_in_flight() {
    let (rig, dir) = (Rig::new(), tempfile::tempdir().unwrap());
    let proxied = rig.is_proxied();
    let up = rig.up(&dir);
    let load = begin(&rig, &up);
    let mut kills: Vec<Kill> = Vec::new();
    for name in NAMES.repeat(ROUNDS) {
        let death = rig.death(name);
        let asked = Instant::now();
        rig.kill(name);
        kills.push(Kill { asked, died: death.join().unwrap() });
        let rest: Vec<&str> = NAMES.into_iter().filter(|other| *other != name).collect();
        rig.serves(&up, &rest);
        rest.iter().for_each(|name| load.is_answered_by(name));
        rig.start(name);
        load.is_answered_by(name);
    }
    let account = load.end();
    report("kill", proxied, &account);

    assert!(account.rate() > 450.0, "{account}");
    for sent in &account.sent {
        let Err(why) = &sent.outcome else { continue };
        let allowed = kills.iter().any(|kill| kill.may_cost(sent)) || (proxied && why == BROKEN);
        assert!(allowed, "{sent:?}, {kills:?}: {account}");
    }
}

/// An instance closed what it had open somewhere in between.
#[derive(Debug)]
struct Kill {
    asked: Instant,
    died: Instant,
}

impl Kill {
    /// Whether a request may have been in flight then.
    fn may_cost(&self, sent: &Sent) -> bool {
        sent.from <= self.died && sent.until >= self.asked
    }
}
