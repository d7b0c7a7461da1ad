//! The faces that a registry shows to the world.
//!
//! **Purpose**: let any program find and register instances without knowing Portolan: it speaks Consul's HTTP API.
//! **Knows**: HTTP, Consul's names, texts and headers, how a model noun looks in them.
//! **Must not know**: which registry answers, where it stores anything, who else uses it.
//! **Start at**: [`http::build`], then `http/routes.rs` (every endpoint in one table).

pub mod http;
