//! The embedded registry passes the conformance batteries of both seams.

#![allow(clippy::unwrap_used, reason = "a test's verdict is a panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::Running;
use testkit::{key_value_battery, registry_battery};

async fn check(warm_up: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), warm_up);
    registry_battery::run(Arc::clone(&running.registry) as _).await;
    let keys = || Arc::clone(&running.registry) as _;
    key_value_battery::run(keys(), keys()).await;
    running.stop().await;
}

#[tokio::test]
async fn conforms_on_one_thread() {
    check(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_many_threads() {
    check(Duration::ZERO).await;
}

#[tokio::test]
async fn conforms_while_all_are_young() {
    check(Duration::from_secs(3600)).await;
}
