//! Follows a path through a JSON text.

use std::borrow::Cow;

use super::limits::{Limits, Step};
use super::query::{self, Query};
use super::value::{self, Kind, Start, Value};
use super::{modifiers, multipath, scan};

/// What is at a path.
pub(super) fn get<'j>(json: &'j [u8], path: &[u8], limits: &mut Limits) -> Step<Value<'j>> {
    limits.spend(json.len() + path.len() + 1)?;
    limits.nested(|limits| {
        let mut path = path;
        match path {
            [b'@', _, ..] => {
                if let Some((made, rest)) = modifiers::run(json, path, limits)? {
                    return go_on(made, rest, limits);
                }
            }
            [b'!', _, ..] => {
                if let Some((made, rest)) = literal(path) {
                    return go_on(Cow::Owned(made.to_vec()), rest, limits);
                }
            }
            [b'[' | b'{', _, ..] => match multipath::selectors(path) {
                Some((selectors, rest)) if matches!(rest.first(), None | Some(b'|' | b'.')) => {
                    let made = Value::new(Kind::Json, multipath::collect(json, path[0], &selectors, limits)?);
                    return if rest.is_empty() { Ok(made) } else { get_in(made.raw, &rest[1..], limits) };
                }
                // What is left is then a path of its own.
                Some((_, rest)) => path = rest,
                None => path = b"",
            },
            _ => {}
        }
        let mut walk = Walk { json, found: Value::default(), pipe: None, limits };
        walk.run(path)?;
        match walk.pipe {
            Some(pipe) => get_in(walk.found.raw, pipe, walk.limits),
            None => Ok(walk.found),
        }
    })
}

/// What is at a path of a text that may not outlive this call.
pub(super) fn get_in<'j>(json: Cow<'j, [u8]>, path: &[u8], limits: &mut Limits) -> Step<Value<'j>> {
    match json {
        Cow::Borrowed(json) => get(json, path, limits),
        Cow::Owned(json) => Ok(get(&json, path, limits)?.into_owned()),
    }
}

/// Goes on with what a modifier or literal made.
fn go_on<'j>(made: Cow<'j, [u8]>, rest: &[u8], limits: &mut Limits) -> Step<Value<'j>> {
    limits.spend(made.len())?;
    match (rest, limits.made(made)?) {
        ([b'|' | b'.', path @ ..], made) => get_in(made, path, limits),
        (_, Cow::Borrowed(made)) => Ok(value::parse(made)),
        (_, Cow::Owned(made)) => Ok(value::parse(&made).into_owned()),
    }
}

