//! ESO's functions for YAML.

use std::collections::BTreeMap;

use super::Type::{Any, Str as Text};
use super::json::{self, Problem};
use super::{Function, any, fixed, layout, text};
use crate::render::template::context::{Answer, Context, Fault};
use crate::render::template::go::{float, runes};
use crate::render::template::value::{List, Map, Str, Value, Whole};
use crate::render::yaml::emit::Emitter;
use crate::render::yaml::{self, Yaml};

pub(crate) const FUNCTIONS: &[Function] = &[fixed("toYaml", &[Any], to_yaml), fixed("fromYaml", &[Text], from_yaml)];

/// YAML by way of JSON, as ESO makes it; what JSON cannot hold, or go-yaml does not read back, is no text.
fn to_yaml(cx: &Context<'_>, args: &[Value]) -> Answer {
    let readable = |c: char| !matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}');
    match json::compact(cx, any(args, 0)) {
        Ok(json) if std::str::from_utf8(&json).is_ok_and(|text| text.chars().all(readable)) => {
            let mut emitter = Emitter::new();
            emit(cx, &mut emitter, any(args, 0), false)?;
            let mut out = emitter.finish();
            if out.last() == Some(&b'\n') {
                out.pop();
            }
            Ok(Value::bytes(out))
        }
        Ok(_) | Err(Problem::NotJson) => Ok(Value::text("")),
        Err(Problem::Fault(fault)) => Err(fault),
    }
}

/// Lists and maps go deeper; their depth was checked when JSON was made of them.
fn emit(cx: &Context<'_>, emitter: &mut Emitter, value: &Value, in_map: bool) -> Result<(), Fault> {
    cx.step(1)?;
    if emitter.out.len() > cx.limits.value {
        cx.reserve(emitter.out.len())?;
    }
    match value {
        Value::Nil | Value::List(List { items: None, .. }) | Value::Map(Map { nil: true, .. }) => emitter.plain("null"),
        Value::List(list) if list.items().is_empty() => emitter.empty("[]"),
        Value::List(list) => {
            let outer = emitter.begin_list(in_map);
            for item in list.items() {
                emitter.item();
                emit(cx, emitter, item, false)?;
            }
            emitter.end(outer);
        }
        Value::Map(map) if map.len() == 0 => emitter.empty("{}"),
        Value::Map(map) => {
            let outer = emitter.begin_map();
            let _room = cx.room(map)?;
            let mut entries = map.snapshot();
            entries.sort_by(|(a, _), (b, _)| natural(a.bytes(), b.bytes()));
            for (key, item) in entries {
                let key = folded(key.bytes());
                cx.reserve(emitter.most_padding(&key))?;
                emitter.key(&key);
                emit(cx, emitter, &item, true)?;
            }
            emitter.end(outer);
        }
        Value::Certificate(pair) => {
            let outer = emitter.begin_map();
            for (key, part) in [("Cert", &pair.cert), ("Key", &pair.key)] {
                emitter.key(key);
                emitter.text(&folded(part.bytes()));
            }
            emitter.end(outer);
        }
        Value::Str(text) => {
            let text = folded(text.bytes());
            cx.reserve(emitter.most_padding(&text))?;
            emitter.text(&text);
        }
        Value::Bool(truth) => emitter.plain(&truth.to_string()),
        Value::Whole(Whole::Uint64, number) => emitter.plain(&number.cast_unsigned().to_string()),
        Value::Whole(_, number) => emitter.plain(&number.to_string()),
        Value::Float(number) => emitter.plain(&number_text(*number)),
        Value::Version(version) => emitter.text(&version.to_string()),
        Value::Time(time) => emitter.text(&folded(&layout::format(time, b"2006-01-02T15:04:05.999999999Z07:00"))),
        Value::Complex(..) => {}
    }
    Ok(())
}

/// A line break of Unicode that JSON leaves raw, and that go-yaml folds when it reads that.
fn folded(text: &[u8]) -> String {
    let text = runes::runes(text).map(|(_, c, _)| c).collect::<String>();
    if !text.contains('\u{85}') {
        return text;
    }
    let lines: Vec<&str> = text.split('\u{85}').collect();
    let last = lines.len() - 1;
    let mut out = String::new();
    let mut pending = 0;
    for (i, line) in lines.into_iter().enumerate() {
        let trimmed = if i > 0 { line.trim_start_matches([' ', '\t']) } else { line };
        let trimmed = if i < last { trimmed.trim_end_matches([' ', '\t']) } else { trimmed };
        if i > 0 && (!trimmed.is_empty() || i == last) {
            out.push_str(&if pending == 1 { " ".to_owned() } else { "\n".repeat(pending - 1) });
            pending = 0;
        }
        out.push_str(trimmed);
        pending += 1;
    }
    out
}

