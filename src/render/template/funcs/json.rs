//! JSON, as Go's `encoding/json` reads and writes it.

use std::collections::BTreeMap;

use super::Type::{Any, Str as Text};
use super::{Function, any, fixed, text};
use crate::render::json as reader;
use crate::render::number;
use crate::render::template::context::{Answer, Context, Fault};
use crate::render::template::go::print::MAX_DEPTH;
use crate::render::template::value::{List, Str, Value, Whole};

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("fromJson", &[Text], |cx, args| match parse(cx, text(args, 0)) {
        Err(Problem::NotJson) => Ok(Value::Nil),
        Err(Problem::Fault(fault)) => Err(fault),
        Ok(value) => Ok(value),
    }),
    fixed("mustFromJson", &[Text], |cx, args| {
        parse(cx, text(args, 0)).map_err(|problem| match problem {
            Problem::NotJson => "not valid JSON".to_owned(),
            Problem::Fault(fault) => fault,
        })
    }),
    fixed("toJson", &[Any], |cx, args| written(cx, any(args, 0), Style { html: true, pretty: false }, true)),
    fixed("mustToJson", &[Any], |cx, args| written(cx, any(args, 0), Style { html: true, pretty: false }, false)),
    fixed("toPrettyJson", &[Any], |cx, args| written(cx, any(args, 0), Style { html: true, pretty: true }, true)),
    fixed("mustToPrettyJson", &[Any], |cx, args| written(cx, any(args, 0), Style { html: true, pretty: true }, false)),
    fixed("toRawJson", &[Any], |cx, args| written(cx, any(args, 0), Style { html: false, pretty: false }, false)),
    fixed("mustToRawJson", &[Any], |cx, args| written(cx, any(args, 0), Style { html: false, pretty: false }, false)),
];

/// Why there is no value.
pub(crate) enum Problem {
    /// The text is no JSON.
    NotJson,
    /// It is too large or too deep.
    Fault(Fault),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Reads JSON: numbers as `float64`.
pub(crate) fn parse(cx: &Context<'_>, json: &[u8]) -> Result<Value, Problem> {
    cx.reserve(json.len())?;
    if !reader::is_valid(json) {
        return Err(Problem::NotJson);
    }
    let mut reader = Reader { cx, json, at: 0 };
    reader.value(0)
}

/// Reads what is known to be valid.
struct Reader<'c> {
    cx: &'c Context<'c>,
    json: &'c [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self) {
        let rest = &self.json[self.at..];
        self.at += rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':')).count();
    }

    fn peek(&self) -> u8 {
        self.json.get(self.at).copied().unwrap_or(0)
    }

    fn string(&mut self) -> Result<Str, Problem> {
        let start = self.at;
        self.at += 1;
        while self.at < self.json.len() && self.peek() != b'"' {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let raw = self.json.get(start..self.at).unwrap_or_default();
        let text = reader::unquote(raw);
        // what is not UTF-8 becomes longer
        self.cx.reserve(text.len().saturating_sub(raw.len()))?;
        Ok(Str::new(text))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Problem> {
        self.cx.step(1)?;
        self.cx.reserve(96)?;
        if depth > MAX_DEPTH {
            return Err(Problem::Fault(format!("JSON is nested more than {MAX_DEPTH} deep")));
        }
        self.skip();
        match self.peek() {
            b'"' => Ok(Value::Str(self.string()?)),
            b'{' => {
                self.at += 1;
                let mut entries = BTreeMap::new();
                loop {
                    self.skip();
                    if self.peek() != b'"' {
                        break;
                    }
                    let key = self.string()?;
                    let value = self.value(depth + 1)?;
                    entries.insert(key, value);
                }
                self.at += 1;
                Ok(self.cx.dict(entries))
            }
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                loop {
                    self.skip();
                    if matches!(self.peek(), b']' | 0) {
                        break;
                    }
                    items.push(self.value(depth + 1)?);
                }
                self.at += 1;
                Ok(Value::list(items))
            }
            b't' => self.word(4, Value::Bool(true)),
            b'f' => self.word(5, Value::Bool(false)),
            b'n' => self.word(4, Value::Nil),
            _ => {
                let rest = &self.json[self.at..];
                let end = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
                let digits = &rest[..end.unwrap_or(rest.len())];
                self.at += digits.len().max(1);
                let value = number::parse(digits);
                // A number that no float64 holds is an error in Go.
                if value.is_infinite() { Err(Problem::NotJson) } else { Ok(Value::Float(value)) }
            }
        }
    }

    fn word(&mut self, length: usize, value: Value) -> Result<Value, Problem> {
        self.at += length;
        Ok(value)
    }
}

