//! The ways to an engine: it is away, behind TCP, behind TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use registrator::docker::Engine;
use runtime::State;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::certificates::certificates;
use super::rig::{self, Rig, until};
use super::running::{Running, SERVES, config};

#[tokio::test]
async fn an_engine_that_is_not_there_is_waited_for() {
    let folder = Folder::new();
    let path = folder.0.join("docker.sock");
    let running = Running::at(Rig::new().await, &format!("unix://{}", path.display()), config());
    running.reaches(State::Degraded).await;
    let expect = format!(
        "no container engine at unix://{0}: there is no socket {0}; 0 instances registered",
        path.display()
    );
    assert_eq!(running.report().detail, expect);

    running.up("web", running.rig.sleeper()).await;
    let relay = Relay::unix(&path);
    running.is("web", SERVES).await;
    running.reaches(State::Running).await;
    // Cut off: everything stays, and what happened meanwhile is found out.
    relay.cut(&path).await;
    running.reaches(State::Degraded).await;
    running.up("shop", running.rig.sleeper()).await;
    running.rig.stop("web").await;
    assert_eq!(running.calls(), ["register web"]);
    let _relay = Relay::unix(&path);
    running.is("shop", SERVES).await;
    running.is("web", None).await;
    running.end().await;
}

#[tokio::test]
async fn an_engine_behind_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("tcp://{}", listener.local_addr().unwrap());
    let _relay = Relay::tcp(listener);
    let running = Running::at(Rig::new().await, &uri, config());
    running.reaches(State::Running).await;
    running.up("web", running.rig.sleeper()).await;
    running.is("web", SERVES).await;
    running.end().await;
}

#[tokio::test]
async fn an_engine_behind_tls() {
    let (folder, listener) = (Folder::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let uri = format!("tcp://{}", listener.local_addr().unwrap());
    let (relay, open) = Relay::tls(listener, certificates(&folder.0));
    let engine = || Engine::new(Some(&uri), Some(&folder.0)).unwrap();
    let running = Running::of(Rig::new().await, engine(), config());
    running.reaches(State::Running).await;
    // Commands take the connection over.
    let env = ["PATH=/bin", "SERVICE_CHECK_SCRIPT=exit 0"].map(str::to_owned).into();
    running.up("web", ContainerCreateBody { env: Some(env), ..running.rig.sleeper() }).await;
    running.is("web", SERVES).await;
    running.rig.stop("web").await;
    running.is("web", None).await;
    let Running { rig, tasks, trigger, .. } = running;
    trigger.trigger();
    assert_eq!(tasks.finish(Duration::from_secs(30)).await, Ok(()));
    until("no connection is left", || async { Arc::strong_count(&open) == 1 }).await;

    // Nobody it knows, then nobody we know.
    let file = |name: &str| folder.0.join(name);
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| std::fs::read(file(name)).unwrap());
    ["cert.pem", "key.pem"].iter().for_each(|name| std::fs::remove_file(file(name)).unwrap());
    let running = Running::of(rig, engine(), config());
    let says = |what: &'static str| {
        let running = &running;
        async move { until(what, || async { running.report().detail.contains(what) }).await }
    };
    says("received fatal alert: CertificateRequired").await;
    // Both are found out about by asking again, without a restart.
    let ca = std::fs::read(file("ca.pem")).unwrap();
    std::fs::write(file("ca.pem"), certificate.as_slice()).unwrap();
    says("invalid peer certificate").await;
    std::fs::remove_file(file("ca.pem")).unwrap();
    says("ca.pem: there is no such file").await;
    let files = [("cert.pem", certificate), ("key.pem", key), ("ca.pem", ca)];
    files.iter().for_each(|(name, content)| std::fs::write(file(name), content).unwrap());
    running.reaches(State::Running).await;
    running.end().await;
    drop(relay);
}

#[test]
fn certificates_of_no_use_are_named() {
    let folder = Folder::new();
    let path = folder.0.clone();
    drop(certificates(&path));
    let tries = || Engine::new(Some("tcp://127.0.0.1:1"), Some(&path)).map(drop).map_err(|e| e.to_string());
    assert_eq!(tries(), Ok(()));
    let check = |name: &str, content: Option<&str>, why: &str| {
        let file = path.join(name);
        let before = std::fs::read(&file).unwrap();
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let said = tries().unwrap_err();
        assert_eq!(said, format!("TLS to the container engine: {}: {why}", file.display()));
        std::fs::write(&file, before).unwrap();
    };
    for (name, holds) in [("ca.pem", "certificate"), ("cert.pem", "certificate"), ("key.pem", "private key")]
    {
        check(name, None, "there is no such file");
        check(name, Some("nothing of the kind"), &format!("holds no {holds}"));
    }
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    check("key.pem", Some(&other), "keys may not be consistent: KeyMismatch");
    assert_eq!(tries(), Ok(()));
}

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("portolan-registrator-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Passes connections on to the test engine, until it is cut.
struct Relay(tokio::task::JoinHandle<()>);

impl Relay {
    fn unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        Self(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass_on(stream));
            }
        }))
    }

    fn tcp(listener: TcpListener) -> Self {
        Self(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass_on(stream));
            }
        }))
    }

    /// Also something that each open connection holds a share of.
    fn tls(listener: TcpListener, acceptor: TlsAcceptor) -> (Self, Arc<()>) {
        let open = Arc::new(());
        let share = Arc::downgrade(&open);
        let relay = Self(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, share) = (acceptor.clone(), share.upgrade());
                connections.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        pass_on(stream).await;
                    }
                    drop(share);
                });
            }
        }));
        (relay, open)
    }

    /// Ends all connections and takes no more.
    async fn cut(mut self, path: &Path) {
        self.0.abort();
        let _ = (&mut self.0).await;
        std::fs::remove_file(path).unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pass_on(mut from: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let uri = rig::uri();
    let path = uri.strip_prefix("unix://").expect("the test engine listens on a unix socket");
    if let Ok(mut to) = UnixStream::connect(path).await {
        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
    }
}
