//! What one rendering may use: the time, what was drawn by lot, and a budget.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};

use super::value::{Elem, Entries, List, Map, Str, Value};
use super::{Chance, Limits};
use crate::render::re2::{self, Price};

/// Why something cannot be done. Never holds a value: it ends in events.
pub(crate) type Fault = String;

/// What a function answers.
pub(crate) type Answer = Result<Value, Fault>;

/// A compiled expression, and what it costs to run it.
pub(crate) type Priced = (regex::bytes::Regex, Price);

/// Most compiled expressions that are kept: each may take megabytes.
const MOST_KEPT: usize = 32;

/// Bytes of a map, however few entries it has: they lie in nodes of eleven.
const MAP: u64 = 600;

/// Bytes of a copy of an entry, which shares key and value.
const COPY: usize = 32;

/// Those of a map that stay until the rendering ends.
const KNOWN_MAP: u64 = 100;

/// Bytes of a string beside its own, with what holds it; and of an entry of a map.
pub(crate) const PIECE: usize = 100;

/// Most bytes of an expression that are paid for: a longer one is refused unread.
const MOST_READ: usize = 10_000;

/// The compiled expressions of several renderings: templates that differ in their values alone share them.
#[derive(Default)]
pub struct Expressions(RefCell<HashMap<Vec<u8>, Rc<Priced>>>);

/// One rendering.
pub(crate) struct Context<'e> {
    pub(crate) now: jiff::Timestamp,
    pub(crate) chance: &'e dyn Chance,
    pub(crate) limits: &'e Limits,
    steps: Cell<u64>,
    bytes: Rc<Cell<u64>>,
    depth: Cell<u32>,
    maps: RefCell<Vec<Weak<Entries>>>,
    expressions: &'e Expressions,
}

impl<'e> Context<'e> {
    pub(crate) fn new(
        now: jiff::Timestamp,
        chance: &'e dyn Chance,
        limits: &'e Limits,
        expressions: &'e Expressions,
    ) -> Self {
        Self {
            now,
            chance,
            limits,
            steps: Cell::default(),
            bytes: Rc::default(),
            depth: Cell::default(),
            maps: RefCell::default(),
            expressions,
        }
    }

    /// Counts work.
    pub(crate) fn step(&self, count: usize) -> Result<(), Fault> {
        let steps = self.steps.get().saturating_add(count as u64);
        self.steps.set(steps);
        if steps > self.limits.steps {
            return Err(format!("the template takes more than {} steps; make it do less", self.limits.steps));
        }
        Ok(())
    }

    /// The steps taken so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Counts the bytes that a function looks at.
    pub(crate) fn read(&self, values: &[Value]) -> Result<(), Fault> {
        let length = |value: &Value| if let Value::Str(text) = value { text.bytes().len() } else { 0 };
        self.step(values.iter().map(length).fold(0, usize::saturating_add) / 64)
    }

    /// Counts bytes that come to be, before they do.
    pub(crate) fn reserve(&self, count: usize) -> Result<(), Fault> {
        if count > self.limits.value {
            return Err(self.too_long());
        }
        self.bytes.set(self.bytes.get().saturating_add(count as u64));
        self.fits()
    }

    fn fits(&self) -> Result<(), Fault> {
        if self.bytes.get() > self.limits.memory {
            return Err(format!("the values of the template take more than {} bytes in all", self.limits.memory));
        }
        Ok(())
    }

    /// A string that goes into a list, a map or a pair: what a function gives alone is paid for by its caller.
    pub(crate) fn piece(&self, bytes: Vec<u8>) -> Result<Str, Fault> {
        self.reserve(bytes.len().saturating_add(PIECE))?;
        Ok(Str::new(bytes))
    }

    /// A list of new strings, each paid for before the next comes to be.
    pub(crate) fn strings(&self, pieces: impl IntoIterator<Item = Vec<u8>>) -> Answer {
        let items = pieces.into_iter().map(|piece| self.piece(piece).map(Value::Str));
        Ok(Value::List(List::new(Elem::Str, items.collect::<Result<_, _>>()?)))
    }

    /// That a value would become too long.
    pub(crate) fn too_long(&self) -> Fault {
        format!("a value would be longer than {} bytes", self.limits.value)
    }

    /// Goes one level down; the guard comes up again.
    pub(crate) fn deeper(&self) -> Result<Level<'_>, Fault> {
        if self.depth.get() >= self.limits.depth {
            return Err(format!("actions, calls and templates are nested more than {} deep", self.limits.depth));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Level(&self.depth))
    }

    /// A new map, which is known here, so that maps which hold themselves end with the rendering. If it is one too many, whatever comes to be
    /// next cannot.
    pub(crate) fn map(&self, of: Elem, entries: BTreeMap<Str, Value>) -> Map {
        self.bytes.set(self.bytes.get().saturating_add(MAP));
        let entries = Rc::new(Entries(RefCell::new(entries), Some(Held(self.bytes.clone(), MAP - KNOWN_MAP))));
        self.maps.borrow_mut().push(Rc::downgrade(&entries));
        Map { of, entries, nil: false }
    }

    /// A copy of a map's entries, which costs more the larger it is, whatever becomes of it.
    pub(crate) fn snapshot(&self, map: &Map) -> Result<Vec<(Str, Value)>, Fault> {
        self.step(map.len() / 8)?;
        Ok(map.snapshot())
    }

    /// Room for a copy of a map's entries while what is in them is gone through, which may be the map again.
    pub(crate) fn room(&self, map: &Map) -> Result<Held, Fault> {
        let held = Held(self.bytes.clone(), (map.len() * COPY) as u64);
        self.bytes.set(self.bytes.get().saturating_add(held.1));
        self.fits().map(|()| held)
    }

    /// The same as a value.
    pub(crate) fn dict(&self, entries: BTreeMap<Str, Value>) -> Value {
        Value::Map(self.map(Elem::Any, entries))
    }

    /// A regular expression, compiled once, and what it costs to run it.
    pub(crate) fn expression(&self, source: &[u8]) -> Result<Rc<Priced>, Fault> {
        if let Some(known) = self.expressions.0.borrow().get(source) {
            return Ok(known.clone());
        }
        self.step(source.len().min(MOST_READ))?;
        let text = std::str::from_utf8(source).map_err(|_| "the regular expression is not UTF-8".to_owned())?;
        let price = Price::of(text);
        self.step(usize::try_from(price.of_compiling()).unwrap_or(usize::MAX))?;
        let regex = Rc::new((re2::compile_bytes(text)?, price));
        let mut kept = self.expressions.0.borrow_mut();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(source.to_vec(), regex.clone());
        Ok(regex)
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        for map in self.maps.take() {
            if let Some(map) = map.upgrade() {
                let entries = map.0.take();
                drop(entries);
            }
        }
    }
}

/// Bytes that are given back when what they were taken for goes.
pub(crate) struct Held(Rc<Cell<u64>>, u64);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(self.1));
    }
}

/// A level of nesting.
pub(crate) struct Level<'c>(&'c Cell<u32>);

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
