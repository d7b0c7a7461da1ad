//! Ids are types: a service name cannot be passed where an instance id is meant, and holding one proves it was checked.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{what} is empty")]
    Empty {
        /// The noun, in words a user knows.
        what: &'static str,
    },
    /// The text is longer than allowed.
    #[error("{what} has {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// The noun, in words a user knows.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// The text holds a character that the noun cannot hold.
    #[error("{what} holds {found:?}, which is not allowed there")]
    Character {
        /// The noun, in words a user knows.
        what: &'static str,
        /// The offending character.
        found: char,
    },
}

fn checked(what: &'static str, limit: usize, text: &str, bad: fn(char) -> bool) -> Result<Arc<str>, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > limit {
        return Err(IdError::TooLong { what, length: text.len(), limit });
    }
    match text.chars().find(|c| c.is_control() || bad(*c)) {
        Some(found) => Err(IdError::Character { what, found }),
        None => Ok(Arc::from(text)),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $limit:literal, $bad:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest text allowed, in bytes.
            pub const LIMIT: usize = $limit;

            /// Checks `text`.
            ///
            /// # Errors
            /// Says what is wrong with the text, naming the noun.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                checked($what, Self::LIMIT, text.as_ref(), $bad).map(Self)
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

text_id!(
    /// The name of a service, as callers ask for it. It is a path segment in URLs and in ZooKeeper, hence no `/`.
    ServiceName,
    "service name",
    255,
    |c| c == '/'
);
text_id!(
    /// Identifies one instance in the whole registry, e.g. `host:container:port[:udp]` when a registrator made it.
    InstanceId,
    "instance id",
    512,
    |_| false
);
text_id!(
    /// Who registered an instance, and so who alone may drain or remove it unasked.
    Owner,
    "owner",
    255,
    |_| false
);
text_id!(
    /// A failure domain (rack, data centre) that balancing may prefer.
    Zone,
    "zone",
    128,
    |_| false
);

impl Owner {
    /// The owner of what is registered over HTTP by somebody who says none.
    pub const UNSAID: &str = "http";

    /// The owner of what another program wrote, where nothing tells who.
    pub const UNKNOWN: &str = "unknown";

    /// Begins the owner of what another program registered with a Consul agent; the agent's node follows.
    pub const UNKNOWN_ON: &str = "consul:";

    /// Whether it only says that nobody said: such are the owners that other programs' instances are shown with.
    pub fn is_nobody(&self) -> bool {
        matches!(self.as_str(), Self::UNSAID | Self::UNKNOWN) || self.as_str().starts_with(Self::UNKNOWN_ON)
    }
}

/// Which life of an id this is: a restart of the same container under the same id has a greater one.
/// Registrators use the start time in nanoseconds since 1970; zero means the owner does not count lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// A point in the history of one registry. Revisions only grow, also across restarts; the first change is 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names() {
        #[track_caller]
        fn check(text: &str, expect: Result<(), &str>) {
            let got = ServiceName::new(text).map(|_| ()).map_err(|e| e.to_string());
            assert_eq!(got, expect.map_err(str::to_owned));
        }
        check("web", Ok(()));
        check("订单", Ok(()));
        check("service_1.internal-80", Ok(()));
        check("", Err("service name is empty"));
        check("a/b", Err("service name holds '/', which is not allowed there"));
        check("a\nb", Err("service name holds '\\n', which is not allowed there"));
        check(&"x".repeat(255), Ok(()));
        check(&"x".repeat(256), Err("service name has 256 bytes; at most 255 are allowed"));
    }

    #[test]
    fn revisions_do_not_wrap() {
        assert_eq!(Revision(u64::MAX).next(), Revision(u64::MAX));
    }
}