/// The literal of `!"text"`, `!5` or `!true`, and what follows it.
fn literal(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = &path[1..];
    if matches!(text.first(), Some(b'{' | b'[' | b'"' | b'+' | b'-' | b'0'..=b'9')) {
        // Also a number or string counts as a block here, so it ends only where a bracket closes, or never.
        return Some(text.split_at(scan::block_end(text, 0).min(text.len())));
    }
    let end = text.iter().position(|b| matches!(b, b'|' | b'.')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let known = [&b"true"[..], b"false", b"null", b"nan", b"inf"].iter().any(|word| name.eq_ignore_ascii_case(word));
    known.then_some((name, rest))
}

/// What follows a component of a path.
#[derive(Clone, Copy)]
enum Rest<'p> {
    /// Nothing.
    End,
    /// A path inside the value.
    More(&'p [u8]),
    /// A path on the result.
    Pipe(&'p [u8]),
}

impl<'p> Rest<'p> {
    /// What follows a dot: a modifier or multipath is applied to the result, like after a pipe.
    fn after_dot(path: &'p [u8]) -> Self {
        match path {
            [b'[' | b'{', ..] => Self::Pipe(path),
            [b'@', name @ ..] => {
                let end = name.iter().position(|b| matches!(b, b'.' | b'|' | b':')).unwrap_or(name.len());
                if modifiers::is_known(&name[..end]) { Self::Pipe(path) } else { Self::More(path) }
            }
            _ => Self::More(path),
        }
    }

    fn is_more(self) -> bool {
        matches!(self, Self::More(_))
    }
}

/// A component of a path that names a key.
struct KeyPart<'p> {
    key: Cow<'p, [u8]>,
    wild: bool,
    rest: Rest<'p>,
}

impl<'p> KeyPart<'p> {
    fn parse(path: &'p [u8]) -> Self {
        let mut unescaped: Option<Vec<u8>> = None;
        let mut wild = false;
        let mut rest = Rest::End;
        let mut i = 0;
        while let Some(&byte) = path.get(i) {
            match byte {
                b'|' => rest = Rest::Pipe(&path[i + 1..]),
                b'.' => rest = Rest::after_dot(&path[i + 1..]),
                b'\\' => {
                    let key = unescaped.get_or_insert_with(|| path[..i].to_vec());
                    key.extend(path.get(i + 1));
                    i += 2;
                    continue;
                }
                _ => {
                    wild |= matches!(byte, b'*' | b'?');
                    if let Some(key) = &mut unescaped {
                        key.push(byte);
                    }
                    i += 1;
                    continue;
                }
            }
            break;
        }
        let key = unescaped.map_or_else(|| Cow::Borrowed(&path[..i.min(path.len())]), Cow::Owned);
        Self { key, wild, rest }
    }

    fn matches(&self, key: &[u8], limits: &mut Limits) -> Step<bool> {
        let key = scan::unescape(key);
        if self.wild { query::glob(&key, &self.key, limits) } else { Ok(self.key == key) }
    }
}

/// What a component means to an array.
enum Select<'p> {
    /// The element of that number; none where it is no number.
    Index(Option<u64>),
    /// `#`: how many there are.
    Count,
    /// `#.path`: the path in each element.
    Each(&'p [u8]),
    /// `#(…)`: the elements that match.
    Query(Query<'p>),
}

impl<'p> Select<'p> {
    fn parse(path: &'p [u8]) -> (Self, Rest<'p>) {
        if let [b'#', b'.', each @ ..] = path {
            return (Self::Each(each), Rest::More(each));
        }
        let mut query = None;
        let mut hash = false;
        let mut i = 0;
        let mut rest = Rest::End;
        while let Some(byte) = path.get(i) {
            match byte {
                b'|' => rest = Rest::Pipe(&path[i + 1..]),
                b'.' if hash => rest = Rest::More(&path[i + 1..]),
                b'.' => rest = Rest::after_dot(&path[i + 1..]),
                b'#' => {
                    hash = true;
                    if i == 0 && matches!(path.get(1), Some(b'[' | b'(')) {
                        let Some((parsed, end)) = Query::parse(path) else {
                            return (Self::Query(Query::broken()), Rest::End);
                        };
                        query = Some(parsed);
                        i = end;
                    } else {
                        i += 1;
                    }
                    continue;
                }
                _ => {
                    i += 1;
                    continue;
                }
            }
            break;
        }
        let part = &path[..i.min(path.len())];
        let select = match query {
            Some(query) => Self::Query(query),
            None if part == b"#" => Self::Count,
            None => Self::Index(index(part)),
        };
        (select, rest)
    }
}

/// A number, wrapping like Go's when it is too large.
fn index(part: &[u8]) -> Option<u64> {
    let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    digits.then(|| part.iter().fold(0u64, |n, digit| n.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))))
}

/// One walk through a text.
struct Walk<'j, 'p, 'l> {
    json: &'j [u8],
    /// What was found; can be there although the walk went on.
    found: Value<'j>,
    /// Path on the result.
    pipe: Option<&'p [u8]>,
    limits: &'l mut Limits,
}

/// Where a walk stands, and whether it is over.
type Stand = (usize, bool);

impl<'p> Walk<'_, 'p, '_> {
    fn run(&mut self, path: &'p [u8]) -> Step<()> {
        if let [b'.', b'.', lines @ ..] = path {
            return self.array(0, lines).map(drop);
        }
        match self.json.iter().position(|b| matches!(b, b'{' | b'[')) {
            Some(i) => self.block(i, path).map(drop),
            None => Ok(()),
        }
    }

    fn set_pipe(&mut self, rest: Rest<'p>) {
        if let Rest::Pipe(path) = rest {
            self.pipe = Some(path);
        }
    }

