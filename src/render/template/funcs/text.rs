//! Strings.

use std::collections::BTreeMap;

use super::Type::{Any, Int, Str as Text};
use super::cast::to_text;
use super::{Function, fixed, int, open, text};
use crate::render::template::context::{Answer, Context, Fault};
use crate::render::template::go::{print, quote, runes};
use crate::render::template::value::{Elem, Str, Value};

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("trim", &[Text], |_, args| Ok(runes::trim_space(text(args, 0)).into())),
    fixed("trimAll", &[Text, Text], trim_all),
    fixed("trimall", &[Text, Text], trim_all),
    fixed("trimSuffix", &[Text, Text], |_, args| {
        Ok(text(args, 1).strip_suffix(text(args, 0)).unwrap_or(text(args, 1)).into())
    }),
    fixed("trimPrefix", &[Text, Text], |_, args| {
        Ok(text(args, 1).strip_prefix(text(args, 0)).unwrap_or(text(args, 1)).into())
    }),
    fixed("contains", &[Text, Text], |_, args| Ok(Value::Bool(runes::find(text(args, 1), text(args, 0)).is_some()))),
    fixed("hasPrefix", &[Text, Text], |_, args| Ok(Value::Bool(text(args, 1).starts_with(text(args, 0))))),
    fixed("hasSuffix", &[Text, Text], |_, args| Ok(Value::Bool(text(args, 1).ends_with(text(args, 0))))),
    fixed("repeat", &[Int, Text], repeat),
    fixed("substr", &[Int, Int, Text], substr),
    fixed("trunc", &[Int, Text], |_, args| {
        let (count, text) = (int(args, 0), text(args, 1));
        let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        Ok(match count {
            0.. => text.get(..size).unwrap_or(text).into(),
            _ if size < text.len() => text[text.len() - size..].into(),
            _ => text.into(),
        })
    }),
    fixed("replace", &[Text, Text, Text], |cx, args| {
        Ok(Value::bytes(replace(cx, text(args, 2), text(args, 0), text(args, 1))?))
    }),
    fixed("plural", &[Text, Text, Int], |_, args| Ok(text(args, usize::from(int(args, 2) != 1)).into())),
    open("quote", &[], Any, |cx, args| joined(cx, args, |cx, arg| Ok(quote::quote(&to_text(cx, arg)?, false)))),
    open("squote", &[], Any, |cx, args| {
        joined(cx, args, |cx, arg| Ok([b"'", print::value(cx, arg)?.as_slice(), b"'"].concat()))
    }),
    open("cat", &[], Any, |cx, args| joined(cx, args, print::value)),
    fixed("split", &[Text, Text], |cx, args| numbered(cx, split(cx, text(args, 1), text(args, 0), -1)?)),
    fixed("splitn", &[Text, Int, Text], |cx, args| numbered(cx, split(cx, text(args, 2), text(args, 0), int(args, 1))?)),
    fixed("splitList", &[Text, Text], |cx, args| {
        cx.strings(split(cx, text(args, 1), text(args, 0), -1)?.into_iter().map(<[u8]>::to_vec))
    }),
];

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Str(bytes.into())
    }
}

fn trim_all(cx: &Context<'_>, args: &[Value]) -> Answer {
    let cut: Vec<char> = runes::runes(text(args, 0)).map(|(_, c, _)| c).collect();
    cx.step(text(args, 1).len().saturating_mul(cut.len()) / 16)?;
    Ok(runes::trim(text(args, 1), |c| cut.contains(&c)).into())
}

fn repeat(cx: &Context<'_>, args: &[Value]) -> Answer {
    let count = usize::try_from(int(args, 0)).map_err(|_| "a negative count")?;
    cx.reserve(count.saturating_mul(text(args, 1).len()))?;
    Ok(Value::bytes(text(args, 1).repeat(if text(args, 1).is_empty() { 0 } else { count })))
}

