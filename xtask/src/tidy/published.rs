//! What is published can be had: all of the workspace that a published crate needs is published too, and by a version.

use super::{Finding, Manifest};
use crate::workspace::Kind;

const RULE: &str = "published";

pub(super) fn check(manifests: &[Manifest]) -> Vec<Finding> {
    let member = |name: &str| manifests.iter().find(|manifest| manifest.package == name);
    let mut findings = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.published) {
        // What only tests need is left out of a package.
        for dependency in manifest.dependencies.iter().filter(|d| d.kind != Kind::Dev) {
            let (from, to) = (&manifest.package, &dependency.name);
            let advice = match member(to) {
                Some(to) if !to.published => {
                    format!("{from} is published and {} is not: nobody could build it", to.package)
                }
                Some(_) if !dependency.versioned => {
                    format!("give {to} a version in the workspace's manifest: {from} is published with it")
                }
                Some(_) | None => continue,
            };
            findings.push(manifest.finding(dependency, RULE, advice));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{manifest, shown};

    #[test]
    fn published() {
        #[track_caller]
        fn check(sdk: bool, model: bool, versioned: bool, expect: &[&str]) {
            let mut manifests = vec![manifest("sdk", &["serde", "model"], &["kit"])];
            manifests.extend(["model", "kit"].map(|name| manifest(name, &[], &[])));
            (manifests[0].published, manifests[1].published) = (sdk, model);
            manifests[0].dependencies[1].versioned = versioned;
            assert_eq!(shown(super::check(&manifests)), expect);
        }
        check(true, true, true, &[]);
        check(false, false, false, &[]);
        check(
            true,
            false,
            true,
            &["crates/sdk/Cargo.toml:3 sdk is published and model is not: nobody could build it"],
        );
        check(
            true,
            true,
            false,
            &[
                "crates/sdk/Cargo.toml:3 give model a version in the workspace's manifest: sdk is published with it",
            ],
        );
    }
}
