//! The Consul adapter on real clusters of three servers, and on its ways to reach one.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test's verdict is a panic")]

mod battery;
mod faults;
mod handle;
#[path = "../keeping/mod.rs"]
mod keeping;
mod kept;
mod keys;
mod kv;
mod node;
mod parted;
mod reach;
mod witness;
