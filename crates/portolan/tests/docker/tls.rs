//! An engine that talks to nobody without a certificate (`dockerd --tlsverify`), named as for the docker client.

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::own_engine::OwnEngine;
use super::process::{self, Up, until};
use super::rig::{NODE, PORT, Rig};

#[test]
fn an_engine_that_wants_to_know_who_asks_is_followed() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = OwnEngine::start_with(&certificates(folder.path()));
    let inside = own.inside();
    let inside = [inside[0].as_str(), inside[1].as_str()];
    let loopback = Command::new(inside[0]).args([inside[1], "ip", "link", "set", "lo", "up"]).status();
    assert!(loopback.unwrap().success());
    let rig = Rig::on(own.engine());
    rig.run("before", &rig.sample("web").on_host_network());

    let (data, any) = (dir.path().to_str().unwrap(), "127.0.0.1:0");
    let args = ["up", "--node", NODE, "--docker-period", "1h", "--log", "warn", "--cores", "1"];
    let args = [&args[..], &["--data-dir", data, "--http", any, "--proxy", any]].concat();
    let follow = || {
        let mut command = process::within(&inside, &args);
        command.env("DOCKER_HOST", "tcp://127.0.0.1").env("DOCKER_TLS_VERIFY", "1");
        command.env("DOCKER_CERT_PATH", folder.path());
        Up::of(command)
    };
    let shows = |up: &Up, names: &[&str]| {
        until(&format!("{names:?} are registered"), || {
            let words = ["instances", &rig.name("web"), "--http-addr", &up.http];
            let said = process::within(&inside, &words).output().unwrap();
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let shown = |name: &&str| said.contains(&rig.id(name, PORT));
            let all = ["before", "after"].iter().all(|name| shown(name) == names.contains(name));
            all.then_some(())
        });
    };
    let up = follow();
    shows(&up, &["before"]);
    rig.run("after", &rig.sample("web").on_host_network());
    shows(&up, &["before", "after"]);
    rig.stop("before");
    shows(&up, &["after"]);
    up.process.kill();

    // Nobody it knows.
    let hides = |name: &str| fs::rename(folder.path().join(name), folder.path().join(format!("{name}.away")));
    hides("cert.pem").unwrap();
    hides("key.pem").unwrap();
    let mut up = follow();
    let said = up.process.complaint();
    assert!(said.contains("cannot reach the container engine"), "{said}");
    drop(up);
    drop(rig);
}

/// Puts an authority's certificate, ours and the engine's into `folder`; what an engine is told of them.
fn certificates(folder: &Path) -> [String; 5] {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let put = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    put("ca.pem", authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    for (name, certificate, its_key) in
        [("us", "cert.pem", "key.pem"), ("127.0.0.1", "engine.pem", "engine-key.pem")]
    {
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        put(certificate, signed.pem());
        put(its_key, key.serialize_pem());
    }
    let word = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
    [
        "--host=tcp://127.0.0.1:2376".to_owned(),
        "--tlsverify".to_owned(),
        word("tlscacert", "ca.pem"),
        word("tlscert", "engine.pem"),
        word("tlskey", "engine-key.pem"),
    ]
}
