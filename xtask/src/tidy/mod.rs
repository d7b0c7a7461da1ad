//! The rules of the tree that no compiler checks.
//!
//! **Start at**: [`run`] (every rule by name). A rule is a pure function from what was read to [`Finding`]s. A list of
//! exceptions gives a reason for each entry, and an entry that is no longer needed is a finding itself.

mod arrows;
mod docs;
mod heads;
mod licences;
mod owners;
mod published;
mod sizes;
mod source;
mod traces;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::Outcome;
use crate::workspace::{Dependency, Kind, Workspace};

/// One breach of one rule, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    rule: &'static str,
    advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.advice)
    }
}

/// A text file of the tree.
struct TextFile {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

/// The manifest of a member.
struct Manifest {
    /// The member as the tree, and other manifests, call it: by its folder.
    package: String,
    published: bool,
    file: TextFile,
    dependencies: Vec<Dependency>,
}

impl Manifest {
    /// Where a dependency is asked for.
    fn line_of(&self, dependency: &Dependency) -> usize {
        let section = match dependency.kind {
            Kind::Normal => "[dependencies]",
            Kind::Build => "[build-dependencies]",
            Kind::Dev => "[dev-dependencies]",
        };
        let names = |line: &str| {
            line.strip_prefix(dependency.name.as_str()).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
        };
        let lines = self.file.text.lines().enumerate();
        lines
            .skip_while(|(_, line)| *line != section)
            .find(|(_, line)| names(line))
            .map_or(1, |(at, _)| at + 1)
    }

    fn finding(&self, dependency: &Dependency, rule: &'static str, advice: String) -> Finding {
        Finding { file: self.file.path.clone(), line: self.line_of(dependency), rule, advice }
    }
}

/// Checks every rule and prints what breaks one.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    let files = read_tree(&workspace.root)?;
    let manifests = manifests(workspace)?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&manifests));
    findings.extend(owners::check(&manifests));
    findings.extend(published::check(&manifests));
    findings.extend(licences::check(&workspace.packages));
    findings.extend(heads::check(&heads(workspace)?));
    findings.extend(sizes::check(&files));
    findings.extend(source::check(&files));
    findings.extend(docs::check(&files, |path| workspace.root.join(path).exists()));
    findings.extend(traces::check(&files, &traces::of_this_machine(&workspace.root)));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, {} packages", files.len(), workspace.packages.len());
            Ok(())
        }
        1 => Err("1 rule of the tree is broken".to_owned()),
        count => Err(format!("the rules of the tree are broken {count} times")),
    }
}

fn manifests(workspace: &Workspace) -> Outcome<Vec<Manifest>> {
    let manifest = |package: &crate::workspace::Package| {
        let folder = package.manifest.parent().and_then(Path::file_name);
        Ok(Manifest {
            package: folder.unwrap_or_default().to_string_lossy().into_owned(),
            published: package.published,
            file: read(&workspace.root, &package.manifest)?,
            dependencies: package.dependencies.clone(),
        })
    };
    workspace.members().map(manifest).collect()
}

fn heads(workspace: &Workspace) -> Outcome<Vec<TextFile>> {
    workspace.members().map(|package| read(&workspace.root, &package.head)).collect()
}

fn read(root: &Path, path: &Path) -> Outcome<TextFile> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let relative = path.strip_prefix(root).unwrap_or(path);
    Ok(TextFile { path: relative.to_string_lossy().into_owned(), text })
}

/// Every text file of the tree. What is built and what git keeps for itself is not ours to judge.
fn read_tree(root: &Path) -> Outcome<Vec<TextFile>> {
    const OURS: [&str; 4] = [".cargo", ".ci", ".config", ".github"];
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        let failed = |e| format!("{}: {e}", directory.display());
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (kind, name) = (entry.file_type().map_err(failed)?, entry.file_name());
            let name = name.to_string_lossy();
            let skipped = name == "target" || name.starts_with('.') && !OURS.contains(&&*name);
            if kind.is_dir() && !skipped {
                left.push(entry.path());
            } else if kind.is_file()
                && let Ok(file) = read(root, &entry.path())
            {
                files.push(file);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod fixtures {
    use super::*;

    /// A manifest with normal dependencies, then development ones.
    pub(super) fn manifest(package: &str, normal: &[&str], dev: &[&str]) -> Manifest {
        let mut text = "[dependencies]\n".to_owned();
        let mut dependencies = Vec::new();
        for (kind, names) in [(Kind::Normal, normal), (Kind::Dev, dev)] {
            for name in names {
                text += &format!("{name}.workspace = true\n");
                dependencies.push(Dependency { name: (*name).to_owned(), kind, versioned: true });
            }
            text += "[dev-dependencies]\n";
        }
        let file = TextFile { path: format!("crates/{package}/Cargo.toml"), text };
        Manifest { package: package.to_owned(), published: false, file, dependencies }
    }

    pub(super) fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    /// `file:line` and advice of each finding.
    pub(super) fn shown(findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
        findings.into_iter().map(|f| format!("{}:{} {}", f.file, f.line, f.advice)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_a_dependency() {
        let manifest = fixtures::manifest("a", &["store", "storekeeper"], &["store"]);
        let line =
            |name: &str, kind| manifest.line_of(&Dependency { name: name.to_owned(), kind, versioned: true });
        assert_eq!(line("store", Kind::Normal), 2);
        assert_eq!(line("storekeeper", Kind::Normal), 3);
        assert_eq!(line("store", Kind::Dev), 5);
        assert_eq!(line("absent", Kind::Normal), 1);
    }
}
