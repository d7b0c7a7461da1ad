//! TLS towards a Consul agent: whom to trust, and who to be.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::reach::Tls;

/// Greets the server behind `stream` as `host`.
pub(super) async fn wrap(files: &Tls, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(client(files)?));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| other(host, &error))?;
    connector.connect(name, stream).await
}

fn client(files: &Tls) -> io::Result<ClientConfig> {
    let mut trusted = RootCertStore::empty();
    match &files.ca {
        Some(file) => {
            for certificate in certificates(file)? {
                trusted.add(certificate).map_err(|error| other(&file.display(), &error))?;
            }
        }
        // What the system trusts may hold odd ones; the rest is of use.
        None => {
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(trusted);
    let Some((certificate, key)) = &files.identity else { return Ok(builder.with_no_client_auth()) };
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| other(&key.display(), &error))?;
    let chain = certificates(certificate)?;
    builder.with_client_auth_cert(chain, secret).map_err(|error| other(&certificate.display(), &error))
}

fn certificates(file: &std::path::Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let named = |error| other(&file.display(), &error);
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(named)?.collect::<Result<_, _>>().map_err(named)?;
    if found.is_empty() {
        return Err(other(&file.display(), &"holds no certificate"));
    }
    Ok(found)
}

fn other(what: &(impl std::fmt::Display + ?Sized), why: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {why}"))
}
