//! The functions of templates: Go's own, sprig's and ESO's. Each file holds a table; [`find`] looks into all.

pub(crate) mod builtin;
pub(crate) mod cast;
pub(crate) mod chance;
pub(crate) mod compare;
pub(crate) mod crypto;
pub(crate) mod date;
pub(crate) mod default;
pub(crate) mod dict;
pub(crate) mod encode;
pub(crate) mod json;
pub(crate) mod layout;
pub(crate) mod list;
pub(crate) mod math;
pub(crate) mod methods;
pub(crate) mod path;
pub(crate) mod reflect;
pub(crate) mod regex;
pub(crate) mod semver;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod url;
pub(crate) mod words;
pub(crate) mod wrap;
pub(crate) mod yaml;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use super::context::{Answer, Context, Fault};
use super::value::{Elem, List, Map, Str, Value};

/// Types of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Any,
    Str,
    Bool,
    Int,
    Uint32,
    Float,
    /// `map[string]interface {}`.
    Dict,
    /// `[]interface {}`.
    List,
    Time,
    Duration,
    Version,
    Certificate,
}

impl Type {
    /// Go's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Str => "string",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint32 => "uint32",
            Self::Float => "float64",
            Self::Dict => "map[string]interface {}",
            Self::List => "[]interface {}",
            Self::Time => "time.Time",
            Self::Duration => "time.Duration",
            Self::Version => "*semver.Version",
            Self::Certificate => "sprig.certificate",
        }
    }

    /// Its nil, if it has one.
    pub(crate) fn nil(self) -> Option<Value> {
        match self {
            Self::Any | Self::Version => Some(Value::Nil),
            Self::Dict => Some(Value::Map(Map { of: Elem::Any, entries: std::rc::Rc::default(), nil: true })),
            Self::List => Some(Value::nil_list(Elem::Any)),
            _ => None,
        }
    }
}

/// A function. Its arguments have the types that it names: they are checked before the call.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Type],
    /// Type of any number of further arguments.
    pub(crate) rest: Option<Type>,
    run: Run,
}

/// What a function does.
enum Run {
    Here(fn(&Context<'_>, &[Value]) -> Answer),
    Crypto(&'static super::crypto::Function),
}

impl Function {
    /// Calls it.
    pub(crate) fn run(&self, cx: &Context<'_>, args: &[Value]) -> Answer {
        match self.run {
            Run::Here(run) => run(cx, args),
            Run::Crypto(function) => crypto::call(function, cx, args),
        }
    }

    /// The type of an argument.
    pub(crate) fn param(&self, index: usize) -> Type {
        self.params.get(index).copied().or(self.rest).unwrap_or(Type::Any)
    }
}

/// A function with that many arguments.
pub(crate) const fn fixed(
    name: &'static str,
    params: &'static [Type],
    run: fn(&Context<'_>, &[Value]) -> Answer,
) -> Function {
    Function { name, params, rest: None, run: Run::Here(run) }
}

/// A function with any number of further arguments.
pub(crate) const fn open(
    name: &'static str,
    params: &'static [Type],
    rest: Type,
    run: fn(&Context<'_>, &[Value]) -> Answer,
) -> Function {
    Function { name, params, rest: Some(rest), run: Run::Here(run) }
}

/// All tables.
const TABLES: &[&[Function]] = &[
    builtin::FUNCTIONS,
    compare::FUNCTIONS,
    cast::FUNCTIONS,
    chance::FUNCTIONS,
    date::FUNCTIONS,
    default::FUNCTIONS,
    dict::FUNCTIONS,
    encode::FUNCTIONS,
    json::FUNCTIONS,
    list::FUNCTIONS,
    math::FUNCTIONS,
    path::FUNCTIONS,
    reflect::FUNCTIONS,
    regex::FUNCTIONS,
    semver::FUNCTIONS,
    text::FUNCTIONS,
    url::FUNCTIONS,
    words::FUNCTIONS,
    wrap::FUNCTIONS,
    yaml::FUNCTIONS,
];

/// Functions of all tables.
fn all() -> impl Iterator<Item = &'static Function> {
    TABLES.iter().copied().flatten().chain(crypto::functions())
}

/// Looks a function up.
pub(crate) fn find(name: &[u8]) -> Option<&'static Function> {
    static BY_NAME: OnceLock<HashMap<&'static [u8], &'static Function>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| all().map(|function| (function.name.as_bytes(), function)).collect());
    by_name.get(name).copied()
}

/// Names of all functions.
#[cfg(test)]
pub(crate) fn names() -> Vec<&'static str> {
    all().map(|function| function.name).collect()
}

/// A text argument.
pub(crate) fn text(args: &[Value], index: usize) -> &[u8] {
    match args.get(index) {
        Some(Value::Str(text)) => text.bytes(),
        _ => b"",
    }
}

/// A whole number argument.
pub(crate) fn int(args: &[Value], index: usize) -> i64 {
    match args.get(index) {
        Some(Value::Whole(_, number)) => *number,
        _ => 0,
    }
}

/// Any argument; nil if it is not there.
pub(crate) fn any(args: &[Value], index: usize) -> &Value {
    args.get(index).unwrap_or(&Value::Nil)
}

/// The elements of any slice; otherwise an error that names the type.
pub(crate) fn slice<'a>(value: &'a Value, what: &str) -> Result<&'a [Value], String> {
    match value {
        Value::List(List { items, .. }) => Ok(items.as_ref().map_or(&[], |items| &items.0)),
        Value::Nil => Err(format!("cannot {what} nil")),
        other => Err(format!("cannot {what} a value of type {}", other.kind_name())),
    }
}

/// The entries of a map argument.
pub(crate) fn entries(cx: &Context<'_>, args: &[Value], index: usize) -> Result<BTreeMap<Str, Value>, Fault> {
    match args.get(index) {
        Some(Value::Map(map)) => Ok(cx.snapshot(map)?.into_iter().collect()),
        _ => Ok(BTreeMap::new()),
    }
}
