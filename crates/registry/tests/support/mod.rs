//! What the tests of this crate start from: an open registry, things to say to it, a subscription in hand.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's verdict is a panic")]

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use portolan_model::{
    Change, Endpoint, Health, Incarnation, InstanceId, Interest, Owner, Protocol, Registration, Registry,
    ServiceName, Subscription, View, Weight,
};
use registry::{Config, Embedded, RegistryTask, build};
use runtime::{Shutdown, ShutdownTrigger, StatusBoard};
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::timeout;

/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A registry whose writer runs.
pub(crate) struct Running {
    pub(crate) registry: Arc<Embedded>,
    pub(crate) status: StatusBoard,
    trigger: ShutdownTrigger,
    writer: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(dir: &Path, warm_up: Duration) -> Self {
        let status = StatusBoard::default();
        let (registry, task) = open(dir, warm_up, &status);
        let (trigger, shutdown) = Shutdown::new();
        Self { registry, status, trigger, writer: tokio::spawn(task.run(shutdown)) }
    }

    /// Shuts down and waits for it; the directory is free afterwards.
    pub(crate) async fn stop(self) {
        self.trigger.trigger();
        timeout(PATIENCE, self.writer).await.expect("the writer ends").expect("without a panic");
    }
}

pub(crate) fn open(dir: &Path, warm_up: Duration, status: &StatusBoard) -> (Arc<Embedded>, RegistryTask) {
    build(Config { data_dir: dir.to_owned(), warm_up }, status).expect("the registry opens")
}

pub(crate) fn said(name: &str, which: &str) -> Registration {
    Registration {
        id: id(which),
        service: service(name),
        endpoint: Endpoint { host: "10.0.0.1".parse().unwrap(), port: 80 },
        protocol: Protocol::Tcp,
        tags: ["blue".to_owned()].into(),
        meta: [("version".to_owned(), "1.2.3".to_owned())].into(),
        weight: Weight::default(),
        zone: None,
        owner: Owner::new("test").unwrap(),
        incarnation: Incarnation(1),
        health: Health::Passing,
    }
}

pub(crate) fn id(which: &str) -> InstanceId {
    InstanceId::new(which).unwrap()
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(crate) async fn next(watcher: &mut Subscription) -> Change {
    timeout(PATIENCE, watcher.next()).await.expect("a change in time").expect("a running registry")
}

/// What is ready now, without waiting; many of these in a row take no turns with other tasks.
pub(crate) fn ready<F: Future>(future: F) -> Option<F::Output> {
    match pin!(unconstrained(future)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What one who comes now is told.
pub(crate) async fn fresh(registry: &Embedded, interest: &Interest) -> View {
    let mut view = View::default();
    view.apply(next(&mut registry.subscribe(interest.clone())).await);
    view
}

/// Whether two views hold the same, whatever brought them there.
#[track_caller]
pub(crate) fn assert_alike(one: &View, other: &View) {
    assert!(one.services().eq(other.services()));
    assert!(one.services().all(|s| one.instances(s.as_str()).eq(other.instances(s.as_str()))));
}
