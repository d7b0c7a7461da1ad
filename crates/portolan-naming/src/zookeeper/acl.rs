//! Who may do what with the nodes that are created.

use std::fmt;
use std::str::FromStr;

use zookeeper_client::{Acl, AuthId, Permission};

/// The option `acl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody may do everything.
    Open,
    /// Everybody may read; who has our credentials may do everything.
    Read,
    /// Who has our credentials may do everything.
    Private,
    /// As listed.
    Listed(Vec<Entry>),
}

/// `scheme:id:permissions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    scheme: String,
    id: String,
    permissions: String,
}

const LETTERS: [(char, Permission); 5] = [
    ('c', Permission::CREATE),
    ('d', Permission::DELETE),
    ('r', Permission::READ),
    ('w', Permission::WRITE),
    ('a', Permission::ADMIN),
];

impl Access {
    /// The same in ZooKeeper's terms.
    pub(super) fn entries(&self) -> Vec<Acl> {
        let ours = Acl::new(Permission::ALL, AuthId::authed());
        match self {
            Self::Open => vec![Acl::new(Permission::ALL, AuthId::anyone())],
            Self::Read => vec![ours, Acl::new(Permission::READ, AuthId::anyone())],
            Self::Private => vec![ours],
            Self::Listed(entries) => entries.iter().map(Entry::acl).collect(),
        }
    }

    /// Whether it grants to our own credentials, so that there must be some.
    pub(super) fn needs_credentials(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Read | Self::Private => true,
            Self::Listed(entries) => entries.iter().any(|entry| entry.scheme == "auth"),
        }
    }
}

impl Entry {
    fn acl(&self) -> Acl {
        let letters = LETTERS.iter().filter(|(letter, _)| self.permissions.contains(*letter));
        let granted = letters.fold(Permission::NONE, |granted, (_, one)| granted | *one);
        Acl::new(granted, AuthId::new(&self.scheme, &self.id))
    }
}

impl FromStr for Access {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "open" => Ok(Self::Open),
            "read" => Ok(Self::Read),
            "private" => Ok(Self::Private),
            listed => listed.split(',').map(str::parse).collect::<Result<_, _>>().map(Self::Listed),
        }
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The id may hold colons: a digest is user:hash.
        let parts = text.split_once(':').and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?)));
        let known = |letters: &str| letters.chars().all(|c| LETTERS.iter().any(|(letter, _)| *letter == c));
        match parts {
            Some((scheme, (id, letters))) if !scheme.is_empty() && !letters.is_empty() && known(letters) => {
                Ok(Self { scheme: scheme.to_owned(), id: id.to_owned(), permissions: letters.to_owned() })
            }
            _ => Err("write open, read, private or scheme:id:cdrwa".to_owned()),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Read => f.write_str("read"),
            Self::Private => f.write_str("private"),
            Self::Listed(entries) => {
                let entry = |e: &Entry| format!("{}:{}:{}", e.scheme, e.id, e.permissions);
                f.write_str(&entries.iter().map(entry).collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let shown = |acl: &Acl| format!("{}:{}={}", acl.scheme(), acl.id(), acl.permission());
            let got =
                text.parse::<Access>().map(|a| a.entries().iter().map(shown).collect::<Vec<_>>().join(" "));
            assert_eq!(got.unwrap_or_else(|e| e), expect, "{text}");
        }
        check("open", "world:anyone=ALL");
        check("read", "auth:=ALL world:anyone=READ");
        check("private", "auth:=ALL");
        check(
            "digest:u:hash=:cdrw,world:anyone:r",
            "digest:u:hash==READ|WRITE|CREATE|DELETE world:anyone=READ",
        );
        check("world:anyone:x", "write open, read, private or scheme:id:cdrwa");
        check("world:r", "write open, read, private or scheme:id:cdrwa");
        check("", "write open, read, private or scheme:id:cdrwa");
    }
}
