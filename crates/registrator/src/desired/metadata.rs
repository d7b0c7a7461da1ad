//! What a container says of one of its ports, in `SERVICE_*` environment variables and labels.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::Container;

const PREFIX: &str = "SERVICE_";

/// What is said of one port, by lower-cased key without the prefix.
#[derive(Debug, Default)]
pub(super) struct Metadata(BTreeMap<String, Value>);

#[derive(Debug)]
struct Value {
    text: String,
    rank: Rank,
}

/// A later rank beats an earlier one, in whatever order the two were said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Environment,
    Label,
    EnvironmentForPort,
    LabelForPort,
}

/// A text that was said, and whether it was said of this very port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) for_port: bool,
}

impl Metadata {
    /// What `container` says of the exposed port `number`.
    pub(super) fn of(container: &Container, number: u16) -> Self {
        let number = number.to_string();
        let mut said = Self::default();
        for line in &container.env {
            said.hear(line, &number, (Rank::Environment, Rank::EnvironmentForPort));
        }
        for (label, value) in container.labels.iter().filter(|(label, _)| label.starts_with(PREFIX)) {
            said.hear(&format!("{label}={value}"), &number, (Rank::Label, Rank::LabelForPort));
        }
        said
    }

    /// Takes what is said under `key`. An empty text unsets: it beats what it outranks, and says nothing itself.
    pub(super) fn take(&mut self, key: &str) -> Option<Said> {
        let Value { text, rank } = self.0.remove(key)?;
        (!text.is_empty()).then_some(Said { text, for_port: rank >= Rank::EnvironmentForPort })
    }

    /// What is said under `key`, which stays. An empty text says nothing.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// Whether the port is to be registered: nothing ignores it, and it has a name if it must.
    pub(super) fn is_meant(&self, explicit: bool) -> bool {
        self.get("ignore").is_none() && (!explicit || self.get("name").is_some())
    }

    /// All that was not taken.
    pub(super) fn rest(self) -> BTreeMap<String, String> {
        self.0.into_iter().map(|(key, value)| (key, value.text)).collect()
    }

    fn hear(&mut self, line: &str, number: &str, (generic, for_port): (Rank, Rank)) {
        let Some((key, text)) = line.strip_prefix(PREFIX).and_then(|line| line.split_once('=')) else {
            return;
        };
        let key = key.to_lowercase();
        let (key, rank) = match key.split_once('_') {
            Some((digits, rest)) if is_number(digits) => {
                if digits != number {
                    return;
                }
                (rest.to_owned(), for_port)
            }
            _ => (key, generic),
        };
        if key.is_empty() || self.0.get(&key).is_some_and(|known| known.rank > rank) {
            return;
        }
        self.0.insert(key, Value { text: text.to_owned(), rank });
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Splits at commas that are not escaped; `\,` is a comma, any other backslash is itself. Empty ones are dropped.
pub(super) fn tags(text: &str) -> BTreeSet<String> {
    let mut tags = BTreeSet::new();
    let mut tag = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next_if_eq(&',').is_some() => tag.push(','),
            ',' => _ = tags.insert(std::mem::take(&mut tag)),
            other => tag.push(other),
        }
    }
    tags.insert(tag);
    tags.remove("");
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas() {
        #[track_caller]
        fn check(text: &str, expect: &[&str]) {
            assert_eq!(tags(text), expect.iter().map(|t| (*t).to_owned()).collect(), "{text}");
        }
        check("", &[]);
        check(",,,,", &[]);
        check("a,b,c", &["c", "b", "a"]);
        check("foo,bar\\,baz", &["foo", "bar,baz"]);
        check("\\,", &[","]);
        check("a\\b\\", &["a\\b\\"]);
        check("a,a", &["a"]);
    }

    #[test]
    fn precedence() {
        #[track_caller]
        fn check(env: &[&str], labels: &[(&str, &str)], expect: &[(&str, &str)]) {
            let container = Container {
                env: env.iter().map(|l| (*l).to_owned()).collect(),
                labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                ..crate::desired::tests::container("web")
            };
            let expect = expect.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(Metadata::of(&container, 80).rest(), expect);
        }
        // Labels beat environment; a key for the port beats both, in any order.
        check(&["SERVICE_A=env"], &[("SERVICE_A", "label")], &[("a", "label")]);
        check(&["SERVICE_80_A=port", "SERVICE_A=env"], &[("SERVICE_A", "label")], &[("a", "port")]);
        check(&["SERVICE_80_A=port"], &[("SERVICE_80_A", "label port")], &[("a", "label port")]);
        // Only for that port; digits without a rest are a plain key.
        check(&["SERVICE_443_A=x", "SERVICE_080_A=y", "SERVICE_80=z"], &[], &[("80", "z")]);
        // The prefix is case-sensitive, keys are lower-cased, the first `=` splits.
        check(&["service_A=x", "Service_B=y", "SERVICE_FoO_BAR=x=y=z"], &[], &[("foo_bar", "x=y=z")]);
        check(
            &["SERVICE_A", "OTHER=1", "SERVICE_=1", "SERVICE_80_=1"],
            &[("SERVICE_B=c", "d")],
            &[("b", "c=d")],
        );
        // The last of two equals wins, as in an environment.
        check(&["SERVICE_A=1", "SERVICE_A=2"], &[], &[("a", "2")]);
    }
}