    fn object(&mut self, mut i: usize, path: &'p [u8]) -> Step<Stand> {
        let json = self.json;
        let part = KeyPart::parse(path);
        self.set_pipe(part.rest);
        while i < json.len() {
            let Some(n) = json[i..].iter().position(|b| matches!(b, b'"' | b'}')) else { return Ok((json.len(), false)) };
            i += n;
            if json[i] == b'}' {
                return Ok((i + 1, false));
            }
            let Some(quote) = scan::closing_quote(json, i + 1) else { return Ok((json.len(), false)) };
            let matched = part.matches(&json[i + 1..quote], self.limits)?;
            i = quote + 1;
            while i < json.len() && matches!(value::start(json, i), Start::Gap) {
                i += 1;
            }
            let over;
            (i, over) = self.member(i, matched, part.rest)?;
            if over {
                return Ok((i, true));
            }
        }
        Ok((i, false))
    }

    /// The value at an index, which is what the path names if `matched`.
    fn member(&mut self, i: usize, matched: bool, rest: Rest<'p>) -> Step<Stand> {
        let json = self.json;
        let (end, value) = match (value::start(json, i), rest) {
            (Start::Gap, _) => return Ok((i, false)),
            (Start::Block, Rest::More(path)) if matched => return self.block(i, path),
            (Start::Block, _) => value::block(json, i),
            (Start::Scalar(kind), _) => match value::scalar(json, i, kind) {
                Some(scalar) => scalar,
                None => return Ok((json.len(), false)),
            },
        };
        let hit = matched && !rest.is_more();
        if hit {
            self.found = value;
        }
        Ok((end, hit))
    }

    /// Goes into the object or array that opens at an index.
    fn block(&mut self, i: usize, path: &'p [u8]) -> Step<Stand> {
        self.limits.deeper()?;
        let stand = if self.json[i] == b'{' { self.object(i + 1, path) } else { self.array(i + 1, path) };
        self.limits.back();
        stand
    }

    fn array(&mut self, i: usize, path: &'p [u8]) -> Step<Stand> {
        let (select, rest) = Select::parse(path);
        self.set_pipe(rest);
        match select {
            Select::Index(index) => self.index(i, index, rest),
            Select::Count => Ok(self.count(i)),
            Select::Each(path) => self.each(i, path),
            Select::Query(query) => self.query(i, &query, rest),
        }
    }

    /// Index of the next element, or where the array closes. The end of the text closes it too.
    fn element(&self, mut i: usize) -> Next {
        while i < self.json.len() && self.json[i] != b']' {
            if !matches!(value::start(self.json, i), Start::Gap) {
                return Next::Element(i);
            }
            i += 1;
        }
        if i <= self.json.len() { Next::Close(i + 1) } else { Next::Lost(i) }
    }

    fn index(&mut self, mut i: usize, index: Option<u64>, rest: Rest<'p>) -> Step<Stand> {
        for n in 0.. {
            match self.element(i) {
                Next::Element(at) => {
                    let over;
                    (i, over) = self.member(at, index == Some(n), rest)?;
                    if over {
                        return Ok((i, true));
                    }
                }
                Next::Close(end) | Next::Lost(end) => return Ok((end, false)),
            }
        }
        Ok((i, false))
    }

    fn count(&mut self, mut i: usize) -> Stand {
        let mut n = 0;
        loop {
            match self.element(i) {
                Next::Element(at) => match value::next(self.json, at) {
                    Some((end, _)) => i = end,
                    None => return (self.json.len(), false),
                },
                Next::Close(end) => {
                    self.found = Value::new(Kind::Number, n.to_string().into_bytes());
                    return (end, true);
                }
                Next::Lost(end) => return (end, false),
            }
            n += 1;
        }
    }

    fn each(&mut self, mut i: usize, path: &'p [u8]) -> Step<Stand> {
        let mut starts = Vec::new();
        let end = loop {
            self.limits.hold(size_of::<usize>())?;
            starts.push(i);
            match self.element(i) {
                Next::Element(at) => match value::next(self.json, at) {
                    Some((end, _)) => i = end,
                    None => return Ok((self.json.len(), false)),
                },
                Next::Close(end) => break end,
                Next::Lost(end) => return Ok((end, false)),
            }
        };
        let path = self.split_pipe(path);
        let mut list = List::default();
        for start in starts {
            let blank = self.json[start..].iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
            if self.json.get(start + blank).is_some_and(|b| *b != b']')
                && let Some((_, element)) = value::next(self.json, start + blank)
            {
                let found = self.limits.passing(|limits| get_in(element.raw, path, limits))?;
                list.push(&found, self.limits)?;
            }
        }
        self.found = list.finish();
        Ok((end, true))
    }

