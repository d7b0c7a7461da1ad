//! Follows a container engine and keeps the registry in step with it.
//!
//! **Purpose**: a container that runs is registered, one that was asked to end is drained, one that ended is removed,
//! each within milliseconds of the engine's event; a lost event costs time, never correctness.
//! **Knows**: containers, what they say of themselves in `SERVICE_*` (gliderlabs/registrator's contract), the engine's
//! API, and which instances in a registry are its own.
//! **Must not know**: which registry it writes to, who reads from it, the gateway.
//! **Start at**: [`Registrator`] (the driver), [`desired::desired`] (what should be), [`plan::plan`] (what to do about
//! the difference), [`world::World`] (what is known of the containers), [`source::ContainerSource`] (the seam).

pub mod book;
pub mod check;
mod config;
pub mod container;
pub mod desired;
pub mod docker;
mod execute;
mod lifecycle;
pub mod plan;
pub mod source;
pub mod world;

pub use config::{Config, Deregister};
pub use lifecycle::{Registrator, build};
pub use source::ContainerSource;
