//! Format, lint, test: one by one, and all of it as CI does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::engine::{self, Engine, Lifetime};
use crate::npm;
use crate::process::{Outcome, find, run as execute};
use crate::setup as tools;
use crate::tidy;
use crate::unpack;
use crate::workspace::Workspace;

/// Whether formatting is mended or only reported.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fmt {
    Write,
    Check,
}

pub(crate) fn fmt(workspace: &Workspace, mode: Fmt) -> Outcome {
    let mut command = workspace.cargo();
    command.args(["fmt", "--all"]);
    if matches!(mode, Fmt::Check) {
        command.arg("--check");
    }
    execute(&mut command)
}

pub(crate) fn clippy(workspace: &Workspace) -> Outcome {
    let words =
        ["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"];
    execute(workspace.cargo().args(words))
}

/// Installs what tests need. Returns an engine for them.
pub(crate) fn setup(workspace: &Workspace, lifetime: Lifetime) -> Outcome<Engine> {
    tools::ensure(tools::CLUSTERS)?;
    // Some tests start engines of their own, to kill them.
    tools::ensure(tools::ENGINE)?;
    unpack::ensure(workspace, &unpack::CONSUL)?;
    tools::ensure(tools::WITNESSES)?;
    npm::WITNESSES.iter().try_for_each(|witness| npm::ensure(workspace, witness))?;
    engine::ensure(workspace, lifetime)
}

/// All tests, with an engine that stays for the next time.
pub(crate) fn test(workspace: &Workspace, extra: &[&str]) -> Outcome {
    let engine = setup(workspace, Lifetime::Stays)?;
    all_tests(workspace, &engine, Profile::Default, extra)
}

/// Everything that must hold before a change lands. The first step that fails ends it; what it started ends with it.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let mut steps = Steps::default();
    let outcome = all_steps(workspace, &mut steps);
    steps.print();
    outcome
}

fn all_steps(workspace: &Workspace, steps: &mut Steps) -> Outcome {
    steps.time("fmt", || fmt(workspace, Fmt::Check))?;
    steps.time("tidy", || tidy::run(workspace))?;
    steps.time("clippy", || clippy(workspace))?;
    let engine = steps.time("setup", || setup(workspace, Lifetime::Ours))?;
    println!("engine: {}", engine.uri());
    let tests = steps
        .time("doc tests", || doc_tests(workspace))
        .and_then(|()| steps.time("tests", || all_tests(workspace, &engine, Profile::Ci, &[])));
    steps.time("teardown", || {
        drop(engine);
        Ok(())
    })?;
    tests
}

#[derive(Debug, Clone, Copy)]
enum Profile {
    Default,
    Ci,
}

fn all_tests(workspace: &Workspace, engine: &Engine, profile: Profile, extra: &[&str]) -> Outcome {
    let mut command = workspace.cargo();
    if find("cargo-nextest").is_some() || cargo_has_nextest(workspace) {
        command.args(["nextest", "run", "--locked", "--all-features"]);
        if matches!(profile, Profile::Ci) {
            command.args(["--profile", "ci"]);
        }
    } else {
        println!(
            "cargo-nextest is not installed: falling back to `cargo test`, without its timeouts and groups"
        );
        command.args(["test", "--locked", "--all-features", "--all-targets", "--no-fail-fast"]);
    }
    if !extra.iter().any(|word| word.starts_with("-p") || word.starts_with("--package")) {
        command.arg("--workspace");
    }
    execute(command.args(extra).env(engine::VARIABLE, engine.uri()))
}

fn cargo_has_nextest(workspace: &Workspace) -> bool {
    let version = workspace.cargo().args(["nextest", "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

/// Builds examples in doc comments only for crates that have any: each costs a compiler run of its own.
fn doc_tests(workspace: &Workspace) -> Outcome {
    let libraries = workspace.members().filter(|package| package.library);
    let with_examples = libraries.filter(|package| package.head.parent().is_some_and(any_example));
    let mut command: Command = workspace.cargo();
    command.args(["test", "--doc", "--locked"]);
    let mut any = false;
    for package in with_examples {
        command.args(["-p", &package.name]);
        any = true;
    }
    if any { execute(&mut command) } else { Ok(()) }
}

fn any_example(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => any_example(&path),
        false => fs::read_to_string(&path).is_ok_and(|text| has_example(&text)),
    })
}

fn has_example(source: &str) -> bool {
    source.lines().any(|line| {
        let comment = line.trim_start();
        let comment = comment.strip_prefix("///").or_else(|| comment.strip_prefix("//!"));
        comment.is_some_and(|text| text.trim_start().starts_with("```"))
    })
}

/// How long each step took.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    fn time<T>(&mut self, name: &'static str, step: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        println!("== {name}");
        let started = Instant::now();
        let outcome = step().map_err(|failure| format!("{name}: {failure}"));
        self.0.push((name, started.elapsed()));
        outcome
    }

    fn print(&self) {
        println!("== timings");
        for (name, took) in &self.0 {
            println!("{name:>10} {:>7.1} s", took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples() {
        #[track_caller]
        fn check(source: &str, expect: bool) {
            assert_eq!(has_example(source), expect);
        }
        check("/// Adds.\n/// ```\n/// add(1);\n/// ```\nfn add() {}", true);
        check("    //! ```ignore\n", true);
        check("/// Adds `a`.\n// ```\n", false);
        check("", false);
    }
}
