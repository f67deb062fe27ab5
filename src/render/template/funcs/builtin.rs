//! Functions that `text/template` brings itself, but for comparisons. `slice` is sprig's, which wins.

use super::Type::Any;
use super::{Function, any, fixed, open, text};
use crate::render::template::context::{Answer, Context};
use crate::render::template::go::{print, printf, runes};
use crate::render::template::value::{Value, Whole};

pub(crate) const FUNCTIONS: &[Function] = &[
    // These two are run by the caller, which does not evaluate all arguments.
    open("and", &[Any], Any, |_, args| Ok(any(args, 0).clone())),
    open("or", &[Any], Any, |_, args| Ok(any(args, 0).clone())),
    fixed("not", &[Any], |_, args| Ok(Value::Bool(!any(args, 0).is_true()))),
    open("call", &[Any], Any, call),
    open("html", &[], Any, |cx, args| Ok(Value::bytes(html(&joined(cx, args)?)))),
    open("index", &[Any], Any, index),
    open("js", &[], Any, |cx, args| Ok(Value::bytes(js(&joined(cx, args)?)))),
    fixed("len", &[Any], len),
    open("print", &[], Any, |cx, args| Ok(Value::bytes(print::all(cx, args)?))),
    open("printf", &[super::Type::Str], Any, |cx, args| Ok(Value::bytes(printf::sprintf(cx, text(args, 0), &args[1..])?))),
    open("println", &[], Any, |cx, args| Ok(Value::bytes(print::line(cx, args)?))),
    open("urlquery", &[], Any, |cx, args| Ok(Value::bytes(super::url::escape_query(&joined(cx, args)?)))),
];

/// No value of a template is a function.
fn call(_: &Context<'_>, args: &[Value]) -> Answer {
    Err(match any(args, 0) {
        Value::Nil => "call of nil".to_owned(),
        other => format!("non-function of type {}", other.type_name()),
    })
}

fn len(_: &Context<'_>, args: &[Value]) -> Answer {
    let count = match any(args, 0) {
        Value::Str(text) => text.bytes().len(),
        Value::List(list) => list.items().len(),
        Value::Map(map) => map.len(),
        Value::Nil => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn index(_: &Context<'_>, args: &[Value]) -> Answer {
    let mut item = any(args, 0).clone();
    if matches!(item, Value::Nil) {
        return Err("index of untyped nil".into());
    }
    for index in args.iter().skip(1) {
        item = match &item {
            Value::Str(text) => {
                let at = position(index, text.bytes().len())?;
                text.bytes().get(at).map(|byte| Value::Whole(Whole::Uint8, (*byte).into()))
            }
            Value::List(list) => list.items().get(position(index, list.items().len())?).cloned(),
            Value::Map(map) => match index {
                Value::Str(key) => Some(map.get(key.bytes()).unwrap_or_else(|| map.of.zero())),
                Value::Nil => return Err("value is nil; should be of type string".into()),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            Value::Nil => return Err("index of nil pointer".into()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        }
        .ok_or("index out of range")?;
    }
    Ok(item)
}

fn position(index: &Value, len: usize) -> Result<usize, String> {
    match index {
        Value::Whole(whole, number) if whole.is_unsigned() && *number < 0 => Err("index out of range".into()),
        Value::Whole(_, number) => {
            usize::try_from(*number).ok().filter(|at| *at <= len).ok_or_else(|| "index out of range".into())
        }
        Value::Nil => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

/// One string is itself; all else is printed.
fn joined(cx: &Context<'_>, args: &[Value]) -> Result<Vec<u8>, String> {
    match args {
        [Value::Str(text)] => Ok(text.bytes().to_vec()),
        // A nil on its own is what the template would print for it.
        [Value::Nil] => Ok(b"<no value>".to_vec()),
        _ => {
            let shown: Vec<Value> = args
                .iter()
                .map(|arg| if matches!(arg, Value::Nil) { Value::text("<no value>") } else { arg.clone() })
                .collect();
            print::all(cx, &shown)
        }
    }
}

fn html(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        let escaped: &[u8] = match byte {
            0 => "\u{fffd}".as_bytes(),
            b'"' => b"&#34;",
            b'\'' => b"&#39;",
            b'&' => b"&amp;",
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            other => std::slice::from_ref(other),
        };
        out.extend_from_slice(escaped);
    }
    out
}

fn js(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (at, c, width) in runes::runes(text) {
        match c {
            '\\' => out.extend_from_slice(b"\\\\"),
            '\'' => out.extend_from_slice(b"\\'"),
            '"' => out.extend_from_slice(b"\\\""),
            '<' | '>' | '&' | '=' | '\0'..='\u{1f}' => out.extend(format!("\\u{:04X}", u32::from(c)).bytes()),
            c if c.is_ascii() || runes::is_print(c) => out.extend_from_slice(&text[at..at + width]),
            c => out.extend(format!("\\u{:04X}", u32::from(c)).bytes()),
        }
    }
    out
}
