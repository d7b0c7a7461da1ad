//! Servers that are asked: TLS and gRPC. What they do is decided by the test.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What a server does with a connection.
#[derive(Clone, Copy)]
pub(crate) enum Plays {
    /// 200 to any request.
    Http,
    /// This message as the answer to any call, framed already, and this status after it.
    Grpc(&'static [u8], &'static str),
    /// This status and no message.
    GrpcRefuses(&'static str),
}

/// Ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    listening: AbortHandle,
}

impl Server {
    pub(crate) async fn start(plays: Plays, tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tls.then(acceptor);
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Some(acceptor) = acceptor else { return play(plays, stream).await };
                    // A client that does not like our certificate goes away.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        play(plays, stream).await;
                    }
                });
            }
        });
        Self { address, listening: listening.abort_handle() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// With a certificate that nobody vouches for.
fn acceptor() -> TlsAcceptor {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn play(plays: Plays, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    match plays {
        Plays::Http => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
        }
        Plays::Grpc(message, status) => calls(stream, Some(message), status).await,
        Plays::GrpcRefuses(status) => calls(stream, None, status).await,
    }
}

async fn calls(stream: impl AsyncRead + AsyncWrite + Unpin, message: Option<&'static [u8]>, status: &str) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()["content-type"], "application/grpc");
        let answer = http::Response::builder().header("content-type", "application/grpc");
        match message {
            None => {
                let answer = answer.header("grpc-status", status).body(()).unwrap();
                respond.send_response(answer, true).unwrap();
            }
            Some(message) => {
                let mut body = respond.send_response(answer.body(()).unwrap(), false).unwrap();
                body.send_data(Bytes::from_static(message), false).unwrap();
                let trailers = [("grpc-status".parse().unwrap(), status.parse().unwrap())];
                body.send_trailers(http::HeaderMap::from_iter(trailers)).unwrap();
            }
        }
    }
}
