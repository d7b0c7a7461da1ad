//! Which services claim which requests by their labels: an index of all routes that are asked for, cheap to change one
//! service at a time. A new table shares all buckets but those of the changed routes with the old.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_model::ServiceName;

use crate::labels::DEPTH_LIMIT;
use crate::route::{HostPattern, HostRef, Route};

const BUCKETS: usize = 256;

/// All routes that are asked for, by host and path.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    buckets: Box<[Arc<Vec<Claim>>]>,
    /// How many claims there are for exact hosts, for wildcards, for any host.
    kinds: [usize; 3],
    /// How many claims there are with so many segments.
    depths: [usize; DEPTH_LIMIT + 1],
}

/// A host and a path, and who asks for their requests: by service name, the first has them. Names alone decide, so
/// that every gateway decides alike, whenever it was started.
#[derive(Debug, Clone)]
struct Claim {
    host: HostPattern,
    prefix: String,
    routes: Vec<Arc<Route>>,
}

impl Default for Claims {
    fn default() -> Self {
        let empty = Arc::default();
        Self {
            buckets: (0..BUCKETS).map(|_| Arc::clone(&empty)).collect(),
            kinds: [0; 3],
            depths: [0; DEPTH_LIMIT + 1],
        }
    }
}

impl Claims {
    /// The route for `host` and the path prefix `prefix`.
    pub(crate) fn get(&self, host: HostRef<'_>, prefix: &str) -> Option<&Arc<Route>> {
        let bucket = &self.buckets[index(host, prefix)];
        bucket.iter().find(|claim| claim.is_for(host, prefix))?.routes.first()
    }

    /// Whether there can be a route for `host`: false spares looking for one.
    pub(crate) fn may_hold(&self, host: HostRef<'_>) -> bool {
        self.kinds[kind(host)] > 0
    }

    /// The most segments of any path in it.
    pub(crate) fn deepest(&self) -> usize {
        self.depths.iter().rposition(|count| *count > 0).unwrap_or(0)
    }

    /// Takes the routes of one service out, and puts others of it in. Names in `rivals` all that ask for one of them.
    pub(crate) fn replace(
        &mut self,
        before: &[Arc<Route>],
        after: &[Arc<Route>],
        rivals: &mut BTreeSet<ServiceName>,
    ) {
        for route in before.iter().filter(|route| !after.contains(route)) {
            self.remove(route, rivals);
        }
        for route in after.iter().filter(|route| !before.contains(route)) {
            self.insert(Arc::clone(route), rivals);
        }
    }

    fn insert(&mut self, route: Arc<Route>, rivals: &mut BTreeSet<ServiceName>) {
        let host = route.host.as_ref();
        let bucket = Arc::make_mut(&mut self.buckets[index(host, &route.prefix)]);
        let Some(claim) = bucket.iter_mut().find(|claim| claim.is_for(host, &route.prefix)) else {
            self.kinds[kind(host)] += 1;
            self.depths[route.depth().min(DEPTH_LIMIT)] += 1;
            let (host, prefix) = (route.host.clone(), route.prefix.clone());
            bucket.push(Claim { host, prefix, routes: vec![route] });
            return;
        };
        rivals.extend(claim.services());
        let at = claim.routes.partition_point(|known| known.service < route.service);
        match claim.routes.get_mut(at).filter(|known| known.service == route.service) {
            Some(known) => *known = route,
            None => claim.routes.insert(at, route),
        }
    }

    fn remove(&mut self, route: &Route, rivals: &mut BTreeSet<ServiceName>) {
        let host = route.host.as_ref();
        let bucket = Arc::make_mut(&mut self.buckets[index(host, &route.prefix)]);
        let Some(at) = bucket.iter().position(|claim| claim.is_for(host, &route.prefix)) else { return };
        rivals.extend(bucket[at].services());
        bucket[at].routes.retain(|known| known.service != route.service);
        if bucket[at].routes.is_empty() {
            bucket.swap_remove(at);
            self.kinds[kind(host)] -= 1;
            self.depths[route.depth().min(DEPTH_LIMIT)] -= 1;
        }
    }
}

impl Claim {
    fn services(&self) -> impl Iterator<Item = ServiceName> {
        self.routes.iter().map(|route| route.service.clone())
    }

    fn is_for(&self, host: HostRef<'_>, prefix: &str) -> bool {
        self.host.as_ref() == host && self.prefix == prefix
    }
}

fn kind(host: HostRef<'_>) -> usize {
    match host {
        HostRef::Exact(_) => 0,
        HostRef::Under(_) => 1,
        HostRef::Any => 2,
    }
}

/// FNV-1a over both, folded; as for services, whoever can ask for routes can do worse than collide.
fn index(host: HostRef<'_>, prefix: &str) -> usize {
    let host = match host {
        HostRef::Exact(host) | HostRef::Under(host) => host,
        HostRef::Any => "",
    };
    let bytes = host.bytes().chain(prefix.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 8) ^ (hash >> 16)) as usize % BUCKETS
}

#[cfg(test)]
mod tests;
