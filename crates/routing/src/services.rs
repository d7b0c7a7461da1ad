//! Upstreams by service name, cheap to change one at a time: a new table shares all buckets but one with the old.

use std::sync::Arc;

use portolan_model::ServiceName;

use crate::balance::Upstream;

const BUCKETS: usize = 256;

type Bucket = Vec<(ServiceName, Arc<Upstream>)>;

/// An immutable map; [`Services::with`] and [`Services::without`] make a changed copy in time proportional to one
/// bucket, not to the number of services.
#[derive(Debug, Clone)]
pub(crate) struct Services(Box<[Arc<Bucket>]>);

impl Default for Services {
    fn default() -> Self {
        let empty = Arc::new(Bucket::new());
        Self((0..BUCKETS).map(|_| Arc::clone(&empty)).collect())
    }
}

impl Services {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Upstream>> {
        let bucket = &self.0[index(name)];
        let at = bucket.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(&bucket[at].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.iter().flat_map(|bucket| bucket.iter().map(|(_, upstream)| upstream))
    }

    pub(crate) fn with(&mut self, upstream: Arc<Upstream>) {
        let name = upstream.service().clone();
        let bucket = Arc::make_mut(&mut self.0[index(name.as_str())]);
        match bucket.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(at) => bucket[at].1 = upstream,
            Err(at) => bucket.insert(at, (name, upstream)),
        }
    }

    pub(crate) fn without(&mut self, name: &str) {
        let slot = &mut self.0[index(name)];
        if let Ok(at) = slot.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            Arc::make_mut(slot).remove(at);
        }
    }
}

/// FNV-1a, folded: names are short and trusted enough (whoever can register can do worse than collide).
fn index(name: &str) -> usize {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 8) ^ (hash >> 16)) as usize % BUCKETS
}
