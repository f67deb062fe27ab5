//! Modifiers: `@reverse`, `@flatten:{"deep":true}` and the others that gjson has built in.

use std::borrow::Cow;
use std::collections::HashMap;

use super::limits::{Limits, Step};
use super::pretty;
use super::scan::{squash, trim};
use super::value::{self, Kind, Value, members};
use super::walk::get;
use crate::render::json;

/// Names of the modifiers.
const NAMES: [&[u8]; 13] = [
    b"pretty", b"ugly", b"reverse", b"this", b"flatten", b"join", b"valid", b"keys", b"values", b"tostr", b"fromstr",
    b"group", b"dig",
];

/// What a modifier makes of a text, and the path that follows it.
type Made<'j, 'p> = Option<(Cow<'j, [u8]>, &'p [u8])>;

/// Whether there is a modifier of that name (without its `@`).
pub(super) fn is_known(name: &[u8]) -> bool {
    NAMES.contains(&name)
}

/// Runs the modifier at the start of a path. None: there is none of that name.
pub(super) fn run<'j, 'p>(json: &'j [u8], path: &'p [u8], limits: &mut Limits) -> Step<Made<'j, 'p>> {
    let text = &path[1..];
    let end = text.iter().position(|b| matches!(b, b':' | b'|' | b'.')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if !is_known(name) {
        return Ok(None);
    }
    let (arg, rest) = match rest {
        [b':', args @ ..] => args.split_at(argument_end(args)),
        _ => (&b""[..], rest),
    };
    let made = limits.passing(|limits| make(name, json, arg, limits))?;
    Ok(Some((made, rest)))
}

fn make<'j>(name: &[u8], json: &'j [u8], arg: &[u8], limits: &mut Limits) -> Step<Cow<'j, [u8]>> {
    Ok(match name {
        b"pretty" => Cow::Owned(pretty::pretty(json, arg, limits)?),
        b"ugly" => {
            limits.hold(json.len())?;
            Cow::Owned(pretty::ugly(json))
        }
        b"reverse" => reverse(json, limits)?,
        b"flatten" => flatten(json, option(arg, b"deep"), limits)?,
        b"join" => join(json, option(arg, b"preserve"), limits)?,
        b"valid" => Cow::Borrowed(if json::is_valid(json) { json } else { b"" }),
        b"keys" => keys(json, limits)?,
        b"values" => values(json, limits)?,
        b"tostr" => to_string(json, limits)?,
        b"fromstr" => from_string(json, limits)?,
        b"group" => Cow::Owned(group(json, limits)?),
        b"dig" => Cow::Owned(dig(json, arg, limits)?),
        _ => Cow::Borrowed(json),
    })
}

/// Where an argument ends: a JSON one with its last bracket or quote, any other at the next pipe.
fn argument_end(args: &[u8]) -> usize {
    if matches!(args.first(), Some(b'{' | b'[' | b'"')) {
        return squash(args);
    }
    let mut i = 0;
    while let Some(byte) = args.get(i) {
        match byte {
            b'|' => return i,
            b'{' | b'[' | b'"' | b'(' => i += squash(&args[i..]),
            _ => i += 1,
        }
    }
    args.len()
}

/// Whether an option is on in a JSON argument; of several, the last counts.
fn option(arg: &[u8], name: &[u8]) -> bool {
    let options = value::parse(arg);
    members(&options)
        .filter(|(key, _)| key.as_ref().is_some_and(|k| k.text() == name))
        .last()
        .is_some_and(|(_, v)| v.is_on())
}

/// A JSON array or object of parts that are JSON already.
fn wrap<P: AsRef<[u8]>>(open: u8, parts: impl IntoIterator<Item = P>, close: u8, limits: &mut Limits) -> Step<Vec<u8>> {
    let mut out = vec![open];
    for (i, part) in parts.into_iter().enumerate() {
        limits.hold(part.as_ref().len() + 1)?;
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(part.as_ref());
    }
    out.push(close);
    Ok(out)
}

fn pair(key: &[u8], value: &Value<'_>) -> Vec<u8> {
    [key, b":", &value.raw].concat()
}

/// Elements or members in the opposite order.
fn reverse<'j>(json: &'j [u8], limits: &mut Limits) -> Step<Cow<'j, [u8]>> {
    let whole = value::parse(json);
    if whole.kind != Kind::Json {
        return Ok(Cow::Borrowed(json));
    }
    let (open, close) = if whole.is_array() { (b'[', b']') } else { (b'{', b'}') };
    let mut parts = Vec::new();
    for (key, value) in members(&whole) {
        let part = key.map_or_else(|| value.raw.to_vec(), |key| pair(&key.raw, &value));
        limits.part(part.len())?;
        parts.push(part);
    }
    parts.reverse();
    Ok(Cow::Owned(wrap(open, parts, close, limits)?))
}

/// The elements of the arrays in an array; of all depths if `deep`.
fn flatten<'j>(json: &'j [u8], deep: bool, limits: &mut Limits) -> Step<Cow<'j, [u8]>> {
    limits.spend(json.len())?;
    let whole = value::parse(json);
    if !whole.is_array() {
        return Ok(Cow::Borrowed(json));
    }
    let mut parts = Vec::new();
    for (_, element) in members(&whole) {
        let part = if !element.is_array() {
            element.raw.to_vec()
        } else if deep {
            let inside = limits.nested(|limits| limits.passing(|limits| flatten(&element.raw, deep, limits)));
            unwrapped(&inside?).to_vec()
        } else {
            unwrapped(&element.raw).to_vec()
        };
        let part = trim_space(&part).to_vec();
        if !part.is_empty() {
            limits.part(part.len())?;
            parts.push(part);
        }
    }
    Ok(Cow::Owned(wrap(b'[', parts, b']', limits)?))
}

