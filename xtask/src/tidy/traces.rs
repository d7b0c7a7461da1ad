//! The tree must not tell on whose machine it was made, nor need that machine.

use std::fs;
use std::path::Path;

use super::{Finding, TextFile};

const RULE: &str = "trace of a machine";

/// The only registry a lock file may name.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Texts that only occur on the machine at hand: where the tree and its user live, which package mirrors it uses.
pub(super) fn of_this_machine(root: &Path) -> Vec<String> {
    let mut traces = Vec::new();
    // A root right below `/` has a name that may well mean something else in a text.
    if root.components().count() > 2 {
        traces.push(root.to_string_lossy().into_owned());
    }
    let home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    if let Ok(home) = home {
        for name in ["config.toml", "config"] {
            traces.extend(hosts(&fs::read_to_string(Path::new(&home).join(name)).unwrap_or_default()));
        }
        traces.push(home);
    }
    traces
}

pub(super) fn check(files: &[TextFile], traces: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            let mut find = |what: &str| {
                let advice = format!("{what}; write it so that it holds on every machine");
                findings.push(Finding { file: file.path.clone(), line: at + 1, rule: RULE, advice });
            };
            if let Some(trace) = traces.iter().find(|trace| names(line, trace)) {
                find(&format!("names {trace}"));
            }
            if let Some(home) = home_directory(line) {
                find(&format!("names the home directory {home}"));
            }
            let source = line.strip_prefix("source = ").filter(|_| file.path == "Cargo.lock");
            if source.is_some_and(|source| source.trim_matches('"') != CRATES_IO) {
                find("locks a package that is not from crates.io");
            }
        }
    }
    findings
}

/// Whether a line holds a trace as a whole path or host, not as a part of a longer word.
fn names(line: &str, trace: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    line.match_indices(trace).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + trace.len()..].chars().next();
        !inside(before) && before != Some('.') && !inside(after)
    })
}

/// A person's directory: what comes first below the parent of all of them.
fn home_directory(line: &str) -> Option<&str> {
    ["/home/", "/Users/"].into_iter().find_map(|parent| {
        let at = line.find(parent)?;
        let name = line[at + parent.len()..].split(|c: char| !c.is_alphanumeric()).next()?;
        let whole = line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        (whole && !name.is_empty()).then(|| &line[at..at + parent.len() + name.len()])
    })
}

/// The hosts in a cargo configuration, without those that everybody uses.
fn hosts(config: &str) -> Vec<String> {
    let urls = config.split("://").skip(1);
    let hosts = urls.filter_map(|rest| rest.split(['/', '"', ':', '\'', '\n']).next());
    let hosts = hosts.map(|authority| authority.rsplit('@').next().unwrap_or(authority));
    let public = ["crates.io", "github.com", "localhost", "127.0.0.1"];
    let private = hosts.filter(|host| host.contains('.') && !public.iter().any(|name| host.ends_with(name)));
    private.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::file;
    use super::*;

    #[test]
    fn traces() {
        #[track_caller]
        fn check_line(path: &str, line: &str, expect: usize) {
            let traces = ["/w/tree".to_owned(), "mirror.example".to_owned()];
            assert_eq!(check(&[file(path, line)], &traces).len(), expect, "{line}");
        }
        check_line("README.md", "cd /w/tree/crates", 1);
        check_line("README.md", "cd /w/trees or a/w/tree", 0);
        check_line("a.toml", "index = \"https://mirror.example/index\"", 1);
        check_line("a.toml", "my-mirror.example.com", 0);
        check_line("a.rs", concat!("let a = \"/ho", "me/ann/x\";"), 1);
        check_line("a.rs", "the /home/ page", 0);
        check_line("Cargo.lock", &format!("source = \"{CRATES_IO}\""), 0);
        check_line("Cargo.lock", "source = \"git+https://example.com/x\"", 1);
    }

    #[test]
    fn hosts_of_a_configuration() {
        #[track_caller]
        fn check(config: &str, expect: &[&str]) {
            assert_eq!(hosts(config), expect);
        }
        check("registry = \"sparse+https://user@mirror.example:8443/index/\"\n", &["mirror.example"]);
        check("registry = 'sparse+https://index.crates.io/'\nproxy = \"http://localhost:3128\"", &[]);
        check("", &[]);
    }
}
