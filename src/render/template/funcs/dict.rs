//! Dictionaries.

use std::collections::BTreeMap;

use super::Type::{Any, Dict, Str as Text};
use super::cast::to_text;
use super::{Function, any, entries, fixed, open, text};
use crate::render::template::context::{Answer, Context, Fault, PIECE};
use crate::render::template::go::print::MAX_DEPTH;
use crate::render::template::value::{List, Map, Str, Value};

pub(crate) const FUNCTIONS: &[Function] = &[
    open("dict", &[], Any, dict),
    fixed("get", &[Dict, Text], |_, args| Ok(map(args, 0)?.get(text(args, 1)).unwrap_or_else(|| Value::text("")))),
    fixed("set", &[Dict, Text, Any], |cx, args| {
        let map = map(args, 0)?;
        put(cx, map, key(cx, any(args, 1))?, any(args, 2).clone())?;
        Ok(any(args, 0).clone())
    }),
    fixed("unset", &[Dict, Text], |_, args| {
        let removed = map(args, 0)?.entries.0.borrow_mut().remove(text(args, 1));
        drop(removed);
        Ok(any(args, 0).clone())
    }),
    fixed("hasKey", &[Dict, Text], |_, args| Ok(Value::Bool(map(args, 0)?.get(text(args, 1)).is_some()))),
    open("pluck", &[Text], Dict, |cx, args| {
        cx.step(args.len())?;
        let found = (1..args.len()).filter_map(|i| map(args, i).ok()?.get(text(args, 0)));
        super::list::made(cx, found.collect())
    }),
    open("keys", &[], Dict, |cx, args| {
        let mut keys = Vec::new();
        for i in 0..args.len() {
            let map = map(args, i)?;
            cx.reserve(map.len() * 16)?;
            keys.extend(cx.snapshot(map)?.into_iter().map(|(key, _)| Value::Str(key)));
        }
        Ok(Value::List(List::new(crate::render::template::value::Elem::Str, keys)))
    }),
    open("pick", &[Dict], Text, |cx, args| {
        let map = map(args, 0)?;
        cx.reserve(args.len() * PIECE)?;
        let names = args[1..].iter().filter_map(|arg| if let Value::Str(name) = arg { Some(name) } else { None });
        Ok(cx.dict(names.filter_map(|name| Some((name.clone(), map.get(name.bytes())?))).collect()))
    }),
    open("omit", &[Dict], Text, |cx, args| {
        let mut kept = entries(cx, args, 0)?;
        cx.reserve(kept.len() * PIECE)?;
        (1..args.len()).for_each(|i| drop(kept.remove(text(args, i))));
        Ok(cx.dict(kept))
    }),
    open("merge", &[Dict], Dict, |cx, args| merge(cx, args, false)),
    open("mustMerge", &[Dict], Dict, |cx, args| merge(cx, args, false)),
    open("mergeOverwrite", &[Dict], Dict, |cx, args| merge(cx, args, true)),
    open("mustMergeOverwrite", &[Dict], Dict, |cx, args| merge(cx, args, true)),
    fixed("values", &[Dict], |cx, args| {
        let values: Vec<Value> = entries(cx, args, 0)?.into_values().collect();
        cx.reserve(values.len() * 16)?;
        Ok(Value::list(values))
    }),
    open("dig", &[], Any, dig),
    fixed("deepCopy", &[Any], deep_copy),
    fixed("mustDeepCopy", &[Any], deep_copy),
];

fn map(args: &[Value], index: usize) -> Result<&Map, Fault> {
    match any(args, index) {
        Value::Map(map) => Ok(map),
        other => Err(format!("a dictionary is needed, not {}", other.type_name())),
    }
}

/// A value as a key: a string is shared.
fn key(cx: &Context<'_>, value: &Value) -> Result<Str, Fault> {
    match value {
        Value::Str(text) => Ok(text.clone()),
        other => cx.piece(to_text(cx, other)?),
    }
}

fn put(cx: &Context<'_>, map: &Map, key: Str, value: Value) -> Result<(), Fault> {
    if map.nil {
        return Err("assignment to entry in nil map".into());
    }
    cx.reserve(PIECE)?;
    let old = map.entries.0.borrow_mut().insert(key, value);
    drop(old);
    Ok(())
}

