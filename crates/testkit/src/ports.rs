//! Ports for servers that cannot be told to choose, for those that are to come back, and where nobody listens.
//!
//! One that the kernel has given and taken back may be lost to a connection or to another listener at once. These are not
//! among those that it gives, and all processes of tests take them in turn, so that one comes again only after thousands.

#![expect(clippy::expect_used, reason = "who cannot have a port cannot go on")]

use std::env::temp_dir;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::ops::Range;

use rustix::process::getuid;

/// Below those that the kernel gives to whoever asks for any.
const PORTS: Range<u16> = 12_000..32_000;

/// Takes `count` ports that nobody listens on.
///
/// # Panics
/// When there are not so many.
pub fn free_ports(count: usize) -> Vec<u16> {
    let path = temp_dir().join(format!("portolan-test-ports-{}", getuid().as_raw()));
    let mut turn =
        File::options().read(true).write(true).create(true).truncate(false).open(path).expect("a file");
    turn.lock().expect("a lock");
    let mut text = String::new();
    turn.read_to_string(&mut text).expect("whose turn it is");
    let next = text.trim().parse().ok().filter(|port| PORTS.contains(port)).unwrap_or(PORTS.start);
    let ports = first_free(next, count, |port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    turn.set_len(0).and_then(|()| turn.rewind()).expect("whose turn it is");
    write!(turn, "{}", ports.last().map_or(next, |last| last + 1)).expect("whose turn it is");
    ports
}

fn first_free(next: u16, count: usize, is_free: impl Fn(u16) -> bool) -> Vec<u16> {
    let all = (next..PORTS.end).chain(PORTS.start..next);
    let ports: Vec<_> = all.filter(|port| is_free(*port)).take(count).collect();
    assert_eq!(ports.len(), count, "free ports in {PORTS:?}");
    ports
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    #[test]
    fn everybody_gets_other_ports() {
        let taken: Vec<_> = (0..8).map(|_| thread::spawn(|| free_ports(12))).collect();
        let taken: Vec<u16> = taken.into_iter().flat_map(|ports| ports.join().unwrap()).collect();
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 8 * 12);
        assert!(taken.iter().all(|port| PORTS.contains(port)));
    }

    #[test]
    fn what_is_in_use_is_passed_over() {
        let (first, last) = (PORTS.start, PORTS.end - 1);
        assert_eq!(first_free(last - 1, 3, |port| port != last), [last - 1, first, first + 1]);
    }
}
