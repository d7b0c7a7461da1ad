//! The whole binary on a real container engine: containers come and go, registry and gateway follow.
//!
//! The engine is the one that `PORTOLAN_TEST_DOCKER` names; `cargo xtask test` sees to both. Images are made from
//! nothing but our own static binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

mod articles;
mod chaos;
mod checks;
mod description;
mod engine;
mod gate;
mod ghosts;
mod health;
mod image;
mod load;
mod own_engine;
#[path = "../process/mod.rs"]
mod process;
mod rig;
mod roles;
mod routes;
mod tls;
mod traffic;
