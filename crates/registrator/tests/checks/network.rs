//! What checks ask over the network, and what they make of the answers, on real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use portolan_model::Health::{self, Critical, Passing, Warning};
use registrator::container::{Binding, Container};
use testkit::upstream::{Behaviour, Upstream};
use tokio::net::TcpListener;

use super::running::{Running, asking};
use super::servers::{Plays, Server};

/// Registers a container that is published at `address` and says `env`; gives its health after the first result, and
/// what the status says of its check when that is not passing.
async fn first_result(address: SocketAddr, env: &[&str]) -> (Health, String) {
    let web = asking("web", env);
    let binding = Binding { host: Some(address.ip()), port: address.port() };
    let bindings = web.bindings.keys().map(|port| (*port, vec![binding])).collect();
    let running = Running::start();
    running.engine.start(Container { bindings, ..web });
    let found = finding(&running).await;
    let health = running.health().await.unwrap();
    running.stop().await;
    (health, found.replace(&address.to_string(), "THERE"))
}

/// What the first result is, once there is one; nothing when it is passing.
async fn finding(running: &Running) -> String {
    let look = async || match running.report().detail.split_once("first: H:web:80: ") {
        Some((_, found)) => Some(found.to_owned()),
        None => (running.health().await == Some(Passing)).then(String::new),
    };
    testkit::wait::until(Duration::from_secs(30), "a result", look).await
}

#[track_caller]
fn expect(got: &(Health, String), health: Health, told: &str) {
    assert_eq!((got.0, got.1.as_str()), (health, told));
}

#[tokio::test]
async fn http() {
    async fn check(answer: &'static str, health: Health, told: &str) {
        let upstream = Upstream::start(Behaviour::Raw(answer)).await.unwrap();
        expect(&first_result(upstream.address(), &["SERVICE_CHECK_HTTP=/h"]).await, health, told);
    }
    check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Passing, "").await;
    check("HTTP/1.0 204 No Content\r\n\r\n", Passing, "").await;
    // Only the head counts: a body that never ends is not waited for.
    check("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", Passing, "").await;
    check("HTTP/1.1 429 Too Many Requests\r\n\r\n", Warning, "it answers 429 Too Many Requests").await;
    check("HTTP/1.1 500 Oh\r\n\r\n", Critical, "it answers 500 Internal Server Error").await;
    check("HTTP/1.1 404 Not Found\r\n\r\n", Critical, "it answers 404 Not Found").await;
    check("HTTP/1.1 302 Found\r\nlocation: /h\r\n\r\n", Critical, "it redirects too often").await;
    check(
        "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\n\r\n",
        Critical,
        "it answers 302 Found and points to http://elsewhere/, which is not checked",
    )
    .await;
    check("SSH-2.0-OpenSSH_9.2\r\n", Critical, "invalid HTTP version parsed").await;
    check("", Critical, "connection closed before message completed").await;
}

#[tokio::test]
async fn http_as_it_is_asked() {
    let upstream = Upstream::start(Behaviour::Answer("well")).await.unwrap();
    let env = ["SERVICE_CHECK_HTTP=/health?a=b", "SERVICE_CHECK_HTTP_METHOD=HEAD"];
    expect(&first_result(upstream.address(), &env).await, Passing, "");
    let request = &upstream.requests()[0];
    assert_eq!(request.start, "HEAD /health?a=b HTTP/1.1");
    assert_eq!(request.header("host"), Some(upstream.address().to_string().as_str()));
    assert_eq!(request.header("connection"), Some("close"));
    assert_eq!(request.header("user-agent"), Some("Portolan check"));
}

#[tokio::test]
async fn http_answers_are_bounded() {
    let long: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20)).into());
    let upstream = Upstream::start(Behaviour::Raw(long)).await.unwrap();
    let got = first_result(upstream.address(), &["SERVICE_CHECK_HTTP=/"]).await;
    expect(&got, Critical, "message head is too large");

    let silent = Upstream::start(Behaviour::Silent).await.unwrap();
    let env = ["SERVICE_CHECK_HTTP=/", "SERVICE_CHECK_TIMEOUT=50ms"];
    expect(&first_result(silent.address(), &env).await, Critical, "no answer within 50ms");
}

#[tokio::test]
async fn https() {
    let server = Server::start(Plays::Http, true).await;
    let verified = first_result(server.address, &["SERVICE_CHECK_HTTPS=/"]).await;
    expect(&verified, Critical, "tls with THERE: invalid peer certificate: UnknownIssuer");
    let any = ["SERVICE_CHECK_HTTPS=/", "SERVICE_CHECK_TLS_SKIP_VERIFY=true"];
    expect(&first_result(server.address, &any).await, Passing, "");
    let plain = Server::start(Plays::Grpc(&[], "0"), false).await;
    let got = first_result(plain.address, &any).await;
    assert_eq!(got.0, Critical);
    assert!(got.1.starts_with("tls with THERE: "), "{}", got.1);
}

#[tokio::test]
async fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let env = ["SERVICE_CHECK_TCP=true"];
    expect(&first_result(address, &env).await, Passing, "");
    drop(listener);
    let refused = "cannot connect to THERE: Connection refused (os error 111)";
    expect(&first_result(address, &env).await, Critical, refused);
}

#[tokio::test]
async fn grpc() {
    async fn check(plays: Plays, health: Health, told: &str) {
        let server = Server::start(plays, false).await;
        expect(&first_result(server.address, &["SERVICE_CHECK_GRPC=true"]).await, health, told);
    }
    check(Plays::Grpc(&[0, 0, 0, 0, 2, 8, 1], "0"), Passing, "").await;
    check(Plays::Grpc(&[0, 0, 0, 0, 2, 8, 2], "0"), Critical, "it answers NOT_SERVING").await;
    check(Plays::Grpc(&[0, 0, 0, 0, 2, 8, 1], "13"), Critical, "it answers grpc status 13").await;
    check(Plays::Grpc(&[7; 5000], "0"), Critical, "its answer is too long").await;
    check(Plays::GrpcRefuses("12"), Critical, "it has no grpc health service").await;
    check(Plays::GrpcRefuses("14"), Critical, "it answers grpc status 14").await;
    let server = Server::start(Plays::Http, false).await;
    let (health, told) = first_result(server.address, &["SERVICE_CHECK_GRPC=1"]).await;
    assert_eq!(health, Critical);
    assert!(!told.is_empty());
}

#[tokio::test]
async fn grpc_by_tls() {
    let server = Server::start(Plays::Grpc(&[0, 0, 0, 0, 2, 8, 1], "0"), true).await;
    let tls = ["SERVICE_CHECK_GRPC=1", "SERVICE_CHECK_GRPC_USE_TLS=1"];
    let unknown = "tls with THERE: invalid peer certificate: UnknownIssuer";
    expect(&first_result(server.address, &tls).await, Critical, unknown);
    let any = [&tls[..], &["SERVICE_CHECK_TLS_SKIP_VERIFY=1"]].concat();
    expect(&first_result(server.address, &any).await, Passing, "");
}
