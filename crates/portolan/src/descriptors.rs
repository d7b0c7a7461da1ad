//! How many connections the system lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes all file descriptors that it may have. What a process gets unasked is often 1024, for the sake of old programs
/// that cannot count further; that would be the end of accepting long before any limit in the settings.
pub(crate) fn take_all() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Without a number there is no limit.
    let few = current.is_some_and(|current| maximum.is_none_or(|maximum| current < maximum));
    if !few {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(limit = current, %error, "cannot raise the limit of open files");
    }
}
