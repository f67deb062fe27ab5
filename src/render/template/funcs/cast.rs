//! Conversions as spf13/cast does them: what is no number is zero.

use super::Type::{Any, Str};
use super::{Function, any, fixed, text};
use crate::render::template::context::{Context, Fault};
use crate::render::template::go::int::{self, NotInt};
use crate::render::template::go::{float, print};
use crate::render::template::value::{Value, Whole};

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("atoi", &[Str], |_, args| {
        Ok(Value::int(match int::parse(text(args, 0), 10) {
            Ok(number) | Err(NotInt::Range(number)) => number,
            Err(NotInt::Syntax) => 0,
        }))
    }),
    fixed("int", &[Any], |_, args| Ok(Value::int(to_int(any(args, 0))))),
    fixed("int64", &[Any], |_, args| Ok(Value::int64(to_int(any(args, 0))))),
    fixed("float64", &[Any], |_, args| Ok(Value::Float(to_float(any(args, 0))))),
    fixed("toDecimal", &[Any], |cx, args| {
        let text = print::value(cx, any(args, 0))?;
        Ok(Value::int64(int::parse(&text, 8).unwrap_or(0)))
    }),
    fixed("toString", &[Any], |cx, args| Ok(Value::bytes(to_text(cx, any(args, 0))?))),
    fixed("toStrings", &[Any], |cx, args| cx.strings(to_texts(cx, any(args, 0))?)),
];

/// A whole number; decimals are cut.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Bool(truth) => (*truth).into(),
        Value::Whole(Whole::Duration, _) => 0,
        Value::Whole(_, number) => *number,
        // What does not fit is the least number on amd64.
        Value::Float(number) if number.is_nan() || *number >= 9.223_372_036_854_776e18 => i64::MIN,
        Value::Float(number) => *number as i64,
        Value::Str(text) => int::parse(without_decimals(text.bytes()), 0).unwrap_or(0),
        _ => 0,
    }
}

/// `-5.7` is `-5`, `.5` is zero; what is no such number stays.
fn without_decimals(text: &[u8]) -> &[u8] {
    let Some(point) = text.iter().position(|b| *b == b'.') else { return text };
    let (whole, decimals) = (&text[..point], &text[point + 1..]);
    let unsigned = whole.strip_prefix(b"-").or_else(|| whole.strip_prefix(b"+")).unwrap_or(whole);
    match unsigned.iter().chain(decimals).all(u8::is_ascii_digit) {
        true if unsigned.is_empty() => b"0",
        true => whole,
        false => text,
    }
}

/// A number.
#[allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]
pub(crate) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Bool(truth) => u8::from(*truth).into(),
        Value::Whole(Whole::Duration, _) => 0.0,
        Value::Whole(Whole::Uint64, number) => *number as u64 as f64,
        Value::Whole(_, number) => *number as f64,
        Value::Float(number) => *number,
        Value::Str(text) => float::parse(text.bytes()).unwrap_or(0.0),
        _ => 0.0,
    }
}

/// As text: strings as they are.
pub(crate) fn to_text(cx: &Context<'_>, value: &Value) -> Result<Vec<u8>, Fault> {
    print::value(cx, value)
}

/// A list as texts, without nils; anything else as the only one.
pub(crate) fn to_texts(cx: &Context<'_>, value: &Value) -> Result<Vec<Vec<u8>>, Fault> {
    match value {
        Value::Nil => Ok(Vec::new()),
        Value::List(list) => {
            let items = list.items().iter().filter(|item| !matches!(item, Value::Nil));
            items.map(|item| to_text(cx, item)).collect()
        }
        other => Ok(vec![to_text(cx, other)?]),
    }
}
