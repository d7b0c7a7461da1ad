//! An authority of one test, and those it vouches for.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Puts an authority's certificate and ours into `folder`; one for 127.0.0.1, for whoever has ours.
pub(crate) fn certificates(folder: &Path) -> TlsAcceptor {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let [(client, client_key), (server, server_key)] = ["us", "127.0.0.1"].map(|name| {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap(), key)
    });
    let files = [("ca.pem", root.pem()), ("cert.pem", client.pem()), ("key.pem", client_key.serialize_pem())];
    files.iter().for_each(|(name, content)| std::fs::write(folder.join(name), content).unwrap());

    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut known = RootCertStore::empty();
    known.add(root.der().clone()).unwrap();
    let known = WebPkiClientVerifier::builder_with_provider(Arc::new(known), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(known.build().unwrap())
        .with_single_cert(
            vec![server.der().clone()],
            PrivatePkcs8KeyDer::from(server_key.serialize_der()).into(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
