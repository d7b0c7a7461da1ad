//! TLS both ways, and users.

use std::fs;
use std::path::{Path, PathBuf};

use portolan_model::{Condition, Key};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use testkit::cluster::etcd::{Etcd, Security};

use crate::handle::{Handle, said, until};

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_no_more_is_renewed() {
    let cluster = Etcd::start(1);
    let as_root = |words: &[&str]| cluster.ctl(&[&["--user", "root:pw"], words].concat());
    cluster.ctl(&["user", "add", "root:pw"]);
    cluster.ctl(&["user", "grant-role", "root", "root"]);
    cluster.ctl(&["auth", "enable"]);
    let handle = Handle::open(&format!("etcd://root:pw@{}/s", cluster.authorities()));
    let key = || Key::new("a").unwrap();
    handle.keys.put(key(), (*b"1").into(), Condition::Always).await.unwrap();
    // Every token is forgotten by that, and nothing but a call tells.
    as_root(&["auth", "disable"]);
    cluster.ctl(&["auth", "enable"]);
    handle.keys.put(key(), (*b"2").into(), Condition::Always).await.unwrap();
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls_with_a_user() {
    let directory = tempfile::tempdir().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let ca = write(directory.path(), "ca.pem", &issuer.pem());
    let cert = write(directory.path(), "cert.pem", &certificate.pem());
    let key = write(directory.path(), "key.pem", &key.serialize_pem());
    let cluster = Etcd::start_secured(3, Security { tls: Some((cert.clone(), key.clone(), ca.clone())) });

    let tls = format!("ca={}&cert={}&key={}", ca.display(), cert.display(), key.display());
    let open = |user: &str, more: &str| {
        Handle::open(&format!("etcd-tls://{user}{}/s?timeout=2s&{more}", cluster.authorities()))
    };
    let certified = open("", &tls);
    certified.register(said("web", "a:1")).await;
    certified.close().await;

    cluster.ctl(&["user", "add", "root:hard to guess"]);
    cluster.ctl(&["user", "grant-role", "root", "root"]);
    cluster.ctl(&["user", "add", "web:p@ss"]);
    cluster.ctl(&["role", "add", "web"]);
    cluster.ctl(&["role", "grant-permission", "web", "--prefix=true", "readwrite", "/s/"]);
    cluster.ctl(&["user", "grant-role", "web", "web"]);
    cluster.ctl(&["auth", "enable"]);

    let known = open("web:p%40ss@", &tls);
    known.register(said("web", "a:1")).await;
    assert_eq!(known.count("web").await, 1);

    // Each of these is told why, and none of them gets in.
    for (user, tls, reason) in [
        ("web:wrong@", tls.as_str(), "authentication failed"),
        ("", "", "certificate"),
        ("web:p%40ss@", "ca=/nowhere.pem", "/nowhere.pem"),
    ] {
        let stranger = open(user, tls);
        until(reason, async || stranger.board.snapshot()["registry"].detail.contains(reason)).await;
        assert!(stranger.registry.register(said("web", "b:1")).await.is_err());
        let told = format!("{:?}", stranger.board.snapshot());
        assert!(!told.contains("wrong") && !told.contains("p@ss"), "{told}");
        stranger.close().await;
    }
    known.close().await;
}