/// How JSON is written.
#[derive(Clone, Copy)]
struct Style {
    /// `<`, `>` and `&` are escaped.
    html: bool,
    pretty: bool,
}

/// JSON, or an error. The lenient functions give no text where Go cannot encode a value.
fn written(cx: &Context<'_>, value: &Value, style: Style, lenient: bool) -> Answer {
    let mut writer = Writer { cx, out: Vec::new(), style };
    match writer.value(value, 0) {
        Ok(()) => Ok(Value::bytes(writer.out)),
        Err(Problem::NotJson) if lenient => Ok(Value::text("")),
        Err(Problem::NotJson) => Err("the value cannot be written as JSON".into()),
        Err(Problem::Fault(fault)) => Err(fault),
    }
}

/// Compact JSON of a value, for what is made from it.
pub(crate) fn compact(cx: &Context<'_>, value: &Value) -> Result<Vec<u8>, Problem> {
    let mut writer = Writer { cx, out: Vec::new(), style: Style { html: true, pretty: false } };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'c> {
    cx: &'c Context<'c>,
    out: Vec<u8>,
    style: Style,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Problem> {
        self.cx.step(1)?;
        if depth > MAX_DEPTH {
            return Err(Problem::Fault(format!("a value is nested more than {MAX_DEPTH} deep, or holds itself")));
        }
        if self.out.len() > self.cx.limits.value {
            self.cx.reserve(self.out.len())?;
        }
        match value {
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::Bool(truth) => self.out.extend_from_slice(truth.to_string().as_bytes()),
            #[allow(clippy::cast_sign_loss)]
            Value::Whole(Whole::Uint64, number) => self.out.extend_from_slice((*number as u64).to_string().as_bytes()),
            Value::Whole(_, number) => self.out.extend_from_slice(number.to_string().as_bytes()),
            Value::Float(number) if number.is_finite() => self.out.extend_from_slice(number::json(*number).as_bytes()),
            Value::Float(_) | Value::Complex(..) => return Err(Problem::NotJson),
            Value::Str(text) => self.string(text.bytes()),
            Value::List(List { items: None, .. }) => self.out.extend_from_slice(b"null"),
            Value::List(list) => {
                self.out.push(b'[');
                for (i, item) in list.items().iter().enumerate() {
                    self.next(i, depth + 1);
                    self.value(item, depth + 1)?;
                }
                self.close(b']', list.items().is_empty(), depth);
            }
            Value::Map(map) if map.nil => self.out.extend_from_slice(b"null"),
            Value::Map(map) => {
                self.out.push(b'{');
                let _room = self.cx.room(map)?;
                let entries = map.snapshot();
                for (i, (key, item)) in entries.iter().enumerate() {
                    self.next(i, depth + 1);
                    self.member(key.bytes(), item, depth)?;
                }
                self.close(b'}', entries.is_empty(), depth);
            }
            Value::Certificate(pair) => {
                self.out.push(b'{');
                for (i, (key, part)) in [("Cert", &pair.cert), ("Key", &pair.key)].into_iter().enumerate() {
                    self.next(i, depth + 1);
                    self.member(key.as_bytes(), &Value::Str(part.clone()), depth)?;
                }
                self.close(b'}', false, depth);
            }
            Value::Version(version) => self.string(version.to_string().as_bytes()),
            Value::Time(time) => {
                let year = time.clock().civil.year();
                if !(0..10_000).contains(&year) {
                    return Err(Problem::NotJson);
                }
                let text = super::layout::format(time, b"2006-01-02T15:04:05.999999999Z07:00");
                self.string(&text);
            }
        }
        Ok(())
    }

    fn member(&mut self, key: &[u8], value: &Value, depth: usize) -> Result<(), Problem> {
        self.string(key);
        self.out.extend_from_slice(if self.style.pretty { b": " } else { b":" });
        self.value(value, depth + 1)
    }

    fn string(&mut self, text: &[u8]) {
        reader::append_string(&mut self.out, text, self.style.html);
    }

    fn next(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push(b',');
        }
        self.line(depth);
    }

    fn close(&mut self, with: u8, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
        self.out.push(with);
    }

    fn line(&mut self, depth: usize) {
        if self.style.pretty {
            self.out.push(b'\n');
            self.out.extend(std::iter::repeat_n(b' ', depth * 2));
        }
    }
}
