//! The binary under what the world does to it: kills, clients that misbehave, a disk and a system that run out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]
#![allow(clippy::print_stdout, reason = "what is measured is printed, not asserted")]

mod bodies;
mod crash;
mod crowd;
mod descriptors;
mod disk;
mod keys;
mod rubbish;
mod scene;

#[path = "../process/mod.rs"]
mod process;
