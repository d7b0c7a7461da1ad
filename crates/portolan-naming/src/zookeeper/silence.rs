//! Whether the server at the other end still answers what it is asked: there are servers that answer signs of life and
//! nothing else. One that is parted from whoever leads takes what it is asked to the end of its patience, many seconds; one
//! that comes upon the end of a session just as its owner returns to it, for ever, although it may answer a `sync`.
//!
//! A server that writes to a slow disk is as silent. So a silent one is left soon only where another does what takes a
//! quorum meanwhile; where none does, all may be waiting for the same. And one that answers other things has a lot to do.

use std::time::Duration;

use tokio::sync::watch;
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

/// Ends when `server` is to be left. `answers` counts what it has answered beside what is asked here, beginning with the watch.
pub(super) async fn silence(
    client: &Client,
    server: &str,
    mut answers: watch::Receiver<u64>,
    config: &Config,
) {
    let others = Others { server, answers: answers.clone(), config };
    // Whoever never takes the first write may answer a `sync`.
    if others.are_better(answers.wait_for(|answers| *answers > 0)).await {
        return;
    }
    // What is asked before is answered before, and whoever leads answers this, so that it tells of all. An error is an answer,
    // or the session's end, which has an event.
    while !others.are_better(client.sync(config.layout.root())).await {
        sleep(ASK_EVERY).await;
    }
}

/// The servers beside the one at the other end.
struct Others<'a> {
    server: &'a str,
    answers: watch::Receiver<u64>,
    config: &'a Config,
}

impl Others<'_> {
    /// Whether they are to be asked instead, `asked` not having been answered.
    async fn are_better(&self, asked: impl Future) -> bool {
        tokio::select! {
            answered = timeout(SILENCE, asked) => answered.is_err(),
            () = self.serve() => true,
        }
    }

    /// Ends when one of them has agreed with others on a session, after a while without any answer of ours.
    async fn serve(&self) {
        let others: Vec<_> = self.config.servers.iter().filter(|other| *other != self.server).collect();
        loop {
            let before = *self.answers.borrow();
            sleep(SUSPICIOUS).await;
            if *self.answers.borrow() == before
                && let Some(other) = fastrand::choice(&others)
                && let Ok(connection) = Connection::open(self.config, other, SUSPICIOUS, None).await
            {
                connection.close().await;
                return;
            }
        }
    }
}
