//! `portolan://`: the adapter against our own HTTP face, over a registry in memory or on disk.

#![expect(clippy::unwrap_used, reason = "a test's verdict is a panic")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use access::http::{Config, Limits};
use portolan_model::{KeyValue, Registry};
use runtime::{Shutdown, ShutdownTrigger, StatusBoard};
use testkit::memory_key_value::MemoryKeyValue;
use testkit::memory_registry::MemoryRegistry;
use testkit::ports::free_ports;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use handle::{Watcher, counts};

mod keys;

#[path = "../cluster_consul/handle.rs"]
#[expect(dead_code, reason = "shared with the tests on clusters, which need more of it")]
mod handle;
#[path = "../cluster_consul/node.rs"]
mod node;

const LIMIT: Duration = Duration::from_secs(30);

/// A face that serves.
struct Face {
    port: u16,
    book: MemoryRegistry,
    trigger: ShutdownTrigger,
    server: JoinHandle<()>,
}

impl Face {
    /// Over `book`, on the port given or, if that is 0, one of its own.
    fn start(book: MemoryRegistry, port: u16) -> Self {
        Self::over(Arc::new(book.clone()), Arc::new(MemoryKeyValue::default()), book, port)
    }

    fn over(served: Arc<dyn Registry>, keys: Arc<dyn KeyValue>, book: MemoryRegistry, port: u16) -> Self {
        let config = Config {
            listen: (Ipv4Addr::LOCALHOST, if port == 0 { free_ports(1)[0] } else { port }).into(),
            node: "here".to_owned(),
            node_address: Ipv4Addr::LOCALHOST.into(),
            datacenter: "dc1".to_owned(),
            extra: Default::default(),
            reports: None,
            limits: Limits { finish_time: Duration::from_millis(100), ..Limits::default() },
        };
        let (handle, server) = access::http::build(config, served, keys, StatusBoard::default()).unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let port = handle.local_addr().port();
        Self { port, book, trigger, server: tokio::spawn(server.run(shutdown)) }
    }

