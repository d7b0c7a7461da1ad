//! What the process finds around itself: variables, host name, CPUs.

use std::collections::BTreeMap;
use std::path::Path;

/// Environment variables, as found at start; a value, so that tests say their own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's own. Variables that are not Unicode are left out: no setting of ours can be one.
    pub(crate) fn of_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(unicode).collect())
    }

    /// The value of a variable; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a variable, also when it is empty.
    pub(super) fn get_even_empty(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names that start with `prefix`.
    pub(super) fn names(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    pub(super) fn data_dir(&self) -> String {
        let user = || self.get("HOME").map(|home| format!("{home}/.local/share/portolan"));
        match self.get("XDG_DATA_HOME").filter(|dir| Path::new(dir).is_absolute()) {
            Some(dir) => format!("{dir}/portolan"),
            None if is_root() => "/var/lib/portolan".to_owned(),
            None => user().unwrap_or_else(|| "portolan-data".to_owned()),
        }
    }

    pub(super) fn cores(&self) -> String {
        std::thread::available_parallelism().map_or(1, usize::from).to_string()
    }

    /// The name of this machine.
    pub(crate) fn host_name(&self) -> String {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match (kernel.trim(), self.get("HOSTNAME")) {
            ("", Some(name)) => name.to_owned(),
            ("", None) => "localhost".to_owned(),
            (name, _) => name.to_owned(),
        }
    }

    pub(super) fn docker_host(&self) -> String {
        self.get("DOCKER_HOST").unwrap_or("unix:///var/run/docker.sock").to_owned()
    }

    /// Any text means yes, as to the docker client.
    pub(super) fn docker_tls(&self) -> String {
        self.get("DOCKER_TLS_VERIFY").is_some().to_string()
    }

    pub(super) fn docker_certificates(&self) -> String {
        let home = || self.get("HOME").map(|home| format!("{home}/.docker"));
        self.get("DOCKER_CERT_PATH").map(str::to_owned).or_else(home).unwrap_or_else(|| ".docker".to_owned())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Without the C library's `getuid`, which is unsafe to call: the owner of our own entry in `/proc`.
#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_dir_follows_the_user() {
        let dir = |pairs: [(&str, &str); 2]| Environment::from(pairs).data_dir();
        assert_eq!(dir([("XDG_DATA_HOME", "/x"), ("HOME", "/h")]), "/x/portolan");
        let relative = dir([("XDG_DATA_HOME", "x"), ("HOME", "/h")]);
        let expect = if is_root() { "/var/lib/portolan" } else { "/h/.local/share/portolan" };
        assert_eq!(relative, expect, "a relative XDG_DATA_HOME is void, says its specification");
    }
}
