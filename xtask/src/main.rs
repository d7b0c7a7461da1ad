//! `cargo xtask`: all automation of the workspace, in Rust.
//!
//! **Purpose**: one command per job (check, test, measure, ship), the same on a laptop and in CI.
//! **Knows**: cargo's commands, the tree's rules, how to get and start the real programs that tests and benches talk to.
//! **Must not know**: anything of Portolan's crates but their names; it drives the binary as a user would.
//! **Start at**: [`ci`] (the steps in order), [`tidy`] (the rules), [`engine`] (a container engine of our own), [`newer`] (later ones),
//! [`bench`].
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program talks on its terminal"
)]

mod bench;
mod ci;
mod dist;
mod engine;
mod http;
mod newer;
mod npm;
mod process;
mod setup;
mod tidy;
mod unpack;
mod workspace;

use std::process::ExitCode;

use engine::Lifetime;
use process::Outcome;
use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <command>

  setup            install what tests need and start a private container engine when none answers
  teardown         end that engine and remove its data
  tidy             check the rules of the tree: arrows, owners, packages, licences, head comments, file sizes, docs
  fmt              format everything
  clippy           lint everything, warnings are errors
  test [ARGS…]     setup, then all tests (ARGS go to the test runner)
  ci               fmt --check, tidy, clippy, setup, doc tests, all tests; ends what it started
  engines [SUITE…] the tests over a container engine, over those of later Debian suites (trixie, sid); as root
  bench proxy      CPU per request beside nginx and HAProxy  [--rounds N] [--seconds N] [--binary PATH] [--peers-only]
  bench lifecycle  container events to routing, on a real engine  [--cycles N] [--binary PATH]
  bench naming     every backend: how soon a registration is seen, 10,000 instances; and what a registrator costs
                   [--backends A,B] [--samples N] [--instances N] [--containers N] [--only backends|registrator] [--binary PATH]
  dist             build what is shipped, print its size and idle memory";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let load = Workspace::load;
    match words.as_slice() {
        ["setup"] => {
            let engine = ci::setup(&load()?, Lifetime::Stays)?;
            println!("engine: {}", engine.uri());
            Ok(())
        }
        ["teardown"] => engine::teardown(&load()?),
        ["tidy"] => tidy::run(&load()?),
        ["fmt"] => ci::fmt(&load()?, ci::Fmt::Write),
        ["clippy"] => ci::clippy(&load()?),
        ["test", extra @ ..] => ci::test(&load()?, extra),
        ["ci"] => ci::run(&load()?),
        ["engines", suites @ ..] => newer::run_tests(&load()?, suites),
        ["bench", "proxy", options @ ..] => bench::proxy::run(&load()?, options),
        ["bench", "lifecycle", options @ ..] => bench::lifecycle::run(&load()?, options),
        ["bench", "naming", options @ ..] => bench::naming::run(&load()?, options),
        ["dist"] => dist::run(&load()?),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => Err(format!("no command\n{USAGE}")),
        _ => Err(format!("unknown command {:?}\n{USAGE}", words.join(" "))),
    }
}
