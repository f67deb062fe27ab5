//! What a plain scalar is.

use crate::render::template::funcs::layout::{self, Unread};
use crate::render::template::funcs::time::Time;
use crate::render::template::go::{float, int};

/// A scalar with its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// A date, which stays text.
    Timestamp,
    Text,
}

/// The type of a scalar without quotes and tag.
pub(crate) fn resolve(text: &[u8]) -> Scalar {
    match text {
        b"y" | b"Y" | b"yes" | b"Yes" | b"YES" | b"true" | b"True" | b"TRUE" | b"on" | b"On" | b"ON" => Scalar::Bool(true),
        b"n" | b"N" | b"no" | b"No" | b"NO" | b"false" | b"False" | b"FALSE" | b"off" | b"Off" | b"OFF" => {
            Scalar::Bool(false)
        }
        b"" | b"~" | b"null" | b"Null" | b"NULL" => Scalar::Null,
        b".nan" | b".NaN" | b".NAN" => Scalar::Float(f64::NAN),
        b".inf" | b".Inf" | b".INF" | b"+.inf" | b"+.Inf" | b"+.INF" => Scalar::Float(f64::INFINITY),
        b"-.inf" | b"-.Inf" | b"-.INF" => Scalar::Float(f64::NEG_INFINITY),
        [b'.', ..] => float::parse(text).map_or(Scalar::Text, Scalar::Float),
        [b'+' | b'-' | b'0'..=b'9', ..] => number(text),
        _ => Scalar::Text,
    }
}

fn number(text: &[u8]) -> Scalar {
    if time(text).is_some() {
        return Scalar::Timestamp;
    }
    let plain: Vec<u8> = text.iter().copied().filter(|b| *b != b'_').collect();
    if let Ok(number) = int::parse(&plain, 0) {
        return Scalar::Int(number);
    }
    if let Some(number) = int::parse_unsigned(&plain) {
        return Scalar::Uint(number);
    }
    let decimal = is_decimal(&plain).then(|| float::parse(&plain)).flatten();
    decimal.map_or(Scalar::Text, Scalar::Float)
}

/// The time that a scalar without quotes is, if it is one and can be told.
pub(crate) fn timestamp(text: &[u8]) -> Option<Time> {
    time(text)?.ok()
}

fn time(text: &[u8]) -> Option<Result<Time, Unread>> {
    const LAYOUTS: [&[u8]; 4] =
        [b"2006-1-2T15:4:5.999999999Z07:00", b"2006-1-2t15:4:5.999999999Z07:00", b"2006-1-2 15:4:5.999999999", b"2006-1-2"];
    let year = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let may_be = year == 4 && text.get(4) == Some(&b'-');
    let read = |layout: &&[u8]| Some(layout::parse(layout, text)).filter(|read| *read != Err(Unread::Text));
    LAYOUTS.iter().filter(|_| may_be).find_map(read)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_decimal(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let whole = digits(rest);
    rest = &rest[whole..];
    if let Some(after) = rest.strip_prefix(b".") {
        let fraction = digits(after);
        if whole == 0 && fraction == 0 {
            return false;
        }
        rest = &after[fraction..];
    } else if whole == 0 {
        return false;
    }
    if let [b'e' | b'E', after @ ..] = rest {
        let after = after.strip_prefix(b"-").or_else(|| after.strip_prefix(b"+")).unwrap_or(after);
        return digits(after) == after.len() && !after.is_empty();
    }
    rest.is_empty()
}
