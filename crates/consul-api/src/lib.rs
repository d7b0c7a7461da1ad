//! consul-api
