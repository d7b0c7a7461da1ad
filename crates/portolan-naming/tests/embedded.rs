//! `embedded:`, in the process of its user.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::ServiceName;
use portolan_naming::Naming;

const LIMIT: Duration = Duration::from_secs(30);

fn refused(uri: &str) -> String {
    Naming::open(uri).err().map(|error| error.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_registry() {
    let naming = Naming::open("embedded:").unwrap();
    testkit::registry_battery::run(Arc::clone(naming.registry())).await;
    naming.close(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_path_is_durable_and_one_handles_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let uri = format!("embedded:{}", directory.path().join("book").display());
    let naming = Naming::open(&uri).unwrap();
    let said = testkit::naming_battery::registration("durable", "a");
    naming.register(said.clone()).await.unwrap().keep();
    let twice = refused(&uri);
    assert!(
        twice.starts_with("embedded registry: data directory ") && twice.contains("is in use"),
        "{twice}"
    );
    naming.close(LIMIT).await.unwrap();
    let naming = Naming::open(&uri).unwrap();
    let found = naming.find(said.service.clone(), [""; 0]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(naming.find(ServiceName::new("other").unwrap(), [""; 0]).await.unwrap(), []);
    naming.close(LIMIT).await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    assert_eq!(
        refused("embedded://host/path"),
        "\"host\" is no server; write host, host:port or [ipv6]:port"
    );
    assert_eq!(refused("embedded:/p?ttl=1s"), "unknown option \"ttl\"; embedded:// knows ");
}
