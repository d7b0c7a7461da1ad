//! `portolan registrator` and `portolan gateway` as users meet them: what is printed, and the exit code.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod process;

use process::{Process, command, run};

#[track_caller]
fn check(args: &[&str], code: i32, begins: &str) {
    let output = run(args);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.starts_with(begins), "{args:?}: {said}");
}

#[test]
fn exit_codes() {
    check(&["registrator", "-version"], 0, "portolan ");
    check(&["registrator", "-help"], 0, "Usage of portolan registrator:");
    check(&["registrator", "--help"], 0, "Usage of portolan registrator:");
    check(&["registrator"], 2, "portolan: Missing required argument for registry URI.");
    check(
        &["registrator", "-nonsense", "consul://a"],
        2,
        "portolan: flag provided but not defined: -nonsense",
    );
    check(
        &["registrator", "-ttl", "3", "consul://a"],
        1,
        "portolan: -ttl and -ttl-refresh must be specified together or not at all",
    );
    check(&["registrator", "-ip", "here", "consul://a"], 2, "portolan: --ip: \"here\" is not an IP address");
    check(&["registrator", "embedded:"], 2, "portolan: embedded: nobody could read it");
    check(&["gateway"], 2, "portolan: a gateway alone follows a registry that others write to");
}

/// A registrator over a registry that takes connections and never answers; and what it keeps that in.
struct Deaf {
    registry: std::net::TcpListener,
    dir: tempfile::TempDir,
}

impl Deaf {
    fn new() -> Self {
        let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self { registry, dir: tempfile::tempdir().unwrap() }
    }

    fn uri(&self) -> String {
        format!("etcd://{}", self.registry.local_addr().unwrap())
    }

    /// Once it waits for the registry.
    fn registrator(&self, words: &[&str]) -> Process {
        let uri = self.uri();
        let mut command = command(&[&["registrator"], words, &[&*uri]].concat());
        command.env("DOCKER_HOST", format!("unix://{}", self.dir.path().join("docker.sock").display()));
        command.env("PORTOLAN_DATA_DIR", self.dir.path()).env("PORTOLAN_LOG", "off");
        let mut process = Process::of(command);
        let lines = [process.line(), process.line(), process.line(), process.line()];
        assert_eq!(lines[0], format!("registry     {uri}"));
        process
    }
}

#[test]
fn gives_up_on_a_registry_when_told_to() {
    let deaf = Deaf::new();
    let mut process = deaf.registrator(&["-ip", "127.0.0.1", "-retry-attempts=1", "-retry-interval=1"]);
    let uri = deaf.uri();
    assert!(process.complaint().starts_with(&format!("portolan: cannot reach the registry {uri}: ")));
    assert_eq!(process.end(), Some(1));
}

#[test]
fn ends_when_told_to_while_it_waits_for_the_registry() {
    let deaf = Deaf::new();
    let process = deaf.registrator(&["-ip", "127.0.0.1", "-retry-attempts=1000", "-retry-interval=1000"]);
    process.signal("TERM");
    assert_eq!(process.end(), Some(0));
}
