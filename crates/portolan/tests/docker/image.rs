//! An image `FROM scratch`: our own static binary, and nothing else.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::engine::{Body, Engine};

const BINARY: &str = env!("CARGO_BIN_EXE_portolan");

/// The image of the binary under test. Made by the first test of a run and shared by the others; when the binary has
/// changed, the one before is removed.
pub(crate) fn ensure(engine: &Engine) -> String {
    let file = std::fs::metadata(BINARY).unwrap();
    let repository = format!("portolan-test-{:x}", hash(BINARY.as_bytes()));
    let tag = format!("{:x}-{:x}", file.len(), file.mtime() * 1_000_000_000 + file.mtime_nsec());
    let image = format!("{repository}:{tag}");
    let path = format!("/images/{image}/json");
    if matches!(engine.exchange("GET", &path, &Body::Nothing), Ok((200, _))) {
        return image;
    }
    let others =
        engine.get(&format!("/images/json?filters=%7B%22reference%22%3A%5B%22{repository}%22%5D%7D"));
    for other in others.as_array().unwrap().iter().filter_map(|other| other["Id"].as_str()) {
        // Where a container still uses it, it stays.
        let _ = engine.exchange("DELETE", &format!("/images/{other}"), &Body::Nothing);
    }
    let layer = tar(&[("portolan", &stripped())]);
    let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}");
    let said = engine.call("POST", &path, &Body::Tar(&layer));
    assert!(said["error"].is_null(), "{said}");
    image
}

/// The binary without debug symbols, where there is a tool for that: they are most of it.
fn stripped() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("portolan");
    let strip = Command::new("strip").arg("-o").arg(&path).arg(BINARY).status();
    let smaller = strip.is_ok_and(|status| status.success());
    std::fs::read(if smaller { path.as_path() } else { BINARY.as_ref() }).unwrap()
}

/// A tar archive of executable files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000755\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", content.len()));
        put(136, "00000000000\0");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