/// What is inside the outer brackets.
fn unwrapped(json: &[u8]) -> &[u8] {
    match trim(json) {
        [b'[' | b'{', inside @ .., _] => inside,
        other => other,
    }
}

fn trim_space(text: &[u8]) -> &[u8] {
    std::str::from_utf8(text).map_or_else(|_| text.trim_ascii(), |text| text.trim().as_bytes())
}

/// One object of all objects in an array. A key that comes again replaces the value, unless keys are to be preserved.
fn join<'j>(json: &'j [u8], preserve: bool, limits: &mut Limits) -> Step<Cow<'j, [u8]>> {
    let whole = value::parse(json);
    if !whole.is_array() {
        return Ok(Cow::Borrowed(json));
    }
    let objects = members(&whole).map(|(_, element)| element).filter(Value::is_object);
    if preserve {
        let parts = objects.map(|object| unwrapped(&object.raw).to_vec());
        return Ok(Cow::Owned(wrap(b'{', parts, b'}', limits)?));
    }
    let mut order: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut index = HashMap::new();
    for object in objects {
        for (key, value) in members(&object) {
            let Some(key) = key else { continue };
            // as a key and in the order, and its value
            limits.part(2 * key.raw.len() + value.raw.len())?;
            let at = *index.entry(key.text().into_owned()).or_insert_with(|| {
                order.push((key.raw.to_vec(), Vec::new()));
                order.len() - 1
            });
            order[at].1 = value.raw.to_vec();
        }
    }
    let parts = order.into_iter().map(|(key, value)| [key, value].join(&b':'));
    Ok(Cow::Owned(wrap(b'{', parts, b'}', limits)?))
}

/// The keys of an object; `null` for each element of anything else.
fn keys<'j>(json: &'j [u8], limits: &mut Limits) -> Step<Cow<'j, [u8]>> {
    let whole = value::parse(json);
    let parts = members(&whole).map(|(key, _)| key.map_or_else(|| b"null".to_vec(), |key| key.raw.to_vec()));
    Ok(Cow::Owned(wrap(b'[', parts, b']', limits)?))
}

/// The values of an object; an array stays what it is.
fn values<'j>(json: &'j [u8], limits: &mut Limits) -> Step<Cow<'j, [u8]>> {
    let whole = value::parse(json);
    if whole.is_array() {
        return Ok(Cow::Borrowed(json));
    }
    let parts = members(&whole).map(|(_, value)| value.raw.to_vec());
    Ok(Cow::Owned(wrap(b'[', parts, b']', limits)?))
}

/// The text as a JSON string.
fn to_string<'j>(text: &'j [u8], limits: &mut Limits) -> Step<Cow<'j, [u8]>> {
    limits.hold(most_quoted(text))?;
    let mut out = Vec::with_capacity(text.len() + 2);
    json::append_string(&mut out, text, true);
    Ok(Cow::Owned(out))
}

/// Most bytes that a text may have as a JSON string: escapes have up to six.
fn most_quoted(text: &[u8]) -> usize {
    let of_others = if std::str::from_utf8(text).is_ok() { 2 } else { 6 };
    let length = |byte: &u8| match byte {
        b'"' | b'\\' => 2,
        b'<' | b'>' | b'&' | 0..=0x1f | 0x7f => 6,
        0x80.. => of_others,
        _ => 1,
    };
    text.iter().map(length).sum()
}

/// The JSON that a JSON string holds.
fn from_string<'j>(json: &'j [u8], limits: &mut Limits) -> Step<Cow<'j, [u8]>> {
    if !json::is_valid(json) {
        return Ok(Cow::Borrowed(b""));
    }
    limits.hold(json.len())?;
    Ok(Cow::Owned(value::parse(json).to_string_bytes().into_owned()))
}

/// `{"a":[1,2],"b":[3,4]}` turned into `[{"a":1,"b":3},{"a":2,"b":4}]`.
fn group(json: &[u8], limits: &mut Limits) -> Step<Vec<u8>> {
    let whole = value::parse(json);
    if !whole.is_object() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Vec<Vec<u8>>> = Vec::new();
    for (key, column) in members(&whole) {
        let Some(key) = key.filter(|_| column.is_array()) else { continue };
        for (i, (_, value)) in members(&column).enumerate() {
            if i == rows.len() {
                limits.part(0)?;
                rows.push(Vec::new());
            }
            limits.spend(key.raw.len() + value.raw.len())?;
            limits.part(key.raw.len() + value.raw.len())?;
            rows[i].push(pair(&key.raw, &value));
        }
    }
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        parts.push(wrap(b'{', row, b'}', limits)?);
    }
    wrap(b'[', parts, b']', limits)
}

/// What a path finds in a value and in everything inside it.
fn dig(json: &[u8], path: &[u8], limits: &mut Limits) -> Step<Vec<u8>> {
    let mut found = Vec::new();
    descend(&mut found, &value::parse(json), path, limits)?;
    wrap(b'[', found, b']', limits)
}

fn descend(found: &mut Vec<Vec<u8>>, parent: &Value<'_>, path: &[u8], limits: &mut Limits) -> Step<()> {
    let here = limits.passing(|limits| get(&parent.raw, path, limits))?;
    if here.exists() {
        limits.spend(here.raw.len())?;
        limits.part(here.raw.len())?;
        found.push(here.raw.into_owned());
    }
    if parent.kind == Kind::Json {
        for (_, child) in members(parent) {
            limits.nested(|limits| descend(found, &child, path, limits))?;
        }
    }
    Ok(())
}
