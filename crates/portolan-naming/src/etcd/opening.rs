//! A connection to a member that is of use: one that answers and follows somebody who leads. The next is tried beside one
//! that is slow to answer, and those that were of no use again and again: one that is cut off or stopped is not waited for.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::client::Connection;
use runtime::Backoff;
use tokio::time::{sleep, timeout};

use super::config::Config;
use super::dial::{Stream, dial};
use super::grpc::{self, Client, Fault};

/// How long a member is tried alone, which is what RFC 8305 (section 8) proposes for addresses.
const LEAD: Duration = Duration::from_millis(250);
/// How long a member may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon a member is tried again that was of no use: more slowly each time.
const AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// A connection, still to be driven, and which member it is to.
pub(super) struct Opened {
    pub(super) at: usize,
    pub(super) client: Client,
    pub(super) connection: Connection<Box<dyn Stream>, Bytes>,
}

/// Tries all members, `first` first, until one is of use. While none is, `away` hears why of each.
pub(super) async fn open(
    config: &Config,
    authorities: &[String],
    first: usize,
    away: impl Fn(&str),
) -> Opened {
    let again = Backoff::new(AGAIN[0], AGAIN[1]);
    let mut members: Vec<_> = authorities.iter().map(|_| (again.clone(), None)).collect();
    let mut next = (0..authorities.len()).map(|n| (first + n) % authorities.len());
    let try_one = async |at: usize, wait| {
        sleep(wait).await;
        (at, one(config, at, &authorities[at]).await)
    };
    let mut trying = FuturesUnordered::new();
    loop {
        trying.extend(next.next().map(|at| try_one(at, Duration::ZERO)));
        tokio::select! {
            Some((at, tried)) = trying.next() => match tried {
                Ok((client, connection)) => return Opened { at, client, connection },
                Err(why) => {
                    let (again, said) = &mut members[at];
                    *said = Some(format!("{}: {why}", authorities[at]));
                    trying.push(try_one(at, again.next(fastrand::u64(..))));
                    let said: Vec<_> = members.iter().filter_map(|(_, said)| said.as_deref()).collect();
                    if said.len() == members.len() {
                        away(&said.join("; "));
                    }
                }
            },
            () = sleep(LEAD), if next.len() > 0 => {}
        }
    }
}

type Driven = (Client, Connection<Box<dyn Stream>, Bytes>);

async fn one(config: &Config, at: usize, authority: &str) -> Result<Driven, String> {
    let (host, tls) = (config.servers[at].host.as_str(), config.tls.as_ref());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let opened = async {
        let stream = dial(authority, host, tls).await?;
        let opened = grpc::open(stream, scheme, authority.to_owned()).await;
        let (client, mut connection) = opened.map_err(|fault| fault.to_string())?;
        let lives = tokio::select! {
            biased;
            lives = client.greet() => lives,
            ended = &mut connection => Err(Fault::of_end(ended)),
        };
        lives.map(|()| (client, connection)).map_err(|fault| fault.to_string())
    };
    timeout(PATIENCE, opened).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}
