//! Meta keys by which a registrator says what an instance is inside its container, for layouts that tell readers so
//! (gliderlabs/registrator's in ZooKeeper). Said only where such a layout may be behind; bookkeeping, not the user's: faces
//! do not show them.

use std::collections::BTreeMap;

/// What the container calls itself: its host name, by default the short form of its id.
pub const CONTAINER: &str = "portolan-container";

/// The port inside the container, as a plain number.
pub const PORT: &str = "portolan-port";

/// What an instance is inside its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What the container calls itself.
    pub container: String,
    /// The port inside it.
    pub port: u16,
}

impl Origin {
    /// Takes out of `meta` what it says; nothing unless both keys are there and make sense.
    pub fn take(meta: &mut BTreeMap<String, String>) -> Option<Self> {
        let text = meta.get(PORT)?;
        // Only what is written again as it was: two spellings would be two registrations.
        let port = text.parse::<u16>().ok().filter(|port| port.to_string() == *text)?;
        let container = meta.remove(CONTAINER)?;
        meta.remove(PORT);
        Some(Self { container, port })
    }

    /// Says it in `meta`.
    pub fn put(self, meta: &mut BTreeMap<String, String>) {
        let Self { container, port } = self;
        meta.insert(CONTAINER.to_owned(), container);
        meta.insert(PORT.to_owned(), port.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_or_neither() {
        #[track_caller]
        fn check(said: &[(&str, &str)], expect: Option<(&str, u16)>) {
            let said: BTreeMap<_, _> = said.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let mut rest = said.clone();
            let origin = Origin::take(&mut rest);
            assert_eq!(origin.as_ref().map(|origin| (origin.container.as_str(), origin.port)), expect);
            assert_eq!(rest.len() + 2 * usize::from(origin.is_some()), said.len());
            if let Some(origin) = origin {
                origin.put(&mut rest);
            }
            assert_eq!(rest, said);
        }
        check(&[], None);
        check(&[("a", "b"), (CONTAINER, "3f2a"), (PORT, "80")], Some(("3f2a", 80)));
        check(&[(CONTAINER, ""), (PORT, "0")], Some(("", 0)));
        check(&[(CONTAINER, "3f2a")], None);
        check(&[(PORT, "80")], None);
        check(&[(CONTAINER, "3f2a"), (PORT, "080")], None);
        check(&[(CONTAINER, "3f2a"), (PORT, "http")], None);
    }
}
