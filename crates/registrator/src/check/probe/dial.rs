//! From an endpoint to a byte stream: TCP, and TLS where it is asked for.

use std::sync::Arc;

use portolan_model::{Endpoint, Host};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Unasked;
use crate::check::spec::Trust;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to instances.
#[derive(Default)]
pub(super) struct Dialer {
    /// The system's authorities, read when a check needs them first.
    system: OnceCell<Arc<ClientConfig>>,
}

impl Dialer {
    pub(super) async fn connect(&self, to: &Endpoint) -> Result<TcpStream, Unasked> {
        let stream = match &to.host {
            Host::Ip(ip) => TcpStream::connect((*ip, to.port)).await,
            Host::Name(name) => TcpStream::connect((name.as_ref(), to.port)).await,
        };
        let stream = stream.map_err(|error| Unasked(format!("cannot connect to {to}: {error}")))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Speaks `protocol` (by its ALPN name) over TLS if that is asked for.
    pub(super) async fn dial(
        &self,
        to: &Endpoint,
        tls: Option<Trust>,
        protocol: &[u8],
    ) -> Result<Box<dyn Stream>, Unasked> {
        let stream = self.connect(to).await?;
        let Some(trust) = tls else { return Ok(Box::new(stream)) };
        let mut config = match trust {
            Trust::System => self.system.get_or_try_init(by_system).await?.as_ref().clone(),
            Trust::Anybody => by_anybody()?,
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from(to.host.to_string())?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        Ok(Box::new(connected.map_err(|error| Unasked(format!("tls with {to}: {error}")))?))
    }
}

async fn by_system() -> Result<Arc<ClientConfig>, Unasked> {
    // A few hundred files, perhaps on a slow disk.
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await?;
    let mut roots = RootCertStore::empty();
    // Some of a system's certificates may be unusable; those that are usable count.
    let _ = roots.add_parsable_certificates(found.certs);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn by_anybody() -> Result<ClientConfig, Unasked> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// Takes any certificate, as long as whoever shows it holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
