//! The `@pretty` and `@ugly` modifiers.

use std::cmp::Ordering;

use super::limits::{Limits, PART, Step};
use super::scan::{closing_quote, trim};
use super::value::{self, Kind, Value, members};
use crate::render::{json, number};

/// How a text is laid out.
struct Layout {
    /// Columns that an array may fill on one line; zero: none is put on one line; minus one: without spaces, too.
    width: i64,
    prefix: Vec<u8>,
    indent: Vec<u8>,
    sort_keys: bool,
}

impl Layout {
    fn parse(arg: &[u8]) -> Self {
        let mut layout = Self { width: 80, prefix: Vec::new(), indent: b"  ".to_vec(), sort_keys: false };
        let options = value::parse(arg);
        for (key, value) in members(&options) {
            match key.as_ref().map(Value::text).as_deref() {
                Some(b"sortKeys") => layout.sort_keys = value.is_on(),
                Some(b"indent") => layout.indent = blanks(&value),
                Some(b"prefix") => layout.prefix = blanks(&value),
                Some(b"width") => layout.width = integer(&value),
                _ => {}
            }
        }
        layout
    }
}

/// The white space in a value: only that may be put between the lines.
fn blanks(value: &Value<'_>) -> Vec<u8> {
    value.to_string_bytes().iter().copied().filter(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).collect()
}

/// A value as a whole number.
#[allow(clippy::cast_possible_truncation)] // a width beyond 2^63 is as good as 2^63
fn integer(value: &Value<'_>) -> i64 {
    match value.kind {
        Kind::True => 1,
        Kind::Number => value.number() as i64,
        Kind::String => std::str::from_utf8(&value.text()).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
        _ => 0,
    }
}

/// The text without the white space between its tokens.
pub(super) fn ugly(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut i = 0;
    while let Some(byte) = json.get(i) {
        if *byte == b'"' {
            let end = closing_quote(json, i + 1).map_or(json.len(), |quote| quote + 1);
            out.extend_from_slice(&json[i..end]);
            i = end;
        } else {
            if *byte > b' ' {
                out.push(*byte);
            }
            i += 1;
        }
    }
    out
}

/// The text with a line for each member.
pub(super) fn pretty(json: &[u8], arg: &[u8], limits: &mut Limits) -> Step<Vec<u8>> {
    let layout = Layout::parse(arg);
    limits.hold(json.len())?;
    let mut printer = Printer { json, layout, out: Vec::with_capacity(json.len()), line: 0, limits };
    printer.out.extend_from_slice(&printer.layout.prefix.clone());
    printer.any(0, Mode::Lines, 0)?;
    if !printer.out.is_empty() {
        printer.out.push(b'\n');
    }
    Ok(printer.out)
}

/// Whether a value goes onto lines of its own, or is being tried on one line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Lines,
    OneLine,
}

struct Printer<'a> {
    json: &'a [u8],
    layout: Layout,
    out: Vec<u8>,
    /// Where the current line starts in `out`.
    line: usize,
    limits: &'a mut Limits,
}

/// A member, as where its key is in the input and its line in the output.
struct Member {
    key: (usize, usize),
    line: (usize, usize),
}

