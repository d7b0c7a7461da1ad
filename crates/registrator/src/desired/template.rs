//! Tags as a template over the container: what gliderlabs/registrator's `-tags` takes, in the part of Go's
//! text/template that such templates use. Parsed once; a mistake in the template is found then, not at a container.
//!
//! `{{ pipeline }}`, `if`/`else if`/`else`/`end`, comments and trim markers; fields of the container; Go's `index`,
//! `len`, `eq`, `ne`, `not`, `and`, `or`, `print` and `printf`; registrator's own functions, without `httpGet`.

mod function;
mod parse;
mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::metadata;
use crate::container::Container;
use function::{Function, Pattern};
use value::{Field, Value};

/// The longest template, in bytes.
const SOURCE_LIMIT: usize = 4096;

/// How deep parentheses and conditions may nest.
const DEPTH_LIMIT: usize = 32;

/// The longest text that evaluation may make, in bytes.
const TEXT_LIMIT: usize = 64 * 1024;

/// Tags for every instance: a list with commas between them, or a template that makes one of a container.
#[derive(Debug, Clone, Default)]
pub struct TagsTemplate {
    source: Arc<str>,
    nodes: Arc<[Node]>,
}

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tags template, character {at}: {what}")]
pub struct TemplateError {
    /// The place, from 1.
    at: usize,
    what: String,
}

/// Why a template makes nothing of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Expression),
    If { branches: Vec<(Expression, Vec<Node>)>, otherwise: Vec<Node> },
}

#[derive(Debug)]
enum Expression {
    Literal(Value),
    /// A regular expression that stands in the template.
    Pattern(Pattern),
    Field(Field),
    /// What a map holds under these keys, one in the other.
    Keys(Box<Expression>, Vec<String>),
    Call(Function, Vec<Expression>),
}

impl TagsTemplate {
    /// Reads `text`.
    ///
    /// # Errors
    /// Names the first mistake and its place.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parse::template(text)?.into(), source: text.into() })
    }

    /// What was read.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tags of `container`'s instances, or in words why there are none.
    pub(super) fn tags(&self, container: &Container) -> Result<BTreeSet<String>, String> {
        let mut text = String::new();
        write(&self.nodes, container, &mut text).map_err(|Failure(why)| why)?;
        let tags = metadata::tags(&text).into_iter();
        Ok(tags.map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect())
    }
}

impl PartialEq for TagsTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for TagsTemplate {}

impl fmt::Display for TagsTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

fn write(nodes: &[Node], container: &Container, out: &mut String) -> Result<(), Failure> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(expression) => out.push_str(&expression.of(container)?.to_string()),
            Node::If { branches, otherwise } => {
                let mut chosen = otherwise;
                for (condition, nodes) in branches {
                    if condition.of(container)?.is_true() {
                        chosen = nodes;
                        break;
                    }
                }
                write(chosen, container, out)?;
            }
        }
        within_limit(out.len())?;
    }
    Ok(())
}

fn within_limit(length: usize) -> Result<(), Failure> {
    match length {
        length if length > TEXT_LIMIT => Err(Failure(format!("makes more than {TEXT_LIMIT} bytes"))),
        _ => Ok(()),
    }
}

impl Expression {
    fn of(&self, container: &Container) -> Result<Value, Failure> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Pattern(pattern) => Ok(Value::Text(pattern.source().to_owned())),
            Self::Field(field) => Ok(field.of(container)),
            Self::Keys(map, keys) => keys.iter().try_fold(map.of(container)?, |value, key| value.under(key)),
            // Its regular expression is compiled already.
            Self::Call(function, arguments) => match &arguments[..] {
                [Self::Pattern(pattern), list] => function.matching(pattern, &list.of(container)?),
                _ => {
                    let values: Vec<Value> =
                        arguments.iter().map(|argument| argument.of(container)).collect::<Result<_, _>>()?;
                    function.call(&values)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
