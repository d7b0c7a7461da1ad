//! Portolan in one binary: settings, wiring, command line, demo, sample service.
//!
//! **Purpose**: turn what the user says into a config, build every role from it, run them, end them in order.
//! **Knows**: every crate, the command line, the process around it (signals, variables, standard streams).
//! **Must not know**: how any role does its work.
//! **Start at**: `cli` (what can be said), `app` (how the roles are wired), `settings` (one table of settings).

mod app;
mod book;
mod cli;
mod client;
mod demo;
mod descriptors;
mod drop_in;
mod explain;
mod failure;
mod log;
mod sample;
mod settings;
mod signals;
mod stage;
mod terminal;
mod up;

/// Small, and faster than the C library's; the static C library's own would be far slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
