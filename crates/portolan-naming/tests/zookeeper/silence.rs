//! A server that answers signs of life and nothing else. Real ones do, of a session that ends just as its owner returns to
//! it, but not on demand: here it is a real server behind somebody who swallows the rest.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::cluster::zookeeper::ZooKeeper;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::support::{Opened, Seen, instance, settle};

/// What a client calls its pings, and which request a `sync` is.
const PING: [u8; 4] = (-2_i32).to_be_bytes();
const SYNC: [u8; 4] = 9_i32.to_be_bytes();

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
    both_come_and_go(ours, direct).await;
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
    both_come_and_go(ours, direct).await;
}

/// A server that comes upon the end of a session just as its owner returns to it may answer a `sync` as well, and never the
/// first write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_write_is_left() {
    let ensemble = ZooKeeper::start(1);
    let between = Between::start(ensemble.authorities()).await;
    let uri = format!("zookeeper://{}/s?session_timeout=20s", between.authority);
    let (ours, direct) = (Opened::at(&uri), Opened::over(&ensemble, "/s", ""));
    ours.registry.register(instance("web", 1)).await.unwrap();
    between.cut_off(HandsOn::PingsAndSyncs);
    settle(&*ours.registry, instance("web", 2)).await;
    both_come_and_go(ours, direct).await;
}

/// What is registered with `ours` is there, and goes with it.
async fn both_come_and_go(ours: Opened, direct: Opened) {
    let seen = Seen::by(&direct.registry).await;
    seen.until("both are there", |ids| ids.len() == 2).await;
    ours.close().await;
    seen.until("both are gone", |ids| ids.is_empty()).await;
    direct.close().await;
}

/// What of a client's words a connection hands on. Whoever connects is always heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum HandsOn {
    #[default]
    Everything,
    Pings,
    PingsAndSyncs,
    /// It ends.
    Nothing,
}

impl HandsOn {
    fn takes(self, packet: &[u8]) -> bool {
        match self {
            Self::Everything => true,
            Self::Pings => packet.starts_with(&PING),
            Self::PingsAndSyncs => packet.starts_with(&PING) || packet.get(4..8) == Some(&SYNC),
            Self::Nothing => false,
        }
    }
}

/// Hands on what clients and a server say to each other.
struct Between {
    authority: String,
    ways: Arc<Mutex<Ways>>,
}

#[derive(Default)]
struct Ways {
    /// What the connection hands on that came last.
    last: watch::Sender<HandsOn>,
    /// What the next ones will, until something of one was swallowed: the client may come back once by itself.
    next: HandsOn,
}

impl Between {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let ways: Arc<Mutex<Ways>> = Arc::default();
        let known = Arc::clone(&ways);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let hands_on = {
                    let mut ways = known.lock().unwrap();
                    let (last, hands_on) = watch::channel(ways.next);
                    ways.last = last;
                    hands_on
                };
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(hand_on(client, server, hands_on, Arc::clone(&known)));
            }
        });
        Self { authority, ways }
    }

    /// From now on the last connection hands on pings only; those to come hand on everything.
    fn swallow(&self) {
        // There is none, maybe.
        let _none = self.ways.lock().unwrap().last.send(HandsOn::Pings);
    }

    /// Ends the last connection. The next one hands on `what`; those after it, everything, once
    /// something was swallowed.
    fn cut_off(&self, what: HandsOn) {
        let mut ways = self.ways.lock().unwrap();
        ways.next = what;
        ways.last.send_replace(HandsOn::Nothing);
    }
}

/// Hands on what a client says, packet by packet, and all that a server says, to the end of the connection.
async fn hand_on(
    mut client: TcpStream,
    mut server: TcpStream,
    hands_on: watch::Receiver<HandsOn>,
    ways: Arc<Mutex<Ways>>,
) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let asked = async {
        let mut first = true;
        while let Ok(length) = from_client.read_u32().await {
            let mut packet = vec![0; length as usize];
            from_client.read_exact(&mut packet).await?;
            if std::mem::take(&mut first) || hands_on.borrow().takes(&packet) {
                to_server.write_all(&[&length.to_be_bytes()[..], &packet].concat()).await?;
            } else {
                ways.lock().unwrap().next = HandsOn::Everything;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let mut cut = hands_on.clone();
    tokio::select! {
        _ended = asked => {}
        _ended = copy(&mut from_server, &mut to_client) => {}
        Ok(_) = cut.wait_for(|hands_on| *hands_on == HandsOn::Nothing) => {}
    }
}
