//! The functions of templates: gliderlabs/registrator's with its meaning of them, and a few of Go's own.

use std::cmp::Ordering;

use regex_lite::Regex;

use super::print::{print, printf, println};
use super::value::Value;
use super::{Failure, within_limit};

/// A function that templates can call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    StrSlice,
    SIndex,
    MIndex,
    ToUpper,
    ToLower,
    Replace,
    Join,
    Split,
    SplitIndex,
    MatchFirstElement,
    MatchAllElements,
    JsonParse,
    Index,
    Slice,
    Len,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Not,
    And,
    Or,
    Print,
    Printf,
    Println,
}

/// Every function, by name, with the fewest and the most arguments.
const FUNCTIONS: [(&str, Function, usize, usize); 27] = [
    ("strSlice", Function::StrSlice, 1, 3),
    ("sIndex", Function::SIndex, 2, 2),
    ("mIndex", Function::MIndex, 2, 2),
    ("toUpper", Function::ToUpper, 1, 1),
    ("toLower", Function::ToLower, 1, 1),
    ("replace", Function::Replace, 4, 4),
    ("join", Function::Join, 2, 2),
    ("split", Function::Split, 2, 2),
    ("splitIndex", Function::SplitIndex, 3, 3),
    ("matchFirstElement", Function::MatchFirstElement, 2, 2),
    ("matchAllElements", Function::MatchAllElements, 2, 2),
    ("jsonParse", Function::JsonParse, 2, 2),
    ("index", Function::Index, 1, usize::MAX),
    ("slice", Function::Slice, 1, 4),
    ("len", Function::Len, 1, 1),
    ("eq", Function::Eq, 2, usize::MAX),
    ("ne", Function::Ne, 2, 2),
    ("lt", Function::Lt, 2, 2),
    ("le", Function::Le, 2, 2),
    ("gt", Function::Gt, 2, 2),
    ("ge", Function::Ge, 2, 2),
    ("not", Function::Not, 1, 1),
    ("and", Function::And, 1, usize::MAX),
    ("or", Function::Or, 1, usize::MAX),
    ("print", Function::Print, 0, usize::MAX),
    ("printf", Function::Printf, 1, usize::MAX),
    ("println", Function::Println, 0, usize::MAX),
];

/// Go's, for texts that are no tags.
const NOT_OFFERED: [&str; 4] = ["html", "js", "urlquery", "call"];

/// A regular expression.
#[derive(Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Self).map_err(|error| format!("{text:?} is no regular expression: {error}"))
    }

    pub(super) fn source(&self) -> &str {
        self.0.as_str()
    }
}

