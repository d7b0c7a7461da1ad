//! Names of kept values, and what a listing or a watch is about.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is nothing between two `/`, before the first or after the last.
    #[error("key {0:?} has an empty segment")]
    EmptySegment(String),
    /// A segment that ZooKeeper and URLs understand as something else.
    #[error("key {0:?} has a segment \".\" or \"..\"")]
    Dots(String),
    /// The text is longer than allowed.
    #[error("a key has at most {limit} bytes, not {length}", limit = Key::LIMIT)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The text holds a character that not every registry can keep in a key.
    #[error("a key cannot hold {found:?}")]
    Character {
        /// The offending character.
        found: char,
    },
}

/// The name of a kept value: segments separated by `/`, as in `routes/by-name/shop`.
///
/// Every registry can keep every key: no control characters, no empty segment, none of dots, and only characters that
/// ZooKeeper takes in the name of a node (nothing of private use, nothing beyond U+FFEF). Keys are ordered as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The longest key, in bytes.
    pub const LIMIT: usize = 512;

    /// Checks `text`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(text: impl AsRef<str>) -> Result<Self, KeyError> {
        let text = text.as_ref();
        if text.len() > Self::LIMIT {
            return Err(KeyError::TooLong { length: text.len() });
        }
        if let Some(found) = text.chars().find(|c| !is_keepable(*c)) {
            return Err(KeyError::Character { found });
        }
        for segment in text.split('/') {
            match segment {
                "" => return Err(KeyError::EmptySegment(text.to_owned())),
                "." | ".." => return Err(KeyError::Dots(text.to_owned())),
                _ => {}
            }
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Everything before the last segment, and the last segment.
    pub fn split(&self) -> (Option<&str>, &str) {
        self.0.rsplit_once('/').map_or((None, &self.0), |(parent, name)| (Some(parent), name))
    }
}

/// ZooKeeper counts in UTF-16 and takes no surrogates, so nothing beyond the basic plane.
fn is_keepable(c: char) -> bool {
    !c.is_control() && matches!(c, '\0'..='\u{d7ff}' | '\u{f900}'..='\u{ffef}')
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

/// Which keys a listing or a watch is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix(Option<Arc<str>>);

impl Prefix {
    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    /// Every key with further segments after those of `key`: `routes` is about `routes/a` and `routes/a/b`, not about
    /// `routes-old/a`, nor about `routes` itself.
    #[must_use]
    pub fn under(key: &Key) -> Self {
        Self(Some(format!("{key}/").into()))
    }

    /// What all these keys begin with: empty, or ending in `/`.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether it is about `key`.
    pub fn includes(&self, key: &Key) -> bool {
        key.as_str().starts_with(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        #[track_caller]
        fn check(text: &str, expect: Result<(), &str>) {
            let got = Key::new(text).map(|_| ()).map_err(|e| e.to_string());
            assert_eq!(got, expect.map_err(str::to_owned));
        }
        check("a", Ok(()));
        check("routes/by-name/订单 %2F?#&\\\"", Ok(()));
        check("...", Ok(()));
        check("", Err("key \"\" has an empty segment"));
        check("/a", Err("key \"/a\" has an empty segment"));
        check("a/", Err("key \"a/\" has an empty segment"));
        check("a//b", Err("key \"a//b\" has an empty segment"));
        check("a/../b", Err("key \"a/../b\" has a segment \".\" or \"..\""));
        check("a\nb", Err("a key cannot hold '\\n'"));
        check("a\u{85}b", Err("a key cannot hold '\\u{85}'"));
        check("smile/😀", Err("a key cannot hold '😀'"));
        check("\u{fff0}", Err("a key cannot hold '\\u{fff0}'"));
        check(&"x".repeat(512), Ok(()));
        check(&"x".repeat(513), Err("a key has at most 512 bytes, not 513"));
    }

    #[test]
    fn prefixes_end_at_segments() {
        #[track_caller]
        fn check(under: Option<&str>, key: &str, expect: bool) {
            let prefix = under.map_or_else(Prefix::all, |key| Prefix::under(&Key::new(key).unwrap()));
            assert_eq!(prefix.includes(&Key::new(key).unwrap()), expect, "{under:?} {key}");
        }
        check(None, "a", true);
        check(Some("a"), "a/b", true);
        check(Some("a"), "a/b/c", true);
        check(Some("a/b"), "a/b/c", true);
        check(Some("a"), "a", false);
        check(Some("a"), "ab/c", false);
        check(Some("a"), "b/a/c", false);
    }
}
