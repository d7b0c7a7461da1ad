//! Follows the registry: a subscription in, a published route table out.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Interest, Registry, Subscription, View};
use routing::RouteTable;
use runtime::{Reporter, Shutdown, State};
use tokio::time::timeout;

use crate::Published;

/// How long serving waits for the registry's first word. One that is up says it at once; one that is not must not keep
/// the gateway from serving what it has.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// Keeps the published table in step with a registry.
pub(crate) struct Follower {
    published: Arc<Published>,
    subscription: Subscription,
    view: View,
    reporter: Reporter,
}

impl Follower {
    pub(crate) fn new(published: Arc<Published>, registry: &dyn Registry, reporter: Reporter) -> Self {
        Self { published, subscription: registry.subscribe(Interest::All), view: View::default(), reporter }
    }

    /// Takes the first change, so that no request is told "unknown service" only because the table was still empty.
    pub(crate) async fn begin(&mut self) {
        if let Ok(Some(change)) = timeout(FIRST_WORD, self.subscription.next()).await {
            self.take(change);
        } else {
            tracing::warn!("registry has not said anything yet; serving without it");
            self.reporter.say(State::Degraded, "registry has not said anything yet");
        }
    }

    /// Publishes a new table after every change that touches a service, until shutdown. When the registry ends first,
    /// the last table stays in force.
    pub(crate) async fn run(mut self, shutdown: &Shutdown) {
        loop {
            let change = tokio::select! {
                biased;
                () = shutdown.triggered() => return,
                change = self.subscription.next() => change,
            };
            let Some(change) = change else {
                tracing::warn!("registry ended; serving the last known table");
                self.reporter.say(State::Degraded, "registry ended; serving the last known table");
                return shutdown.triggered().await;
            };
            self.take(change);
        }
    }

    fn take(&mut self, change: Change) {
        if let Some(table) = advance(&self.published.load(), &mut self.view, change) {
            let (services, instances) = table.size();
            self.published.store(Arc::new(table));
            let revision = self.view.revision();
            let detail = format!("{services} services, {instances} usable instances, revision {revision}");
            self.reporter.say(State::Running, detail);
        }
    }
}

/// The table after `change`; `None` when it is the same.
fn advance(before: &RouteTable, view: &mut View, change: Change) -> Option<RouteTable> {
    let first = matches!(change, Change::Reset { .. });
    let touched = view.apply(change);
    if touched.is_empty() && !first {
        return None;
    }
    let mut table = before.clone();
    for service in &touched {
        table.update(service, view.instances(service.as_str()));
    }
    Some(table)
}
