//! A server that answers signs of life and nothing else. Real ones do, of a session that ends just as its owner returns to
//! it, but not on demand: here it is a real server behind somebody who swallows the rest.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::cluster::zookeeper::ZooKeeper;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Opened, Seen, instance, settle};

/// What a client calls its pings.
const PING: [u8; 4] = (-2_i32).to_be_bytes();

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_pings_is_left() {
    let ensemble = ZooKeeper::start(1);
    let between = Between::start(ensemble.authorities()).await;
    let (ours, direct) =
        (Opened::at(&format!("zookeeper://{}/s", between.authority)), Opened::over(&ensemble, "/s", ""));
    ours.registry.register(instance("web", 1)).await.unwrap();
    between.swallow();
    // Nobody is there to answer this before there is another connection; the session lives, so nothing is missed meanwhile.
    settle(&*ours.registry, instance("web", 2)).await;
    let seen = Seen::by(&direct.registry).await;
    seen.until("both are there", |ids| ids.len() == 2).await;
    ours.close().await;
    seen.until("both are gone", |ids| ids.is_empty()).await;
    direct.close().await;
}

/// Another server that takes sessions is not waited beside for as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_left_sooner_where_another_serves() {
    let ensemble = ZooKeeper::start(1);
    let between =
        [Between::start(ensemble.authorities()).await, Between::start(ensemble.authorities()).await];
    let servers = between.each_ref().map(|between| between.authority.as_str()).join(",");
    // A session that lasts: nothing else would end the connection so soon.
    let uri = format!("zookeeper://{servers}/s?session_timeout=20s");
    let (ours, direct) = (Opened::at(&uri), Opened::over(&ensemble, "/s", ""));
    ours.registry.register(instance("web", 1)).await.unwrap();
    let begun = Instant::now();
    between.iter().for_each(Between::swallow);
    settle(&*ours.registry, instance("web", 2)).await;
    let took = begun.elapsed();
    // It takes a second and a half; without another server, five seconds and more.
    assert!(took < Duration::from_secs(4), "{took:?}");
    ours.close().await;
    let seen = Seen::by(&direct.registry).await;
    seen.until("both are gone", |ids| ids.is_empty()).await;
    direct.close().await;
}

/// Hands on what clients and a server say to each other.
struct Between {
    authority: String,
    /// Whether the connections there are hand on pings only; each has its own.
    deaf: Arc<Mutex<Arc<AtomicBool>>>,
}

impl Between {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let deaf: Arc<Mutex<Arc<AtomicBool>>> = Arc::default();
        let current = Arc::clone(&deaf);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let deaf = Arc::clone(&current.lock().unwrap());
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (client, server) = (client.into_split(), server.into_split());
                tokio::spawn(async move {
                    let (mut from, mut to) = (server.0, client.1);
                    let _ended = copy(&mut from, &mut to).await;
                });
                tokio::spawn(hand_on(client.0, server.1, deaf));
            }
        });
        Self { authority, deaf }
    }

    /// From now on the connections there are hand on pings only; those to come hand on everything.
    fn swallow(&self) {
        std::mem::take(&mut *self.deaf.lock().unwrap()).store(true, SeqCst);
    }
}

/// Hands on what a client says, packet by packet, to the end of the connection.
async fn hand_on(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, deaf: Arc<AtomicBool>) {
    while let Ok(length) = client.read_u32().await {
        let mut packet = vec![0; length as usize];
        if client.read_exact(&mut packet).await.is_err() {
            return;
        }
        if deaf.load(SeqCst) && !packet.starts_with(&PING) {
            continue;
        }
        let whole = [&length.to_be_bytes()[..], &packet].concat();
        if server.write_all(&whole).await.is_err() {
            return;
        }
    }
}
