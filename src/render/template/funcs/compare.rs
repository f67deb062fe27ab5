//! `eq` and its like, and `reflect.DeepEqual`.

use super::Type::Any;
use super::{Function, any, fixed, open};
use crate::render::template::context::{Context, Fault};
use crate::render::template::go::print::MAX_DEPTH;
use crate::render::template::value::{Value, Whole};
use std::cmp::Ordering;

pub(crate) const FUNCTIONS: &[Function] = &[
    open("eq", &[Any], Any, |_, args| eq(any(args, 0), &args[1..]).map(Value::Bool)),
    fixed("ne", &[Any, Any], |_, args| eq(any(args, 0), &args[1..]).map(|equal| Value::Bool(!equal))),
    fixed("lt", &[Any, Any], |_, args| less(args).map(Value::Bool)),
    fixed("le", &[Any, Any], |_, args| less_or_equal(args).map(Value::Bool)),
    fixed("gt", &[Any, Any], |_, args| less_or_equal(args).map(|is| Value::Bool(!is))),
    fixed("ge", &[Any, Any], |_, args| less(args).map(|is| Value::Bool(!is))),
    fixed("deepEqual", &[Any, Any], |cx, args| deep_equal(cx, any(args, 0), any(args, 1)).map(Value::Bool)),
];

const BAD_TYPE: &str = "invalid type for comparison";

fn incompatible(a: &Value, b: &Value) -> Fault {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

/// Whether the first is one of the others.
#[allow(clippy::float_cmp)]
fn eq(first: &Value, others: &[Value]) -> Result<bool, Fault> {
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        let equal = match (first, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Whole(a, x), Value::Whole(b, y)) => compare_whole(*a, *x, *b, *y) == Ordering::Equal,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Complex(a, b), Value::Complex(c, d)) => a == c && b == d,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Nil, Value::Nil) => true,
            (Value::Nil, other) | (other, Value::Nil) => is_nil(other),
            (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) if is_nil(first) || is_nil(other) => {
                is_nil(first) == is_nil(other)
            }
            (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) => {
                return Err(format!("non-comparable type {}", other.type_name()));
            }
            (Value::Time(a), Value::Time(b)) => a == b,
            (Value::Certificate(a), Value::Certificate(b)) => a.cert == b.cert && a.key == b.key,
            (Value::Version(a), Value::Version(b)) => std::rc::Rc::ptr_eq(a, b),
            (Value::Time(_) | Value::Certificate(_), Value::Time(_) | Value::Certificate(_)) => false,
            (a, b) if is_basic(a) || is_basic(b) => return Err(incompatible(a, b)),
            (a, b) => return Err(format!("non-comparable types {} and {}", a.type_name(), b.type_name())),
        };
        if equal {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_basic(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::Whole(..) | Value::Float(_) | Value::Complex(..) | Value::Str(_))
}

fn is_nil(value: &Value) -> bool {
    match value {
        Value::Nil => true,
        Value::List(list) => list.items.is_none(),
        Value::Map(map) => map.nil,
        _ => false,
    }
}

/// Numbers by their values, whatever their signs.
#[allow(clippy::cast_sign_loss)]
fn compare_whole(a: Whole, x: i64, b: Whole, y: i64) -> Ordering {
    let wide = |whole: Whole, number: i64| if whole.is_unsigned() { i128::from(number as u64) } else { number.into() };
    wide(a, x).cmp(&wide(b, y))
}

fn less(args: &[Value]) -> Result<bool, Fault> {
    match (any(args, 0), any(args, 1)) {
        (Value::Whole(a, x), Value::Whole(b, y)) => Ok(compare_whole(*a, *x, *b, *y) == Ordering::Less),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Str(a), Value::Str(b)) => Ok(a < b),
        (a, b) if is_basic(a) && is_basic(b) && std::mem::discriminant(a) != std::mem::discriminant(b) => {
            Err(incompatible(a, b))
        }
        _ => Err(BAD_TYPE.into()),
    }
}

fn less_or_equal(args: &[Value]) -> Result<bool, Fault> {
    Ok(less(args)? || eq(any(args, 0), &args[1..])?)
}

/// Equal with the same types all the way down; the nil slice is not the empty one.
pub(crate) fn deep_equal(cx: &Context<'_>, a: &Value, b: &Value) -> Result<bool, Fault> {
    deep(cx, a, b, 0)
}

#[allow(clippy::float_cmp)]
fn deep(cx: &Context<'_>, a: &Value, b: &Value, depth: usize) -> Result<bool, Fault> {
    cx.step(1)?;
    if depth > MAX_DEPTH {
        return Err(format!("a value is nested more than {MAX_DEPTH} deep, or holds itself"));
    }
    if let Value::Str(text) = a {
        cx.step(text.bytes().len() / 64)?;
    }
    Ok(match (a, b) {
        (Value::Nil, Value::Nil) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Whole(a, x), Value::Whole(b, y)) => a == b && x == y,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Complex(a, b), Value::Complex(c, d)) => a == c && b == d,
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            if a.of != b.of || a.items.is_none() != b.items.is_none() || a.items().len() != b.items().len() {
                return Ok(false);
            }
            for (a, b) in a.items().iter().zip(b.items()) {
                if !deep(cx, a, b, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.of != b.of || a.nil != b.nil || a.len() != b.len() {
                return Ok(false);
            }
            let _room = (cx.room(a)?, cx.room(b)?);
            for ((a_key, a), (b_key, b)) in cx.snapshot(a)?.iter().zip(&cx.snapshot(b)?) {
                if a_key != b_key || !deep(cx, a, b, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Version(a), Value::Version(b)) => a == b,
        (Value::Certificate(a), Value::Certificate(b)) => a.cert == b.cert && a.key == b.key,
        _ => false,
    })
}
