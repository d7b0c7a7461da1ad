//! How much is taken on, and what remains of a failure.

use std::sync::Arc;
use std::time::Duration;

use access::http::{Config, Limits, build};
use portolan_model::{
    Filter, Guard, InstanceId, Interest, Listing, Pending, Registration, Registry, RegistryError, Revision,
    ServiceName, ServiceView, Subscription,
};
use runtime::StatusBoard;
use testkit::memory_key_value::MemoryKeyValue;
use testkit::memory_registry::MemoryRegistry;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::{answer, exchange};
use super::{Running, until};

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn one_blocking_query_too_many_is_told_so_and_writes_go_on() {
    let face = Running::with(Limits { blocking: 1, ..Limits::default() });
    let query = face.ask("/v1/health/service/web?index=1&wait=60s");
    face.until_waiting(1).await;
    let refused = face.get("/v1/health/service/web?index=1&wait=60s").await;
    let text = "too many blocking queries: 1 are waiting already";
    assert_eq!((refused.status, refused.body.as_str()), (429, text));
    assert_eq!(refused.headers["Retry-After"], "1");
    face.register(r#"{"Name":"web"}"#).await;
    assert_eq!(query.await.unwrap().index(), 2);
    assert_eq!(
        face.get("/v1/health/service/web?index=2&wait=1ms").await.index(),
        2,
        "its seat is free again"
    );
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let face = Running::with(Limits { connections: 1, ..Limits::default() });
    let query = face.ask("/v1/health/service/web?index=1&wait=60s");
    face.until_waiting(1).await;
    let refused = face.get("/v1/agent/services").await;
    assert_eq!((refused.status, refused.body.as_str()), (503, "too many connections: 1 are open already"));
    query.abort();
    face.until_waiting(0).await;
    loop {
        // The place is free once the connection has ended, which is a moment after its query has.
        if face.get("/v1/agent/services").await.status == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn a_body_has_a_size_and_a_time() {
    let face = Running::with(Limits { body: 1000, body_time: SHORT, ..Limits::default() });
    let fits = |length: usize| format!("{{\"Name\":\"web\",\"Pad\":\"{}\"}}", "x".repeat(length - 23));
    assert_eq!(fits(1000).len(), 1000);
    face.register(&fits(1000)).await;
    let refused = face.put("/v1/agent/service/register", &fits(1001)).await;
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (413, "Request body too large, max size: 1000 bytes")
    );

    let mut stream = TcpStream::connect(face.address).await.unwrap();
    let head = "PUT /v1/agent/service/register HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let slow = answer(stream).await;
    assert_eq!((slow.status, slow.body.as_str()), (408, "the request body did not arrive in time"));
}

#[tokio::test]
async fn a_head_has_a_time() {
    let face = Running::with(Limits { head_time: SHORT, connections: 1, ..Limits::default() });
    let mut slow = TcpStream::connect(face.address).await.unwrap();
    slow.write_all(b"GET /v1/agent/services HTTP/1.1\r\nHost:").await.unwrap();
    // There is one place, and the slow client has it until its time is up.
    while exchange(face.address, "GET", "/v1/agent/services", "").await.status != 200 {}
}

#[tokio::test]
async fn a_panic_is_one_500() {
    let face = Running::start();
    let query = face.ask("/v1/health/service/web?index=1&wait=60s");
    face.until_waiting(1).await;
    let answers: Vec<_> = (0..20).map(|_| face.ask("/v1/panic")).collect();
    for answer in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 500);
        assert!(answer.body.starts_with("internal error: the handler panicked"), "{}", answer.body);
    }
    face.register(r#"{"Name":"web"}"#).await;
    assert_eq!(query.await.unwrap().index(), 2);
}

#[tokio::test]
async fn who_does_not_finish_is_cut_off_at_shutdown() {
    let face = Running::with(Limits { finish_time: SHORT, ..Limits::default() });
    let mut stream = TcpStream::connect(face.address).await.unwrap();
    let head = "PUT /v1/agent/service/register HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    // Once another connection is served, this one has been accepted too.
    face.get("/").await;
    face.trigger.trigger();
    until(|| face.task.is_finished()).await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let face = Running::start();
    let config = Config {
        listen: face.address,
        node: "n2".into(),
        node_address: "127.0.0.1".parse().unwrap(),
        datacenter: "dc1".into(),
        extra: axum::Router::new(),
        limits: Limits::default(),
        reports: None,
    };
    let (registry, keys) = (Arc::new(MemoryRegistry::default()), Arc::new(MemoryKeyValue::default()));
    let error = build(config, registry, keys, StatusBoard::default()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", face.address)), "{error}");
}

#[tokio::test]
async fn a_registry_that_fails_is_503_with_the_reason() {
    let face = Running::over(Limits::default(), Arc::new(Broken), MemoryRegistry::default());
    for (method, target, body) in [
        ("PUT", "/v1/agent/service/register", r#"{"Name":"web"}"#),
        ("PUT", "/v1/agent/service/deregister/web", ""),
        ("PUT", "/v1/portolan/drain/web", ""),
        ("GET", "/v1/agent/services", ""),
        ("GET", "/v1/catalog/services", ""),
        ("GET", "/v1/health/service/web", ""),
    ] {
        let answer = exchange(face.address, method, target, body).await;
        let text = "registry unavailable: disk full";
        assert_eq!((answer.status, answer.body.as_str()), (503, text), "{method} {target}");
    }
}

/// A registry that cannot do anything.
struct Broken;

fn broken<T>() -> Pending<'static, Result<T, RegistryError>>
where
    T: Send + 'static,
{
    Box::pin(async { Err(RegistryError::Unavailable("disk full".into())) })
}

impl Registry for Broken {
    fn register(&self, _: Registration) -> Pending<'_, Result<Revision, RegistryError>> {
        broken()
    }

    fn drain(&self, _: InstanceId, _: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        broken()
    }

    fn deregister(&self, _: InstanceId, _: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        broken()
    }

    fn find(&self, _: ServiceName, _: Filter) -> Pending<'_, Result<ServiceView, RegistryError>> {
        broken()
    }

    fn list(&self) -> Pending<'_, Result<Listing, RegistryError>> {
        broken()
    }

    fn subscribe(&self, interest: Interest) -> Subscription {
        MemoryRegistry::default().subscribe(interest)
    }
}
