//! Measurements: of the proxy beside its peers, of how fast routing follows containers, and of naming over each backend.

pub(crate) mod lifecycle;
pub(crate) mod naming;
pub(crate) mod portolan;
pub(crate) mod proxy;

mod docker;
mod peers;
mod report;
mod stats;
mod stream;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Outcome;

/// A directory that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Outcome<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("portolan-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.0);
    }
}

/// Loopback addresses that nobody listens on now, all different. Other programs' configuration wants a number, so
/// theirs cannot be zero.
fn free_addresses<const N: usize>() -> Outcome<[SocketAddr; N]> {
    let mut held = Vec::new();
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address).map_err(|e| format!("no free port: {e}"))?;
        *address = listener.local_addr().map_err(|e| format!("no free port: {e}"))?;
        held.push(listener);
    }
    Ok(addresses)
}

/// Reads `--name value` pairs and bare `--name`s: calls `take` with each name and a way to get its value.
fn each_option(
    words: &[&str],
    mut take: impl FnMut(&str, &mut dyn FnMut() -> Outcome<String>) -> Outcome,
) -> Outcome {
    let mut words = words.iter();
    while let Some(name) = words.next() {
        let mut value = || match words.next() {
            Some(value) => Ok((*value).to_owned()),
            None => Err(format!("{name} wants a value")),
        };
        take(name, &mut value)?;
    }
    Ok(())
}

/// Reads a positive number.
fn number(name: &str, text: &str) -> Outcome<u32> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name} wants a positive number, not {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        #[track_caller]
        fn check(words: &[&str], expect: Result<&[(&str, u32)], &str>) {
            let mut got = Vec::new();
            let read = each_option(words, |name, value| {
                got.push((name.to_owned(), if name == "--bare" { 0 } else { number(name, &value()?)? }));
                Ok(())
            });
            let expect =
                expect.map(|pairs| pairs.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect::<Vec<_>>());
            assert_eq!(read.map(|()| got), expect.map_err(str::to_owned));
        }
        check(&[], Ok(&[]));
        check(
            &["--rounds", "7", "--bare", "--seconds", "2"],
            Ok(&[("--rounds", 7), ("--bare", 0), ("--seconds", 2)]),
        );
        check(&["--rounds"], Err("--rounds wants a value"));
        check(&["--rounds", "0"], Err("--rounds wants a positive number, not \"0\""));
    }

    #[test]
    fn addresses_differ() {
        let [a, b] = free_addresses().unwrap();
        assert_ne!(a, b);
    }

    #[test]
    fn scratch_goes_away() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.write("file", "text").unwrap();
        assert!(path.exists());
        drop(scratch);
        assert!(!path.exists());
    }
}
