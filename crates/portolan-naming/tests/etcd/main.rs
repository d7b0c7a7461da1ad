//! The etcd backend against real members: what every registry promises, and what etcd may go through.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's verdict is a panic")]

mod battery;
mod faults;
mod handle;
#[path = "../keeping/mod.rs"]
mod keeping;
mod kept;
mod keys;
mod leases;
mod outside;
mod secured;
