//! The words of a template: where its text ends and an action begins, and what stands in one.

use super::TemplateError;

/// What trim markers cut off.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// A word of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Text(String),
    Number(i64),
    Name(String),
    /// `.A.B`; no name for a lone dot.
    Field(Vec<String>),
    /// `$name.A.B`; no name for the container.
    Variable(String, Vec<String>),
    /// `:=`
    Declare,
    /// `=`
    Assign,
    Comma,
    Pipe,
    Open,
    Close,
    /// `}}`, and whether it trims what follows.
    Done {
        trims: bool,
    },
}

/// A place in a template.
pub(super) struct Words<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Words<'s> {
    pub(super) fn of(source: &'s str) -> Self {
        Self { source, at: 0 }
    }

    /// Where the next word begins.
    pub(super) fn at(&mut self) -> usize {
        self.space();
        self.at
    }

    /// Takes the text up to the next action and its `{{`, or up to the end; the text, and where the action begins.
    pub(super) fn text(&mut self) -> (&'s str, Option<usize>) {
        let source = self.source;
        let rest = &source[self.at..];
        let Some(open) = rest.find("{{") else {
            self.at = source.len();
            return (rest, None);
        };
        let begin = self.at + open;
        self.at = begin + 2;
        let trims = self.rest().strip_prefix('-').is_some_and(|rest| rest.starts_with(BLANKS));
        self.at += usize::from(trims);
        let text = &rest[..open];
        (if trims { text.trim_end_matches(BLANKS) } else { text }, Some(begin))
    }

    /// Takes `/* … */`, if that follows.
    pub(super) fn comment(&mut self, begin: usize) -> Result<bool, TemplateError> {
        if !self.rest().trim_start().starts_with("/*") {
            return Ok(false);
        }
        let Some(end) = self.rest().find("*/") else {
            return Err(self.flaw(begin, "the comment does not end"));
        };
        self.at += end + 2;
        Ok(true)
    }

    /// Takes `}}`.
    pub(super) fn done(&mut self, begin: usize) -> Result<(), TemplateError> {
        let at = self.at();
        match self.next()? {
            Some(Word::Done { trims }) => {
                if trims {
                    self.at = self.source.len() - self.rest().trim_start_matches(BLANKS).len();
                }
                Ok(())
            }
            None => Err(self.flaw(begin, "has no }}")),
            Some(_) => Err(self.flaw(at, "does not belong here")),
        }
    }

    pub(super) fn peek(&mut self) -> Result<Option<Word>, TemplateError> {
        let at = self.at;
        let word = self.next();
        self.at = at;
        word
    }

    /// Takes the next word if it is this one.
    pub(super) fn take(&mut self, word: &Word) -> Result<bool, TemplateError> {
        let found = self.peek()?.as_ref() == Some(word);
        if found {
            self.next()?;
        }
        Ok(found)
    }

    /// Goes back to where a word began.
    pub(super) fn back_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The names of `.A.B`, if that follows at once.
    pub(super) fn glued(&mut self) -> Result<Option<Vec<String>>, TemplateError> {
        if !self.rest().starts_with('.') {
            return Ok(None);
        }
        match self.next()? {
            Some(Word::Field(names)) => Ok(Some(names)),
            _ => Ok(None),
        }
    }

    /// The next word of an action; `None` at the end of the source.
    pub(super) fn next(&mut self) -> Result<Option<Word>, TemplateError> {
        self.space();
        let spaced = self.source[..self.at].ends_with(char::is_whitespace);
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return Ok(None) };
        let (length, word) = match c {
            '}' if rest.starts_with("}}") => (2, Word::Done { trims: false }),
            '-' if spaced && rest.starts_with("-}}") => (3, Word::Done { trims: true }),
            '|' => (1, Word::Pipe),
            '(' => (1, Word::Open),
            ')' => (1, Word::Close),
            ',' => (1, Word::Comma),
            '=' => (1, Word::Assign),
            ':' if rest.starts_with(":=") => (2, Word::Declare),
            '"' => self.quoted()?,
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| self.flaw(self.at, "the text does not end"))?;
                (end + 2, Word::Text(rest[1..=end].to_owned()))
            }
            '.' => {
                let length = length_of(rest, |c| c == '.' || is_letter(c));
                (length, Word::Field(self.names(&rest[..length])?))
            }
            '$' => {
                let name = length_of(&rest[1..], is_letter);
                let (name, rest) = rest[1..].split_at(name);
                let fields = length_of(rest, |c| c == '.' || is_letter(c));
                let names = if fields == 0 { Vec::new() } else { self.names(&rest[..fields])? };
                (1 + name.len() + fields, Word::Variable(name.to_owned(), names))
            }
            '-' | '+' | '0'..='9' => {
                let length = 1 + length_of(&rest[1..], |c| c == '.' || is_letter(c));
                let number = rest[..length].parse();
                let number = number
                    .map_err(|_| self.flaw(self.at, format!("{:?} is no whole number", &rest[..length])))?;
                (length, Word::Number(number))
            }
            c if is_letter(c) => {
                let length = length_of(rest, is_letter);
                (length, Word::Name(rest[..length].to_owned()))
            }
            other => return Err(self.flaw(self.at, format!("{other:?} does not belong here"))),
        };
        self.at += length;
        Ok(Some(word))
    }

    /// The names in `.A.B`.
    fn names(&self, dotted: &str) -> Result<Vec<String>, TemplateError> {
        if dotted == "." {
            return Ok(Vec::new());
        }
        let names: Vec<String> = dotted.split('.').skip(1).map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(self.flaw(self.at, "is no field"));
        }
        Ok(names)
    }

    /// A text in quotes, with Go's usual escapes, and its length in the source.
    fn quoted(&self) -> Result<(usize, Word), TemplateError> {
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Ok((at + 1, Word::Text(text))),
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\' | '\''))) => text.push(c),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    _ => return Err(self.flaw(self.at + at, "is no escape; write \\\\ for a backslash")),
                },
                other => text.push(other),
            }
        }
        Err(self.flaw(self.at, "the text does not end"))
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn space(&mut self) {
        self.at = self.source.len() - self.rest().trim_start().len();
    }

    pub(super) fn flaw(&self, at: usize, what: impl Into<String>) -> TemplateError {
        TemplateError { at: self.source[..at].chars().count() + 1, what: what.into() }
    }
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn length_of(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.find(|c| !fits(c)).unwrap_or(text.len())
}
