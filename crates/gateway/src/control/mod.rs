//! Follows the registry: a subscription in, a published route table out.

use std::sync::Arc;

use portolan_model::{Change, Interest, Registry, View};
use routing::RouteTable;
use runtime::{Reporter, Shutdown, State};

use crate::Published;

/// Publishes a new table after every change that touches a service, until shutdown. When the registry ends first, the
/// last table stays in force.
pub(crate) async fn follow(
    published: &Published,
    registry: &dyn Registry,
    reporter: &Reporter,
    shutdown: &Shutdown,
) {
    let mut subscription = registry.subscribe(Interest::All);
    let mut view = View::default();
    loop {
        let change = tokio::select! {
            biased;
            () = shutdown.triggered() => return,
            change = subscription.next() => change,
        };
        let Some(change) = change else {
            tracing::warn!("registry ended; serving the last known table");
            reporter.say(State::Degraded, "registry ended; serving the last known table");
            return shutdown.triggered().await;
        };
        if let Some(table) = advance(&published.load(), &mut view, change) {
            let (services, instances) = table.size();
            published.store(Arc::new(table));
            let detail =
                format!("{services} services, {instances} usable instances, revision {}", view.revision());
            reporter.say(State::Running, detail);
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
