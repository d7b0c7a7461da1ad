//! What is wrong with what the user said, and where it was said.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Where it was said.
    pub(crate) place: Place,
    /// What is wrong, for people.
    pub(crate) what: String,
}

/// Where something was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the command line, by this flag.
    Flag(&'static str),
    /// In this environment variable.
    Env(String),
    /// In this file, at this line, under this key (empty when the line has none).
    File {
        /// The file as the user named it.
        name: String,
        /// Counted from one.
        line: usize,
        /// `section.name`.
        key: String,
    },
    /// By nobody: found around the process.
    Found(&'static str),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Env(name) => f.write_str(name),
            Self::File { name, line, key } if key.is_empty() => write!(f, "{name}:{line}"),
            Self::File { name, line, key } => write!(f, "{name}:{line}: {key}"),
            Self::Found(key) => write!(f, "default of {key}"),
        }
    }
}

/// The candidate nearest to `word`, if any is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate)).min()?;
    (near.0 <= word.chars().count().div_ceil(3)).then_some(near.1)
}

/// `; did you mean …?`, or nothing.
pub(super) fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

/// How many letters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_near() {
        #[track_caller]
        fn check(word: &str, expect: Option<&str>) {
            assert_eq!(nearest(word, ["proxy.listen", "http.listen", "proxy.cores"]), expect);
        }
        check("proxy.lisen", Some("proxy.listen"));
        check("htp.listen", Some("http.listen"));
        check("proxy.core", Some("proxy.cores"));
        check("colour", None);
        check("", None);
    }
}