impl Printer<'_> {
    /// Prints the next value: the index after it, and whether it may be on one line.
    fn any(&mut self, mut i: usize, mode: Mode, depth: usize) -> Step<(usize, bool)> {
        while let Some(byte) = self.json.get(i) {
            let word: &[u8] = match byte {
                b'"' => return Ok((self.copy(i, closing_quote(self.json, i + 1).map_or(self.json.len(), |q| q + 1)), true)),
                b'0'..=b'9' | b'-' | b'i' | b'I' | b'+' | b'N' => return Ok((self.number(i), true)),
                b'n' if self.json.get(i + 1).is_some_and(|next| *next != b'u') => return Ok((self.number(i), true)),
                b'{' | b'[' => return self.block(i, mode, depth),
                b't' => b"true",
                b'f' => b"false",
                b'n' => b"null",
                _ => {
                    i += 1;
                    continue;
                }
            };
            self.out.extend_from_slice(word);
            return Ok((i + word.len(), true));
        }
        Ok((i, true))
    }

    fn copy(&mut self, from: usize, to: usize) -> usize {
        self.out.extend_from_slice(&self.json[from..to]);
        to
    }

    fn number(&mut self, i: usize) -> usize {
        let ends = |b: &u8| *b <= b' ' || matches!(b, b',' | b':' | b']' | b'}');
        let end = self.json[i + 1..].iter().position(ends).map_or(self.json.len(), |n| i + 1 + n);
        self.copy(i, end)
    }

    /// Prints an object or array; an array goes onto one line if that is short and has no object in it.
    fn block(&mut self, i: usize, mode: Mode, depth: usize) -> Step<(usize, bool)> {
        let is_array = self.json[i] == b'[';
        if self.layout.width > 0 {
            if mode == Mode::OneLine && !is_array {
                return Ok((i, false));
            }
            let start = self.out.len();
            let room = self.layout.width.saturating_sub_unsigned((start - self.line) as u64);
            if mode == Mode::Lines && is_array && room > 3 {
                let (end, fits) = self.members(i, Mode::OneLine, depth)?;
                self.limits.spend(end - i)?;
                if fits && (self.out.len() - start) as u64 <= room.unsigned_abs() {
                    return Ok((end, true));
                }
                self.out.truncate(start);
            }
        }
        self.members(i, mode, depth)
    }

    fn members(&mut self, i: usize, mode: Mode, depth: usize) -> Step<(usize, bool)> {
        self.limits.deeper()?;
        let printed = self.members_at(i, mode, depth);
        self.limits.back();
        printed
    }

    fn members_at(&mut self, mut i: usize, mode: Mode, depth: usize) -> Step<(usize, bool)> {
        let open = self.json[i];
        let is_array = open == b'[';
        let close = if is_array { b']' } else { b'}' };
        let sorting = self.layout.sort_keys && !is_array && mode == Mode::Lines;
        let mut sorted: Vec<Member> = Vec::new();
        let mut count = 0;
        self.out.push(open);
        i += 1;
        while let Some(&byte) = self.json.get(i) {
            if byte == close {
                if mode == Mode::Lines {
                    self.sort(&mut sorted)?;
                    if count > 0 {
                        self.new_line();
                        self.tabs(depth)?;
                    }
                }
                self.out.push(close);
                return Ok((i + 1, is_array));
            }
            if byte <= b' ' || !(is_array || byte == b'"') {
                i += 1;
                continue;
            }
            if count > 0 {
                self.out.push(b',');
                if is_array && self.layout.width != -1 {
                    self.out.push(b' ');
                }
            }
            let mut member = Member { key: (i, i), line: (0, 0) };
            if mode == Mode::Lines {
                self.new_line();
                member.line.0 = self.out.len();
                self.tabs(depth + 1)?;
            }
            if !is_array {
                i = self.copy(i, closing_quote(self.json, i + 1).map_or(self.json.len(), |q| q + 1));
                member.key.1 = i;
                self.out.push(b':');
                if mode == Mode::Lines {
                    self.out.push(b' ');
                }
            }
            let (end, fits) = self.any(i, mode, depth + 1)?;
            if mode == Mode::OneLine && !fits {
                return Ok((end, false));
            }
            i = end;
            if sorting {
                member.line.1 = self.out.len();
                sorted.push(member);
            }
            count += 1;
        }
        Ok((i, is_array))
    }

    /// Starts a new line, in place of a space that would end the old one.
    fn new_line(&mut self) {
        self.line = self.out.len();
        match self.out.last_mut() {
            Some(last) if *last == b' ' => *last = b'\n',
            _ => self.out.push(b'\n'),
        }
    }

    /// The white space may be long, and each line has it.
    fn tabs(&mut self, depth: usize) -> Step<()> {
        let blanks = self.layout.prefix.len() + depth * self.layout.indent.len();
        self.limits.spend(blanks)?;
        // with the line's break, comma and space
        self.limits.hold(blanks + 3)?;
        self.out.extend_from_slice(&self.layout.prefix);
        for _ in 0..depth {
            self.out.extend_from_slice(&self.layout.indent);
        }
        Ok(())
    }

    /// Puts the lines of an object's members in the order of their keys, then of their values.
    fn sort(&mut self, members: &mut [Member]) -> Step<()> {
        let (Some(first), Some(last)) = (members.first(), members.last()) else { return Ok(()) };
        let (start, end) = (first.line.0, last.line.1);
        self.limits.spend(end - start)?;
        let copies = 3 * (end - start) + 2 * PART * members.len();
        self.limits.passing(|limits| limits.hold(copies))?;
        let rank = |member: &Member| {
            let key = &self.json[member.key.0..member.key.1];
            let line = trim(&self.out[member.line.0..member.line.1]);
            (Rank::new(key), Rank::new(line.get(key.len() + 1..).map_or(line, trim)))
        };
        members.sort_by_cached_key(rank);
        let lines: Vec<&[u8]> = members.iter().map(|member| &self.out[member.line.0..member.line.1]).collect();
        let joined = lines.join(&b",\n"[..]);
        self.out.truncate(end);
        self.out.splice(start.., joined);
        Ok(())
    }
}

/// Where a JSON text comes in the order of gjson: `null`, `false`, numbers, strings, `true`, then anything else.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Null(Vec<u8>),
    False(Vec<u8>),
    Number(Ordered),
    String(Vec<u8>),
    True(Vec<u8>),
    Block(Vec<u8>),
}

impl Rank {
    fn new(text: &[u8]) -> Self {
        match text.first() {
            None | Some(b'n') => Self::Null(text.to_vec()),
            Some(b'f') => Self::False(text.to_vec()),
            Some(b'"') => Self::String(json::unquote(text)),
            Some(b't') => Self::True(text.to_vec()),
            Some(b'[' | b'{') => Self::Block(text.to_vec()),
            Some(_) => Self::Number(Ordered(number::parse(text))),
        }
    }
}

/// A number with a total order, so that sorting cannot go wrong.
struct Ordered(f64);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}
