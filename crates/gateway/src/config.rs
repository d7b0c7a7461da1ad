//! What the gateway is told.

use std::net::SocketAddr;
use std::time::Duration;

use crate::trusted::Cidr;

/// All settings of one gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// How many cores to use: as many threads, each with its own runtime, listener and upstream connections.
    pub cores: usize,
    /// Routes and contracts.
    pub routing: routing::Config,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much there may be of things.
    pub limits: Limits,
    /// Peers whose `X-Forwarded-*` are believed; everybody else's are replaced.
    pub trusted_proxies: Vec<Cidr>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect to an instance.
    pub connect: Duration,
    /// From the request being sent to the head of the answer.
    pub response: Duration,
    /// To receive a request's head, from its first byte.
    pub request_head: Duration,
    /// How long a client's connection may be idle between requests.
    pub client_idle: Duration,
    /// How long an upstream connection may be idle in the pool.
    pub upstream_idle: Duration,
    /// How long requests in flight may take after shutdown was asked for.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            connect: s(1),
            response: s(60),
            request_head: s(10),
            client_idle: s(75),
            upstream_idle: s(60),
            drain: s(30),
        }
    }
}

/// How much there may be of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Client connections per core; beyond it, new ones wait in the kernel's backlog.
    pub connections: usize,
    /// Idle upstream connections kept per instance and core.
    pub idle_per_instance: usize,
    /// A request's or an answer's head, in bytes.
    pub head_bytes: usize,
    /// Header fields of a request or an answer.
    pub headers: usize,
    /// Instances that one request may be tried on.
    pub attempts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16_384, idle_per_instance: 256, head_bytes: 32 * 1024, headers: 100, attempts: 5 }
    }
}

impl Limits {
    /// How much a codec may buffer of one connection, in bytes: a whole head, and enough of a body to keep system calls
    /// rare.
    pub(crate) fn buffer(&self) -> usize {
        const BODY: usize = 64 * 1024;
        self.head_bytes.max(BODY)
    }
}
