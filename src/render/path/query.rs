//! Array queries: `#(name=="x")`, `#(age>30)#`, `#(tags.#(=="a"))`.

use super::limits::{Limits, Step};
use super::scan::{closing_quote, trim, unescape};
use super::value::{Kind, Value, parse_bool};
use crate::render::number;

/// What follows the operator, or nothing for a query that only asks whether there is something.
pub(super) struct Query<'p> {
    /// Path inside the element; empty: the element itself.
    pub(super) path: &'p [u8],
    op: &'p [u8],
    operand: Vec<u8>,
    /// Whether all elements that match are wanted (`#(…)#`).
    pub(super) all: bool,
}

impl<'p> Query<'p> {
    /// The query at the start of a path, and where it ends. None: it does not end.
    pub(super) fn parse(path: &'p [u8]) -> Option<(Self, usize)> {
        let (end, operator) = bounds(path)?;
        let (inner, op, operand) = match operator {
            Some(at) => {
                let (op, operand) = split_operator(trim(&path[at..end]));
                (&path[2..at], op, trim(operand))
            }
            None => (&path[2..end], &b""[..], &b""[..]),
        };
        let operand = match operand {
            [b'"', content @ .., b'"'] => unescape(content).into_owned(),
            other => other.to_vec(),
        };
        let all = path.get(end + 1) == Some(&b'#');
        Some((Self { path: trim(inner), op, operand, all }, end + 1))
    }

    /// A query that could not be parsed: gjson then takes any element that has an empty key.
    pub(super) fn broken() -> Self {
        Self { path: b"", op: b"", operand: Vec::new(), all: false }
    }

    /// Whether a value, already picked out of the element, matches.
    pub(super) fn matches(&self, value: &Value<'_>, limits: &mut Limits) -> Step<bool> {
        let Some(word) = self.operand.strip_prefix(b"~") else {
            return if value.exists() { self.compare(value, &self.operand, limits) } else { Ok(false) };
        };
        let truth = match word {
            b"*" => value.exists(),
            b"null" => value.kind == Kind::Null,
            b"true" => value.is_on(),
            b"false" => is_falsy(value),
            _ => return Ok(false),
        };
        let kind = if truth { Kind::True } else { Kind::False };
        self.compare(&Value::new(kind, &b""[..]), b"true", limits)
    }

    fn compare(&self, value: &Value<'_>, operand: &[u8], limits: &mut Limits) -> Step<bool> {
        if self.op.is_empty() {
            return Ok(true);
        }
        Ok(match value.kind {
            Kind::String => match self.op {
                b"%" => glob(&value.text(), operand, limits)?,
                b"!%" => !glob(&value.text(), operand, limits)?,
                _ => ordered(self.op, value.text().as_ref(), operand),
            },
            Kind::Number => ordered(self.op, &value.number(), &number::parse(operand)),
            Kind::True => match self.op {
                b"=" => operand == b"true",
                b"!=" => operand != b"true",
                b">" => operand == b"false",
                b">=" => true,
                _ => false,
            },
            Kind::False => match self.op {
                b"=" => operand == b"false",
                b"!=" => operand != b"false",
                b"<" => operand == b"true",
                b"<=" => true,
                _ => false,
            },
            Kind::Null | Kind::Json => false,
        })
    }
}

/// Index of the bracket that closes the query, and of the operator in it.
fn bounds(path: &[u8]) -> Option<(usize, Option<usize>)> {
    let mut operator = None;
    let mut depth = 1;
    let mut i = 2;
    while let Some(byte) = path.get(i) {
        match byte {
            b'!' | b'=' | b'<' | b'>' | b'%' if depth == 1 && operator.is_none() => operator = Some(i),
            b'\\' => i += 1,
            b'[' | b'(' => depth += 1,
            b']' | b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some((i, operator));
                }
            }
            b'"' => i = closing_quote(path, i + 1)?,
            _ => {}
        }
        i += 1;
    }
    None
}

/// The operator at the start of a text that begins with a sign, and what follows it.
fn split_operator(text: &[u8]) -> (&[u8], &[u8]) {
    let length = match text {
        [_] => 1,
        [b'!', b'=' | b'%', ..] | [b'<' | b'>', b'=', ..] => 2,
        [b'=', b'=', ..] => return (&text[1..2], &text[2..]),
        [b'<' | b'>' | b'=' | b'%', ..] => 1,
        _ => 0,
    };
    text.split_at(length)
}

fn ordered<T: PartialOrd + ?Sized>(op: &[u8], left: &T, right: &T) -> bool {
    match op {
        b"=" => left == right,
        b"!=" => left != right,
        b"<" => left < right,
        b"<=" => left <= right,
        b">" => left > right,
        b">=" => left >= right,
        _ => false,
    }
}

fn is_falsy(value: &Value<'_>) -> bool {
    match value.kind {
        Kind::Null | Kind::False => true,
        Kind::Number => value.number() == 0.0,
        Kind::String => parse_bool(&value.text()) == Some(false),
        Kind::True | Kind::Json => false,
    }
}

/// One piece of a wildcard pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// `*`.
    Any,
    /// `?`.
    One,
    /// Any other character, or an escaped one.
    Char(char),
    /// A backslash at the very end: matches nothing.
    Never,
}

/// Whether a text matches a pattern of `*`, `?` and `\` escapes, character by character. Never exponential: after a mismatch
/// only the last `*` gives way.
pub(super) fn glob(text: &[u8], pattern: &[u8], limits: &mut Limits) -> Step<bool> {
    let characters = size_of::<char>() * (text.len() + 2 * pattern.len());
    limits.passing(|limits| limits.hold(characters).and_then(|()| fits(text, pattern, limits)))
}

fn fits(text: &[u8], pattern: &[u8], limits: &mut Limits) -> Step<bool> {
    limits.spend(text.len() + pattern.len())?;
    let text = chars(text);
    let pattern = pieces(&chars(pattern));
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let fits = match pattern.get(p) {
            Some(Piece::Any) => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(Piece::One) => true,
            Some(Piece::Char(c)) => *c == text[t],
            Some(Piece::Never) | None => false,
        };
        if fits {
            (t, p) = (t + 1, p + 1);
            continue;
        }
        let Some((at, from)) = star else { return Ok(false) };
        limits.spend(t - from + 1)?;
        star = Some((at, from + 1));
        (t, p) = (from + 1, at + 1);
    }
    Ok(pattern[p..].iter().all(|piece| *piece == Piece::Any))
}

fn pieces(pattern: &[char]) -> Vec<Piece> {
    let mut out = Vec::with_capacity(pattern.len());
    let mut rest = pattern.iter();
    while let Some(c) = rest.next() {
        out.push(match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => match rest.next() {
                Some(escaped) => Piece::Char(*escaped),
                // The original compares the end first once there is a star, and then takes this one as it stands.
                None if out.contains(&Piece::Any) => Piece::Char('\\'),
                None => Piece::Never,
            },
            other => Piece::Char(*other),
        });
    }
    out
}

/// Characters as Go sees them: each byte that is not UTF-8 is a U+FFFD of its own.
fn chars(text: &[u8]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend(chunk.valid().chars());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}
