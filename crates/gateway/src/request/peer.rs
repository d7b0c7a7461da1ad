//! Who is at the other end of a client connection.

use std::net::IpAddr;

use http::HeaderValue;

use crate::trusted::Cidr;

/// The client of a connection, with what each of its requests needs made once.
pub(crate) struct Peer {
    /// Its address as a header value.
    pub(super) forwarded_for: HeaderValue,
    /// Whether its word about clients behind it is believed.
    pub(super) trusted: bool,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, trusted: &[Cidr]) -> Self {
        let address = address.to_canonical();
        let text = HeaderValue::try_from(address.to_string());
        Self {
            forwarded_for: text.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            trusted: trusted.iter().any(|network| network.contains(address)),
        }
    }
}
