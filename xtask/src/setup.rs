//! Programs that tests and benches need, installed when they are missing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::process::{Outcome, find, run};

/// A program, or any file by its whole path, and the Debian package that brings it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// What a container engine of our own needs.
pub(crate) const ENGINE: &[Tool] = &[
    Tool { program: "dockerd", package: "docker.io" },
    Tool { program: "iptables", package: "iptables" },
    Tool { program: "setpriv", package: "util-linux" },
    // What the tests' containers run.
    Tool { program: "busybox", package: "busybox-static" },
];

/// Registries that are tested against as real clusters.
pub(crate) const CLUSTERS: &[Tool] = &[
    Tool { program: "etcd", package: "etcd-server" },
    Tool { program: "etcdctl", package: "etcd-client" },
    // Hosts that can be cut off from each other.
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "bridge", package: "iproute2" },
    Tool { program: "java", package: "default-jre-headless" },
    // The package has no program for its servers; the tests start them by the class that comes with this one.
    Tool { program: "zooinspector", package: "zookeeper" },
];

/// Readers and writers of others' making, that registries are shared with.
pub(crate) const WITNESSES: &[Tool] = &[
    Tool { program: "node", package: "nodejs" },
    Tool { program: "npm", package: "npm" },
    Tool { program: "javac", package: "default-jdk-headless" },
    Tool { program: "/usr/share/java/curator-x-discovery.jar", package: "libcurator-discovery-java" },
    // Which discovery needs, and its package does not ask for.
    Tool { program: "/usr/share/java/curator-recipes.jar", package: "libcurator-recipes-java" },
];

/// What `bench proxy` compares with, and its load.
pub(crate) const PEERS: &[Tool] = &[
    Tool { program: "nginx", package: "nginx-light" },
    Tool { program: "haproxy", package: "haproxy" },
    Tool { program: "wrk", package: "wrk" },
    Tool { program: "taskset", package: "util-linux" },
];

/// What `bench lifecycle` puts into its image beside our own binary.
pub(crate) const IMAGE: &[Tool] =
    &[Tool { program: "busybox", package: "busybox-static" }, Tool { program: "tar", package: "tar" }];

/// Sees to it that all of `tools` are there. Costs nothing when they are.
pub(crate) fn ensure(tools: &[Tool]) -> Outcome {
    let packages = missing(tools, |program| find(program).is_some());
    if packages.is_empty() {
        return Ok(());
    }
    let wanted = packages.join(" ");
    if !is_root() || find("apt-get").is_none() {
        return Err(format!("install these first, as root: {wanted}\n  (Debian: apt-get install {wanted})"));
    }
    println!("installing {wanted}");
    let _guard = NoServices::begin()?;
    apt(&["update", "--quiet"])?;
    let mut words = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    words.extend(&packages);
    apt(&words)?;
    match missing(tools, |program| find(program).is_some()) {
        still if still.is_empty() => Ok(()),
        still => Err(format!("installed, and yet not there: {}", still.join(" "))),
    }
}

fn missing(tools: &[Tool], there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> = tools.iter().filter(|t| !there(t.program)).map(|t| t.package).collect();
    packages.dedup();
    packages
}

fn apt(words: &[&str]) -> Outcome {
    run(Command::new("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// While this lives, no package starts its system service: a web server or an engine that nobody asked for would
/// outlive us and hold well-known ports.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> Outcome<Self> {
        let policy = Path::new(Self::POLICY);
        if policy.exists() {
            return Ok(Self { ours: false });
        }
        fs::write(policy, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
            .map_err(|e| format!("{}: {e}", Self::POLICY))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _gone_already = fs::remove_file(Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_packages_of_missing_programs() {
        #[track_caller]
        fn check(there: &[&str], expect: &[&str]) {
            assert_eq!(missing(PEERS, |program| there.contains(&program)), expect);
        }
        check(&["nginx", "haproxy", "wrk", "taskset"], &[]);
        check(&["nginx", "taskset"], &["haproxy", "wrk"]);
        check(&[], &["nginx-light", "haproxy", "wrk", "util-linux"]);
    }
}
