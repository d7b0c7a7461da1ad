//! Whether the member at the other end lives, whom it follows, and calls that would be lost with whom it follows.
//!
//! What is written goes through the member that leads. A request on its way to one that died is lost, and the member that
//! sent it on goes on waiting for it for 5 s, beyond the election of the next. So each member is asked whom it follows while
//! it is asked for life, and what it was asked before that changed is given up.

use std::time::Duration;

use prost::Message;
use tokio::time::sleep;

use super::grpc::{Client, Fault};
use super::proto::StatusResponse;

const STATUS: &str = "/etcdserverpb.Maintenance/Status";
/// How often the other end is asked for life, and how long it may take to answer: together well below the 2 s after
/// which everything is to be right again. A member answers this by itself, without the others and without a disk.
const PING: Duration = Duration::from_millis(500);
const PONG: Duration = Duration::from_millis(800);

/// Who leads where nobody does: an election is on, or the member is parted from the others.
const NOBODY: u64 = 0;

impl Client {
    /// Finds out whether the member lives and has a leader. Whoever does not answer is left to the caller's patience.
    pub(super) async fn greet(&self) -> Result<(), Fault> {
        let told: Result<StatusResponse, Fault> = self.ask(STATUS, &()).await;
        match told {
            Ok(StatusResponse { leader }) => {
                self.follows(leader);
                Ok(())
            }
            Err(fault @ Fault::Status { .. }) if !fault.is_leaderless() => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Returns when the member does not answer in time: a stopped process keeps its sockets open. Any answer is a sign of
    /// life; but a member that has no leader twice in a row is parted from the others, and would be silent about it for
    /// longer. Returns as well when anybody's call on this connection met a token that is of no use. It is a call and no
    /// HTTP/2 ping, because gRPC servers close on whoever pings more often than they send.
    pub(super) async fn listen_for_life(&self) -> Fault {
        let mut leaderless = false;
        loop {
            tokio::select! {
                () = sleep(PING) => {}
                () = self.stale.notified() => return Fault::Broken("the token is not valid any more".to_owned()),
            }
            match self.call(STATUS, &(), PONG).await {
                Ok(StatusResponse { leader }) => {
                    leaderless = false;
                    self.follows(leader);
                }
                Err(fault) if fault.is_leaderless() => {
                    self.follows(NOBODY);
                    if std::mem::replace(&mut leaderless, true) {
                        return fault;
                    }
                }
                Err(Fault::Status { .. }) => leaderless = false,
                Err(fault) => return fault,
            }
        }
    }

    /// [`Client::call`] of what the leader is to carry out. [`Fault::Overtaken`] as soon as another one leads: nobody may
    /// know of the call any more, or it may have been carried out.
    pub(super) async fn call_leader<A: Message + Default>(
        &self,
        method: &'static str,
        ask: &impl Message,
        patience: Duration,
    ) -> Result<A, Fault> {
        let mut leader = self.leader.subscribe();
        tokio::select! {
            biased;
            answer = self.call(method, ask, patience) => answer,
            Ok(()) = leader.changed() => Err(Fault::Overtaken),
        }
    }

    /// Tells calls on their way when it is another one than before. The first to be known is none.
    fn follows(&self, leader: u64) {
        self.leader.send_if_modified(|known| known.replace(leader).is_some_and(|known| known != leader));
    }
}
