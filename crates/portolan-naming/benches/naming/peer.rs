//! What others come to on the same servers in the same run: programs of a few lines with clients from npm, which do what a
//! gateway does that is built by hand.

use std::time::Duration;

use serde_json::Value;
use testkit::cluster::witness::Witness;

use super::PATIENCE;
use super::backends::{Backend, Kind};

/// What a peer measured of itself.
pub(crate) struct Measured {
    /// Whose client it is.
    pub(crate) client: &'static str,
    /// Until a registration was seen by another client of it.
    pub(crate) registered: Vec<Duration>,
    /// Until a removal was.
    pub(crate) deregistered: Vec<Duration>,
    /// CPU of both clients per registration.
    pub(crate) cpu: Duration,
}

/// Measures the peer of a backend; none where nobody else's client is at hand.
pub(crate) fn measure(kind: Kind, backend: &Backend, samples: usize) -> Option<Measured> {
    let count = samples.to_string();
    let (client, witness) = match (kind, backend) {
        (Kind::ZooKeeper, Backend::ZooKeeper(cluster)) => {
            let environment = [("ZOOKEEPER", &*cluster.authorities()), ("SAMPLES", &*count)];
            ("node-zookeeper-client", Witness::node("node-gateway", "timed.js", &environment))
        }
        (Kind::Consul, Backend::Consul(cluster)) => {
            let (owner, other) = (cluster.authority(0), cluster.authority(1));
            let environment = [("OWNER", &*owner), ("OTHER", &*other), ("SAMPLES", &*count)];
            ("npm consul", Witness::node("node-consul", "timed.js", &environment))
        }
        (Kind::Portolan, Backend::Portolan(face)) => {
            let address = face.address();
            let environment = [("OWNER", &*address), ("OTHER", &*address), ("SAMPLES", &*count)];
            ("npm consul", Witness::node("node-consul", "timed.js", &environment))
        }
        _ => return None,
    };
    let mut witness = witness.within(PATIENCE);
    let said: Value = witness.until("the peer's numbers", |line| serde_json::from_str(line).ok());
    assert!(said["error"].is_null(), "{client}: {said}");
    let times = |name: &str| {
        let times = said[name].as_array().unwrap().iter();
        times.map(|ms| Duration::from_secs_f64(ms.as_f64().unwrap() / 1e3)).collect()
    };
    let cpu = Duration::from_micros(said["cpu"].as_u64().unwrap()) / u32::try_from(samples.max(1)).unwrap();
    Some(Measured { client, registered: times("registered"), deregistered: times("deregistered"), cpu })
}