    async fn end(self) -> MemoryRegistry {
        self.trigger.trigger();
        self.server.await.unwrap();
        self.book
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_promises_of_a_registry() {
    let face = Face::start(MemoryRegistry::default(), 0);
    let handle = handle::open(&format!("portolan://127.0.0.1:{}", face.port));
    testkit::registry_battery::run(Arc::clone(&handle.registry)).await;
    handle.close().await;
    face.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_face_that_is_away_empties_nothing() {
    let face = Face::start(MemoryRegistry::default(), 0);
    let uri = format!("portolan://127.0.0.1:{}", face.port);
    let (owner, other) = (handle::open(&uri), handle::open(&uri));
    owner.register_many(200, 4).await;
    let watcher = Watcher::start(&other);
    let all = |view: &portolan_model::View| counts(view) == (200, 200);
    watcher.until(LIMIT, "all are seen", all).await;

    // It comes back as it was: nobody notices.
    let port = face.port;
    let face = Face::start(face.end().await, port);
    owner.registry.register(handle::said("fresh", 1)).await.unwrap();
    watcher.until(LIMIT, "what is new is seen", |view| view.instances("fresh").count() == 1).await;

    // It comes back without its memory: the owner registers everything again.
    drop(face.end().await);
    let face = Face::start(MemoryRegistry::default(), port);
    testkit::wait::until(LIMIT, "all are registered again", async || {
        let count = face.book.list().await.unwrap().services.values().map(Vec::len).sum::<usize>();
        if count == 201 { Ok(()) } else { Err(count) }
    })
    .await;
    watcher.until(LIMIT, "all are seen again", all).await;
    assert_eq!(watcher.emptied(), []);

    // Registrations do not depend on who made them.
    owner.close().await;
    assert_eq!(face.book.list().await.unwrap().services.len(), 5);
    other.close().await;
    face.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_face_that_forgets_what_was_registered_since_it_was_read_empties_nothing() {
    let face = Face::start(MemoryRegistry::default(), 0);
    let (port, uri) = (face.port, format!("portolan://127.0.0.1:{}", face.port));
    let (owner, other) = (handle::open(&uri), handle::open(&uri));
    let watcher = Watcher::start(&other);
    watcher.until(LIMIT, "nothing is there", |view| counts(view) == (0, 0)).await;
    owner.register_many(200, 4).await;
    let all = |view: &portolan_model::View| counts(view) == (200, 200);
    watcher.until(LIMIT, "all are seen", all).await;
    drop(face.end().await);
    let face = Face::start(MemoryRegistry::default(), port);
    let listed =
        async || face.book.list().await.unwrap().services.values().map(Vec::len).sum::<usize>() == 200;
    testkit::wait::until(LIMIT, "all are registered again", listed).await;
    watcher.until(LIMIT, "all are seen again", all).await;
    assert_eq!(watcher.emptied(), []);
    owner.close().await;
    other.close().await;
    face.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portolan_that_has_not_read_its_own_registry_is_left() {
    let away = handle::open(&format!("consul://127.0.0.1:{}", free_ports(1)[0]));
    let blind = Face::over(
        Arc::clone(&away.registry),
        Arc::new(MemoryKeyValue::default()),
        MemoryRegistry::default(),
        0,
    );
    let alone = handle::open(&format!("portolan://127.0.0.1:{}", blind.port));
    testkit::wait::until(LIMIT, "it is said", async || {
        let detail = alone.status().detail;
        if detail.contains("has not read its own registry yet") { Ok(()) } else { Err(detail) }
    })
    .await;
    let face = Face::start(MemoryRegistry::default(), 0);
    face.book.register(handle::said("web", 1)).await.unwrap();
    let handle = handle::open(&format!("portolan://127.0.0.1:{},127.0.0.1:{}", blind.port, face.port));
    let watcher = Watcher::start(&handle);
    watcher.until(LIMIT, "the other is read", |view| view.instances("web").count() == 1).await;
    drop(watcher);
    for handle in [handle, alone, away] {
        handle.close().await;
    }
    face.end().await;
    blind.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_makes_no_sense_is_left() {
    let liar = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = liar.local_addr().unwrap().port();
    let lies = tokio::spawn(async move {
        loop {
            let (mut stream, _) = liar.accept().await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"Reset\":{}}\nrubbish\n";
            let _gone = stream.write_all(answer).await;
        }
    });
    let face = Face::start(MemoryRegistry::default(), 0);
    let handle = handle::open(&format!("portolan://127.0.0.1:{port},127.0.0.1:{}", face.port));
    handle.register_many(10, 1).await;
    let watcher = Watcher::start(&handle);
    watcher.until(LIMIT, "all are seen", |view| counts(view) == (10, 10)).await;
    drop(watcher);
    handle.close().await;
    lies.abort();
    face.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_consul_follows_it_as_it_follows_consul() {
    let face = Face::start(MemoryRegistry::default(), 0);
    let handle = handle::open(&format!("portolan://127.0.0.1:{}", face.port));
    node::follows(&handle, face.port).await;
    handle.close().await;
    face.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_services() {
    let face = Face::start(MemoryRegistry::default(), 0);
    let uri = format!("portolan://127.0.0.1:{}", face.port);
    let (owner, other) = (handle::open(&uri), handle::open(&uri));
    let watcher = Watcher::start(&other);
    owner.register_many(700, 700).await;
    watcher.until(LIMIT, "all are seen", |view| counts(view) == (700, 700)).await;
    for n in 0..700 {
        let id = handle::said(&format!("many-{n}"), n).id;
        face.book.deregister(id, portolan_model::Guard::Anyone).await.unwrap();
    }
    // The owner has the say, so they come back, each seen to be gone or not.
    watcher.until(LIMIT, "all are seen again", |view| counts(view) == (700, 700)).await;
    owner.close().await;
    other.close().await;
    face.end().await;
}
