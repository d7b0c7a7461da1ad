//! Checks that run: their times against an engine that obeys, what they ask against real sockets, commands in a real
//! engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../doubles/mod.rs"]
mod doubles;
#[path = "../rig/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of this")]
mod rig;

mod docker;
mod network;
mod reports;
mod running;
mod servers;
mod times;