impl Function {
    /// The function of this name, or why there is none.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        if name == "httpGet" {
            return Err("httpGet is not offered: tags wait for no network".to_owned());
        }
        if NOT_OFFERED.contains(&name) {
            return Err(format!("{name} is not offered"));
        }
        let known = FUNCTIONS.iter().find(|(known, ..)| *known == name);
        known.map(|(_, function, ..)| *function).ok_or_else(|| {
            let names: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
            format!("there is no function {name}; there are {}", names.join(", "))
        })
    }

    /// Says what is wrong with a call with `count` arguments.
    pub(super) fn takes(self, count: usize) -> Result<(), String> {
        let row = FUNCTIONS.iter().find(|(_, function, ..)| *function == self);
        let Some((name, _, least, most)) =
            row.filter(|(_, _, least, most)| !(*least..=*most).contains(&count))
        else {
            return Ok(());
        };
        let wanted = match (least, most) {
            (least, most) if least == most => least.to_string(),
            (least, &usize::MAX) => format!("{least} or more"),
            (least, most) => format!("{least} to {most}"),
        };
        Err(format!("{name} takes {wanted} arguments, not {count}"))
    }

    /// Whether its first argument is a regular expression.
    pub(super) fn matches(self) -> bool {
        matches!(self, Self::MatchFirstElement | Self::MatchAllElements)
    }

    /// Calls one that [`Function::matches`].
    pub(super) fn matching(self, pattern: &Pattern, list: &Value) -> Result<Value, Failure> {
        let found = |element: &&Value| element.text().is_ok_and(|text| pattern.0.is_match(text));
        let mut found = list.list()?.iter().filter(found).cloned();
        Ok(match self {
            Self::MatchFirstElement => found.next().unwrap_or_else(|| Value::text_of("")),
            _ => Value::List(found.collect()),
        })
    }

    /// Whether it asks its arguments no more than whether they are true.
    pub(super) fn asks_truth(self) -> bool {
        matches!(self, Self::Not | Self::And | Self::Or)
    }

    /// Whether nothing after `argument` is asked.
    pub(super) fn decided_by(self, argument: &Value) -> bool {
        match self {
            Self::And => !argument.is_true(),
            Self::Or => argument.is_true(),
            _ => false,
        }
    }

    /// Calls it; the number of arguments was checked when the template was read.
    pub(super) fn call(self, arguments: &[Value]) -> Result<Value, Failure> {
        let text = |at: usize| arguments[at].text();
        let made = |text: String| Value::Text(text.into());
        let compared = || compare(&arguments[0], &arguments[1]);
        Ok(match self {
            Self::StrSlice => made(slice(text(0)?, &arguments[1..])?),
            Self::SIndex => pick(arguments[0].number()?, arguments[1].list()?)?,
            Self::MIndex => arguments[1].map()?.get(text(0)?).cloned().unwrap_or_else(|| Value::text_of("")),
            Self::ToUpper => made(text(0)?.to_uppercase()),
            Self::ToLower => made(text(0)?.to_lowercase()),
            Self::Replace => made(replace(arguments[0].number()?, text(1)?, text(2)?, text(3)?)?),
            Self::Join => made(join(text(0)?, arguments[1].list()?)?),
            Self::Split => Value::List(split(text(0)?, text(1)?).into()),
            Self::SplitIndex => pick(arguments[0].number()?, &split(text(1)?, text(2)?))?,
            Self::MatchFirstElement | Self::MatchAllElements => {
                let pattern = Pattern::new(text(0)?).map_err(Failure)?;
                self.matching(&pattern, &arguments[1])?
            }
            Self::JsonParse => made(json(text(0)?, text(1)?)?),
            Self::Index => {
                arguments[1..].iter().try_fold(arguments[0].clone(), |value, key| index(&value, key))?
            }
            Self::Slice => cut(&arguments[0], &arguments[1..])?,
            Self::Len => Value::Number(len(&arguments[0])?),
            Self::Eq => Value::Truth(equals_any(&arguments[0], &arguments[1..])?),
            Self::Ne => Value::Truth(!equals_any(&arguments[0], &arguments[1..])?),
            Self::Lt => Value::Truth(compared()?.is_lt()),
            Self::Le => Value::Truth(compared()?.is_le()),
            Self::Gt => Value::Truth(compared()?.is_gt()),
            Self::Ge => Value::Truth(compared()?.is_ge()),
            Self::Not => Value::Truth(!arguments[0].is_true()),
            // What decides is the last that was asked.
            Self::And | Self::Or => arguments.last().cloned().unwrap_or(Value::Nothing),
            Self::Print => made(print(arguments)?),
            Self::Printf => made(printf(text(0)?, &arguments[1..])?),
            Self::Println => made(println(arguments)?),
        })
    }
}

