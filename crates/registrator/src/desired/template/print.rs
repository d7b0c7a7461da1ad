//! Go's `print`, `println` and `printf`, as far as what templates compute with can be printed.

use std::fmt::Write as _;

use super::value::Value;
use super::{Failure, within_limit};

/// The widest that `printf` pads to.
const WIDTH_LIMIT: usize = 1024;

/// As Go's `Sprint`: a space between two that are both no texts.
pub(super) fn print(values: &[Value]) -> Result<String, Failure> {
    let texts = |value: &Value| matches!(value, Value::Text(_));
    listed(values, |before, value| !texts(before) && !texts(value))
}

/// As Go's `Sprintln`: a space between any two, and an end of line.
pub(super) fn println(values: &[Value]) -> Result<String, Failure> {
    Ok(listed(values, |_, _| true)? + "\n")
}

fn listed(values: &[Value], spaced: impl Fn(&Value, &Value) -> bool) -> Result<String, Failure> {
    let mut printed = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && spaced(&values[at - 1], value) {
            printed.push(' ');
        }
        printed.push_str(&value.shown()?);
        within_limit(printed.len())?;
    }
    Ok(printed)
}

/// As Go's `Sprintf`, with the verbs `s v d q t x X` and `%%`, their flags, width and precision. Where Go prints that a
/// value does not fit its verb, this fails.
pub(super) fn printf(format: &str, values: &[Value]) -> Result<String, Failure> {
    let flaw = |what: &str| Failure(format!("printf {format:?}: {what}"));
    let (mut printed, mut values) = (String::new(), values.iter());
    let mut rest = format;
    while let Some((text, verb)) = rest.split_once('%') {
        printed.push_str(text);
        let (verb, after) = Verb::read(verb).map_err(flaw)?;
        rest = after;
        if verb.letter == '%' {
            printed.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| flaw("too few arguments"))?;
        verb.print(value, &mut printed).map_err(|Failure(what)| flaw(&what))?;
        within_limit(printed.len())?;
    }
    printed.push_str(rest);
    match values.next() {
        None => Ok(printed),
        Some(_) => Err(flaw("too many arguments")),
    }
}

/// What stands after a `%`.
#[derive(Debug, Default)]
struct Verb {
    letter: char,
    left: bool,
    zeros: bool,
    plus: bool,
    blank: bool,
    width: usize,
    precision: Option<usize>,
}

impl Verb {
    /// Reads one, and says what follows it.
    fn read(text: &str) -> Result<(Self, &str), &'static str> {
        let mut verb = Self::default();
        let flags = text.find(|c| !"-+ 0".contains(c)).unwrap_or(text.len());
        for flag in text[..flags].chars() {
            match flag {
                '-' => verb.left = true,
                '+' => verb.plus = true,
                ' ' => verb.blank = true,
                _ => verb.zeros = true,
            }
        }
        let (width, mut rest) = number(&text[flags..])?;
        verb.width = width;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = number(after)?;
            (verb.precision, rest) = (Some(precision), after);
        }
        let mut chars = rest.chars();
        verb.letter = chars
            .next()
            .filter(|c| "svdqtxX%".contains(*c))
            .ok_or("there are only %s, %v, %d, %q, %t, %x, %X and %%")?;
        Ok((verb, chars.as_str()))
    }

    fn print(&self, value: &Value, out: &mut String) -> Result<(), Failure> {
        within_limit(out.len())?;
        let text = match (self.letter, value) {
            (_, Value::List(list)) => {
                return self.print_each(list.iter().map(|value| (None, value)), "[", out);
            }
            (_, Value::Map(map)) => {
                return self.print_each(map.iter().map(|(key, value)| (Some(key), value)), "map[", out);
            }
            ('v' | 'd', Value::Number(number)) => {
                return self.print_number(*number < 0, &number.unsigned_abs().to_string(), out);
            }
            ('x', Value::Number(number)) => {
                return self.print_number(*number < 0, &format!("{:x}", number.unsigned_abs()), out);
            }
            ('X', Value::Number(number)) => {
                return self.print_number(*number < 0, &format!("{:X}", number.unsigned_abs()), out);
            }
            ('v' | 't', Value::Truth(truth)) => truth.to_string(),
            ('s' | 'v', Value::Text(_) | Value::Nothing) => self.shortened(value.text()?).to_owned(),
            ('q', Value::Text(_) | Value::Nothing) => quoted(self.shortened(value.text()?)),
            ('x', Value::Text(text)) => hex(text, self.precision, |byte| format!("{byte:02x}")),
            ('X', Value::Text(text)) => hex(text, self.precision, |byte| format!("{byte:02X}")),
            ('v', Value::Record(_)) => value.to_string(),
            (letter, other) => return Err(Failure(format!("%{letter} of {}", other.kind()))),
        };
        self.pad(&text, out);
        Ok(())
    }

    fn print_each<'v>(
        &self,
        entries: impl Iterator<Item = (Option<&'v std::sync::Arc<str>>, &'v Value)>,
        open: &str,
        out: &mut String,
    ) -> Result<(), Failure> {
        out.push_str(open);
        for (at, (key, value)) in entries.enumerate() {
            if at > 0 {
                out.push(' ');
            }
            if let Some(key) = key {
                self.print(&Value::Text(key.clone()), out)?;
                out.push(':');
            }
            self.print(value, out)?;
        }
        out.push(']');
        Ok(())
    }

    fn print_number(&self, negative: bool, digits: &str, out: &mut String) -> Result<(), Failure> {
        if self.precision.is_some() {
            return Err(Failure("a number has no precision".to_owned()));
        }
        let sign = match (negative, self.plus, self.blank) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        if self.zeros && !self.left {
            let digits_width = self.width.saturating_sub(sign.len());
            // Writing to a text never fails.
            let _ = write!(out, "{sign}{digits:0>digits_width$}");
        } else {
            self.pad(&format!("{sign}{digits}"), out);
        }
        Ok(())
    }

    fn shortened<'t>(&self, text: &'t str) -> &'t str {
        let end = self.precision.and_then(|precision| text.char_indices().nth(precision));
        end.map_or(text, |(end, _)| &text[..end])
    }

    fn pad(&self, text: &str, out: &mut String) {
        let width = self.width;
        // Writing to a text never fails.
        let _ = if self.left { write!(out, "{text:<width$}") } else { write!(out, "{text:>width$}") };
    }
}

/// The number that a text begins with, or 0.
fn number(text: &str) -> Result<(usize, &str), &'static str> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    match digits.parse() {
        Ok(number) if number <= WIDTH_LIMIT => Ok((number, rest)),
        Err(_) if digits.is_empty() => Ok((0, rest)),
        _ => Err("a width or precision is at most 1024"),
    }
}

/// As Go quotes; what cannot be printed is shown by its number.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// At most `most` bytes of a text.
fn hex(text: &str, most: Option<usize>, digits: impl Fn(u8) -> String) -> String {
    text.bytes().take(most.unwrap_or(usize::MAX)).map(digits).collect()
}
