//! Long TCP connections, as a messaging gateway has them: the client keeps one connection to every server it knows, sends
//! each message over one that the selector picks by the sender's name, and follows the servers as they come and go.
//!
//! ```text
//! portolan up --no-docker
//! cargo run -p portolan-naming --example long_connections --features consul -- server portolan://127.0.0.1:8500
//! cargo run -p portolan-naming --example long_connections --features consul -- client portolan://127.0.0.1:8500
//! ```
//!
//! Start and stop servers: a new one gets its connection before its first message; one that is told to end (Ctrl-C)
//! drains, so that clients send nothing new, and closes when the last of them has hung up.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{
    Endpoint, Health, Host, Incarnation, Instance, InstanceId, Owner, Protocol, Registration, ServiceName,
    Weight,
};
use portolan_naming::Naming;
use portolan_naming::selector::{Preference, Selector, Strategy};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SERVICE: &str = "chat";
/// How long a server that drains waits for its clients to hang up.
const DRAIN: Duration = Duration::from_secs(30);

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", uri] => server(Naming::open(uri)?).await,
        ["client", uri] => client(Naming::open(uri)?).await,
        _ => Err("usage: long_connections server|client REGISTRY-URI".into()),
    }
}

async fn server(naming: Naming) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let registered = naming
        .register(Registration {
            id: InstanceId::new(format!("{SERVICE}-{address}"))?,
            service: ServiceName::new(SERVICE)?,
            endpoint: Endpoint { host: Host::Ip(address.ip()), port: address.port() },
            protocol: Protocol::Tcp,
            tags: [].into(),
            meta: [].into(),
            weight: Weight::default(),
            zone: None,
            owner: Owner::new("long_connections")?,
            incarnation: Incarnation::default(),
            health: Health::Passing,
        })
        .await?;
    say(&format!("serving at {address}"));
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                clients.spawn(echo(accepted?.0));
            }
            Some(_) = clients.join_next() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    registered.drain().await?;
    say("draining");
    let _some_stayed = timeout(DRAIN, clients.join_all()).await;
    registered.deregister().await?;
    naming.close(Duration::from_secs(5)).await.map_err(|unfinished| format!("{unfinished:?}").into())
}

async fn echo(stream: TcpStream) {
    let (lines, mut answers) = stream.into_split();
    let mut lines = BufReader::new(lines).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if answers.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn client(naming: Naming) -> Outcome {
    let mut watch = naming.subscribe(ServiceName::new(SERVICE)?);
    let selector = Selector::new(Strategy::ConsistentHash, Preference::default());
    let mut servers: Vec<Arc<Instance>> = Vec::new();
    let mut connections: BTreeMap<InstanceId, TcpStream> = BTreeMap::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    for message in 0_u64.. {
        tokio::select! {
            // The first list at once, then every change; it never ends with an error.
            told = watch.next() => match told {
                Some(told) => servers = follow(&mut connections, told).await,
                None => break,
            },
            _ = beat.tick() => {
                let sender = format!("user-{}", message % 7);
                let Some(pick) = selector.pick(&servers, &sender) else {
                    say("nobody to send to");
                    continue;
                };
                let id = pick.instance.id();
                match send(connections.get_mut(id), &sender).await {
                    Ok(()) => say(&format!("{sender} -> {id}")),
                    // It is gone before the registry has noticed; the next change, or the next beat, says more.
                    Err(error) => {
                        say(&format!("{sender} -> {id}: {error}"));
                        servers.retain(|server| server.id() != id);
                        connections.remove(id);
                    }
                }
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    naming.close(Duration::from_secs(5)).await.map_err(|unfinished| format!("{unfinished:?}").into())
}

/// Connects to who is new, hangs up on who drains or is gone. Returns those that may be sent to: the connected.
async fn follow(
    connections: &mut BTreeMap<InstanceId, TcpStream>,
    told: Vec<Arc<Instance>>,
) -> Vec<Arc<Instance>> {
    let wanted: Vec<_> = told.into_iter().filter(|server| server.takes_new_work()).collect();
    connections.retain(|id, _| wanted.iter().any(|server| server.id() == id));
    for server in &wanted {
        if !connections.contains_key(server.id())
            && let Ok(stream) = TcpStream::connect(server.endpoint().to_string()).await
        {
            connections.insert(server.id().clone(), stream);
        }
    }
    say(&format!("{} servers, {} connected", wanted.len(), connections.len()));
    wanted.into_iter().filter(|server| connections.contains_key(server.id())).collect()
}

async fn send(connection: Option<&mut TcpStream>, message: &str) -> std::io::Result<()> {
    let connection = connection.ok_or(std::io::ErrorKind::NotConnected)?;
    connection.write_all(format!("{message}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer).await?;
    if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[expect(clippy::print_stdout, reason = "an example talks on its terminal")]
fn say(text: &str) {
    println!("{text}");
}
