//! Reads templates: which actions hold which, what is in scope, and what an action calls.

use super::function::{Function, Pattern};
use super::value::{FIELDS, Part, Value};
use super::words::{Word, Words};
use super::{DEPTH_LIMIT, Expression, Node, Pipeline, SOURCE_LIMIT, Slot, TemplateError};

/// What makes several templates of one, in Go.
const NOT_OFFERED: [&str; 3] = ["define", "template", "block"];

pub(super) fn template(source: &str) -> Result<Vec<Node>, TemplateError> {
    let words = Words::of(source);
    if source.len() > SOURCE_LIMIT {
        return Err(words.flaw(0, format!("has {} bytes; at most {SOURCE_LIMIT} are allowed", source.len())));
    }
    let mut parser = Parser { words, depth: 0, loops: 0, dot: Some(Part::Container), variables: Vec::new() };
    match parser.nodes()? {
        (nodes, Closer::OfSource) => Ok(nodes),
        (_, Closer::End(at) | Closer::Else(at) | Closer::ElseOf(at, _)) => {
            Err(parser.words.flaw(at, "belongs to no if, with or range"))
        }
    }
}

struct Parser<'s> {
    words: Words<'s>,
    depth: usize,
    /// How many `range` this is in.
    loops: usize,
    /// What the dot is, where that is known beforehand.
    dot: Option<Part>,
    /// The names in scope; each is kept in the slot of its place here.
    variables: Vec<String>,
}

/// What ends a run of nodes, with where it stands.
enum Closer {
    OfSource,
    End(usize),
    Else(usize),
    ElseOf(usize, Choice),
}

/// An action that chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    If,
    With,
}

impl Choice {
    fn named(name: &str) -> Option<Self> {
        match name {
            "if" => Some(Self::If),
            "with" => Some(Self::With),
            _ => None,
        }
    }
}

