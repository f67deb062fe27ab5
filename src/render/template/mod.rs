//! Templates: Go's `text/template` with the functions that ESO allows, byte for byte, without I/O and within bounds.
//!
//! Made anew and not on a port of Go's package, because values must be what they are in Go: strings of any bytes, maps that
//! are shared and can be changed, `int` and `int64` and `[]string` apart. An error says where it is and names keys of the scope; it never holds
//! a value, nor a string of the template, which may come from a Secret.

pub mod chance;
mod context;
pub mod crypto;
mod eval;
mod exec;
pub(crate) mod funcs;
pub(crate) mod go;
mod lang;
mod value;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

pub use self::chance::Chance;
use self::context::Context;
pub use self::context::Expressions;
use self::eval::Spot;
use self::exec::Exec;
use self::value::{Elem, Map, Value};
use super::{Entries, MOST_STEPS, TooMuch};
use crate::secret_bytes::SecretBytes;

/// What a key that is not there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// An error, as in templates of Secrets (`missingkey=error`).
    #[default]
    Error,
    /// `<no value>`, as in rewrites and the webhook provider.
    NoValue,
}

/// Bounds of one rendering.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a template.
    pub source: usize,
    /// Most bytes of a result.
    pub output: usize,
    /// Most bytes of a value on the way, and most elements of a list.
    pub value: usize,
    /// Most bytes of all values together.
    pub memory: u64,
    /// Most steps: actions, calls, turns of a loop, elements looked at.
    pub steps: u64,
    /// Most levels of actions, calls and templates inside each other.
    pub depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { source: 1 << 20, output: 2 << 20, value: 4 << 20, memory: 32 << 20, steps: 2_000_000, depth: 150 }
    }
}

/// Bytes of a template that a step parses.
const PARSED: usize = 32;

/// Bytes of a scope that a step copies.
const COPIED: usize = 4096;

/// How templates are rendered.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// Begins an action; `{{` where it is empty.
    pub left: &'a str,
    /// Ends an action; `}}` where it is empty.
    pub right: &'a str,
    /// What a key that is not there is.
    pub missing: Missing,
    /// The time that `now` gives.
    pub now: jiff::Timestamp,
    /// For `randAlphaNum` and its like.
    pub chance: &'a dyn Chance,
    /// Bounds.
    pub limits: Limits,
    /// Counts the steps of several renderings, which then have [`MOST_STEPS`] together: after them, none is begun.
    pub taken: Option<&'a Cell<u64>>,
    /// Keeps the regular expressions of several renderings, each of which is then compiled once.
    pub expressions: Option<&'a Expressions>,
}

/// Values that templates are rendered with: copied once, however many they are.
pub struct Scope {
    map: Map,
    /// Steps of copying them, which the first rendering takes.
    price: Cell<u64>,
}

impl Scope {
    /// A copy of these, which no template can change.
    #[must_use]
    pub fn of(entries: &Entries) -> Self {
        let copies = entries.iter().map(|(key, value)| (key.as_str().into(), Value::Str(value.expose().into()))).collect();
        let map = Map { of: Elem::Str, entries: Rc::new(value::Entries(RefCell::new(copies), None)), nil: false };
        let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        Self { map, price: Cell::new((bytes / COPIED + entries.len() / 4) as u64) }
    }
}

/// What a template failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is none.
    Parse,
    /// It cannot be run.
    Execute,
}

/// A template that failed: where and why, in text that may be shown to all who may see the object. ESO's beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unable to {} template at key {key}: template: {key}:{line}:{column}: {reason}",
    match stage { Stage::Parse => "parse", Stage::Execute => "execute" }
)]
pub struct TemplateError {
    /// What failed.
    pub stage: Stage,
    /// The key that was to be made.
    pub key: String,
    /// Line, from one.
    pub line: usize,
    /// Column in bytes, from zero, as Go counts.
    pub column: usize,
    /// Why.
    pub reason: String,
}

impl TemplateError {
    fn at(stage: Stage, key: &str, text: &[u8], pos: usize, reason: String) -> Self {
        let before = &text[..pos.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Self { stage, key: key.to_owned(), line, column, reason }
    }
}

impl<'a> Engine<'a> {
    /// The engine with Go's delimiters, for templates of Secrets.
    #[must_use]
    pub fn new(now: jiff::Timestamp, chance: &'a dyn Chance) -> Self {
        let (missing, limits) = (Missing::Error, Limits::default());
        Self { left: "", right: "", missing, now, chance, limits, taken: None, expressions: None }
    }

