//! Instances for the tests of this crate.

use std::sync::Arc;

use portolan_model::{
    Endpoint, Health, Incarnation, Instance, InstanceId, Owner, Phase, Protocol, Registration, Revision,
    ServiceName, Weight,
};

pub(crate) fn instance(service: &str, id: &str, at: u64) -> Arc<Instance> {
    Arc::new(Instance {
        registration: Registration {
            id: InstanceId::new(id).unwrap(),
            service: ServiceName::new(service).unwrap(),
            endpoint: Endpoint { host: "127.0.0.1".parse().unwrap(), port: 80 },
            protocol: Protocol::Tcp,
            tags: [].into(),
            meta: [].into(),
            weight: Weight::default(),
            zone: None,
            owner: Owner::new("test").unwrap(),
            incarnation: Incarnation(0),
            health: Health::Passing,
        },
        phase: Phase::Adult,
        created: Revision(at),
        modified: Revision(at),
    })
}

/// The same at another port.
pub(crate) fn moved(instance: &Instance, port: u16) -> Arc<Instance> {
    let mut instance = instance.clone();
    instance.registration.endpoint.port = port;
    Arc::new(instance)
}

pub(crate) fn ids<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> Vec<&'a str> {
    instances.into_iter().map(|instance| instance.id().as_str()).collect()
}
