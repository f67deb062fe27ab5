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
    let made = match name {
        b"pretty" => Cow::Owned(pretty::pretty(json, arg, limits)?),
        b"ugly" => Cow::Owned(pretty::ugly(json)),
        b"reverse" => reverse(json),
        b"flatten" => flatten(json, option(arg, b"deep"), limits)?,
        b"join" => join(json, option(arg, b"preserve")),
        b"valid" => Cow::Borrowed(if json::is_valid(json) { json } else { b"" }),
        b"keys" => keys(json),
        b"values" => values(json),
        b"tostr" => to_string(json),
        b"fromstr" => from_string(json),
        b"group" => Cow::Owned(group(json, limits)?),
        b"dig" => Cow::Owned(dig(json, arg, limits)?),
        _ => Cow::Borrowed(json),
    };
    Ok(Some((made, rest)))
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
fn wrap<P: AsRef<[u8]>>(open: u8, parts: impl IntoIterator<Item = P>, close: u8) -> Vec<u8> {
    let mut out = vec![open];
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(part.as_ref());
    }
    out.push(close);
    out
}

fn pair(key: &[u8], value: &Value<'_>) -> Vec<u8> {
    [key, b":", &value.raw].concat()
}

/// Elements or members in the opposite order.
fn reverse(json: &[u8]) -> Cow<'_, [u8]> {
    let whole = value::parse(json);
    if whole.kind != Kind::Json {
        return Cow::Borrowed(json);
    }
    let (open, close) = if whole.is_array() { (b'[', b']') } else { (b'{', b'}') };
    let mut parts: Vec<_> =
        members(&whole).map(|(key, v)| key.map_or_else(|| v.raw.to_vec(), |k| pair(&k.raw, &v))).collect();
    parts.reverse();
    Cow::Owned(wrap(open, parts, close))
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
            unwrapped(&limits.nested(|limits| flatten(&element.raw, deep, limits))?).to_vec()
        } else {
            unwrapped(&element.raw).to_vec()
        };
        let part = trim_space(&part).to_vec();
        if !part.is_empty() {
            parts.push(part);
        }
    }
    Ok(Cow::Owned(wrap(b'[', parts, b']')))
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
fn join(json: &[u8], preserve: bool) -> Cow<'_, [u8]> {
    let whole = value::parse(json);
    if !whole.is_array() {
        return Cow::Borrowed(json);
    }
    let objects = members(&whole).map(|(_, element)| element).filter(Value::is_object);
    if preserve {
        return Cow::Owned(wrap(b'{', objects.map(|object| unwrapped(&object.raw).to_vec()), b'}'));
    }
    let mut order: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut index = HashMap::new();
    for object in objects {
        for (key, value) in members(&object) {
            let Some(key) = key else { continue };
            let at = *index.entry(key.text().into_owned()).or_insert_with(|| {
                order.push((key.raw.to_vec(), Vec::new()));
                order.len() - 1
            });
            order[at].1 = value.raw.to_vec();
        }
    }
    Cow::Owned(wrap(b'{', order.into_iter().map(|(key, value)| [key, value].join(&b':')), b'}'))
}

/// The keys of an object; `null` for each element of anything else.
fn keys(json: &[u8]) -> Cow<'_, [u8]> {
    let whole = value::parse(json);
    Cow::Owned(wrap(b'[', members(&whole).map(|(key, _)| key.map_or_else(|| b"null".to_vec(), |k| k.raw.to_vec())), b']'))
}

/// The values of an object; an array stays what it is.
fn values(json: &[u8]) -> Cow<'_, [u8]> {
    let whole = value::parse(json);
    if whole.is_array() {
        return Cow::Borrowed(json);
    }
    Cow::Owned(wrap(b'[', members(&whole).map(|(_, value)| value.raw.to_vec()), b']'))
}

/// The text as a JSON string.
fn to_string(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(text.len() + 2);
    json::append_string(&mut out, text, true);
    Cow::Owned(out)
}

/// The JSON that a JSON string holds.
fn from_string(json: &[u8]) -> Cow<'_, [u8]> {
    if !json::is_valid(json) {
        return Cow::Borrowed(b"");
    }
    Cow::Owned(value::parse(json).to_string_bytes().into_owned())
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
                rows.push(Vec::new());
            }
            limits.spend(key.raw.len() + value.raw.len())?;
            rows[i].push(pair(&key.raw, &value));
        }
    }
    Ok(wrap(b'[', rows.into_iter().map(|row| wrap(b'{', row, b'}')), b']'))
}

/// What a path finds in a value and in everything inside it.
fn dig(json: &[u8], path: &[u8], limits: &mut Limits) -> Step<Vec<u8>> {
    let mut found = Vec::new();
    descend(&mut found, &value::parse(json), path, limits)?;
    Ok(wrap(b'[', found, b']'))
}

fn descend(found: &mut Vec<Vec<u8>>, parent: &Value<'_>, path: &[u8], limits: &mut Limits) -> Step<()> {
    let here = get(&parent.raw, path, limits)?;
    if here.exists() {
        limits.spend(here.raw.len())?;
        found.push(here.raw.into_owned());
    }
    if parent.kind == Kind::Json {
        for (_, child) in members(parent) {
            limits.nested(|limits| descend(found, &child, path, limits))?;
        }
    }
    Ok(())
}
