//! The address of this host where nobody said it: what its own name resolves to, looked up again once a period. A registrator
//! that was started before the network was there must not register loopback for ever.

use std::net::IpAddr;
use std::time::Duration;

use runtime::{Nudge, Shutdown};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::Config;

/// The address of this host, as far as it is known.
pub(super) struct Whereabouts {
    /// What to look up; nothing when somebody said the address.
    name: Option<String>,
    ip: watch::Sender<IpAddr>,
    period: Duration,
    answer_timeout: Duration,
}

impl Whereabouts {
    pub(super) fn new(config: &Config) -> Self {
        let Config { own_name, ip, period, answer_timeout, .. } = config;
        let (period, answer_timeout) = (*period, *answer_timeout);
        Self { name: own_name.clone(), ip: watch::Sender::new(*ip), period, answer_timeout }
    }

    /// What is known now.
    pub(super) fn ip(&self) -> IpAddr {
        *self.ip.borrow()
    }

    /// Looks it up once a period, until shutdown.
    pub(super) async fn run(&self, nudge: &Nudge, shutdown: Shutdown) {
        let Some(name) = &self.name else { return };
        tokio::select! {
            () = shutdown.triggered() => {}
            () = self.follow(name, nudge) => {}
        }
    }

    async fn follow(&self, name: &str, nudge: &Nudge) {
        loop {
            sleep(self.period).await;
            let found: Vec<IpAddr> = match timeout(self.answer_timeout, lookup_host((name, 0))).await {
                Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            let (before, now) = (self.ip(), settled(self.ip(), &found));
            if self.ip.send_replace(now) != now {
                tracing::info!(%before, %now, name, "this host's name resolves to another address");
                nudge.nudge();
            }
        }
    }

    /// What somebody should mend, when instances are registered at this host's address.
    pub(super) fn complaint(&self) -> Option<String> {
        let (name, ip) = (self.name.as_ref()?, self.ip());
        leads_nowhere(ip).then(|| {
            format!(
                "this host's name {name:?} resolves to no address that others reach: ports published on every \
                 address are registered with {ip}; say -ip"
            )
        })
    }
}

/// Which address counts. The one that is known stays while it is among those found, so that many in changing order change
/// nothing, and while nothing better is.
fn settled(now: IpAddr, found: &[IpAddr]) -> IpAddr {
    let mut good = found.iter().copied().filter(|ip| !leads_nowhere(*ip)).peekable();
    match good.peek() {
        Some(first) if !found.contains(&now) || leads_nowhere(now) => {
            let first = *first;
            good.find(IpAddr::is_ipv4).unwrap_or(first)
        }
        _ => now,
    }
}

/// Whether other hosts cannot reach this one there.
fn leads_nowhere(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_address_counts() {
        #[track_caller]
        fn check(now: &str, found: &[&str], expect: &str) {
            let found: Vec<IpAddr> = found.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(settled(now.parse().unwrap(), &found).to_string(), expect, "{now} {found:?}");
        }
        check("127.0.0.1", &[], "127.0.0.1");
        check("127.0.0.1", &["127.0.1.1", "::1"], "127.0.0.1");
        check("127.0.1.1", &["127.0.1.1", "192.0.2.7"], "192.0.2.7");
        check("127.0.1.1", &["2001:db8::7", "192.0.2.7"], "192.0.2.7");
        check("127.0.1.1", &["2001:db8::7"], "2001:db8::7");
        check("192.0.2.7", &["192.0.2.8", "192.0.2.7"], "192.0.2.7");
        check("192.0.2.7", &["192.0.2.8"], "192.0.2.8");
        check("192.0.2.7", &[], "192.0.2.7");
        check("192.0.2.7", &["127.0.1.1"], "192.0.2.7");
    }
}