impl Parser<'_> {
    fn nodes(&mut self) -> Result<(Vec<Node>, Closer), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let (text, action) = self.words.text();
            if !text.is_empty() {
                nodes.push(Node::Text(text.to_owned()));
            }
            let Some(begin) = action else { return Ok((nodes, Closer::OfSource)) };
            if self.words.comment(begin)? {
                self.words.done(begin)?;
                continue;
            }
            let at = self.words.at();
            let Some(Word::Name(name)) = self.words.peek()? else {
                nodes.push(self.action(begin)?);
                continue;
            };
            match name.as_str() {
                "if" | "with" | "range" | "end" | "else" | "break" | "continue" => {
                    self.words.next()?;
                }
                name if NOT_OFFERED.contains(&name) => {
                    return Err(self.words.flaw(at, format!("{name} is not offered: tags are one template")));
                }
                _ => {}
            }
            match name.as_str() {
                "if" => nodes.push(self.choose(begin, Choice::If)?),
                "with" => nodes.push(self.choose(begin, Choice::With)?),
                "range" => nodes.push(self.range(begin)?),
                "end" => {
                    self.words.done(begin)?;
                    return Ok((nodes, Closer::End(begin)));
                }
                "else" => return Ok((nodes, self.closing_else(begin)?)),
                "break" | "continue" => {
                    if self.loops == 0 {
                        return Err(self.words.flaw(at, format!("{name} is in no range")));
                    }
                    self.words.done(begin)?;
                    nodes.push(if name == "break" { Node::Break } else { Node::Continue });
                }
                _ => nodes.push(self.action(begin)?),
            }
        }
    }

    fn action(&mut self, begin: usize) -> Result<Node, TemplateError> {
        let at = self.words.at();
        let pipeline = self.pipeline(begin, 1)?;
        self.words.done(begin)?;
        if let (true, Expression::Literal(Value::Part(part))) = (pipeline.into.is_empty(), &pipeline.value) {
            return Err(self.words.flaw(at, no_value(*part)));
        }
        Ok(Node::Action(pipeline))
    }

    /// `{{else}}`, `{{else if` or `{{else with`, after its first word.
    fn closing_else(&mut self, begin: usize) -> Result<Closer, TemplateError> {
        if let Some(Word::Name(name)) = self.words.peek()?
            && let Some(choice) = Choice::named(&name)
        {
            self.words.next()?;
            return Ok(Closer::ElseOf(begin, choice));
        }
        self.words.done(begin)?;
        Ok(Closer::Else(begin))
    }

    /// What follows `{{if` or `{{with`, up to its `{{end}}`.
    fn choose(&mut self, begin: usize, choice: Choice) -> Result<Node, TemplateError> {
        self.deeper(begin)?;
        let (outside, dot) = (self.variables.len(), self.dot);
        let mut branches = Vec::new();
        let otherwise = loop {
            let pipeline = self.pipeline(begin, 1)?;
            self.words.done(begin)?;
            if choice == Choice::With {
                self.dot = part(&pipeline.value);
            }
            let (nodes, closer) = self.body()?;
            self.dot = dot;
            branches.push((pipeline, nodes));
            match closer {
                Closer::ElseOf(_, other) if other == choice => {}
                other => break self.otherwise(begin, &other)?,
            }
        };
        self.variables.truncate(outside);
        self.depth -= 1;
        Ok(Node::Choose { moves_dot: choice == Choice::With, branches, otherwise })
    }

    /// What follows `{{range`, up to its `{{end}}`.
    fn range(&mut self, begin: usize) -> Result<Node, TemplateError> {
        self.deeper(begin)?;
        let (outside, dot) = (self.variables.len(), self.dot);
        let over = self.pipeline(begin, 2)?;
        self.words.done(begin)?;
        self.dot = None;
        self.loops += 1;
        let (body, closer) = self.body()?;
        self.loops -= 1;
        self.dot = dot;
        let otherwise = self.otherwise(begin, &closer)?;
        self.variables.truncate(outside);
        self.depth -= 1;
        Ok(Node::Range { over, body, otherwise })
    }

    /// Nodes whose variables end with them.
    fn body(&mut self) -> Result<(Vec<Node>, Closer), TemplateError> {
        let outside = self.variables.len();
        let body = self.nodes()?;
        self.variables.truncate(outside);
        Ok(body)
    }

    /// What follows `{{else}}`, if that is what closed the nodes before.
    fn otherwise(&mut self, begin: usize, closer: &Closer) -> Result<Vec<Node>, TemplateError> {
        let closer = match closer {
            Closer::Else(_) => match self.body()? {
                (nodes, Closer::End(_)) => return Ok(nodes),
                (_, closer) => closer,
            },
            Closer::End(_) => return Ok(Vec::new()),
            Closer::OfSource => return Err(self.words.flaw(begin, "has no {{end}}")),
            Closer::ElseOf(at, _) => return Err(self.words.flaw(*at, "fits no action of another kind")),
        };
        Err(match closer {
            Closer::OfSource => self.words.flaw(begin, "has no {{end}}"),
            Closer::End(at) | Closer::Else(at) | Closer::ElseOf(at, _) => {
                self.words.flaw(at, "follows an else")
            }
        })
    }

    /// A value, after up to `most` variables that take it.
    fn pipeline(&mut self, begin: usize, most: usize) -> Result<Pipeline, TemplateError> {
        let at = self.words.at();
        let mut names = Vec::new();
        let mut declares = None;
        while let Some(Word::Variable(name, fields)) = self.words.peek()? {
            let place = self.words.at();
            self.words.next()?;
            names.push((place, name));
            if fields.is_empty() && names.len() < most && self.words.take(&Word::Comma)? {
                continue;
            }
            if fields.is_empty() {
                declares = match self.words.peek()? {
                    Some(Word::Declare) => Some(true),
                    Some(Word::Assign) => Some(false),
                    _ => None,
                };
            }
            break;
        }
        let Some(declares) = declares else {
            // It began with a variable's value, if with a variable at all.
            self.words.back_to(at);
            return Ok(Pipeline { into: Vec::new(), value: self.value(begin)? });
        };
        self.words.next()?;
        if let Some((place, _)) = names.iter().find(|(_, name)| name.is_empty()) {
            return Err(self.words.flaw(*place, "$ is the container, and no variable"));
        }
        // Its own name is not yet in scope.
        let value = self.value(begin)?;
        let mut into = Vec::new();
        for (place, name) in names {
            into.push(if declares { self.declare(name) } else { self.slot(place, &name)? });
        }
        Ok(Pipeline { into, value })
    }

    fn declare(&mut self, name: String) -> Slot {
        self.variables.push(name);
        self.variables.len() - 1
    }

    fn slot(&self, at: usize, name: &str) -> Result<Slot, TemplateError> {
        let found = self.variables.iter().rposition(|known| known == name);
        found.ok_or_else(|| self.words.flaw(at, format!("there is no variable ${name} here")))
    }

    /// Commands with `|` between them: each takes what came before as its last argument.
    fn value(&mut self, begin: usize) -> Result<Expression, TemplateError> {
        let mut value = self.command(begin, None)?;
        while self.words.take(&Word::Pipe)? {
            value = self.command(begin, Some(value))?;
        }
        Ok(value)
    }

    fn command(&mut self, begin: usize, piped: Option<Expression>) -> Result<Expression, TemplateError> {
        let at = self.words.at();
        let Some(Word::Name(name)) = self.words.peek()?.filter(|word| !is_constant(word)) else {
            return match (piped, self.operand(begin)?) {
                (_, None) => Err(self.words.flaw(at, "a value is missing")),
                (Some(_), Some(_)) => Err(self.words.flaw(at, "only a function can follow |")),
                (None, Some(value)) => match self.words.peek()? {
                    None | Some(Word::Done { .. } | Word::Pipe | Word::Close) => Ok(value),
                    Some(Word::Declare | Word::Assign) => Err(self
                        .words
                        .flaw(at, "only a variable at the beginning of an action takes a value")),
                    Some(_) => Err(self.words.flaw(at, "is no function, and takes no arguments")),
                },
            };
        };
        self.words.next()?;
        let function = Function::named(&name).map_err(|what| self.words.flaw(at, what))?;
        let mut arguments = Vec::new();
        while let Some(argument) = self.operand(begin)? {
            arguments.push(argument);
        }
        arguments.extend(piped);
        function.takes(arguments.len()).map_err(|what| self.words.flaw(at, what))?;
        if let Some(part) = arguments.iter().find_map(part).filter(|_| !function.asks_truth()) {
            return Err(self.words.flaw(at, no_value(part)));
        }
        if function.matches()
            && let Some(Expression::Literal(Value::Text(text))) = arguments.first()
        {
            let pattern = Pattern::new(text).map_err(|what| self.words.flaw(at, what))?;
            arguments[0] = Expression::Pattern(pattern);
        }
        Ok(Expression::Call(function, arguments))
    }

    /// One value; `None` where no value begins.
    fn operand(&mut self, begin: usize) -> Result<Option<Expression>, TemplateError> {
        let at = self.words.at();
        let value = match self.words.peek()? {
            Some(Word::Text(text)) => Expression::Literal(Value::text_of(&text)),
            Some(Word::Number(number)) => Expression::Literal(Value::Number(number)),
            Some(Word::Name(name)) => match name.as_str() {
                "true" | "false" => Expression::Literal(Value::Truth(name == "true")),
                "nil" => Expression::Literal(Value::Nothing),
                _ => {
                    let what = format!("function {name} as an argument belongs in parentheses");
                    return Err(self.words.flaw(at, what));
                }
            },
            Some(Word::Field(names)) => self.field(at, self.dot, Expression::Dot, &names)?,
            Some(Word::Variable(name, names)) if name.is_empty() => {
                self.field(at, Some(Part::Container), Expression::Dot, &names)?
            }
            Some(Word::Variable(name, names)) => {
                let slot = self.slot(at, &name)?;
                self.field(at, None, Expression::Variable(slot), &names)?
            }
            Some(Word::Open) => {
                self.deeper(at)?;
                self.words.next()?;
                let inner = self.value(begin)?;
                self.words.at();
                if !self.words.take(&Word::Close)? {
                    return Err(self.words.flaw(at, "the parenthesis is not closed"));
                }
                self.depth -= 1;
                // Only what follows at once belongs to it.
                let names = self.words.glued()?.unwrap_or_default();
                let known = part(&inner);
                return self.field(at, known, inner, &names).map(Some);
            }
            None
            | Some(
                Word::Pipe | Word::Close | Word::Comma | Word::Declare | Word::Assign | Word::Done { .. },
            ) => return Ok(None),
        };
        self.words.next()?;
        Ok(Some(value))
    }

    /// `names` in `whole`, or in `part` of the container where that is known to be the whole.
    fn field(
        &self,
        at: usize,
        mut part: Option<Part>,
        mut whole: Expression,
        names: &[String],
    ) -> Result<Expression, TemplateError> {
        let mut names = names.iter();
        while let Some(inside) = part.take() {
            let Some(name) = names.next() else {
                return Ok(Expression::Literal(Value::Part(inside)));
            };
            match inside.member(name) {
                Some(Ok(deeper)) => part = Some(deeper),
                Some(Err(field)) => whole = Expression::Field(field),
                None => {
                    let path: String = names.map(|name| format!(".{name}")).collect();
                    let all: Vec<String> =
                        FIELDS.iter().map(|(part, name, _)| format!("{}.{name}", part.path())).collect();
                    let path = format!("{}.{name}{path}", inside.path());
                    let what = format!("there is no field {path}; there are {}", all.join(", "));
                    return Err(self.words.flaw(at, what));
                }
            }
        }
        let keys: Vec<String> = names.cloned().collect();
        Ok(if keys.is_empty() { whole } else { Expression::Keys(Box::new(whole), keys) })
    }

    fn deeper(&mut self, at: usize) -> Result<(), TemplateError> {
        self.depth += 1;
        match self.depth {
            depth if depth > DEPTH_LIMIT => {
                Err(self.words.flaw(at, format!("nests deeper than {DEPTH_LIMIT}")))
            }
            _ => Ok(()),
        }
    }
}

/// The part of the container that a value is, where that is known beforehand.
fn part(value: &Expression) -> Option<Part> {
    match value {
        Expression::Literal(Value::Part(part)) => Some(*part),
        _ => None,
    }
}

fn no_value(part: Part) -> String {
    match part {
        Part::Container => "the container is no value; name a field of it".to_owned(),
        part => format!("{} is no value; name a field of it", part.path()),
    }
}

fn is_constant(word: &Word) -> bool {
    matches!(word, Word::Name(name) if matches!(name.as_str(), "true" | "false" | "nil"))
}
