//! Ways to an agent: TLS with client certificates, a Unix socket, a token, none at all.

use std::fs;
use std::path::Path;
use std::time::Duration;

use portolan_model::{Filter, RegistryError};
use runtime::State;
use testkit::cluster::Cluster;
use testkit::cluster::consul::Consul;
use testkit::wait::until;

use crate::handle::{Handle, name, open, said};

async fn works(handle: &Handle) {
    handle.registry.register(said("web", 80)).await.unwrap();
    let found = handle.registry.find(name("web"), Filter::default()).await.unwrap();
    assert_eq!(found.instances[0].registration, said("web", 80));
}

async fn says(handle: &Handle, state: State, words: &str) {
    let said = async || {
        let report = handle.status();
        if report.state == state && report.detail.contains(words) { Ok(()) } else { Err(report) }
    };
    until(Duration::from_secs(20), &format!("{state:?} with {words:?}"), said).await;
}

/// An authority, and a certificate for this machine and one for a client, as files.
fn certify(directory: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls() {
    let mut files = std::path::PathBuf::new();
    let cluster = Consul::start_with(1, |directory| {
        certify(directory);
        files = directory.to_owned();
        let file = |name: &str| directory.join(name).display().to_string();
        format!(
            r#"{{"ca_file":"{}","cert_file":"{}","key_file":"{}","verify_incoming_https":true}}"#,
            file("ca.pem"),
            file("server.pem"),
            file("server.key"),
        )
    });
    let file = |name: &str| files.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let uri = format!("consul-tls://{}?ca={ca}", cluster.tls_authority(0));
    let handle = open(&format!("{uri}&cert={cert}&key={key}"));
    works(&handle).await;
    handle.close().await;
    for (uri, why) in [(uri.as_str(), "ertificate"), (&format!("{uri}.gone"), "ca.pem.gone")] {
        let handle = open(uri);
        says(&handle, State::Degraded, why).await;
        handle.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_unix_socket() {
    let mut socket = String::new();
    let cluster = Consul::start_with(1, |directory| {
        socket = directory.join("http.sock").display().to_string();
        format!(r#"{{"addresses":{{"http":"127.0.0.1 unix://{socket}"}}}}"#)
    });
    let handle = open(&format!("consul-unix://{socket}"));
    works(&handle).await;
    says(&handle, State::Running, &socket).await;
    handle.close().await;
    let handle = open(&format!("consulkv-unix://{socket}:/services"));
    handle.registry.register(said("web", 80)).await.unwrap();
    let kept = cluster.get(0, "/v1/kv/services/web/host:web:80?raw");
    assert_eq!(kept.as_deref(), Some("10.0.0.1:80"));
    handle.close().await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_token() {
    let rules = r#"{"acl":{"enabled":true,"default_policy":"deny","tokens":{"master":"s3cret-token"}}}"#;
    let cluster = Consul::start_with(1, |_| rules.to_owned());
    let handle = open(&format!("consul://s3cret-token@{}", cluster.authority(0)));
    works(&handle).await;
    handle.close().await;
    let stranger = open(&format!("consul://wrong@{}", cluster.authority(0)));
    says(&stranger, State::Degraded, &format!("{}: answered 403: ACL not found", cluster.authority(0))).await;
    stranger.close().await;
    // It may ask for the catalog, and is shown nothing of it.
    let nobody = open(&format!("consul://{}", cluster.authority(0)));
    says(&nobody, State::Degraded, "nobody to register with: ").await;
    says(&nobody, State::Degraded, &format!("{}: answered 403: Permission denied", cluster.authority(0)))
        .await;
    says(&nobody, State::Degraded, "the token may not read services").await;
    nobody.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_data_centre_can_only_be_read() {
    let cluster = Consul::start(1);
    let handle = open(&format!("consul://{}?dc=elsewhere", cluster.authority(0)));
    says(&handle, State::Degraded, "No path to datacenter").await;
    handle.close().await;
}

#[tokio::test(start_paused = true)]
async fn when_nobody_is_there() {
    let port = testkit::ports::free_ports(1)[0];
    let handle = open(&format!("consul://127.0.0.1:{port}"));
    let unavailable = Err(RegistryError::Unavailable("its catalog could not be read yet".into()));
    assert_eq!(handle.registry.find(name("web"), Filter::default()).await.map(|_| ()), unavailable);
    assert_eq!(handle.registry.register(said("web", 80)).await.map(|_| ()), unavailable);
    assert_eq!(handle.status().state, State::Degraded);
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_comes_late_is_caught_up_with() {
    let mut cluster = Consul::start(1);
    let uri = format!("consul://{}", cluster.authority(0));
    cluster.kill(0);
    let handle = open(&uri);
    says(&handle, State::Degraded, "refused").await;
    cluster.launch_all();
    says(&handle, State::Running, "reading").await;
    works(&handle).await;
    handle.close().await;
}
