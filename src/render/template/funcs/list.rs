//! Lists.

use super::Type::{Any, Int, Str};
use super::cast::{to_int, to_text, to_texts};
use super::compare::deep_equal;
use super::{Function, any, fixed, int, open, slice, text};
use crate::render::template::context::{Answer, Context, Fault, PIECE};
use crate::render::template::value::{Elem, List, Value};

pub(crate) const FUNCTIONS: &[Function] = &[
    open("list", &[], Any, |cx, args| made(cx, args.to_vec())),
    open("tuple", &[], Any, |cx, args| made(cx, args.to_vec())),
    fixed("append", &[Any, Any], append),
    fixed("mustAppend", &[Any, Any], append),
    fixed("push", &[Any, Any], append),
    fixed("mustPush", &[Any, Any], append),
    fixed("prepend", &[Any, Any], prepend),
    fixed("mustPrepend", &[Any, Any], prepend),
    fixed("first", &[Any], |_, args| Ok(slice(any(args, 0), "find first on")?.first().cloned().unwrap_or(Value::Nil))),
    fixed("mustFirst", &[Any], |_, args| Ok(slice(any(args, 0), "find first on")?.first().cloned().unwrap_or(Value::Nil))),
    fixed("last", &[Any], |_, args| Ok(slice(any(args, 0), "find last on")?.last().cloned().unwrap_or(Value::Nil))),
    fixed("mustLast", &[Any], |_, args| Ok(slice(any(args, 0), "find last on")?.last().cloned().unwrap_or(Value::Nil))),
    fixed("rest", &[Any], |cx, args| part(cx, any(args, 0), true)),
    fixed("mustRest", &[Any], |cx, args| part(cx, any(args, 0), true)),
    fixed("initial", &[Any], |cx, args| part(cx, any(args, 0), false)),
    fixed("mustInitial", &[Any], |cx, args| part(cx, any(args, 0), false)),
    fixed("reverse", &[Any], reverse),
    fixed("mustReverse", &[Any], reverse),
    fixed("uniq", &[Any], uniq),
    fixed("mustUniq", &[Any], uniq),
    open("without", &[Any], Any, without),
    open("mustWithout", &[Any], Any, without),
    fixed("has", &[Any, Any], has),
    fixed("mustHas", &[Any, Any], has),
    open("slice", &[Any], Any, sub),
    open("mustSlice", &[Any], Any, sub),
    open("concat", &[], Any, concat),
    fixed("chunk", &[Int, Any], chunk),
    fixed("mustChunk", &[Int, Any], chunk),
    fixed("join", &[Str, Any], |cx, args| {
        let texts = to_texts(cx, any(args, 1))?;
        cx.reserve(text(args, 0).len().saturating_mul(texts.len()))?;
        Ok(Value::bytes(texts.join(text(args, 0))))
    }),
    fixed("sortAlpha", &[Any], |cx, args| match any(args, 0) {
        list @ Value::List(_) => {
            let mut texts = to_texts(cx, list)?;
            cx.step(texts.len())?;
            texts.sort();
            cx.strings(texts)
        }
        other => cx.strings([to_text(cx, other)?]),
    }),
];

/// A list of that many elements.
pub(crate) fn made(cx: &Context<'_>, items: Vec<Value>) -> Answer {
    cx.step(items.len() / 8)?;
    cx.reserve(items.len().saturating_mul(16))?;
    Ok(Value::list(items))
}

fn append(cx: &Context<'_>, args: &[Value]) -> Answer {
    let mut items = slice(any(args, 0), "push on")?.to_vec();
    items.push(any(args, 1).clone());
    made(cx, items)
}

fn prepend(cx: &Context<'_>, args: &[Value]) -> Answer {
    let items = slice(any(args, 0), "prepend on")?;
    made(cx, [std::slice::from_ref(any(args, 1)), items].concat())
}

/// All but the first, or all but the last.
fn part(cx: &Context<'_>, list: &Value, rest: bool) -> Answer {
    match slice(list, "take a part of")? {
        [] => Ok(Value::nil_list(Elem::Any)),
        items if rest => made(cx, items[1..].to_vec()),
        items => made(cx, items[..items.len() - 1].to_vec()),
    }
}

fn reverse(cx: &Context<'_>, args: &[Value]) -> Answer {
    made(cx, slice(any(args, 0), "reverse")?.iter().rev().cloned().collect())
}

fn contains(cx: &Context<'_>, items: &[Value], wanted: &Value) -> Result<bool, Fault> {
    for item in items {
        if deep_equal(cx, wanted, item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uniq(cx: &Context<'_>, args: &[Value]) -> Answer {
    let mut kept = Vec::new();
    for item in slice(any(args, 0), "find uniq on")? {
        if !contains(cx, &kept, item)? {
            kept.push(item.clone());
        }
    }
    made(cx, kept)
}

fn without(cx: &Context<'_>, args: &[Value]) -> Answer {
    let mut kept = Vec::new();
    for item in slice(any(args, 0), "find without on")? {
        if !contains(cx, &args[1..], item)? {
            kept.push(item.clone());
        }
    }
    made(cx, kept)
}

fn has(cx: &Context<'_>, args: &[Value]) -> Answer {
    match any(args, 1) {
        Value::Nil => Ok(Value::Bool(false)),
        list => Ok(Value::Bool(contains(cx, slice(list, "find has on")?, any(args, 0))?)),
    }
}

fn sub(cx: &Context<'_>, args: &[Value]) -> Answer {
    let items = slice(any(args, 0), "slice")?;
    if items.is_empty() {
        return Ok(Value::Nil);
    }
    let at = |index: usize, default: usize| match args.get(index) {
        Some(value) => usize::try_from(to_int(value)).ok(),
        None => Some(default),
    };
    let found = at(1, 0).zip(at(2, items.len())).and_then(|(start, end)| items.get(start..end));
    let part = found.ok_or("slice bounds are out of range")?.to_vec();
    cx.reserve(part.len().saturating_mul(16))?;
    match any(args, 0) {
        Value::List(list) => Ok(Value::List(List::new(list.of, part))),
        _ => Ok(Value::Nil),
    }
}

fn concat(cx: &Context<'_>, args: &[Value]) -> Answer {
    let mut all = Vec::new();
    for list in args {
        all.extend_from_slice(slice(list, "concat as list")?);
        cx.reserve(all.len().saturating_mul(16))?;
    }
    if all.is_empty() { Ok(Value::nil_list(Elem::Any)) } else { made(cx, all) }
}

fn chunk(cx: &Context<'_>, args: &[Value]) -> Answer {
    let items = slice(any(args, 1), "chunk")?;
    let size = int(args, 0);
    cx.reserve(items.len().saturating_mul(32))?;
    let chunks = match usize::try_from(size) {
        Ok(size) if size > 0 => {
            cx.reserve(items.len().div_ceil(size).saturating_mul(PIECE))?;
            items.chunks(size).map(|chunk| Value::list(chunk.to_vec())).collect()
        }
        // Sprig's arithmetic finds no chunk, or one, where the size is negative and large enough.
        Err(_) if items.len() > 1 && items.len() as u64 - 1 <= size.unsigned_abs() => Vec::new(),
        Err(_) if items.len() == 1 && size < -1 => vec![Value::list(items.to_vec())],
        _ => return Err("the size of a chunk must be positive".into()),
    };
    Ok(Value::List(List::new(Elem::List, chunks)))
}
