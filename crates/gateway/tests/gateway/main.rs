//! The gateway over real sockets, against instances that behave and instances that do not.

mod articles;
mod bodies;
mod connections;
mod contracts;
mod retries;
mod rig;
