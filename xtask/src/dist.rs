//! What is shipped: one stripped binary, small, and small when it idles.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::bench::portolan::{Options, Portolan};
use crate::process::{Outcome, resident, stat, tied, wait_for};
use crate::workspace::Workspace;

const SIZE_LIMIT: u64 = 15 << 20;
const IDLE_LIMIT: u64 = 20 << 20;

/// Builds it and holds it against its limits.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let binary = build(workspace)?;
    let size = std::fs::metadata(&binary).map_err(|e| format!("{}: {e}", binary.display()))?.len();
    let idle = idle_memory(&binary)?;
    println!("{}", workspace.relative(&binary).display());
    let sizes = [("size, stripped", size, SIZE_LIMIT), ("resident, idle", idle, IDLE_LIMIT)];
    for (what, bytes, limit) in sizes {
        println!("{what}: {:.1} MiB (limit {} MiB)", mebibytes(bytes), limit >> 20);
    }
    match sizes.iter().find(|(_, bytes, limit)| bytes > limit) {
        Some((what, ..)) => Err(format!("{what}: over its limit")),
        None => Ok(()),
    }
}

/// Builds the binary as it is shipped and says where it is.
pub(crate) fn build(workspace: &Workspace) -> Outcome<PathBuf> {
    let words = ["build", "--package", "portolan", "--bin", "portolan", "--profile", "dist", "--locked"];
    let mut command = workspace.cargo();
    command.args(words).args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| format!("cargo build: {e}"))?;
    if !output.status.success() {
        return Err("cargo build failed".to_owned());
    }
    executable(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| "cargo built no executable".to_owned())
}

fn executable(messages: &str) -> Option<PathBuf> {
    let built = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

/// Resident memory of `portolan up` once it serves and has nothing to do.
fn idle_memory(binary: &Path) -> Outcome<u64> {
    let mut portolan = Portolan::start(tied(binary), &Options::default())?;
    let pid = portolan.pid();
    // Idle is when a tenth of a second costs no tick.
    let mut before = None;
    wait_for("an idle process", Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(100));
        let now = stat(pid).map(|stat| stat.ticks);
        now == std::mem::replace(&mut before, now)
    })?;
    portolan.still_runs()?;
    Ok(resident(pid)?.now)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_executable() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/dist/portolan\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\nnot json\n";
        assert_eq!(executable(messages), Some("/t/dist/portolan".into()));
        assert_eq!(executable(""), None);
    }
}
