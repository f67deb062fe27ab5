//! Regular expressions in Go's syntax, on bytes.

use super::Type::{Int, Str};
use super::{Function, fixed, int, text};
use crate::render::re2;
use crate::render::template::context::{Answer, Context, Fault, Priced};
use crate::render::template::go::runes;
use crate::render::template::value::{Elem, Value};

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("regexMatch", &[Str, Str], |cx, args| {
        let expression = cx.expression(text(args, 0));
        // not knowing the answer is not the same as its being no
        cx.step(0)?;
        Ok(Value::Bool(expression.is_ok() && is_match(cx, args)?))
    }),
    fixed("mustRegexMatch", &[Str, Str], |cx, args| Ok(Value::Bool(is_match(cx, args)?))),
    fixed("regexFindAll", &[Str, Str, Int], find_all),
    fixed("mustRegexFindAll", &[Str, Str, Int], find_all),
    fixed("regexFind", &[Str, Str], find),
    fixed("mustRegexFind", &[Str, Str], find),
    fixed("regexReplaceAll", &[Str, Str, Str], |cx, args| replace(cx, args, true)),
    fixed("mustRegexReplaceAll", &[Str, Str, Str], |cx, args| replace(cx, args, true)),
    fixed("regexReplaceAllLiteral", &[Str, Str, Str], |cx, args| replace(cx, args, false)),
    fixed("mustRegexReplaceAllLiteral", &[Str, Str, Str], |cx, args| replace(cx, args, false)),
    fixed("regexSplit", &[Str, Str, Int], split),
    fixed("mustRegexSplit", &[Str, Str, Int], split),
    fixed("regexQuoteMeta", &[Str], |_, args| {
        let escaped = text(args, 0).iter().flat_map(|byte| {
            let special = br"\.+*?()|[]{}^$".contains(byte);
            special.then_some(b'\\').into_iter().chain([*byte])
        });
        Ok(Value::bytes(escaped.collect()))
    }),
];

fn is_match(cx: &Context<'_>, args: &[Value]) -> Result<bool, Fault> {
    let (expression, text) = (cx.expression(text(args, 0))?, text(args, 1));
    cx.step(expression.1.of_finding(text.len()))?;
    Ok(expression.0.is_match(text))
}

fn find(cx: &Context<'_>, args: &[Value]) -> Answer {
    let (expression, text) = (cx.expression(text(args, 0))?, text(args, 1));
    cx.step(expression.1.of_finding(text.len()))?;
    Ok(expression.0.find(text).map_or(&b""[..], |found| found.as_bytes()).into())
}

/// Ranges of matches, at most so many.
fn matches(cx: &Context<'_>, expression: &Priced, text: &[u8], most: usize) -> Result<Vec<(usize, usize)>, Fault> {
    let mut found = Vec::new();
    let (regex, price) = expression;
    cx.step(price.of_finding(text.len()))?;
    let mut began = 0;
    for m in regex.find_iter(text) {
        if found.len() >= most {
            break;
        }
        cx.reserve(32)?;
        cx.step(price.of_finding(price.looked_at(began, &m.range(), text.len())))?;
        began = m.end();
        if !splits_character(text, m.start(), m.end()) {
            found.push((m.start(), m.end()));
        }
    }
    Ok(found)
}

fn find_all(cx: &Context<'_>, args: &[Value]) -> Answer {
    let regex = cx.expression(text(args, 0))?;
    let text = text(args, 1);
    let found = matches(cx, &regex, text, usize::try_from(int(args, 2)).unwrap_or(usize::MAX))?;
    if found.is_empty() {
        return Ok(Value::nil_list(Elem::Str));
    }
    cx.strings(found.into_iter().map(|(start, end)| text[start..end].to_vec()))
}

fn replace(cx: &Context<'_>, args: &[Value], expands: bool) -> Answer {
    let expression = cx.expression(text(args, 0))?;
    let (regex, price) = &*expression;
    let (text, with) = (text(args, 1), text(args, 2));
    let mut out = Vec::new();
    let (mut copied, mut began) = (0, 0);
    cx.step(price.of_groups(text.len()))?;
    for captures in regex.captures_iter(text) {
        let Some(found) = captures.get(0) else { continue };
        let looked_at = price.looked_at(began, &found.range(), text.len());
        cx.step(price.of_groups(looked_at) + re2::of_expanding(with.len()))?;
        began = found.end();
        if splits_character(text, found.start(), found.end()) {
            continue;
        }
        out.extend_from_slice(&text[copied..found.start()]);
        let piece = if expands { re2::expand_bytes(&captures, with, cx.limits.value) } else { Some(with.to_vec()) };
        let piece = piece.ok_or_else(|| cx.too_long())?;
        cx.reserve(piece.len())?;
        if out.len() > cx.limits.value {
            cx.reserve(out.len())?;
        }
        out.extend_from_slice(&piece);
        copied = found.end();
    }
    out.extend_from_slice(&text[copied..]);
    Ok(Value::bytes(out))
}

/// An empty match inside a character, which Go does not know.
fn splits_character(text: &[u8], start: usize, end: usize) -> bool {
    start == end && (1..4).any(|back| start >= back && runes::decode(&text[start - back..]).1 > back)
}

fn split(cx: &Context<'_>, args: &[Value]) -> Answer {
    let regex = cx.expression(text(args, 0))?;
    let (text, most) = (text(args, 1), int(args, 2));
    if most == 0 {
        return Ok(Value::nil_list(Elem::Str));
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if !args.is_empty() && text.is_empty() && !super::text(args, 0).is_empty() {
        return cx.strings([Vec::new()]);
    }
    let mut parts = Vec::new();
    let (mut start, mut end) = (0, 0);
    for (from, to) in matches(cx, &regex, text, most)? {
        if most != usize::MAX && parts.len() + 1 == most {
            break;
        }
        end = from;
        if to != 0 {
            parts.push(&text[start..end]);
        }
        start = to;
    }
    if end != text.len() {
        parts.push(&text[start..]);
    }
    cx.strings(parts.into_iter().map(<[u8]>::to_vec))
}
