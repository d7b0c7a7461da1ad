//! Makes the text of a template and a container.

use std::slice;

use super::value::{FIELDS, Field, Value};
use super::{Expression, Failure, Node, Pipeline, STEP_LIMIT, within_limit};
use crate::container::Container;

/// What compiling a regular expression counts.
const PATTERN_STEPS: usize = 1000;

pub(super) fn text(nodes: &[Node], container: &Container) -> Result<String, Failure> {
    let mut run = Run {
        container,
        fields: [const { None }; FIELDS.len()],
        variables: Vec::new(),
        steps: 0,
        text: String::new(),
    };
    run.nodes(nodes, &Value::Nothing)?;
    Ok(run.text)
}

struct Run<'c> {
    container: &'c Container,
    /// Those that were asked for: a loop asks again and again.
    fields: [Option<Value>; FIELDS.len()],
    variables: Vec<Value>,
    steps: usize,
    text: String,
}

/// How a list of nodes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Break,
    Continue,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<End, Failure> {
        for node in nodes {
            self.charge(1)?;
            let end = match node {
                Node::Text(text) => {
                    self.text.push_str(text);
                    End::Whole
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.into.is_empty() {
                        self.text.push_str(&value.shown()?);
                    }
                    End::Whole
                }
                Node::Choose { moves_dot, branches, otherwise } => {
                    self.choose(*moves_dot, branches, otherwise, dot)?
                }
                Node::Range { over, body, otherwise } => self.range(over, body, otherwise, dot)?,
                Node::Break => End::Break,
                Node::Continue => End::Continue,
            };
            within_limit(self.text.len())?;
            if end != End::Whole {
                return Ok(end);
            }
        }
        Ok(End::Whole)
    }

    fn choose(
        &mut self,
        moves_dot: bool,
        branches: &[(Pipeline, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<End, Failure> {
        for (pipeline, nodes) in branches {
            let value = self.pipeline(pipeline, dot)?;
            if value.is_true() {
                return self.nodes(nodes, if moves_dot { &value } else { dot });
            }
        }
        self.nodes(otherwise, dot)
    }

    fn range(
        &mut self,
        over: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<End, Failure> {
        let whole = self.pipeline(over, dot)?;
        let number = |at: usize| Value::Number(i64::try_from(at).unwrap_or(i64::MAX));
        let turns: Box<dyn Iterator<Item = (Value, Value)> + '_> = match &whole {
            Value::Nothing => Box::new(std::iter::empty()),
            Value::Number(count) => Box::new((0..*count).map(|at| (Value::Number(at), Value::Number(at)))),
            Value::List(list) => {
                Box::new(list.iter().enumerate().map(move |(at, value)| (number(at), value.clone())))
            }
            Value::Map(map) => {
                Box::new(map.iter().map(|(key, value)| (Value::Text(key.clone()), value.clone())))
            }
            Value::Truth(_) | Value::Text(_) | Value::Record(_) | Value::Part(_) => {
                return Err(Failure(format!("ranges over {}", whole.kind())));
            }
        };
        let mut turned = false;
        for (key, element) in turns {
            turned = true;
            self.charge(1)?;
            match over.into[..] {
                [] => {}
                [only] => self.set(only, element.clone()),
                [first, second, ..] => {
                    self.set(first, key);
                    self.set(second, element.clone());
                }
            }
            if self.nodes(body, &element)? == End::Break {
                break;
            }
        }
        if turned { Ok(End::Whole) } else { self.nodes(otherwise, dot) }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Failure> {
        let value = self.value(&pipeline.value, dot)?;
        for slot in &pipeline.into {
            self.set(*slot, value.clone());
        }
        Ok(value)
    }

    fn value(&mut self, expression: &Expression, dot: &Value) -> Result<Value, Failure> {
        self.charge(1)?;
        match expression {
            Expression::Literal(value) => Ok(value.clone()),
            Expression::Pattern(pattern) => Ok(Value::text_of(pattern.source())),
            Expression::Dot => Ok(dot.clone()),
            Expression::Variable(slot) => Ok(self.variables.get(*slot).cloned().unwrap_or(Value::Nothing)),
            Expression::Field(field) => Ok(self.field(*field)),
            Expression::Keys(whole, keys) => {
                let whole = self.value(whole, dot)?;
                keys.iter().try_fold(whole, |value, key| self.under(&value, key))
            }
            // Its regular expression is compiled already.
            Expression::Call(function, arguments) => match &arguments[..] {
                [Expression::Pattern(pattern), list] => {
                    let list = self.value(list, dot)?;
                    self.charge_for(slice::from_ref(&list))?;
                    function.matching(pattern, &list)
                }
                _ => {
                    let mut values = Vec::with_capacity(arguments.len());
                    for argument in arguments {
                        values.push(self.value(argument, dot)?);
                        if values.last().is_some_and(|value| function.decided_by(value)) {
                            break;
                        }
                    }
                    self.charge_for(&values)?;
                    self.charge(if function.matches() { PATTERN_STEPS } else { 0 })?;
                    function.call(&values)
                }
            },
        }
    }

    fn under(&mut self, value: &Value, key: &str) -> Result<Value, Failure> {
        match value {
            Value::Part(part) => match part.member(key) {
                Some(Ok(part)) => Ok(Value::Part(part)),
                Some(Err(field)) => Ok(self.field(field)),
                None => Err(Failure(format!("{} has no field {key}", value.kind()))),
            },
            _ => value.under(key),
        }
    }

    fn field(&mut self, field: Field) -> Value {
        self.fields[field as usize].get_or_insert_with(|| field.of(self.container)).clone()
    }

    fn set(&mut self, slot: usize, value: Value) {
        if slot >= self.variables.len() {
            self.variables.resize(slot + 1, Value::Nothing);
        }
        self.variables[slot] = value;
    }

    fn charge(&mut self, steps: usize) -> Result<(), Failure> {
        self.steps = self.steps.saturating_add(steps);
        match self.steps {
            steps if steps > STEP_LIMIT => Err(Failure(format!("takes more than {STEP_LIMIT} steps"))),
            _ => Ok(()),
        }
    }

    /// For a function that reads all of `values`.
    fn charge_for(&mut self, values: &[Value]) -> Result<(), Failure> {
        let bytes = values.iter().map(Value::size).fold(0, usize::saturating_add);
        self.charge(bytes / 64)
    }
}
