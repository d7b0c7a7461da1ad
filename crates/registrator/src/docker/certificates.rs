//! Whom to take for the engine behind TLS, and who to be to it: `ca.pem`, `cert.pem` and `key.pem` in one folder, where the
//! docker client keeps them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Why a file with a certificate or a key is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct Unusable {
    file: PathBuf,
    why: String,
}

/// Trusts those whom `ca.pem` in `folder` vouches for, and nobody else. Without both of the other files it says to nobody
/// who it is, for an engine that does not ask.
///
/// # Errors
/// When a file is missing or holds something else; it is named.
pub(super) fn read(folder: &Path) -> Result<ClientConfig, Unusable> {
    let [ca, certificate, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.join(name));
    let mut trusted = RootCertStore::empty();
    for authority in certificates(&ca)? {
        trusted.add(authority).map_err(|error| unusable(&ca, &error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&ca, &error))?
        .with_root_certificates(trusted);
    if !certificate.exists() && !key.exists() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates(&certificate)?;
    let secret = PrivateKeyDer::from_pem_slice(&contents(&key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => unusable(&key, &"holds no private key"),
        error => unusable(&key, &error),
    })?;
    builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(&key, &error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents(file)?).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(file, &"holds no certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(file, &error)),
    }
}

fn contents(file: &Path) -> Result<Vec<u8>, Unusable> {
    std::fs::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unusable(file, &"there is no such file"),
        _ => unusable(file, &error),
    })
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> Unusable {
    Unusable { file: file.to_owned(), why: why.to_string() }
}
