//! Programs that the machine's own Debian no longer has: fetched from an older suite and unpacked below the target
//! directory, so that nothing of the system changes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{Outcome, find, output, run};
use crate::workspace::Workspace;

/// A program of an older suite.
pub(crate) struct Tool {
    name: &'static str,
    suite: &'static str,
    /// Where it is once it is unpacked, below `peers/<name>/root`.
    program: &'static str,
}

/// Consul left Debian after this suite.
pub(crate) const CONSUL: Tool = Tool { name: "consul", suite: "bullseye", program: "usr/bin/consul" };

/// Sees to it that `tool` is there. Costs nothing when it is.
pub(crate) fn ensure(workspace: &Workspace, tool: &Tool) -> Outcome {
    let place = workspace.target.join("peers").join(tool.name);
    if place.join("root").join(tool.program).is_file() {
        return Ok(());
    }
    if find("apt-get").is_none() || find("dpkg").is_none() {
        return Err(format!("put {} at {}/root/{}", tool.name, place.display(), tool.program));
    }
    println!("fetching {} of {}", tool.name, tool.suite);
    // apt's own state, so that the machine's lists stay as they are.
    let apt = place.join("apt");
    for directory in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(directory)).map_err(|e| format!("{}: {e}", apt.display()))?;
    }
    let sources = apt.join("sources.list");
    let settings = apt.join("apt.conf");
    write(&sources, &source(&mirror()?, tool.suite))?;
    write(&settings, &configuration(&apt, &sources))?;
    let command = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(words).current_dir(&place).env("APT_CONFIG", &settings);
        command
    };
    run(&mut command(&["update", "--quiet"]))?;
    run(&mut command(&["download", "--quiet", tool.name]))?;
    let package = fs::read_dir(&place)
        .map_err(|e| format!("{}: {e}", place.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| format!("{}: no package was fetched", place.display()))?;
    // Into place only when it is whole.
    let (fresh, root) = (place.join("fresh"), place.join("root"));
    run(Command::new("dpkg").arg("-x").arg(&package).arg(&fresh))?;
    fs::rename(&fresh, &root).map_err(|e| format!("{}: {e}", root.display()))
}

/// Where this machine gets Debian from.
pub(crate) fn mirror() -> Outcome<String> {
    let words = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let repositories = output(Command::new("apt-get").args(words))?;
    debian_among(&repositories).ok_or_else(|| "none of apt's sources is a Debian mirror".to_owned())
}

/// The main archive's: mirrors call its directory so; those of updates and of others are elsewhere.
fn debian_among(repositories: &str) -> Option<String> {
    let mut all = repositories.lines().map(|line| line.trim_end_matches('/'));
    all.find(|line| line.ends_with("/debian")).map(str::to_owned)
}

fn source(mirror: &str, suite: &str) -> String {
    format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main\n")
}

fn configuration(apt: &Path, sources: &Path) -> String {
    format!(
        "Dir::Etc::SourceList \"{}\";\nDir::Etc::SourceParts \"/dev/null\";\nDir::State::Lists \"{apt}/lists\";\n\
         Dir::Cache \"{apt}/cache\";\nAPT::Sandbox::User \"root\";\n",
        sources.display(),
        apt = apt.display(),
    )
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_main_archive() {
        #[track_caller]
        fn check(repositories: &str, expect: Option<&str>) {
            assert_eq!(debian_among(repositories).as_deref(), expect);
        }
        check("http://a/debian-security/\nhttp://b/debian/\n", Some("http://b/debian"));
        check("https://c/x/debian\nhttp://d/debian/\n", Some("https://c/x/debian"));
        check("http://a/ubuntu/\n", None);
        check("", None);
    }
}
