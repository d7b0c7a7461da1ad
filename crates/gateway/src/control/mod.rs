//! Follows the registry: a subscription in, a published route table out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Interest, Registry, Subscription, View};
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

/// The broken routes of a table, as told last.
struct Broken {
    /// What [`RouteTable::asked`] said then.
    asked: u64,
    routes: Vec<BrokenRoute>,
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
        if let Some(table) = advance(&self.published.load(), &mut self.view, change) {
            let (services, instances) = table.size();
            self.broken.update(&table);
            self.published.store(Arc::new(table));
            let revision = self.view.revision();
            let mut detail =
                format!("{services} services, {instances} usable instances, revision {revision}");
            if let Some(BrokenRoute { name, reason }) = self.broken.routes.first() {
                let count = self.broken.routes.len();
                detail.push_str(&format!("; {count} broken routes, first: {name}: {reason}"));
            }
            self.reporter.say(State::Running, detail);
        }
    }
}

impl Broken {
    /// Those of the first table, told.
    fn of(table: &RouteTable) -> Self {
        let mut broken = Self { asked: table.asked(), routes: Vec::new() };
        broken.tell(table);
        broken
    }

    /// Looks again only when what instances ask for has changed: that costs in proportion to the table.
    fn update(&mut self, table: &RouteTable) {
        if self.asked != table.asked() {
            self.asked = table.asked();
            self.tell(table);
        }
    }

    /// Logs those that are new.
    fn tell(&mut self, table: &RouteTable) {
        let routes = table.broken();
        let known: BTreeSet<(&str, &str)> = self.routes.iter().map(words).collect();
        for route in routes.iter().filter(|route| !known.contains(&words(route))) {
            tracing::warn!(route = route.name, reason = route.reason, "route is broken and routes nothing");
        }
        self.routes = routes;
    }
}

fn words(route: &BrokenRoute) -> (&str, &str) {
    (&route.name, &route.reason)
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
