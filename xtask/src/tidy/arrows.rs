//! Who may depend on whom inside the workspace: DESIGN's arrows, as a table.

use std::collections::BTreeSet;

use super::{Finding, Manifest};
use crate::workspace::Kind;

const RULE: &str = "arrow";

/// May a crate depend on …
enum Allowed {
    These(&'static [&'static str]),
    /// … every crate that is part of the program.
    Everything,
}

use Allowed::{Everything, These};

const ARROWS: &[(&str, Allowed)] = &[
    ("portolan-model", These(&[])),
    ("consul-api", These(&[])),
    ("runtime", These(&[])),
    ("store", These(&[])),
    ("catalog", These(&["portolan-model"])),
    ("routing", These(&["portolan-model"])),
    ("registry", These(&["portolan-model", "catalog", "store", "runtime"])),
    ("portolan-naming", These(&["portolan-model", "consul-api", "registry", "runtime"])),
    ("access", These(&["portolan-model", "consul-api", "runtime"])),
    ("registrator", These(&["portolan-model", "runtime"])),
    ("gateway", These(&["portolan-model", "routing", "runtime"])),
    ("admin", These(&["portolan-model", "routing", "runtime"])),
    ("dashboard", These(&["portolan-model", "runtime"])),
    ("portolan", Everything),
    ("testkit", These(&["portolan-model", "routing"])),
    ("xtask", These(&[])),
];

/// Crates for development only: whoever ships may use them in tests alone.
const DEVELOPMENT: [&str; 2] = ["testkit", "xtask"];

/// Arrows that only tests have, with the reason. Everybody's tests may use testkit.
const IN_TESTS: &[(&str, &str, &str)] =
    &[("portolan-naming", "access", "`portolan://` is tested against the face that it is for")];

pub(super) fn check(manifests: &[Manifest]) -> Vec<Finding> {
    check_against(manifests, IN_TESTS)
}

fn check_against(manifests: &[Manifest], in_tests: &[(&str, &str, &str)]) -> Vec<Finding> {
    let members: BTreeSet<&str> = manifests.iter().map(|m| m.package.as_str()).collect();
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for manifest in manifests {
        let from = manifest.package.as_str();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
            let advice =
                format!("{from} has no row in xtask/src/tidy/arrows.rs; add one, and to DESIGN's table");
            findings.push(Finding { file: manifest.file.path.clone(), line: 1, rule: RULE, advice });
            continue;
        };
        for dependency in manifest.dependencies.iter().filter(|d| members.contains(d.name.as_str())) {
            let to = dependency.name.as_str();
            let in_tests = dependency.kind == Kind::Dev
                && (to == "testkit" || in_tests.iter().any(|(f, t, _)| (*f, *t) == (from, to)));
            if in_tests {
                used.insert((from, to));
            }
            if !in_tests && !allows(allowed, to) {
                let advice =
                    format!("{from} must not depend on {to}; move the code, or let them meet in app.rs");
                findings.push(manifest.finding(dependency, RULE, advice));
            }
        }
    }
    for (from, to, _) in in_tests.iter().filter(|(from, to, _)| !used.contains(&(*from, *to))) {
        let advice = format!("the exception {from} → {to} is not needed; remove it");
        findings.push(Finding { file: "xtask/src/tidy/arrows.rs".to_owned(), line: 1, rule: RULE, advice });
    }
    findings
}

fn allows(allowed: &Allowed, to: &str) -> bool {
    match allowed {
        These(names) => names.contains(&to),
        Everything => !DEVELOPMENT.contains(&to),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{manifest, shown};
    use super::*;

    #[test]
    fn arrows() {
        #[track_caller]
        fn check(from: &str, normal: &[&str], dev: &[&str], expect: &[&str]) {
            let mut manifests = vec![manifest(from, normal, dev)];
            let others = ARROWS.iter().filter(|(name, _)| *name != from);
            manifests.extend(others.map(|(name, _)| manifest(name, &[], &[])));
            assert_eq!(shown(check_against(&manifests, &[])), expect);
        }
        check("catalog", &["portolan-model", "serde"], &["testkit"], &[]);
        check(
            "catalog",
            &["portolan-model", "registry"],
            &[],
            &[
                "crates/catalog/Cargo.toml:3 catalog must not depend on registry; move the code, or let them meet in app.rs",
            ],
        );
        check(
            "gateway",
            &[],
            &["registry"],
            &[
                "crates/gateway/Cargo.toml:3 gateway must not depend on registry; move the code, or let them meet in app.rs",
            ],
        );
        check("portolan", &["gateway", "registry", "registrator"], &["testkit"], &[]);
        check(
            "portolan",
            &["testkit"],
            &[],
            &[
                "crates/portolan/Cargo.toml:2 portolan must not depend on testkit; move the code, or let them meet in app.rs",
            ],
        );
        check(
            "newcomer",
            &[],
            &[],
            &[
                "crates/newcomer/Cargo.toml:1 newcomer has no row in xtask/src/tidy/arrows.rs; add one, and to DESIGN's table",
            ],
        );
    }

    #[test]
    fn exceptions_for_tests_are_needed() {
        #[track_caller]
        fn check(normal: &[&str], dev: &[&str], expect: usize) {
            let manifests = [manifest("gateway", normal, dev), manifest("registry", &[], &[])];
            assert_eq!(check_against(&manifests, &[("gateway", "registry", "a reason")]).len(), expect);
        }
        check(&[], &["registry"], 0);
        check(&[], &[], 1);
        check(&["registry"], &[], 2);
    }
}
