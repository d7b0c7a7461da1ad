//! What cargo says of the workspace and all it depends on.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{Outcome, output};

/// The workspace as `cargo metadata` sees it.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// Members and every dependency, direct or not, on any platform.
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace, or a package it depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    pub(crate) member: bool,
    /// May be uploaded to a package registry.
    pub(crate) published: bool,
    pub(crate) manifest: PathBuf,
    /// `lib.rs` if there is a library, else `main.rs`.
    pub(crate) head: PathBuf,
    pub(crate) library: bool,
    /// What its own manifest asks for.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// What it is called in the manifest.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// A version is asked for.
    pub(crate) versioned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

impl Workspace {
    pub(crate) fn load() -> Outcome<Self> {
        let text = output(cargo().args(["metadata", "--format-version", "1"]))?;
        let metadata: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
        Self::parse(&metadata).ok_or_else(|| "cargo metadata has another form than expected".to_owned())
    }

    fn parse(metadata: &Value) -> Option<Self> {
        let members = metadata["workspace_members"].as_array()?;
        let packages = metadata["packages"].as_array()?.iter();
        Some(Self {
            root: metadata["workspace_root"].as_str()?.into(),
            target: metadata["target_directory"].as_str()?.into(),
            packages: packages.map(|package| Package::parse(package, members)).collect::<Option<_>>()?,
        })
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.member)
    }

    /// cargo, in the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// A path as a reader of the tree writes it.
    pub(crate) fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

impl Package {
    fn parse(package: &Value, members: &[Value]) -> Option<Self> {
        let targets = package["targets"].as_array()?;
        let kind = |target: &&Value, wanted: &str| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == wanted))
        };
        let library = targets.iter().find(|t| kind(t, "lib") || kind(t, "proc-macro"));
        let head = library.or_else(|| targets.iter().find(|t| kind(t, "bin")));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            name: text(&package["name"])?,
            version: text(&package["version"])?,
            license: text(&package["license"]),
            member: members.contains(&package["id"]),
            published: package["publish"].is_null(),
            manifest: package["manifest_path"].as_str()?.into(),
            head: head.and_then(|t| t["src_path"].as_str()).unwrap_or_default().into(),
            library: library.is_some(),
            dependencies: package["dependencies"]
                .as_array()?
                .iter()
                .map(|dependency| {
                    let kind = match dependency["kind"].as_str() {
                        None => Kind::Normal,
                        Some("build") => Kind::Build,
                        Some(_) => Kind::Dev,
                    };
                    Some(Dependency {
                        name: text(&dependency["rename"]).or_else(|| text(&dependency["name"]))?,
                        kind,
                        versioned: dependency["req"] != "*",
                    })
                })
                .collect::<Option<_>>()?,
        })
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_metadata() {
        let package = |name: &str, kinds: &[&str]| {
            let targets: Vec<Value> = kinds
                .iter()
                .map(|kind| json!({"kind": [kind], "src_path": format!("/w/{name}/src/{kind}.rs")}))
                .collect();
            json!({
                "name": name, "version": "1.0.0", "id": format!("id-{name}"), "license": "MIT",
                "manifest_path": format!("/w/{name}/Cargo.toml"), "targets": targets,
                "publish": (name == "ours").then_some(json!([])),
                "dependencies": [
                    {"name": "x", "kind": null, "req": "^1"},
                    {"name": "z", "rename": "y", "kind": "dev", "req": "*"},
                ],
            })
        };
        let metadata = json!({
            "workspace_root": "/w", "target_directory": "/w/target", "workspace_members": ["id-ours"],
            "packages": [package("ours", &["bin", "lib"]), package("theirs", &["custom-build", "bin"])],
        });
        let workspace = Workspace::parse(&metadata).unwrap();
        assert_eq!(workspace.members().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["ours"]);
        let [ours, theirs] = &workspace.packages[..] else { panic!("two packages") };
        assert_eq!(workspace.relative(&ours.head), Path::new("ours/src/lib.rs"));
        assert!(ours.library && !theirs.library);
        assert!(theirs.head.ends_with("bin.rs"));
        assert!(!ours.published && theirs.published && ours.dependencies[0].versioned);
        let dev = Dependency { name: "y".to_owned(), kind: Kind::Dev, versioned: false };
        assert_eq!(ours.dependencies[1], dev);
        assert!(Workspace::parse(&json!({"packages": []})).is_none());
    }
}
