//! Values of a template: those Go types that functions and data can bring.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::secret_bytes::SecretBytes;

use super::context::Held;
use super::funcs::semver::Version;
use super::funcs::time::Time;

/// A string of Go: any bytes. They are as secret as those that they come from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Str(Rc<SecretBytes>);

impl Str {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Rc::new(SecretBytes::new(bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.expose()
    }
}

impl From<&[u8]> for Str {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes().to_vec())
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl Borrow<[u8]> for Str {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

/// Types of whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    Int,
    Int64,
    Uint8,
    Uint64,
    Month,
    Weekday,
    Duration,
}

impl Whole {
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Uint64 => "uint64",
            Self::Month => "time.Month",
            Self::Weekday => "time.Weekday",
            Self::Duration => "time.Duration",
        }
    }

    pub(crate) fn kind_name(self) -> &'static str {
        match self {
            Self::Month | Self::Weekday => "int",
            Self::Duration => "int64",
            other => other.type_name(),
        }
    }

    pub(crate) fn is_unsigned(self) -> bool {
        matches!(self, Self::Uint8 | Self::Uint64)
    }
}

/// Types of the elements of lists and maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elem {
    /// `interface {}`.
    Any,
    /// `string`.
    Str,
    /// `int`.
    Int,
    /// `[]interface {}`.
    List,
}

impl Elem {
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Str => "string",
            Self::Int => "int",
            Self::List => "[]interface {}",
        }
    }

    /// What a map gives for a key that it does not have.
    pub(crate) fn zero(self) -> Value {
        match self {
            Self::Str => Value::text(""),
            _ => Value::Nil,
        }
    }
}

/// A slice.
#[derive(Clone)]
pub(crate) struct List {
    pub(crate) of: Elem,
    /// None is the nil slice, which JSON tells from the empty one.
    pub(crate) items: Option<Rc<Items>>,
}

/// What is in a slice; dropped without recursion.
pub(crate) struct Items(pub(crate) Vec<Value>);

impl List {
    pub(crate) fn new(of: Elem, items: Vec<Value>) -> Self {
        Self { of, items: Some(Rc::new(Items(items))) }
    }

    pub(crate) fn items(&self) -> &[Value] {
        self.items.as_ref().map_or(&[], |items| &items.0)
    }
}

/// A map with string keys. Those who hold it see each other's changes.
#[derive(Clone)]
pub(crate) struct Map {
    pub(crate) of: Elem,
    pub(crate) entries: Rc<Entries>,
    /// The nil map, which cannot be written to.
    pub(crate) nil: bool,
}

/// What is in a map; dropped without recursion.
#[derive(Default)]
pub(crate) struct Entries(pub(crate) RefCell<BTreeMap<Str, Value>>, pub(crate) Option<Held>);

impl Map {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Value> {
        self.entries.0.borrow().get(key).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.0.borrow().len()
    }

    /// A copy of the entries, so that the map may change meanwhile.
    pub(crate) fn snapshot(&self) -> Vec<(Str, Value)> {
        self.entries.0.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// Sprig's `certificate`.
pub(crate) struct Certificate {
    pub(crate) cert: Str,
    pub(crate) key: Str,
}

/// A value.
#[derive(Clone)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Whole(Whole, i64),
    Float(f64),
    Complex(f64, f64),
    Str(Str),
    List(List),
    Map(Map),
    Time(Rc<Time>),
    Version(Rc<Version>),
    Certificate(Rc<Certificate>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Str(text.into())
    }

    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self::Str(Str::new(bytes))
    }

    pub(crate) fn int(number: i64) -> Self {
        Self::Whole(Whole::Int, number)
    }

    pub(crate) fn int64(number: i64) -> Self {
        Self::Whole(Whole::Int64, number)
    }

    pub(crate) fn list(items: Vec<Value>) -> Self {
        Self::List(List::new(Elem::Any, items))
    }

    pub(crate) fn nil_list(of: Elem) -> Self {
        Self::List(List { of, items: None })
    }

    /// The name that `%T` prints.
    pub(crate) fn type_name(&self) -> String {
        match self {
            Self::Nil => "<nil>".to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Whole(whole, _) => whole.type_name().to_owned(),
            Self::Float(_) => "float64".to_owned(),
            Self::Complex(..) => "complex128".to_owned(),
            Self::Str(_) => "string".to_owned(),
            Self::List(list) => format!("[]{}", list.of.type_name()),
            Self::Map(map) => format!("map[string]{}", map.of.type_name()),
            Self::Time(_) => "time.Time".to_owned(),
            Self::Version(_) => "*semver.Version".to_owned(),
            Self::Certificate(_) => "sprig.certificate".to_owned(),
        }
    }

    /// The name of its `reflect.Kind`.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Self::Nil => "invalid",
            Self::Bool(_) => "bool",
            Self::Whole(whole, _) => whole.kind_name(),
            Self::Float(_) => "float64",
            Self::Complex(..) => "complex128",
            Self::Str(_) => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Time(_) | Self::Certificate(_) => "struct",
            Self::Version(_) => "ptr",
        }
    }

    /// Whether `if` takes it for true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(truth) => *truth,
            Self::Whole(_, number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Complex(re, im) => *re != 0.0 || *im != 0.0,
            Self::Str(text) => !text.bytes().is_empty(),
            Self::List(list) => !list.items().is_empty(),
            Self::Map(map) => map.len() > 0,
            Self::Time(_) | Self::Version(_) | Self::Certificate(_) => true,
        }
    }
}

/// Moves the parts of a value that nobody else holds to the list of those still to be dropped.
fn take_apart(value: Value, pending: &mut Vec<Value>) {
    match value {
        Value::List(List { items: Some(items), .. }) => {
            if let Some(mut items) = Rc::into_inner(items) {
                pending.append(&mut items.0);
            }
        }
        Value::Map(map) => {
            if let Some(entries) = Rc::into_inner(map.entries) {
                pending.extend(entries.0.take().into_values());
            }
        }
        _ => {}
    }
}

fn drop_flat(mut pending: Vec<Value>) {
    while let Some(value) = pending.pop() {
        take_apart(value, &mut pending);
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        drop_flat(std::mem::take(&mut self.0));
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        drop_flat(self.0.take().into_values().collect());
        drop(self.1.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_values_are_dropped_without_recursion() {
        let mut value = Value::Nil;
        for _ in 0..300_000 {
            value = Value::list(vec![value]);
        }
        drop(value);
    }

    #[test]
    fn names() {
        assert_eq!(Value::list(vec![]).type_name(), "[]interface {}");
        assert_eq!(Value::nil_list(Elem::Str).type_name(), "[]string");
        assert_eq!(Value::Nil.kind_name(), "invalid");
    }
}
