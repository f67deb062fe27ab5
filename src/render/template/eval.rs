//! Evaluates commands: operands, fields, calls, and the conversions between Go types that `text/template` knows.

use super::Missing;
use super::context::Fault;
use super::exec::Exec;
use super::funcs::{self, Function, Type};
use super::lang::node::{Command, Expr, Node, Pipe, Statement};
use super::lang::number::Number;
use super::value::{Certificate, Elem, Value, Whole};

/// What was looked at last: where an error is.
#[derive(Clone, Copy)]
pub(super) enum Spot<'t> {
    Statement(&'t Statement),
    Pipe(&'t Pipe),
    Command(&'t Command),
    Node(&'t Node),
    Start,
}

impl Spot<'_> {
    /// Offset in the text.
    pub(super) fn pos(&self) -> usize {
        match self {
            Self::Statement(statement) => statement.pos,
            Self::Pipe(pipe) => pipe.pos,
            Self::Command(command) => command.args.first().map_or(0, |arg| arg.pos),
            Self::Node(node) => node.pos,
            Self::Start => 0,
        }
    }

    /// As it is written, where it is an expression.
    pub(super) fn source(&self) -> Option<String> {
        use super::lang::node::StatementKind;
        match self {
            Self::Statement(Statement { kind: StatementKind::Action(pipe), .. }) => Some(pipe.to_string()),
            Self::Statement(_) | Self::Start => None,
            Self::Pipe(pipe) => Some(pipe.to_string()),
            Self::Command(command) => Some(command.to_string()),
            Self::Node(node) => Some(node.to_string()),
        }
    }
}

/// The arguments of a call as they are written, and the value piped into it.
struct Call<'t> {
    args: &'t [Node],
    piped: Option<Value>,
    spot: Spot<'t>,
}

impl<'t> Exec<'t> {
    /// A command's value. `piped` is its last argument.
    pub(super) fn command(&mut self, dot: &Value, command: &'t Command, piped: Option<Value>) -> Result<Value, Fault> {
        self.cx.step(1)?;
        let first = &command.args[0];
        let args = &command.args[1..];
        let call = Call { args, piped, spot: Spot::Node(first) };
        match &first.expr {
            Expr::Field(names) => self.fields(dot, first, dot.clone(), names, call),
            Expr::Chain(node, names) => {
                let receiver = self.receiver(dot, first, node)?;
                self.fields(dot, first, receiver, names, call)
            }
            Expr::Variable(names) => {
                let value = self.variable(first, &names[0])?;
                if names.len() == 1 {
                    call.none(first).map(|()| value)
                } else {
                    self.fields(dot, first, value, &names[1..], call)
                }
            }
            Expr::Function(function) => {
                self.spot = Spot::Node(first);
                self.call(dot, function, None, Call { spot: Spot::Command(command), ..call })
            }
            Expr::Pipe(pipe) => {
                call.none(first)?;
                self.pipeline(dot, Some(pipe))
            }
            _ => {
                self.spot = Spot::Node(first);
                call.none(first)?;
                match &first.expr {
                    Expr::Nil => Err("nil is not a command".into()),
                    _ => self.constant(dot, first),
                }
            }
        }
    }

    /// What a chain of fields begins with.
    fn receiver(&mut self, dot: &Value, chain: &'t Node, node: &'t Node) -> Result<Value, Fault> {
        self.spot = Spot::Node(chain);
        if matches!(node.expr, Expr::Nil) {
            return Err("indirection through explicit nil".into());
        }
        self.operand(dot, node)
    }

    /// The value of an operand that is more than a constant, or of a constant as what it looks like.
    fn operand(&mut self, dot: &Value, node: &'t Node) -> Result<Value, Fault> {
        self.spot = Spot::Node(node);
        let call = Call { args: &[], piped: None, spot: Spot::Node(node) };
        match &node.expr {
            Expr::Field(names) => self.fields(dot, node, dot.clone(), names, call),
            Expr::Variable(names) => {
                let value = self.variable(node, &names[0])?;
                if names.len() == 1 { Ok(value) } else { self.fields(dot, node, value, &names[1..], call) }
            }
            Expr::Pipe(pipe) => self.pipeline(dot, Some(pipe)),
            Expr::Function(function) => self.call(dot, function, None, call),
            Expr::Chain(inner, names) => {
                let receiver = self.receiver(dot, node, inner)?;
                self.fields(dot, node, receiver, names, call)
            }
            _ => self.constant(dot, node),
        }
    }

    fn constant(&mut self, dot: &Value, node: &'t Node) -> Result<Value, Fault> {
        match &node.expr {
            Expr::Bool(truth) => Ok(Value::Bool(*truth)),
            Expr::Number(number) => ideal(number),
            Expr::Str(text) => Ok(Value::Str(text.clone())),
            Expr::Dot => Ok(dot.clone()),
            _ => Ok(Value::Nil),
        }
    }

    fn variable(&mut self, node: &'t Node, name: &str) -> Result<Value, Fault> {
        self.spot = Spot::Node(node);
        let found = self.variables.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable: {name}"))
    }

    /// Fields one after the other; the last one may be a method with arguments.
    fn fields(
        &mut self,
        dot: &Value,
        node: &'t Node,
        receiver: Value,
        names: &'t [String],
        call: Call<'t>,
    ) -> Result<Value, Fault> {
        self.spot = Spot::Node(node);
        let Some((last, first)) = names.split_last() else { return Ok(receiver) };
        self.cx.step(names.len() / 8)?;
        let mut value = receiver;
        for name in first {
            let none = Call { args: &[], piped: None, spot: Spot::Node(node) };
            value = self.field(dot, value, name, none)?;
        }
        self.field(dot, value, last, call)
    }

    fn field(&mut self, dot: &Value, receiver: Value, name: &str, call: Call<'t>) -> Result<Value, Fault> {
        if let Some(method) = funcs::methods::find(&receiver, name) {
            return self.call(dot, method, Some(receiver), call);
        }
        let has_args = !call.args.is_empty() || call.piped.is_some();
        match &receiver {
            Value::Nil if self.missing == Missing::Error => Err(format!("nil data; no entry for key {name:?}")),
            Value::Nil => Ok(Value::Nil),
            Value::Map(_) if has_args => Err(format!("{name} is not a method but has arguments")),
            Value::Map(map) => match map.get(name.as_bytes()) {
                Some(value) => Ok(value),
                None if self.missing == Missing::Error => Err(self.no_entry(map, name)),
                None => Ok(Value::Nil),
            },
            Value::Certificate(pair) if matches!(name, "Cert" | "Key") => {
                if has_args {
                    return Err(format!("{name} has arguments but cannot be invoked as function"));
                }
                let Certificate { cert, key } = &**pair;
                Ok(Value::Str(if name == "Cert" { cert.clone() } else { key.clone() }))
            }
            other => Err(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }

    /// Names the keys of the Secret only: those of other maps can come from inside a value.
    fn no_entry(&self, map: &super::value::Map, name: &str) -> Fault {
        let problem = format!("map has no entry for key {name:?}");
        if !std::rc::Rc::ptr_eq(&map.entries, &self.scope) {
            return problem;
        }
        let entries = map.entries.0.borrow();
        let mut names: Vec<String> =
            entries.keys().take(20).map(|key| String::from_utf8_lossy(key.bytes()).into_owned()).collect();
        if entries.len() > names.len() {
            names.push(format!("and {} more", entries.len() - names.len()));
        }
        let list = if names.is_empty() { "there are none".to_owned() } else { format!("there are: {}", names.join(", ")) };
        format!("{problem} ({list})")
    }

    /// Calls a function, or a method if there is a receiver.
    fn call(
        &mut self,
        dot: &Value,
        function: &'static Function,
        receiver: Option<Value>,
        call: Call<'t>,
    ) -> Result<Value, Fault> {
        let _level = self.cx.deeper()?;
        self.cx.step(call.args.len() / 8)?;
        let count = call.args.len() + usize::from(call.piped.is_some());
        let (fixed, name) = (function.params.len(), function.name);
        match function.rest {
            Some(_) if count < fixed => {
                return Err(format!("wrong number of args for {name}: want at least {fixed} got {count}"));
            }
            None if count != fixed => return Err(format!("wrong number of args for {name}: want {fixed} got {count}")),
            _ => {}
        }
        if matches!(name, "and" | "or") {
            return self.lazy(dot, name == "or", call);
        }
        let constant = call.piped.is_none() && call.args.iter().all(Node::is_constant);
        let mut values: Vec<Value> = receiver.into_iter().collect();
        let skip = values.len();
        for (i, node) in call.args.iter().enumerate() {
            let kind = function.param(i);
            values.push(self.argument(dot, kind, node)?);
        }
        if let Some(value) = call.piped {
            let kind = function.param(values.len() - skip);
            values.push(self.convert(value, kind)?);
        }
        self.cx.read(&values)?;
        let answer = function.run(self.cx, &values).and_then(|value| {
            if let Value::Str(text) = &value {
                self.cx.reserve(text.bytes().len())?;
            }
            Ok(value)
        });
        answer.map_err(|fault| {
            self.spot = call.spot;
            // The only function whose error is an argument, which only the template's author may have written.
            let fault = match (name, constant) {
                ("fail", false) => {
                    "the template failed on purpose (its message is made from values, so it is not shown)".to_owned()
                }
                _ => fault,
            };
            format!("error calling {name}: {fault}")
        })
    }

    /// `and` and `or` stop at the first argument that decides.
    fn lazy(&mut self, dot: &Value, until: bool, call: Call<'t>) -> Result<Value, Fault> {
        let mut value = Value::Nil;
        for node in call.args {
            value = self.argument(dot, Type::Any, node)?;
            if value.is_true() == until {
                return Ok(value);
            }
        }
        Ok(call.piped.unwrap_or(value))
    }

    fn argument(&mut self, dot: &Value, kind: Type, node: &'t Node) -> Result<Value, Fault> {
        self.spot = Spot::Node(node);
        match &node.expr {
            Expr::Nil => kind.nil().ok_or_else(|| format!("cannot assign nil to {}", kind.name())),
            Expr::Bool(_) | Expr::Number(_) | Expr::Str(_) => literal(kind, node),
            _ => {
                let value = self.operand(dot, node)?;
                self.convert(value, kind)
            }
        }
    }

    /// Whether a value can be given to a parameter of that type.
    fn convert(&self, value: Value, kind: Type) -> Result<Value, Fault> {
        if matches!(value, Value::Nil) {
            return kind.nil().ok_or_else(|| format!("invalid value; expected {}", kind.name()));
        }
        let fits = match kind {
            Type::Any => true,
            Type::Str => matches!(value, Value::Str(_)),
            Type::Bool => matches!(value, Value::Bool(_)),
            Type::Int => matches!(value, Value::Whole(Whole::Int, _)),
            Type::Uint32 => false,
            Type::Float => matches!(value, Value::Float(_)),
            Type::Dict => matches!(&value, Value::Map(map) if map.of == Elem::Any),
            Type::List => matches!(&value, Value::List(list) if list.of == Elem::Any),
            Type::Time => matches!(value, Value::Time(_)),
            Type::Duration => matches!(value, Value::Whole(Whole::Duration, _)),
            Type::Version => matches!(value, Value::Version(_)),
            Type::Certificate => matches!(value, Value::Certificate(_)),
        };
        if fits {
            Ok(value)
        } else {
            Err(format!("wrong type for value; expected {}; got {}", kind.name(), value.type_name()))
        }
    }
}

impl Call<'_> {
    fn none(&self, node: &Node) -> Result<(), Fault> {
        if self.args.is_empty() && self.piped.is_none() {
            return Ok(());
        }
        Err(format!("can't give argument to non-function {node}"))
    }
}

/// A constant for a parameter of a known type.
fn literal(kind: Type, node: &Node) -> Result<Value, Fault> {
    let found = match (kind, &node.expr) {
        (Type::Any, Expr::Bool(truth)) | (Type::Bool, Expr::Bool(truth)) => Some(Value::Bool(*truth)),
        (Type::Any, Expr::Str(text)) | (Type::Str, Expr::Str(text)) => Some(Value::Str(text.clone())),
        (Type::Any, Expr::Number(number)) => return ideal(number),
        (Type::Int, Expr::Number(number)) => number.int.map(Value::int),
        (Type::Duration, Expr::Number(number)) => number.int.map(|n| Value::Whole(Whole::Duration, n)),
        (Type::Uint32, Expr::Number(number)) => {
            number.unsigned.and_then(|n| u32::try_from(n).ok()).map(|n| Value::int64(n.into()))
        }
        (Type::Float, Expr::Number(number)) => number.float.map(Value::Float),
        _ => None,
    };
    found.ok_or_else(|| format!("expected {}; found {node}", kind.name()))
}

/// What a number is where nothing says what it should be.
fn ideal(number: &Number) -> Result<Value, Fault> {
    match (number.complex, number.float) {
        (Some((re, im)), _) => Ok(Value::Complex(re, im)),
        (None, Some(float)) if number.is_decimal() => Ok(Value::Float(float)),
        _ => number.int.map(Value::int).ok_or_else(|| format!("{} overflows int", number.text)),
    }
}
