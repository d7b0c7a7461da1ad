//! Tags as a template over the container: what gliderlabs/registrator's `-tags` takes, in the part of Go's
//! text/template that makes sense in a line. Parsed once; a mistake in the template is found then, not at a container.
//!
//! `{{ pipeline }}`, `if`, `with`, `range`, `break`, `continue`, `else`, `else if`, `else with`, variables, `$`, comments
//! and trim markers; fields of the container; Go's functions but `html`, `js`, `urlquery` and `call`; registrator's own,
//! without `httpGet`. Nothing that makes several templates of one. `template/vectors/` holds what Go makes of many.

mod function;
mod parse;
mod print;
mod run;
mod value;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::metadata;
use crate::container::Container;
use function::{Function, Pattern};
use value::{Field, Value};

/// The longest template, in bytes.
const SOURCE_LIMIT: usize = 4096;

/// How deep parentheses and actions may nest.
const DEPTH_LIMIT: usize = 32;

/// The longest text that evaluation may make, in bytes.
const TEXT_LIMIT: usize = 64 * 1024;

/// How many steps evaluation may take: a piece of the template, a value, a turn of `range`, or 64 bytes that a
/// function reads is one.
const STEP_LIMIT: usize = 100_000;

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
    Action(Pipeline),
    /// `if` and `with`: the first branch whose pipeline is true.
    Choose {
        /// Whether the dot is the branch's value inside it.
        moves_dot: bool,
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// A value, and the variables that take it: one, or two of `range`. What has a variable prints nothing.
#[derive(Debug)]
struct Pipeline {
    into: Vec<Slot>,
    value: Expression,
}

/// Where a variable is kept. Two that are never in scope together may share one.
type Slot = usize;

#[derive(Debug)]
enum Expression {
    Literal(Value),
    /// A regular expression that stands in the template.
    Pattern(Pattern),
    /// The dot where it is not known to be a part of the container.
    Dot,
    Variable(Slot),
    Field(Field),
    /// What is under these keys, one in the other.
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
        let text = self.text(container)?;
        let tags = metadata::tags(&text).into_iter();
        Ok(tags.map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect())
    }

    /// What the template prints.
    fn text(&self, container: &Container) -> Result<String, String> {
        run::text(&self.nodes, container).map_err(|Failure(why)| why)
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

fn within_limit(length: usize) -> Result<(), Failure> {
    match length {
        length if length > TEXT_LIMIT => Err(Failure(format!("makes more than {TEXT_LIMIT} bytes"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
