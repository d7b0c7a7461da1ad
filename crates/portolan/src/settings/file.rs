//! Reading the TOML file: every value with the line it stands on, every mistake with its key.

use std::collections::BTreeMap;
use std::ops::Range;

use routing::RouteSpec;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::flaw::{Flaw, Place, hint};
use super::routes;
use super::table::{Kind, SETTINGS, Setting, find};

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Values by key, as text, with their place.
    pub(super) values: BTreeMap<&'static str, (String, Place)>,
    /// Routes, in order.
    pub(super) routes: Vec<RouteSpec>,
    /// What is wrong.
    pub(super) flaws: Vec<Flaw>,
}

/// Reads the text of the file called `name`.
pub(super) fn read(name: &str, text: &str) -> File {
    let mut reader = Reader { source: Source { name, text }, file: File::default() };
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        reader.root(root.get_ref());
    } else {
        // What follows a syntax error is guesswork, and complaints about guesswork mislead.
        for error in errors.iter().take(10) {
            let place = reader.source.place("", error.span().unwrap_or_default());
            reader.file.flaws.push(Flaw { place, what: error.message().to_owned() });
        }
    }
    reader.file
}

/// The text, to turn spans into lines.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// Where `key` stands.
    pub(super) fn place(self, key: &str, span: Range<usize>) -> Place {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Place::File { name: self.name.to_owned(), line, key: key.to_owned() }
    }
}

struct Reader<'a> {
    source: Source<'a>,
    file: File,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>) {
        for (name, value) in root {
            let key: &str = name.get_ref();
            match value.get_ref() {
                _ if key == "route" => {
                    let (specs, flaws) = routes::read(self.source, value);
                    self.file.routes = specs;
                    self.file.flaws.extend(flaws);
                }
                DeValue::Table(section) if is_section(key) => self.section(key, section),
                DeValue::Table(_) if find(key).is_none() => {
                    let what = format!("unknown section{}", hint(key, sections()));
                    self.flaw(key, name.span(), what);
                }
                _ if is_section(key) => self.flaw(key, value.span(), format!("is a section; write [{key}]")),
                _ => self.entry(key, name.span(), value),
            }
        }
    }

    fn section(&mut self, section: &str, entries: &DeTable<'_>) {
        for (name, value) in entries {
            self.entry(&format!("{section}.{}", name.get_ref()), name.span(), value);
        }
    }

    fn entry(&mut self, key: &str, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let Some(setting) = find(key) else {
            return self.flaw(key, span, format!("unknown key{}", key_hint(key)));
        };
        match scalar(setting, value.get_ref()) {
            Ok(text) => {
                self.file.values.insert(setting.key, (text, self.source.place(key, value.span())));
            }
            Err(what) => self.flaw(key, value.span(), what),
        }
    }

    fn flaw(&mut self, key: &str, span: Range<usize>, what: String) {
        let place = self.source.place(key, span);
        self.file.flaws.push(Flaw { place, what });
    }
}

/// The value as text, if its type fits the setting.
fn scalar(setting: &Setting, value: &DeValue<'_>) -> Result<String, String> {
    match (setting.kind, value) {
        (Kind::Count, DeValue::Integer(number)) if number.radix() == 10 => {
            Ok(number.as_str().replace('_', ""))
        }
        (Kind::Switch, DeValue::Boolean(switch)) => Ok(switch.to_string()),
        (Kind::List | Kind::Tags, DeValue::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            let texts = texts.ok_or_else(|| "must hold texts in quotes only".to_owned())?;
            match setting.kind {
                Kind::Tags => Ok(texts.into_iter().map(one_tag).collect::<Vec<_>>().join(",")),
                _ => Ok(texts.join(",")),
            }
        }
        (Kind::List | Kind::Tags, other) => {
            Err(format!("must be a list of texts in quotes, not {}", kind(other)))
        }
        (Kind::Count, other) => Err(format!("must be a whole number, not {}", kind(other))),
        (Kind::Switch, other) => Err(format!("must be true or false, not {}", kind(other))),
        (_, DeValue::String(text)) => Ok(text.clone().into_owned()),
        (_, other) => Err(format!("must be a text in quotes, not {}", kind(other))),
    }
}

/// A list's own commas separate tags, a tag's commas are its own. A template is left as it is: what it prints is a list.
fn one_tag(text: &str) -> String {
    if text.contains("{{") {
        return text.to_owned();
    }
    let mut tag = String::with_capacity(text.len());
    for c in text.chars() {
        if c == ',' && !tag.ends_with('\\') {
            tag.push('\\');
        }
        tag.push(c);
    }
    tag
}

/// The type of a value, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

fn sections() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter_map(|setting| setting.key.split_once('.').map(|(section, _)| section))
}

/// A key that is right but stands in the wrong section is a likelier slip than a misspelt one.
fn key_hint(key: &str) -> String {
    let leaf = |key: &'_ str| key.rsplit('.').next().unwrap_or_default().to_owned();
    match SETTINGS.iter().find(|setting| leaf(setting.key) == leaf(key)) {
        Some(elsewhere) => format!("; did you mean {}?", elsewhere.key),
        None => hint(key, SETTINGS.iter().map(|setting| setting.key)),
    }
}
