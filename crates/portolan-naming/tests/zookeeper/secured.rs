//! TLS both ways, with a server's key and certificate as `keytool` makes them.

use std::fs;
use std::path::Path;
use std::process::Command;

use portolan_model::{Filter, ServiceName};
use rcgen::{CertificateParams, KeyPair};
use testkit::cluster::Cluster;
use testkit::cluster::zookeeper::ZooKeeper;
use zookeeper_client::Client;

use super::support::{Opened, Seen, instance, settle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls_with_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    keytool(
        directory.path(),
        "-genkeypair -keystore server.p12 -storetype PKCS12 -storepass secret -keyalg EC -alias s -dname CN=s -ext san=ip:127.0.0.1",
    );
    keytool(
        directory.path(),
        "-exportcert -keystore server.p12 -storepass secret -alias s -rfc -file server.pem",
    );
    let key = KeyPair::generate().unwrap();
    let ours = CertificateParams::new(vec!["client".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(at("client.pem"), ours.pem()).unwrap();
    fs::write(at("client.key"), key.serialize_pem()).unwrap();
    let mut ensemble = ZooKeeper::start_with(1, |_| {
        [
            "secureClientPort={secure}".to_owned(),
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
            format!("ssl.keyStore.location={}", at("server.p12")),
            "ssl.keyStore.password=secret".to_owned(),
            format!("ssl.trustStore.location={}", at("client.pem")),
            "ssl.trustStore.type=PEM".to_owned(),
        ]
        .join("\n")
    });
    let open = |options: &str| {
        let servers = ensemble.secure_authorities();
        Opened::at(&format!("zookeeper-tls://team:pw@{servers}/s?session_timeout=4s&{options}"))
    };
    let certified = format!("ca={}&cert={}&key={}", at("server.pem"), at("client.pem"), at("client.key"));
    let opened = open(&certified);
    settle(opened.registry.as_ref(), instance("web", 1)).await;
    let plain = Client::connect(&ensemble.authorities()).await.unwrap();
    assert!(plain.check_stat("/s/web/10.0.0.1:10001").await.unwrap().is_some());

    let silent = format!("no connection: {}: it does not answer, or refuses", ensemble.secure_authorities());
    for (options, reason) in [
        (format!("ca={}", at("server.pem")), silent.as_str()),
        (certified.replace("ca=", "ca=/nowhere/"), "/nowhere/"),
        (certified.replacen(&at("server.pem"), &at("client.pem"), 1), silent.as_str()),
        (certified.replacen(&at("server.pem"), &at("client.key"), 1), "no valid tls trust anchor"),
    ] {
        let stranger = open(&format!("{options}&timeout=300ms"));
        stranger.until_report(reason).await;
        assert!(stranger.registry.list().await.is_err(), "{options}");
        stranger.close().await;
    }

    // It comes back by TLS as well.
    let seen = Seen::by(&opened.registry).await;
    ensemble.restart_all();
    settle(opened.registry.as_ref(), instance("web", 2)).await;
    let found = opened.registry.find(ServiceName::new("web").unwrap(), Filter::default()).await.unwrap();
    assert_eq!(found.instances.len(), 2);
    assert_eq!(seen.fewest().0, Some(1));
    opened.close().await;
}

fn keytool(directory: &Path, words: &str) {
    let made = Command::new("keytool").args(words.split(' ')).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{words}: {}", String::from_utf8_lossy(&made.stdout));
}
