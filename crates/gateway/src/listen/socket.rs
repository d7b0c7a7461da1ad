//! Listening sockets: one per core on the same address, so that the kernel spreads connections over the cores.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 4096;

/// Binds `count` sockets to `address`; with port 0, all to the same free port.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Sockets that share a port would also share it with another process of the same user, and half of the traffic
    // would silently go there: a socket that shares with nobody tells whether the port is free.
    let probe = open(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..count).map(|_| open(address, true)).collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_share_a_port_and_strangers_do_not() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = bind(any, 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|s| s.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
