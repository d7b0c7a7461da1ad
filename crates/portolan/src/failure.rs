//! How a command fails: one line for people, one exit code for scripts.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was asked wrongly: exit code 2, as for a misspelt flag.
    Usage(String),
    /// It did not work: exit code 1.
    Failed(String),
}

impl Failure {
    /// It did not work, for this reason.
    pub(crate) fn failed(reason: impl fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(reason) | Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Why an address cannot be listened on, and which flag says another.
pub(crate) fn in_use(flag: &str, address: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::failed(format_args!(
            "{flag} {address}: another program listens there; say another address (port 0 takes any free one)"
        )),
        _ => Failure::failed(format_args!("{flag} {address}: cannot listen: {error}")),
    }
}
