//! The functions of templates: gliderlabs/registrator's with its meaning of them, and a few of Go's own.

use regex_lite::Regex;

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
    Len,
    Eq,
    Ne,
    Not,
    And,
    Or,
    Print,
    Printf,
}

/// Every function, by name, with the fewest and the most arguments.
const FUNCTIONS: [(&str, Function, usize, usize); 21] = [
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
    ("len", Function::Len, 1, 1),
    ("eq", Function::Eq, 2, usize::MAX),
    ("ne", Function::Ne, 2, 2),
    ("not", Function::Not, 1, 1),
    ("and", Function::And, 1, usize::MAX),
    ("or", Function::Or, 1, usize::MAX),
    ("print", Function::Print, 0, usize::MAX),
    ("printf", Function::Printf, 1, usize::MAX),
];

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
            Self::MatchFirstElement => found.next().unwrap_or(Value::Text(String::new())),
            _ => Value::List(found.collect()),
        })
    }

    /// Calls it; the number of arguments was checked when the template was read.
    pub(super) fn call(self, arguments: &[Value]) -> Result<Value, Failure> {
        let text = |at: usize| arguments[at].text();
        let owned = |text: &str| Value::Text(text.to_owned());
        Ok(match self {
            Self::StrSlice => owned(&slice(text(0)?, &arguments[1..])?),
            Self::SIndex => pick(arguments[0].number()?, arguments[1].list()?)?,
            Self::MIndex => arguments[1].map()?.get(text(0)?).cloned().unwrap_or_else(|| owned("")),
            Self::ToUpper => Value::Text(text(0)?.to_uppercase()),
            Self::ToLower => Value::Text(text(0)?.to_lowercase()),
            Self::Replace => Value::Text(replace(arguments[0].number()?, text(1)?, text(2)?, text(3)?)?),
            Self::Join => Value::Text(join(text(0)?, arguments[1].list()?)?),
            Self::Split => Value::List(split(text(0)?, text(1)?)),
            Self::SplitIndex => pick(arguments[0].number()?, &split(text(1)?, text(2)?))?,
            Self::MatchFirstElement | Self::MatchAllElements => {
                let pattern = Pattern::new(text(0)?).map_err(Failure)?;
                self.matching(&pattern, &arguments[1])?
            }
            Self::JsonParse => Value::Text(json(text(0)?, text(1)?)?),
            Self::Index => arguments[1..].iter().try_fold(arguments[0].clone(), index)?,
            Self::Len => Value::Number(len(&arguments[0])?),
            Self::Eq => Value::Truth(arguments[1..].iter().any(|value| same(value, &arguments[0]))),
            Self::Ne => Value::Truth(!same(&arguments[0], &arguments[1])),
            Self::Not => Value::Truth(!arguments[0].is_true()),
            Self::And => first(arguments, |value| !value.is_true()),
            Self::Or => first(arguments, Value::is_true),
            Self::Print => Value::Text(print(arguments)?),
            Self::Printf => Value::Text(printf(text(0)?, &arguments[1..])?),
        })
    }
}

/// What is not there is no text.
fn same(one: &Value, other: &Value) -> bool {
    match (one.text(), other.text()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// The first that `ends`, else the last.
fn first(arguments: &[Value], ends: impl Fn(&Value) -> bool) -> Value {
    let found = arguments.iter().find(|value| ends(value)).or(arguments.last());
    found.cloned().unwrap_or(Value::Nothing)
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
        return text.chars().map(|c| Value::Text(c.to_string())).collect();
    }
    text.split(at).map(|part| Value::Text(part.to_owned())).collect()
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

fn index(value: Value, key: &Value) -> Result<Value, Failure> {
    match &value {
        Value::List(list) => {
            let at = key.number()?;
            let found = usize::try_from(at).ok().and_then(|at| list.get(at));
            found.cloned().ok_or_else(|| Failure(format!("index {at} of a list of {}", list.len())))
        }
        _ => {
            let key = key.text()?.to_owned();
            value.under(&key)
        }
    }
}

fn len(value: &Value) -> Result<i64, Failure> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        other => return Err(Failure(format!("len of {}", other.kind()))),
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX))
}

/// As Go's `Sprint`: a space between two that are both no texts.
fn print(values: &[Value]) -> Result<String, Failure> {
    let mut printed = String::new();
    for (at, value) in values.iter().enumerate() {
        let texts = |value: &Value| matches!(value, Value::Text(_));
        if at > 0 && !texts(value) && !texts(&values[at - 1]) {
            printed.push(' ');
        }
        printed.push_str(&value.to_string());
        within_limit(printed.len())?;
    }
    Ok(printed)
}

/// Knows `%s`, `%v`, `%d` and `%%`.
fn printf(format: &str, values: &[Value]) -> Result<String, Failure> {
    let (mut printed, mut values) = (String::new(), values.iter());
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            printed.push(c);
            continue;
        }
        match rest.next() {
            Some('%') => printed.push('%'),
            Some('s' | 'v' | 'd') => {
                let value =
                    values.next().ok_or_else(|| Failure(format!("printf {format:?}: too few arguments")))?;
                printed.push_str(&value.to_string());
            }
            _ => return Err(Failure(format!("printf {format:?}: there are only %s, %v, %d and %%"))),
        }
        within_limit(printed.len())?;
    }
    match values.next() {
        None => Ok(printed),
        Some(_) => Err(Failure(format!("printf {format:?}: too many arguments"))),
    }
}
