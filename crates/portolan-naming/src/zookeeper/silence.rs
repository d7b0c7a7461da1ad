//! Whether the server at the other end still answers what it is asked: there are servers that answer signs of life and
//! nothing else. One that is parted from whoever leads takes what it is asked to the end of its patience, many seconds; one
//! that comes upon the end of a session just as its owner returns to it, for ever.
//!
//! A server that writes to a slow disk is as silent. So a silent one is left soon only where another does what takes a
//! quorum meanwhile; where none does, all may be waiting for the same. And one that answers other things has a lot to do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use zookeeper_client::Client;

use super::config::Config;
use super::connection::Connection;

/// How often it is asked, and how long it may take: together below the 2 s after which everything is to be right again,
/// if another server answers.
const ASK_EVERY: Duration = Duration::from_secs(1);
const SUSPICIOUS: Duration = Duration::from_millis(500);
/// How long it may take if none does.
const SILENCE: Duration = Duration::from_secs(5);

/// Ends when `server` is to be left. `answers` counts what it answers to others.
pub(super) async fn silence(client: &Client, server: &str, answers: &AtomicU64, config: &Config) {
    loop {
        // What is asked before is answered before, and whoever leads answers this, so that it tells of all. An error is an
        // answer, or the session's end, which has an event.
        let asked = client.sync(config.layout.root());
        tokio::select! {
            answered = timeout(SILENCE, asked) => if answered.is_err() { return },
            () = served_elsewhere(server, answers, config) => return,
        }
        sleep(ASK_EVERY).await;
    }
}

/// Ends when another server has agreed with others on a session, after a while without any answer of this one.
async fn served_elsewhere(server: &str, answers: &AtomicU64, config: &Config) {
    let others: Vec<_> = config.servers.iter().filter(|other| *other != server).collect();
    loop {
        let before = answers.load(Ordering::Relaxed);
        sleep(SUSPICIOUS).await;
        if answers.load(Ordering::Relaxed) == before
            && let Some(other) = fastrand::choice(&others)
            && let Ok(connection) = Connection::open(config, other, SUSPICIOUS, None).await
        {
            connection.close().await;
            return;
        }
    }
}
