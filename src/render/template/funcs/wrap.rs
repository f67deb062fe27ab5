//! Lines: wrapping, indenting, shortening. All by bytes, as sprig's libraries do it.

use super::Type::{Int, Str};
use super::{Function, fixed, int, text};
use crate::render::template::context::{Answer, Context, Fault};
use crate::render::template::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("wrap", &[Int, Str], |cx, args| Ok(Value::bytes(wrap(cx, text(args, 1), int(args, 0), b"", false)?))),
    fixed("wrapWith", &[Int, Str, Str], |cx, args| {
        Ok(Value::bytes(wrap(cx, text(args, 2), int(args, 0), text(args, 1), true)?))
    }),
    fixed("indent", &[Int, Str], |cx, args| Ok(Value::bytes(indent(cx, args, b"")?))),
    fixed("nindent", &[Int, Str], |cx, args| Ok(Value::bytes(indent(cx, args, b"\n")?))),
    fixed("abbrev", &[Int, Str], |_, args| abbreviated(args, int(args, 0), 0)),
    fixed("abbrevboth", &[Int, Int, Str], |_, args| abbreviated(args, int(args, 1), int(args, 0))),
];

/// Breaks lines at spaces; words that are too long only if wanted.
fn wrap(cx: &Context<'_>, text: &[u8], width: i64, newline: &[u8], long_words: bool) -> Result<Vec<u8>, Fault> {
    let newline = if newline.is_empty() { b"\n" } else { newline };
    let width = usize::try_from(width.max(1)).unwrap_or(usize::MAX);
    let mut out = Vec::new();
    let mut rest = text;
    while rest.len() > width {
        if rest[0] == b' ' {
            rest = &rest[1..];
            continue;
        }
        cx.reserve(newline.len() + 1)?;
        let (line, skip) = match rest[..=width].iter().rposition(|b| *b == b' ') {
            Some(space) => (space, 1),
            None if long_words => (width, 0),
            None => match rest[width..].iter().position(|b| *b == b' ') {
                Some(space) => (width + space, 1),
                None => break,
            },
        };
        out.extend_from_slice(&rest[..line]);
        out.extend_from_slice(newline);
        rest = &rest[line + skip..];
    }
    out.extend_from_slice(rest);
    Ok(out)
}

fn indent(cx: &Context<'_>, args: &[Value], before: &[u8]) -> Result<Vec<u8>, Fault> {
    let spaces = usize::try_from(int(args, 0)).map_err(|_| "a negative count")?;
    let text = text(args, 1);
    let lines = text.iter().filter(|b| **b == b'\n').count() + 1;
    cx.reserve(text.len().saturating_add(lines.saturating_mul(spaces)))?;
    let pad = b" ".repeat(spaces);
    let mut out = [before, &pad].concat();
    for byte in text {
        out.push(*byte);
        if *byte == b'\n' {
            out.extend_from_slice(&pad);
        }
    }
    Ok(out)
}

/// At most so many bytes, with dots at the end, and at the beginning if that many bytes may go there.
fn abbreviated(args: &[Value], width: i64, left: i64) -> Answer {
    let text = text(args, args.len() - 1);
    if width < 4 || (left > 0 && width < 7) {
        return Ok(text.into());
    }
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    if text.len() <= width {
        return Ok(text.into());
    }
    let mut offset = left.min(i64::try_from(text.len()).unwrap_or(i64::MAX));
    let room = i64::try_from(width - 3).unwrap_or(i64::MAX);
    let len = i64::try_from(text.len()).unwrap_or(i64::MAX);
    if len.saturating_sub(offset) < room {
        offset = len - room;
    }
    if offset <= 4 {
        return Ok(Value::bytes([&text[..width - 3], b"..."].concat()));
    }
    let offset = usize::try_from(offset).unwrap_or(0);
    if width < 7 {
        return Ok(Value::text(""));
    }
    if offset + width - 3 < text.len() {
        // What follows is shortened by the same rule, to what is left of the width.
        let (rest, width) = (&text[offset..], width - 3);
        let end = if width < 4 || rest.len() <= width { rest.to_vec() } else { [&rest[..width - 3], b"..."].concat() };
        return Ok(Value::bytes([b"...".as_slice(), &end].concat()));
    }
    Ok(Value::bytes([b"...", &text[text.len() - (width - 3)..]].concat()))
}
