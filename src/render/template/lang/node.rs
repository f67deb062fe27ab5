//! What a template consists of, once parsed.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::number::Number;
use crate::render::template::funcs::Function;
use crate::render::template::value::Str;

/// An operand.
pub(crate) struct Node {
    /// Offset in the text.
    pub(crate) pos: usize,
    pub(crate) expr: Expr,
}

/// Kinds of operands.
pub(crate) enum Expr {
    Dot,
    Nil,
    Bool(bool),
    Number(Box<Number>),
    Str(Str),
    /// `$x.a.b`: the name with its dollar, then fields.
    Variable(Vec<String>),
    /// `.a.b`.
    Field(Vec<String>),
    /// `(…).a.b`.
    Chain(Box<Node>, Vec<String>),
    Function(&'static Function),
    Pipe(Box<Pipe>),
}

/// `$a, $b := x | f`.
pub(crate) struct Pipe {
    pub(crate) pos: usize,
    /// `=` and not `:=`.
    pub(crate) assigns: bool,
    pub(crate) variables: Vec<String>,
    pub(crate) commands: Vec<Command>,
}

/// `f a b`.
pub(crate) struct Command {
    pub(crate) args: Vec<Node>,
}

/// A piece of a template.
pub(crate) struct Statement {
    pub(crate) pos: usize,
    pub(crate) kind: StatementKind,
}

/// Kinds of pieces.
pub(crate) enum StatementKind {
    /// From the text, by offsets.
    Text(usize, usize),
    Action(Pipe),
    If(Branches),
    With(Branches),
    Range(Branches),
    Template(String, Option<Pipe>),
    Break,
    Continue,
}

/// Pieces in a row.
pub(crate) type Block = Vec<Statement>;

/// Conditions with what follows from each, in order: `else if` is one more.
pub(crate) struct Branches {
    pub(crate) arms: Vec<(Pipe, Block)>,
    pub(crate) otherwise: Option<Block>,
}

/// All templates of a text, by name.
pub(crate) type Templates = BTreeMap<String, Block>;

impl Node {
    /// Whether its value depends on nothing but the template: no field, no variable.
    pub(crate) fn is_constant(&self) -> bool {
        match &self.expr {
            Expr::Nil | Expr::Bool(_) | Expr::Number(_) | Expr::Str(_) => true,
            Expr::Function(function) => function.params.is_empty(),
            Expr::Pipe(pipe) => pipe.commands.iter().all(Command::is_constant),
            Expr::Dot | Expr::Variable(_) | Expr::Field(_) | Expr::Chain(..) => false,
        }
    }
}

impl Command {
    fn is_constant(&self) -> bool {
        let first = matches!(self.args.first(), Some(Node { expr: Expr::Function(_), .. }));
        self.args.iter().enumerate().all(|(i, arg)| (i == 0 && first) || arg.is_constant())
    }
}

/// As it is written, but for strings, which may be secret if the template is.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut fmt::Formatter<'_>, fields: &[String]| fields.iter().try_for_each(|name| write!(f, ".{name}"));
        match &self.expr {
            Expr::Dot => f.write_char('.'),
            Expr::Nil => f.write_str("nil"),
            Expr::Bool(truth) => write!(f, "{truth}"),
            Expr::Number(number) => f.write_str(&number.text),
            Expr::Str(_) => f.write_str("\"…\""),
            Expr::Variable(names) => f.write_str(&names.join(".")),
            Expr::Field(names) => fields(f, names),
            Expr::Chain(node, names) => {
                match node.expr {
                    Expr::Pipe(_) => write!(f, "({node})")?,
                    _ => write!(f, "{node}")?,
                }
                fields(f, names)
            }
            Expr::Function(function) => f.write_str(function.name),
            Expr::Pipe(pipe) => write!(f, "{pipe}"),
        }
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            f.write_str(if i > 0 { " " } else { "" })?;
            match arg.expr {
                Expr::Pipe(_) => write!(f, "({arg})")?,
                _ => write!(f, "{arg}")?,
            }
        }
        Ok(())
    }
}
