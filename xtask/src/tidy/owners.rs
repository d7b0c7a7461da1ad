//! A heavy library has one owner: only there is it known, and only there is it replaced.

use super::{Finding, Manifest};

const RULE: &str = "owner";

/// Library, and the crates whose manifests may name it. A name that ends in `*` stands for all with that beginning.
const OWNERS: &[(&str, &[&str])] = &[
    ("redb", &["store"]),
    ("bollard", &["registrator"]),
    ("zookeeper-client", &["portolan-naming"]),
    ("etcd-client", &["portolan-naming"]),
    ("h2", &["portolan-naming"]),
    ("prost", &["portolan-naming"]),
    ("hickory-*", &["access"]),
    ("hyper", &["gateway"]),
    // Only its adapters between hyper and tokio; its pooled client costs more than the gateway may spend.
    ("hyper-util", &["gateway"]),
    ("rustls", &["gateway", "portolan-naming"]),
    ("tokio-rustls", &["gateway", "portolan-naming"]),
    ("rustls-native-certs", &["portolan-naming"]),
    ("axum", &["access", "admin", "dashboard"]),
    ("clap", &["portolan"]),
    ("toml", &["portolan"]),
    ("tracing-subscriber", &["portolan"]),
    ("mimalloc", &["portolan"]),
    ("ureq", &["portolan"]),
    ("opentelemetry*", &["portolan"]),
];

/// Others that may name one all the same, with the reason.
const ALSO: &[(&str, &str, &str)] = &[
    (
        "portolan",
        "axum",
        "the sample service and the explain endpoint are small web services of the binary's own",
    ),
    (
        "access",
        "hyper",
        "axum's own server bounds neither connections nor the time that a request's head may take",
    ),
    ("access", "hyper-util", "the same"),
    ("portolan-naming", "axum", "an example shows a web service that registers itself"),
    (
        "portolan-naming",
        "hyper",
        "a Consul agent is asked by HTTP/1.1 over connections that each wait for minutes: no pool is of use, and a whole \
         HTTP client brings four dozen crates",
    ),
    ("portolan-naming", "hyper-util", "the same"),
    (
        "registrator",
        "hyper",
        "a check is one HTTP request on a connection of its own whose answer's head alone counts: no pool is of use",
    ),
    ("registrator", "hyper-util", "the same"),
    (
        "registrator",
        "h2",
        "gRPC's health protocol is one call on a connection of its own: two messages of two bytes",
    ),
    ("registrator", "prost", "the same"),
    ("registrator", "tokio-rustls", "checks ask by TLS where a container says so"),
    ("registrator", "rustls-native-certs", "the same"),
    (
        "portolan",
        "hyper",
        "axum's own server, told to stop, loses requests of fresh connections; the sample service must not",
    ),
    ("portolan", "hyper-util", "the same"),
];

pub(super) fn check(manifests: &[Manifest]) -> Vec<Finding> {
    check_against(manifests, ALSO)
}

fn check_against(manifests: &[Manifest], also: &[(&str, &str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for manifest in manifests {
        let package = manifest.package.as_str();
        for dependency in &manifest.dependencies {
            let library = dependency.name.as_str();
            let owned = OWNERS.iter().find(|(name, _)| stands_for(name, library));
            let Some((_, owners)) = owned.filter(|(_, owners)| !owners.contains(&package)) else { continue };
            if also.iter().any(|(crate_, name, _)| (*crate_, *name) == (package, library)) {
                used.push((package, library));
                continue;
            }
            let owners = owners.join(", ");
            let advice = format!("{library} belongs to {owners}; ask its owner for what {package} needs");
            findings.push(manifest.finding(dependency, RULE, advice));
        }
    }
    for (package, library, _) in also.iter().filter(|(p, l, _)| !used.contains(&(*p, *l))) {
        let advice = format!("the exception {package} → {library} is not needed; remove it");
        findings.push(Finding { file: "xtask/src/tidy/owners.rs".to_owned(), line: 1, rule: RULE, advice });
    }
    findings
}

fn stands_for(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{manifest, shown};
    use super::*;

    #[test]
    fn owners() {
        #[track_caller]
        fn check(package: &str, libraries: &[&str], expect: &[&str]) {
            assert_eq!(shown(check_against(&[manifest(package, libraries, &[])], &[])), expect);
        }
        check("store", &["redb", "serde"], &[]);
        check(
            "registry",
            &["redb"],
            &["crates/registry/Cargo.toml:2 redb belongs to store; ask its owner for what registry needs"],
        );
        check(
            "gateway",
            &["hyper", "hyper-util", "hickory-proto"],
            &[
                "crates/gateway/Cargo.toml:4 hickory-proto belongs to access; ask its owner for what gateway needs",
            ],
        );
    }

    #[test]
    fn exceptions_are_needed() {
        let also = [("portolan", "axum", "a reason")];
        assert!(check_against(&[manifest("portolan", &["axum"], &[])], &also).is_empty());
        assert_eq!(check_against(&[manifest("portolan", &[], &[])], &also).len(), 1);
    }
}