    /// Renders a template whose fields are the entries of the scope.
    ///
    /// # Errors
    /// The template cannot be parsed or run, or takes more than the limits allow.
    pub fn render(&self, key: &str, text: impl AsRef<[u8]>, scope: &Entries) -> Result<SecretBytes, TemplateError> {
        self.run(key, text.as_ref(), |_| {
            let Scope { map, price } = Scope::of(scope);
            (map, price.get())
        })
    }

    /// The same, where others are rendered with it, too.
    ///
    /// # Errors
    /// As [`Engine::render`].
    pub fn render_in(&self, key: &str, text: impl AsRef<[u8]>, scope: &Scope) -> Result<SecretBytes, TemplateError> {
        self.run(key, text.as_ref(), |_| (scope.map.clone(), scope.price.take()))
    }

    /// Renders a template whose fields are groups of entries: `.group.entry`.
    ///
    /// # Errors
    /// As [`Engine::render`].
    pub fn render_groups(
        &self,
        key: &str,
        text: impl AsRef<[u8]>,
        scope: &BTreeMap<String, Entries>,
    ) -> Result<SecretBytes, TemplateError> {
        self.run(key, text.as_ref(), |cx| {
            let mut price = 0;
            let groups = scope.iter().map(|(name, entries)| {
                let group = Scope::of(entries);
                price += group.price.get();
                (name.as_str().into(), Value::Map(group.map))
            });
            let groups: BTreeMap<value::Str, Value> = groups.collect();
            (cx.map(Elem::Any, groups), price)
        })
    }

    /// Says whether a template can be parsed.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(&self, key: &str, text: impl AsRef<[u8]>) -> Result<(), TemplateError> {
        self.parse(key, text.as_ref()).map(drop)
    }

    fn parse(&self, key: &str, text: &[u8]) -> Result<lang::node::Templates, TemplateError> {
        if text.len() > self.limits.source {
            let reason = format!("the template is longer than {} bytes", self.limits.source);
            return Err(TemplateError::at(Stage::Parse, key, text, 0, reason));
        }
        let (left, right) = (or(self.left, "{{"), or(self.right, "}}"));
        lang::parse::parse(key, text, left, right).map_err(|e| TemplateError::at(Stage::Parse, key, text, e.pos, e.reason))
    }

    /// `scope`: the fields, and the steps of making them.
    fn run(
        &self,
        key: &str,
        text: &[u8],
        scope: impl FnOnce(&Context<'_>) -> (Map, u64),
    ) -> Result<SecretBytes, TemplateError> {
        if self.taken.is_some_and(|taken| taken.get() > MOST_STEPS) {
            return Err(TemplateError::at(Stage::Execute, key, text, 0, TooMuch.to_string()));
        }
        let templates = self.parse(key, text)?;
        let own = Expressions::default();
        let cx = Context::new(self.now, self.chance, &self.limits, self.expressions.unwrap_or(&own));
        let (map, price) = scope(&cx);
        let dot = Value::Map(map.clone());
        let mut exec = Exec {
            templates: &templates,
            text,
            cx: &cx,
            missing: self.missing,
            scope: Rc::clone(&map.entries),
            out: Vec::new(),
            name: key,
            spot: Spot::Start,
            variables: vec![("$", dot.clone())],
        };
        let ran = exec.run(&dot);
        if let Some(taken) = self.taken {
            let more = [cx.steps(), (text.len() / PARSED) as u64, price];
            taken.set(more.into_iter().fold(taken.get(), u64::saturating_add));
        }
        match ran {
            Ok(()) => Ok(SecretBytes::new(std::mem::take(&mut exec.out))),
            Err(fault) => {
                let place = exec.spot.source().map_or_else(String::new, |source| format!(" at <{}>", short(&source)));
                let reason = format!("executing {:?}{place}: {fault}", exec.name);
                Err(TemplateError::at(Stage::Execute, key, text, exec.spot.pos(), reason))
            }
        }
    }
}

fn or<'t>(delimiter: &'t str, default: &'t str) -> &'t [u8] {
    if delimiter.is_empty() { default.as_bytes() } else { delimiter.as_bytes() }
}

/// An expression for an error: not all of a long one.
fn short(source: &str) -> String {
    match source.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &source[..end]),
        None => source.to_owned(),
    }
}
