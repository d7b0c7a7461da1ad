//! Follows the registry: a subscription in, a published route table out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Interest, Registry, ServiceName, Subscription, View};
use routing::{BrokenRoute, RouteTable};
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
    broken: Broken,
}

/// Routes that route nothing, as told last.
#[derive(Default)]
struct Broken {
    configured: Vec<BrokenRoute>,
    /// What instances ask for in vain, by service; none has an empty list.
    asked: BTreeMap<ServiceName, Vec<BrokenRoute>>,
    count: usize,
}

impl Follower {
    pub(crate) fn new(published: Arc<Published>, registry: &dyn Registry, reporter: Reporter) -> Self {
        let broken = Broken::of(&published.load());
        Self {
            subscription: registry.subscribe(Interest::All),
            published,
            view: View::default(),
            reporter,
            broken,
        }
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
        if let Some((table, touched)) = advance(&self.published.load(), &mut self.view, change) {
            let (services, instances) = table.size();
            self.broken.update(&table, touched);
            self.published.store(Arc::new(table));
            let revision = self.view.revision();
            let mut detail =
                format!("{services} services, {instances} usable instances, revision {revision}");
            if let Some(BrokenRoute { name, reason }) = self.broken.first() {
                let count = self.broken.count;
                detail.push_str(&format!("; {count} broken routes, first: {name}: {reason}"));
            }
            self.reporter.say(State::Running, detail);
        }
    }
}

impl Broken {
    fn of(table: &RouteTable) -> Self {
        let configured = table.broken().to_vec();
        Self { count: configured.len(), configured, ..Self::default() }
    }

    /// Takes note of what `touched` services ask for in vain now, and logs what is new of it.
    fn update(&mut self, table: &RouteTable, touched: BTreeSet<ServiceName>) {
        for service in touched {
            let now = table.asked_in_vain(&service);
            let before = self.asked.remove(&service).unwrap_or_default();
            now.iter().filter(|route| !before.contains(route)).for_each(tell);
            self.count = self.count + now.len() - before.len();
            if !now.is_empty() {
                self.asked.insert(service, now);
            }
        }
    }

    fn first(&self) -> Option<&BrokenRoute> {
        self.configured.first().or_else(|| self.asked.values().flatten().next())
    }
}

/// Logs a route that routes nothing.
pub(crate) fn tell(broken: &BrokenRoute) {
    tracing::warn!(route = broken.name, reason = broken.reason, "route is broken and routes nothing");
}

/// The table after `change`, and the services whose wishes for routes stand differently; `None` when it is the same.
fn advance(
    before: &RouteTable,
    view: &mut View,
    change: Change,
) -> Option<(RouteTable, BTreeSet<ServiceName>)> {
    let first = matches!(change, Change::Reset { .. });
    let touched = view.apply(change);
    if touched.is_empty() && !first {
        return None;
    }
    let (mut table, mut wishes) = (before.clone(), BTreeSet::new());
    if first {
        table.set_registry_read();
    }
    for service in &touched {
        wishes.append(&mut table.update(service, view.instances(service.as_str())));
    }
    Some((table, wishes))
}