fn equals_any(one: &Value, others: &[Value]) -> Result<bool, Failure> {
    for other in others {
        if equals(one, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Compares what Go compares: texts, numbers and truths, each with its like. What is not there is no text.
fn equals(one: &Value, other: &Value) -> Result<bool, Failure> {
    match (one, other) {
        (Value::Truth(one), Value::Truth(other)) => Ok(one == other),
        (Value::Nothing, Value::Truth(_) | Value::Number(_))
        | (Value::Truth(_) | Value::Number(_), Value::Nothing) => Ok(false),
        _ => compare(one, other).map(Ordering::is_eq),
    }
}

fn compare(one: &Value, other: &Value) -> Result<Ordering, Failure> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => Ok(one.cmp(other)),
        (Value::Text(_) | Value::Nothing, Value::Text(_) | Value::Nothing) => {
            Ok(one.text()?.cmp(other.text()?))
        }
        _ => Err(Failure(format!("compares {} with {}", one.kind(), other.kind()))),
    }
}

/// `text[start:end]`, as registrator has it: bounds beyond the text leave it whole. Counts characters.
fn slice(text: &str, bounds: &[Value]) -> Result<String, Failure> {
    let bound = |value: &Value| {
        let number = value.number()?;
        usize::try_from(number).map_err(|_| Failure(format!("strSlice begins or ends at {number}")))
    };
    let bounds: Vec<usize> = bounds.iter().map(bound).collect::<Result<_, _>>()?;
    let length = text.chars().count();
    if bounds.iter().any(|bound| *bound > length) {
        return Ok(text.to_owned());
    }
    let start = bounds.first().copied().unwrap_or(0);
    let end = bounds.get(1).copied().filter(|end| *end >= start).unwrap_or(length);
    Ok(text.chars().skip(start).take(end - start).collect())
}

/// One of a list, from its end when negative; beyond either end it is the one at that end.
fn pick(at: i64, list: &[Value]) -> Result<Value, Failure> {
    let distance = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
    let found = match at {
        0.. => list.get(distance).or(list.last()),
        _ => list.len().checked_sub(distance).and_then(|at| list.get(at)).or(list.first()),
    };
    found.cloned().ok_or_else(|| Failure("takes one of an empty list".to_owned()))
}

fn replace(count: i64, old: &str, new: &str, text: &str) -> Result<String, Failure> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = text.matches(old).take(count).count();
    within_limit(text.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, count))
}

fn join(between: &str, list: &[Value]) -> Result<String, Failure> {
    let mut joined = String::new();
    for (at, value) in list.iter().enumerate() {
        if at > 0 {
            joined.push_str(between);
        }
        joined.push_str(value.text()?);
        within_limit(joined.len())?;
    }
    Ok(joined)
}

fn split(at: &str, text: &str) -> Vec<Value> {
    if at.is_empty() {
        return text.chars().map(|c| Value::text_of(c.encode_utf8(&mut [0; 4]))).collect();
    }
    text.split(at).map(Value::text_of).collect()
}

/// What stands at `path` (`key::key`, `[0]` in lists) in `text`; a text without its quotes, nothing as no text.
fn json(text: &str, path: &str) -> Result<String, Failure> {
    let whole: serde_json::Value =
        serde_json::from_str(text).map_err(|error| Failure(format!("jsonParse: no JSON: {error}")))?;
    let step = |value: serde_json::Value, key: &str| match value {
        serde_json::Value::Object(mut map) => map.remove(key),
        serde_json::Value::Array(list) => {
            let at: usize = key.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
            list.into_iter().nth(at)
        }
        _ => None,
    };
    Ok(match path.split("::").try_fold(whole, step) {
        None => String::new(),
        Some(serde_json::Value::String(text)) => text,
        Some(other) => other.to_string(),
    })
}

fn index(value: &Value, key: &Value) -> Result<Value, Failure> {
    match value {
        Value::List(list) => {
            let at = key.number()?;
            let found = usize::try_from(at).ok().and_then(|at| list.get(at));
            found.cloned().ok_or_else(|| Failure(format!("index {at} of a list of {}", list.len())))
        }
        _ => value.under(key.text()?),
    }
}

/// Go's `slice`: `value[from:to]`, of a text in bytes; beyond either end it fails.
fn cut(value: &Value, bounds: &[Value]) -> Result<Value, Failure> {
    let length = usize::try_from(len(value)?).unwrap_or(usize::MAX);
    let bounds: Vec<i64> = bounds.iter().map(Value::number).collect::<Result<_, _>>()?;
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Some(default),
        Some(bound) => usize::try_from(*bound).ok(),
    };
    let range = bound(0, 0).zip(bound(1, length)).map(|(from, to)| from..to);
    // A third bound is the room for more, which nothing here has a use for.
    let room = bound(2, length).filter(|room| *room <= length);
    let range = range.filter(|range| room.is_some_and(|room| range.end <= room));
    let found = range.and_then(|range| match value {
        Value::Text(text) if bounds.len() < 3 => text.get(range).map(Value::text_of),
        Value::List(list) => list.get(range).map(|list| Value::List(list.into())),
        _ => None,
    });
    found.ok_or_else(|| Failure(format!("slice {bounds:?} of {} of length {length}", value.kind())))
}

fn len(value: &Value) -> Result<i64, Failure> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        Value::Nothing => 0,
        other => return Err(Failure(format!("len of {}", other.kind()))),
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX))
}