fn substr(_: &Context<'_>, args: &[Value]) -> Answer {
    let text = text(args, 2);
    let at = |index| usize::try_from(int(args, index)).ok();
    let part = match (at(0), at(1)) {
        (None, end) => end.and_then(|end| text.get(..end)),
        (Some(start), Some(end)) if end <= text.len() => text.get(start..end),
        (Some(start), _) => text.get(start..),
    };
    part.map(Value::from).ok_or_else(|| "slice bounds are out of range".into())
}

/// Each part replaced. An empty one is between all characters.
fn replace(cx: &Context<'_>, text: &[u8], old: &[u8], new: &[u8]) -> Result<Vec<u8>, Fault> {
    cx.step(text.len() / 16)?;
    if old == new {
        return Ok(text.to_vec());
    }
    let mut out = Vec::new();
    if old.is_empty() {
        cx.reserve(new.len().saturating_mul(text.len() + 1))?;
        out.extend_from_slice(new);
        for (at, _, width) in runes::runes(text) {
            out.extend_from_slice(&text[at..at + width]);
            out.extend_from_slice(new);
        }
        return Ok(out);
    }
    let mut rest = text;
    while let Some(at) = runes::find(rest, old) {
        cx.reserve(at + new.len())?;
        if out.len() > cx.limits.value {
            cx.reserve(out.len())?;
        }
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// All but nils, with spaces between.
fn joined(cx: &Context<'_>, args: &[Value], each: impl Fn(&Context<'_>, &Value) -> Result<Vec<u8>, Fault>) -> Answer {
    let mut out = Vec::new();
    for (i, arg) in args.iter().filter(|arg| !matches!(arg, Value::Nil)).enumerate() {
        let piece = each(cx, arg)?;
        cx.reserve(piece.len())?;
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(&piece);
    }
    Ok(Value::bytes(out))
}

/// The parts between separators, at most so many if that is not negative; an empty separator takes characters apart.
fn split<'t>(cx: &Context<'_>, text: &'t [u8], separator: &[u8], most: i64) -> Result<Vec<&'t [u8]>, Fault> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    if most == 0 {
        return Ok(parts);
    }
    cx.step(text.len() / 16)?;
    let mut rest = text;
    while parts.len() + 1 < most {
        let found = if separator.is_empty() {
            let (_, width) = runes::decode(rest);
            (width < rest.len()).then_some(width)
        } else {
            runes::find(rest, separator)
        };
        let Some(at) = found else { break };
        cx.reserve(16)?;
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    if !(separator.is_empty() && rest.is_empty()) {
        parts.push(rest);
    }
    Ok(parts)
}

/// `_0`, `_1`, and so on.
fn numbered(cx: &Context<'_>, parts: Vec<&[u8]>) -> Answer {
    let entry = |(i, part): (usize, &[u8])| -> Result<(Str, Value), Fault> {
        Ok((cx.piece(format!("_{i}").into_bytes())?, Value::Str(cx.piece(part.to_vec())?)))
    };
    let entries: Result<BTreeMap<Str, Value>, Fault> = parts.into_iter().enumerate().map(entry).collect();
    Ok(Value::Map(cx.map(Elem::Str, entries?)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::render::rewrite::testing::Sevens;
    use crate::render::template::{Expressions, Limits};

    /// Escapes make much of a short text, and there may be many.
    #[test]
    fn no_more_pieces_are_made_than_fit() {
        let (limits, expressions) = (Limits { memory: 1 << 20, ..Limits::default() }, Expressions::default());
        let cx = Context::new(jiff::Timestamp::UNIX_EPOCH, &Sevens, &limits, &expressions);
        let made = Cell::new(0);
        let args: [Value; 5] = std::array::from_fn(|_| Value::Bool(true));
        let joined = joined(&cx, &args, |_, _| {
            made.set(made.get() + 1);
            Ok(vec![b'x'; 400_000])
        });
        assert!(joined.is_err());
        assert_eq!(made.get(), 3);
    }
}
