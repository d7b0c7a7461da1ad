//! Reads templates: text and actions, the words of an action, and what they call.

use super::function::{Function, Pattern};
use super::value::{FIELDS, Field, Value};
use super::{DEPTH_LIMIT, Expression, Node, SOURCE_LIMIT, TemplateError};

/// Words of Go's templates that are not offered.
const NOT_OFFERED: [&str; 7] = ["range", "with", "define", "template", "block", "break", "continue"];

pub(super) fn template(source: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { source, at: 0, depth: 0 };
    if source.len() > SOURCE_LIMIT {
        return Err(parser.flaw(0, format!("has {} bytes; at most {SOURCE_LIMIT} are allowed", source.len())));
    }
    match parser.nodes()? {
        (nodes, End::OfSource) => Ok(nodes),
        (_, End::Else(at) | End::ElseIf(at) | End::OfIf(at)) => {
            Err(parser.flaw(at, "closes no if".to_owned()))
        }
    }
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
    depth: usize,
}

/// What ends a run of nodes, with where it stands.
enum End {
    OfSource,
    Else(usize),
    ElseIf(usize),
    OfIf(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Text(String),
    Number(i64),
    Name(String),
    /// `.A.B`; no name for a lone dot.
    Field(Vec<String>),
    Pipe,
    Open,
    Close,
    /// `}}`, and whether it trims what follows.
    Done {
        trims: bool,
    },
}

impl Parser<'_> {
    fn nodes(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let rest = &self.source[self.at..];
            let Some(open) = rest.find("{{") else {
                self.at = self.source.len();
                push_text(&mut nodes, rest);
                return Ok((nodes, End::OfSource));
            };
            let begin = self.at + open;
            self.at = begin + 2;
            let trims = self.rest().starts_with('-') && self.rest()[1..].starts_with(char::is_whitespace);
            self.at += usize::from(trims);
            push_text(&mut nodes, if trims { rest[..open].trim_end() } else { &rest[..open] });
            if self.comment(begin)? {
                continue;
            }
            match self.peek()? {
                Some(Word::Name(name)) if name == "if" => {
                    self.word()?;
                    nodes.push(self.condition(begin)?);
                }
                Some(Word::Name(name)) if name == "end" => {
                    self.word()?;
                    self.done(begin)?;
                    return Ok((nodes, End::OfIf(begin)));
                }
                Some(Word::Name(name)) if name == "else" => {
                    self.word()?;
                    if self.peek()? == Some(Word::Name("if".to_owned())) {
                        self.word()?;
                        return Ok((nodes, End::ElseIf(begin)));
                    }
                    self.done(begin)?;
                    return Ok((nodes, End::Else(begin)));
                }
                _ => {
                    let expression = self.pipeline(begin)?;
                    self.done(begin)?;
                    nodes.push(Node::Print(expression));
                }
            }
        }
    }

    /// What follows `{{if`, up to its `{{end}}`.
    fn condition(&mut self, begin: usize) -> Result<Node, TemplateError> {
        self.deeper(begin)?;
        let mut branches = Vec::new();
        loop {
            let condition = self.pipeline(begin)?;
            self.done(begin)?;
            let (nodes, end) = self.nodes()?;
            branches.push((condition, nodes));
            let otherwise = match end {
                End::ElseIf(_) => continue,
                End::OfIf(_) => Vec::new(),
                End::Else(_) => match self.nodes()? {
                    (nodes, End::OfIf(_)) => nodes,
                    (_, End::OfSource) => return Err(self.flaw(begin, "has no {{end}}".to_owned())),
                    (_, End::Else(at) | End::ElseIf(at)) => {
                        return Err(self.flaw(at, "follows an else".to_owned()));
                    }
                },
                End::OfSource => return Err(self.flaw(begin, "has no {{end}}".to_owned())),
            };
            self.depth -= 1;
            return Ok(Node::If { branches, otherwise });
        }
    }

    /// Commands with `|` between them: each takes what came before as its last argument.
    fn pipeline(&mut self, begin: usize) -> Result<Expression, TemplateError> {
        let mut piped = None;
        loop {
            piped = Some(self.command(begin, piped)?);
            if self.peek()? != Some(Word::Pipe) {
                break;
            }
            self.word()?;
        }
        piped.ok_or_else(|| self.flaw(begin, "says nothing".to_owned()))
    }

    fn command(&mut self, begin: usize, piped: Option<Expression>) -> Result<Expression, TemplateError> {
        self.space();
        let at = self.at;
        let Some(Word::Name(name)) = self.peek()?.filter(|word| !is_constant(word)) else {
            return match (piped, self.operand(begin)?) {
                (_, None) => Err(self.flaw(at, "a value is missing".to_owned())),
                (Some(_), Some(_)) => Err(self.flaw(at, "only a function can follow |".to_owned())),
                (None, Some(value)) => match self.peek()? {
                    None | Some(Word::Done { .. } | Word::Pipe | Word::Close) => Ok(value),
                    Some(_) => Err(self.flaw(at, "is no function, and takes no arguments".to_owned())),
                },
            };
        };
        self.word()?;
        if NOT_OFFERED.contains(&name.as_str()) {
            return Err(self.flaw(at, format!("{name} is not offered")));
        }
        let function = Function::named(&name).map_err(|what| self.flaw(at, what))?;
        let mut arguments = Vec::new();
        while let Some(argument) = self.operand(begin)? {
            arguments.push(argument);
        }
        arguments.extend(piped);
        function.takes(arguments.len()).map_err(|what| self.flaw(at, what))?;
        if function.matches()
            && let Some(Expression::Literal(Value::Text(text))) = arguments.first()
        {
            let pattern = Pattern::new(text).map_err(|what| self.flaw(at, what))?;
            arguments[0] = Expression::Pattern(pattern);
        }
        Ok(Expression::Call(function, arguments))
    }

    /// One value; `None` where no value begins.
    fn operand(&mut self, begin: usize) -> Result<Option<Expression>, TemplateError> {
        self.space();
        let at = self.at;
        let value = match self.peek()? {
            Some(Word::Text(text)) => Expression::Literal(Value::Text(text)),
            Some(Word::Number(number)) => Expression::Literal(Value::Number(number)),
            Some(Word::Name(name)) => match name.as_str() {
                "true" | "false" => Expression::Literal(Value::Truth(name == "true")),
                "nil" => Expression::Literal(Value::Nothing),
                _ => {
                    return Err(
                        self.flaw(at, format!("function {name} as an argument belongs in parentheses"))
                    );
                }
            },
            Some(Word::Field(names)) => field(&names).map_err(|what| self.flaw(at, what))?,
            Some(Word::Open) => {
                self.deeper(at)?;
                self.word()?;
                let inner = self.pipeline(begin)?;
                self.space();
                if self.peek()? != Some(Word::Close) {
                    return Err(self.flaw(at, "the parenthesis is not closed".to_owned()));
                }
                self.word()?;
                self.depth -= 1;
                // Only what follows at once belongs to it.
                let glued = self.rest().starts_with('.');
                return Ok(Some(match self.peek()?.filter(|_| glued) {
                    Some(Word::Field(names)) => {
                        self.word()?;
                        Expression::Keys(Box::new(inner), names)
                    }
                    _ => inner,
                }));
            }
            None | Some(Word::Pipe | Word::Close | Word::Done { .. }) => return Ok(None),
        };
        self.word()?;
        Ok(Some(value))
    }

    /// Takes `{{/* … */}}` whole.
    fn comment(&mut self, begin: usize) -> Result<bool, TemplateError> {
        if !self.rest().trim_start().starts_with("/*") {
            return Ok(false);
        }
        let Some(end) = self.rest().find("*/") else {
            return Err(self.flaw(begin, "the comment does not end".to_owned()));
        };
        self.at += end + 2;
        self.done(begin)?;
        Ok(true)
    }

    /// Takes `}}`.
    fn done(&mut self, begin: usize) -> Result<(), TemplateError> {
        self.space();
        let at = self.at;
        match self.word()? {
            Some(Word::Done { trims }) => {
                if trims {
                    self.space();
                }
                Ok(())
            }
            None => Err(self.flaw(begin, "has no }}".to_owned())),
            Some(_) => Err(self.flaw(at, "does not belong here".to_owned())),
        }
    }

    fn peek(&mut self) -> Result<Option<Word>, TemplateError> {
        let at = self.at;
        let word = self.word();
        self.at = at;
        word
    }

    /// The next word of an action; `None` at the end of the source.
    fn word(&mut self) -> Result<Option<Word>, TemplateError> {
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
            '"' => self.quoted()?,
            '`' => {
                let end = rest[1..]
                    .find('`')
                    .ok_or_else(|| self.flaw(self.at, "the text does not end".to_owned()))?;
                (end + 2, Word::Text(rest[1..=end].to_owned()))
            }
            '.' => {
                let length = length_of(rest, |c| c == '.' || is_letter(c));
                let names: Vec<String> = rest[1..length].split('.').map(str::to_owned).collect();
                match &names[..] {
                    [only] if only.is_empty() => (length, Word::Field(Vec::new())),
                    names if names.iter().any(String::is_empty) => {
                        return Err(self.flaw(self.at, "is no field".to_owned()));
                    }
                    _ => (length, Word::Field(names)),
                }
            }
            '-' | '+' | '0'..='9' => {
                let length = 1 + length_of(&rest[1..], is_letter);
                let number = rest[..length].parse();
                let number = number
                    .map_err(|_| self.flaw(self.at, format!("{:?} is no whole number", &rest[..length])))?;
                (length, Word::Number(number))
            }
            c if is_letter(c) => {
                let length = length_of(rest, is_letter);
                (length, Word::Name(rest[..length].to_owned()))
            }
            '$' | ':' | '=' => return Err(self.flaw(self.at, "variables are not offered".to_owned())),
            other => return Err(self.flaw(self.at, format!("{other:?} does not belong here"))),
        };
        self.at += length;
        Ok(Some(word))
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
                    _ => {
                        return Err(
                            self.flaw(self.at + at, "is no escape; write \\\\ for a backslash".to_owned())
                        );
                    }
                },
                other => text.push(other),
            }
        }
        Err(self.flaw(self.at, "the text does not end".to_owned()))
    }

    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn space(&mut self) {
        self.at = self.source.len() - self.rest().trim_start().len();
    }

    fn deeper(&mut self, at: usize) -> Result<(), TemplateError> {
        self.depth += 1;
        match self.depth {
            depth if depth > DEPTH_LIMIT => Err(self.flaw(at, format!("nests deeper than {DEPTH_LIMIT}"))),
            _ => Ok(()),
        }
    }

    fn flaw(&self, at: usize, what: String) -> TemplateError {
        TemplateError { at: self.source[..at].chars().count() + 1, what }
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    if !text.is_empty() {
        nodes.push(Node::Text(text.to_owned()));
    }
}

fn field(names: &[String]) -> Result<Expression, String> {
    let known = |path: &&(&str, Field)| {
        let mut parts = path.0.split('.');
        let mut names = names.iter();
        parts.all(|part| names.next().is_some_and(|name| name == part))
    };
    let Some((path, found)) = FIELDS.iter().find(known) else {
        let paths: Vec<String> = FIELDS.iter().map(|(path, _)| format!(".{path}")).collect();
        return Err(format!("there is no field .{}; there are {}", names.join("."), paths.join(", ")));
    };
    let keys = names[path.split('.').count()..].to_vec();
    let field = Expression::Field(*found);
    Ok(if keys.is_empty() { field } else { Expression::Keys(Box::new(field), keys) })
}

fn is_constant(word: &Word) -> bool {
    matches!(word, Word::Name(name) if matches!(name.as_str(), "true" | "false" | "nil"))
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn length_of(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.find(|c| !fits(c)).unwrap_or(text.len())
}
