//! Multipaths: `[a,b.c]` and `{a,"name":b.c}` make a new array or object out of several paths.

use super::limits::{Limits, Step};
use super::scan::closing_quote;
use super::walk::get;
use crate::render::json;

/// One path of a multipath, and the name that its result gets, as it is written.
pub(super) struct Selector<'p> {
    name: Option<&'p [u8]>,
    path: &'p [u8],
}

/// The paths of the multipath at the start of a path, and what follows it. None: it does not end.
pub(super) fn selectors(path: &[u8]) -> Option<(Vec<Selector<'_>>, &[u8])> {
    let mut found = Vec::new();
    let mut depth = 1;
    let mut start = 1;
    let mut colon = None;
    let mut in_modifier = false;
    let mut i = 1;
    let selector = |start: usize, colon: Option<usize>, end: usize| match colon {
        Some(colon) => Selector { name: Some(&path[start..colon]), path: &path[colon + 1..end] },
        None => Selector { name: None, path: &path[start..end] },
    };
    while let Some(byte) = path.get(i) {
        match byte {
            b'\\' => i += 1,
            // A colon after a modifier's name is that of its argument.
            b'@' if matches!(path[i - 1], b'.' | b'|') => in_modifier = true,
            b':' if !in_modifier && colon.is_none() && depth == 1 => colon = Some(i),
            b',' if depth == 1 => {
                found.push(selector(start, colon, i));
                (start, colon, in_modifier) = (i + 1, None, false);
            }
            b'"' => i = closing_quote(path, i + 1)?,
            b'[' | b'(' | b'{' => depth += 1,
            b']' | b')' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    found.push(selector(start, colon, i));
                    return Some((found, &path[i + 1..]));
                }
            }
            _ => {}
        }
        i += 1;
    }
    None
}

/// The array (`open` is `[`) or object of what the paths find; what is not there is left out.
pub(super) fn collect(json: &[u8], open: u8, selectors: &[Selector<'_>], limits: &mut Limits) -> Step<Vec<u8>> {
    let mut out = vec![open];
    for selector in selectors {
        let value = limits.passing(|limits| get(json, selector.path, limits))?;
        if !value.exists() {
            continue;
        }
        limits.spend(value.raw.len())?;
        limits.hold(value.raw.len() + 1)?;
        if out.len() > 1 {
            out.push(b',');
        }
        if open == b'{' {
            append_name(&mut out, selector);
            out.push(b':');
        }
        out.extend_from_slice(&value.raw);
    }
    out.push(if open == b'{' { b'}' } else { b']' });
    Ok(out)
}

fn append_name(out: &mut Vec<u8>, selector: &Selector<'_>) {
    match selector.name {
        Some(name) if name.first() == Some(&b'"') && json::is_valid(name) => out.extend_from_slice(name),
        Some(name) if !name.is_empty() => json::append_string(out, name, true),
        _ => {
            let last = last_component(selector.path);
            json::append_string(out, if is_simple(last) { last } else { b"_" }, true);
        }
    }
}

fn last_component(path: &[u8]) -> &[u8] {
    let separator = |i: &usize| matches!(path[*i], b'|' | b'.') && (*i == 0 || path[*i - 1] != b'\\');
    (0..path.len()).rev().find(separator).map_or(path, |i| &path[i + 1..])
}

fn is_simple(name: &[u8]) -> bool {
    !name.iter().any(|b| *b < b' ' || b"[]{}()#|!".contains(b))
}
