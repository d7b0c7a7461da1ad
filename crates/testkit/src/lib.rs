//! Development only: what tests share.
//!
//! **Purpose**: one place for fakes that produce faults, for raw HTTP on a wire, and for the conformance batteries that
//! every registry passes.
//! **Knows**: the nouns and seams of `portolan-model`, HTTP/1.1 as bytes.
//! **Must not know**: any crate it helps to test.
//! **Start at**: [`upstream`] (instances that misbehave on demand), [`wire`] (a client without a codec),
//! [`registry_battery`] and [`key_value_battery`] (what every `Registry` and every `KeyValue` must do), [`cluster`] (real
//! servers, and their faults; programs of others that share them with us), [`ports`] (that nobody else gets), [`wait`]
//! (until something is so), [`memory_registry`] and [`memory_key_value`] (the simplest ones).

pub mod cluster;
pub mod key_value_battery;
pub mod key_value_faults;
pub mod memory_key_value;
pub mod memory_registry;
pub mod naming_battery;
pub mod ports;
pub mod registry_battery;
pub mod upstream;
pub mod wait;
pub mod wire;