    fn query(&mut self, mut i: usize, query: &Query<'p>, rest: Rest<'p>) -> Step<Stand> {
        let mut list = List::default();
        let mut rest = rest;
        loop {
            let element = match self.element(i) {
                Next::Element(at) => match value::next(self.json, at) {
                    Some((end, element)) => {
                        i = end;
                        element
                    }
                    None => return Ok((self.json.len(), false)),
                },
                Next::Close(end) => {
                    if query.all && !self.found.exists() {
                        self.found = list.finish();
                    }
                    return Ok((end, false));
                }
                Next::Lost(end) => return Ok((end, false)),
            };
            if !self.is_match(&element, query)? {
                continue;
            }
            let result = match rest {
                Rest::More(path) => {
                    let path = self.split_pipe(path);
                    rest = Rest::More(path);
                    self.limits.passing(|limits| get_in(element.raw, path, limits))?
                }
                _ => element,
            };
            if !query.all {
                self.found = Value { raw: self.limits.made(result.raw)?, ..result };
                return Ok((i, true));
            }
            list.push(&result, self.limits)?;
        }
    }

    fn is_match(&mut self, element: &Value<'_>, query: &Query<'_>) -> Step<bool> {
        if element.kind == Kind::Json {
            let inner = self.limits.passing(|limits| get(&element.raw, query.path, limits))?;
            return query.matches(&inner, self.limits);
        }
        if query.path.is_empty() { query.matches(element, self.limits) } else { Ok(false) }
    }

    /// A path inside each element up to its pipe; what follows that is for the whole result.
    fn split_pipe(&mut self, path: &'p [u8]) -> &'p [u8] {
        match pipe_index(path) {
            Some(i) => {
                self.pipe = Some(&path[i + 1..]);
                &path[..i]
            }
            None => path,
        }
    }
}

/// What comes next in an array.
enum Next {
    /// An element, at that index.
    Element(usize),
    /// The end of the array, before that index.
    Close(usize),
    /// Nothing: a string did not end.
    Lost(usize),
}

/// A JSON array in the making.
#[derive(Default)]
struct List(Vec<u8>);

impl List {
    fn push(&mut self, value: &Value<'_>, limits: &mut Limits) -> Step<()> {
        if value.exists() {
            limits.hold(value.raw.len() + 1)?;
            self.0.push(if self.0.is_empty() { b'[' } else { b',' });
            self.0.extend_from_slice(&value.raw);
        }
        Ok(())
    }

    fn finish(mut self) -> Value<'static> {
        if self.0.is_empty() {
            self.0.push(b'[');
        }
        self.0.push(b']');
        Value::new(Kind::Json, self.0)
    }
}

/// Index of the first pipe that is not in a query, escaped, or in a multipath at the start.
fn pipe_index(path: &[u8]) -> Option<usize> {
    if !path.contains(&b'|') {
        return None;
    }
    if let [b'{', inside @ ..] = path {
        let end = scan::squash(inside) + 1;
        return (path.get(end) == Some(&b'|')).then_some(end);
    }
    let mut i = 0;
    while let Some(byte) = path.get(i) {
        match byte {
            b'|' => return Some(i),
            b'\\' => i += 1,
            b'.' if *path.get(i + 1)? == b'#' => {
                // What follows the sign is not looked at: `.#|` is no pipe.
                i += 2;
                if let open @ (b'[' | b'(') = path.get(i)? {
                    i = selector_end(path, i, *open);
                }
            }
            _ => {}
        }
        i += 1;
    }
    None
}

/// Index of the bracket that closes the query that opens at `start`.
fn selector_end(path: &[u8], start: usize, open: u8) -> usize {
    let close = if open == b'[' { b']' } else { b')' };
    let mut depth = 1;
    let mut i = start + 1;
    while let Some(byte) = path.get(i) {
        match *byte {
            b'\\' => i += 1,
            b'"' => i = scan::closing_quote(path, i + 1).unwrap_or(path.len()),
            b if b == open => depth += 1,
            b if b == close => {
                depth -= 1;
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
        i += 1;
    }
    i
}