/// A number: whole ones as far as 64 bits reach, as JSON writes them.
fn number_text(number: f64) -> String {
    let json = crate::render::number::json(number);
    if json.parse::<i64>().is_ok() || json.parse::<u64>().is_ok() {
        return if json == "-0" { "0".to_owned() } else { json };
    }
    float::shortest(number)
}

/// How go-yaml sorts keys: numbers in them by their values, letters after all else.
fn natural(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let chars = |text: &[u8]| runes::runes(text).map(|(_, c, _)| c).collect::<Vec<char>>();
    let (a, b) = (chars(a), chars(b));
    for i in 0..a.len().min(b.len()) {
        if a[i] == b[i] {
            continue;
        }
        let (a_letter, b_letter) = (runes::is_letter(a[i]), runes::is_letter(b[i]));
        if a_letter != b_letter {
            return a_letter.cmp(&b_letter);
        }
        if a_letter {
            return a[i].cmp(&b[i]);
        }
        let after_digit =
            (a[i] == '0' || b[i] == '0') && a[..i].iter().rev().take_while(|c| runes::is_digit(**c)).any(|c| *c != '0');
        let number = |text: &[char]| {
            let digits = text[i..].iter().take_while(|c| runes::is_digit(**c));
            digits.fold((i64::from(after_digit), 0), |(sum, count), c| {
                (sum.wrapping_mul(10).wrapping_add(i64::from(u32::from(*c)) - 48), count + 1)
            })
        };
        let ((a_number, a_digits), (b_number, b_digits)) = (number(&a), number(&b));
        return a_number.cmp(&b_number).then(a_digits.cmp(&b_digits)).then(a[i].cmp(&b[i]));
    }
    a.len().cmp(&b.len())
}

/// A map; where the text is none, one with the key `Error`.
fn from_yaml(cx: &Context<'_>, args: &[Value]) -> Answer {
    cx.reserve(text(args, 0).len())?;
    let (parsed, size) = yaml::parse_counted(text(args, 0));
    cx.step(size.values + size.bytes / 64)?;
    let problem = match parsed {
        Ok(Yaml::Map(map)) => return Ok(Value::Map(dict(cx, map)?)),
        Ok(Yaml::Null) => return Ok(cx.dict(BTreeMap::new())),
        Ok(_) => "the YAML is not a map".to_owned(),
        Err(error) => format!("the text is not YAML: {error}"),
    };
    Ok(cx.dict(BTreeMap::from([("Error".into(), Value::text(&problem))])))
}

fn dict(cx: &Context<'_>, map: BTreeMap<Vec<u8>, Yaml>) -> Result<Map, Fault> {
    let entry = |(key, item): (Vec<u8>, Yaml)| -> Result<(Str, Value), Fault> {
        cx.reserve(key.len())?;
        Ok((Str::new(key), value(cx, item)?))
    };
    let entries: Result<BTreeMap<Str, Value>, Fault> = map.into_iter().map(entry).collect();
    Ok(cx.map(crate::render::template::value::Elem::Any, entries?))
}

/// As JSON has it: all numbers are `float64`.
#[allow(clippy::cast_precision_loss)]
fn value(cx: &Context<'_>, yaml: Yaml) -> Answer {
    // as of values read from JSON; aliases make much of a short text
    cx.reserve(96)?;
    Ok(match yaml {
        Yaml::Null => Value::Nil,
        Yaml::Bool(truth) => Value::Bool(truth),
        Yaml::Int(number) => Value::Float(number as f64),
        Yaml::Uint(number) => Value::Float(number as f64),
        Yaml::Float(number) => Value::Float(number),
        Yaml::Text(text) => {
            cx.reserve(text.len())?;
            Value::bytes(runes::map(&text, |c| c))
        }
        Yaml::List(items) => {
            let items: Result<Vec<Value>, Fault> = items.into_iter().map(|item| value(cx, item)).collect();
            Value::List(List::new(crate::render::template::value::Elem::Any, items?))
        }
        Yaml::Map(map) => Value::Map(dict(cx, map)?),
    })
}
