//! Programs in JavaScript that tests talk to: their libraries, exactly as locked, installed below the target directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{Outcome, run};
use crate::workspace::Workspace;

/// Folders of `crates/testkit/witness` with a `package.json` and its lock file.
pub(crate) const WITNESSES: &[&str] = &["node-consul", "node-gateway"];

/// Sees to it that the libraries of `witness` are in `peers/<witness>/node_modules`. Costs nothing when they are.
pub(crate) fn ensure(workspace: &Workspace, witness: &str) -> Outcome {
    let source = workspace.root.join("crates/testkit/witness").join(witness);
    let place = workspace.target.join("peers").join(witness);
    let manifest = read(&source.join("package.json"))?;
    let lock = read(&source.join("package-lock.json"))?;
    // Written when all is there, and so the sign of it.
    let stamp = place.join("installed");
    let wanted = format!("{manifest}{lock}");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing the libraries of {witness}");
    fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    write(&place.join("package.json"), &manifest)?;
    write(&place.join("package-lock.json"), &lock)?;
    // No package's own scripts: what is locked is all that is run.
    let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run(Command::new("npm").args(words).current_dir(&place))?;
    write(&stamp, &wanted)
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
