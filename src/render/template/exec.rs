//! Runs a parsed template.

use std::rc::Rc;

use super::Missing;
use super::context::{Context, Fault};
use super::eval::Spot;
use super::go::print;
use super::lang::node::{Block, Branches, Pipe, Statement, StatementKind, Templates};
use super::value::{List, Value, Whole};

/// How a block ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// A template at work.
pub(super) struct Exec<'t> {
    pub(super) templates: &'t Templates,
    pub(super) text: &'t [u8],
    pub(super) cx: &'t Context<'t>,
    pub(super) missing: Missing,
    /// The names in the scope, for the error about one that is not there.
    pub(super) scope: Rc<super::value::Entries>,
    pub(super) out: Vec<u8>,
    /// The template that runs.
    pub(super) name: &'t str,
    pub(super) spot: Spot<'t>,
    pub(super) variables: Vec<(&'t str, Value)>,
}

impl<'t> Exec<'t> {
    /// Runs the template of that name.
    pub(super) fn run(&mut self, dot: &Value) -> Result<(), Fault> {
        let root = self.templates.get(self.name).ok_or("the template is empty")?;
        self.block(dot, root).map(|_| ())
    }

    fn block(&mut self, dot: &Value, block: &'t Block) -> Result<Flow, Fault> {
        for statement in block {
            let flow = self.statement(dot, statement)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, dot: &Value, statement: &'t Statement) -> Result<Flow, Fault> {
        self.spot = Spot::Statement(statement);
        self.cx.step(1)?;
        let _level = self.cx.deeper()?;
        match &statement.kind {
            StatementKind::Text(start, end) => self.write(&self.text[*start..*end])?,
            StatementKind::Action(pipe) => {
                let value = self.pipeline(dot, Some(pipe))?;
                if pipe.variables.is_empty() {
                    self.spot = Spot::Statement(statement);
                    self.print(&value)?;
                }
            }
            StatementKind::If(branches) => return self.conditions(dot, branches, false),
            StatementKind::With(branches) => return self.conditions(dot, branches, true),
            StatementKind::Range(branches) => return self.range(dot, branches),
            StatementKind::Template(name, pipe) => self.template(dot, name, pipe.as_ref())?,
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.out.len() + bytes.len() > self.cx.limits.output {
            return Err(format!("the result is longer than {} bytes", self.cx.limits.output));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn print(&mut self, value: &Value) -> Result<(), Fault> {
        match value {
            Value::Nil => self.write(b"<no value>"),
            Value::Str(text) => self.write(text.bytes()),
            other => {
                let text = print::value(self.cx, other)?;
                self.write(&text)
            }
        }
    }

    fn conditions(&mut self, dot: &Value, branches: &'t Branches, with: bool) -> Result<Flow, Fault> {
        let mark = self.variables.len();
        let mut taken = None;
        for (pipe, block) in &branches.arms {
            self.cx.step(1)?;
            let value = self.pipeline(dot, Some(pipe))?;
            if value.is_true() {
                taken = Some((if with { value } else { dot.clone() }, block));
                break;
            }
        }
        let flow = match (taken, &branches.otherwise) {
            (Some((dot, block)), _) => self.block(&dot, block)?,
            (None, Some(block)) => self.block(dot, block)?,
            (None, None) => Flow::Next,
        };
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, branches: &'t Branches) -> Result<Flow, Fault> {
        let mark = self.variables.len();
        let mut flow = Flow::Next;
        for (pipe, block) in &branches.arms {
            let value = self.pipeline(dot, Some(pipe))?;
            let any = self.iterate(&value, pipe, block)?;
            if let (None, Some(block)) = (any, &branches.otherwise) {
                // Go ends the loop itself here, not the one around it.
                flow = Some(self.block(dot, block)?).filter(|flow| *flow != Flow::Break).unwrap_or(Flow::Next);
            }
        }
        self.variables.truncate(mark);
        Ok(flow)
    }

    /// Runs a block for each element; none if there is none.
    fn iterate(&mut self, value: &Value, pipe: &'t Pipe, block: &'t Block) -> Result<Option<()>, Fault> {
        let mark = self.variables.len();
        let mut any = None;
        let mut turn = |exec: &mut Self, index: Value, element: Value| -> Result<Flow, Fault> {
            any = Some(());
            exec.cx.step(1)?;
            exec.assign_turn(pipe, index, &element)?;
            let flow = exec.block(&element, block)?;
            exec.variables.truncate(mark);
            Ok(flow)
        };
        match value {
            Value::Whole(whole, count) => {
                if pipe.variables.len() > 1 {
                    return Err("can't use a number to iterate over more than one variable".into());
                }
                let end = if whole.is_unsigned() && *count < 0 { i64::MAX } else { *count };
                for i in 0..end {
                    if turn(self, Value::Nil, Value::Whole(*whole, i))? == Flow::Break {
                        break;
                    }
                }
            }
            Value::List(List { items, .. }) => {
                let items = items.clone();
                for (i, element) in items.iter().flat_map(|items| &items.0).enumerate() {
                    let index = Value::Whole(Whole::Int, i64::try_from(i).unwrap_or(i64::MAX));
                    if turn(self, index, element.clone())? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                let _room = self.cx.room(map)?;
                for (key, element) in self.cx.snapshot(map)? {
                    if turn(self, Value::Str(key), element)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Nil => {}
            other => return Err(format!("range can't iterate over a value of type {}", other.type_name())),
        }
        self.variables.truncate(mark);
        Ok(any)
    }

    fn assign_turn(&mut self, pipe: &'t Pipe, index: Value, element: &Value) -> Result<(), Fault> {
        match pipe.variables.as_slice() {
            [] => {}
            [only] => self.assign(pipe.assigns, only, element.clone())?,
            [first, second, ..] => {
                self.assign(pipe.assigns, first, index)?;
                self.assign(pipe.assigns, second, element.clone())?;
            }
        }
        Ok(())
    }

    /// The pipeline has declared the variables already, so both ways find them.
    fn assign(&mut self, assigns: bool, name: &str, value: Value) -> Result<(), Fault> {
        let known = self.variables.iter_mut().rev().find(|(known, _)| *known == name);
        debug_assert!(known.is_some() || assigns);
        let (_, slot) = known.ok_or_else(|| format!("undefined variable: {name}"))?;
        *slot = value;
        Ok(())
    }

    fn template(&mut self, dot: &Value, name: &'t str, pipe: Option<&'t Pipe>) -> Result<(), Fault> {
        let block = self.templates.get(name).ok_or_else(|| format!("template {name:?} not defined"))?;
        let dot = self.pipeline(dot, pipe)?;
        let outer_name = std::mem::replace(&mut self.name, name);
        let outer = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        self.block(&dot, block)?;
        self.variables = outer;
        self.name = outer_name;
        Ok(())
    }

    /// A pipeline's value; its variables are declared or assigned.
    pub(super) fn pipeline(&mut self, dot: &Value, pipe: Option<&'t Pipe>) -> Result<Value, Fault> {
        let Some(pipe) = pipe else { return Ok(Value::Nil) };
        let _level = self.cx.deeper()?;
        self.spot = Spot::Pipe(pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(true, name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }
}
