//! From a server's name to a byte stream: TCP, and TLS where it is asked for.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::config::TlsFiles;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to `authority` (`host:port`), `host` being what its certificate must name.
pub(super) async fn dial(
    authority: &str,
    host: &str,
    tls: Option<&TlsFiles>,
) -> Result<Box<dyn Stream>, String> {
    let told = |e: &dyn std::error::Error| e.to_string();
    let stream = TcpStream::connect(authority).await.map_err(|e| told(&e))?;
    stream.set_nodelay(true).map_err(|e| told(&e))?;
    let Some(files) = tls.cloned() else { return Ok(Box::new(stream)) };
    // Files may be on a slow disk.
    let client = tokio::task::spawn_blocking(move || client(&files)).await.map_err(|e| told(&e))??;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| told(&e))?;
    let connected = TlsConnector::from(Arc::new(client)).connect(name, stream).await;
    Ok(Box::new(connected.map_err(|e| told(&e))?))
}

fn client(files: &TlsFiles) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &files.authorities {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
        None => {
            // Some of a system's certificates may be unusable; those that are usable count.
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("no certificate authority to trust: name one with the option ca".to_owned());
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut client = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {e}", key.display()))?;
            let identity = builder.with_client_auth_cert(certificates(cert)?, private);
            identity.map_err(|e| format!("{}: {e}", cert.display()))?
        }
    };
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(client)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |e| format!("{}: {e}", path.display());
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() { Err(format!("{}: no certificate in it", path.display())) } else { Ok(found) }
}
