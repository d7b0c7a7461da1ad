//! registrator