fn dict(cx: &Context<'_>, args: &[Value]) -> Answer {
    let mut made = BTreeMap::new();
    for pair in args.chunks(2) {
        cx.reserve(PIECE)?;
        made.insert(key(cx, any(pair, 0))?, pair.get(1).cloned().unwrap_or_else(|| Value::text("")));
    }
    Ok(cx.dict(made))
}

/// Merges dictionaries into the first, which changes.
fn merge(cx: &Context<'_>, args: &[Value], overwrite: bool) -> Answer {
    let into = map(args, 0)?;
    for i in 1..args.len() {
        merge_map(cx, into, map(args, i)?, overwrite, 0)?;
    }
    Ok(any(args, 0).clone())
}

/// As mergo merges maps: values that are there and not empty stay, unless they are overwritten; dictionaries are merged.
fn merge_map(cx: &Context<'_>, into: &Map, from: &Map, overwrite: bool, depth: usize) -> Result<(), Fault> {
    if depth > MAX_DEPTH {
        return Err(format!("a dictionary is nested more than {MAX_DEPTH} deep, or holds itself"));
    }
    let _room = cx.room(from)?;
    for (key, new) in cx.snapshot(from)? {
        cx.step(1)?;
        let old = into.get(key.bytes());
        let filled = old.as_ref().is_some_and(Value::is_true);
        match (&new, &old) {
            (Value::Nil, _) => {
                if overwrite {
                    put(cx, into, key, new)?;
                }
                continue;
            }
            (Value::Map(new), Some(Value::Map(old))) => {
                if !std::rc::Rc::ptr_eq(&new.entries, &old.entries) {
                    merge_map(cx, &to_write(cx, into, &key, old)?, new, overwrite, depth + 1)?;
                }
                if filled || old.len() > 0 {
                    continue;
                }
            }
            _ => {}
        }
        if !filled || overwrite {
            put(cx, into, key, new)?;
        }
    }
    Ok(())
}

/// The map at a key, to be written to. The values that all templates of an object share are copied before.
fn to_write(cx: &Context<'_>, into: &Map, key: &Str, map: &Map) -> Result<Map, Fault> {
    if map.nil || map.entries.1.is_some() {
        return Ok(map.clone());
    }
    cx.reserve(map.len().saturating_mul(PIECE))?;
    let own = cx.map(map.of, cx.snapshot(map)?.into_iter().collect());
    put(cx, into, key.clone(), Value::Map(own.clone()))?;
    Ok(own)
}

/// Goes down through dictionaries; a default where a key is missing.
fn dig(_: &Context<'_>, args: &[Value]) -> Answer {
    let [keys @ .., default, start] = args else { return Err("dig needs at least three arguments".into()) };
    if keys.is_empty() {
        return Err("dig needs at least three arguments".into());
    }
    let mut at = start.clone();
    let mut names = Vec::new();
    for key in keys {
        match key {
            Value::Str(name) => names.push(name.bytes()),
            other => return Err(format!("a key must be a string, not {}", other.type_name())),
        }
    }
    for name in names {
        let found = match &at {
            Value::Map(map) if map.of == crate::render::template::value::Elem::Any => map.get(name),
            other => return Err(format!("can go into dictionaries only, not into {}", other.type_name())),
        };
        match found {
            Some(value) => at = value,
            None => return Ok(default.clone()),
        }
    }
    Ok(at)
}

fn deep_copy(cx: &Context<'_>, args: &[Value]) -> Answer {
    match any(args, 0) {
        Value::Nil => Err("cannot copy nil".into()),
        value => copy(cx, value, 0),
    }
}

/// A copy that shares nothing.
fn copy(cx: &Context<'_>, value: &Value, depth: usize) -> Answer {
    cx.step(1)?;
    // as of values read from JSON
    cx.reserve(96)?;
    if depth > MAX_DEPTH {
        return Err(format!("a value is nested more than {MAX_DEPTH} deep, or holds itself"));
    }
    Ok(match value {
        Value::List(List { of, items: Some(items) }) => {
            let copies: Result<Vec<Value>, Fault> = items.0.iter().map(|item| copy(cx, item, depth + 1)).collect();
            Value::List(List::new(*of, copies?))
        }
        Value::Map(map) => {
            let _room = cx.room(map)?;
            let copies: Result<BTreeMap<Str, Value>, Fault> =
                cx.snapshot(map)?.into_iter().map(|(key, item)| Ok((key, copy(cx, &item, depth + 1)?))).collect();
            Value::Map(cx.map(map.of, copies?))
        }
        other => other.clone(),
    })
}
