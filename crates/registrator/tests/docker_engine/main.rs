//! The registrator on a real container engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../certificates/mod.rs"]
mod certificates;
#[path = "../doubles/mod.rs"]
mod doubles;
#[path = "../rig/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of this")]
mod rig;

mod limits;
mod lives;
mod running;
mod ways;
