//! JSON as Go's `encoding/json` reads and writes it, on bytes of secrets.
//!
//! serde_json differs where it shows in a Secret: it refuses lone surrogates and bytes that are not UTF-8 (Go replaces them),
//! keeps whole numbers beyond 2^53 (Go's `any` does not), and escapes no `<`. Its errors quote what they could not read.

pub mod exact;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::number;
use crate::secret_bytes::SecretBytes;

/// How deep values may be nested: serde_json's limit.
const DEPTH: usize = 128;

/// A JSON value as Go's `any` holds it. No `Debug`: it is a secret.
#[derive(Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(f64),
    /// A string; zeroed when it is dropped.
    String(Zeroizing<String>),
    /// An array.
    Array(Vec<Json>),
    /// An object; of several members of one name the last one.
    Object(BTreeMap<String, Json>),
}

/// Whether the bytes are one JSON value and nothing else.
#[must_use]
pub fn is_valid(json: &[u8]) -> bool {
    let mut open = Vec::new();
    let mut reader = Reader { json, i: 0 };
    loop {
        // A value is due.
        match reader.token() {
            Some(Token::Open(b'[')) => {
                open.push(b']');
                if !reader.take(b']') {
                    continue;
                }
                open.pop();
            }
            Some(Token::Open(_)) => {
                open.push(b'}');
                if !reader.take(b'}') {
                    if reader.key().is_none() {
                        return false;
                    }
                    continue;
                }
                open.pop();
            }
            Some(Token::String(_) | Token::Number(_) | Token::Word(_)) => {}
            None => return false,
        }
        // What closes, or a comma, is due.
        loop {
            let Some(close) = open.last() else { return reader.at_end() };
            if reader.take(*close) {
                open.pop();
            } else if reader.take(b',') && (*close == b']' || reader.key().is_some()) {
                break;
            } else {
                return false;
            }
        }
    }
}

/// The members of a JSON object, in their order, each value as the text that it is. A bare `null` has none.
#[must_use]
pub fn members(json: &[u8]) -> Option<Vec<(String, &[u8])>> {
    if !is_valid(json) {
        return None;
    }
    let mut out = Vec::new();
    let mut reader = Reader { json, i: 0 };
    if reader.take(b'n') {
        return Some(out);
    }
    if !reader.take(b'{') {
        return None;
    }
    while !reader.take(b'}') {
        reader.take(b',');
        let key = unquote(reader.key()?);
        out.push((String::from_utf8_lossy(&key).into_owned(), reader.skip()?));
    }
    Some(out)
}

/// A value of [`members`] as bytes of a Secret: strings unquoted, `null` empty, anything else as it stands.
#[must_use]
pub fn unquoted(raw: &[u8]) -> SecretBytes {
    match raw.first() {
        Some(b'"') => SecretBytes::new(unquote(raw)),
        Some(b'n') => SecretBytes::default(),
        _ => SecretBytes::new(raw.to_vec()),
    }
}

/// Reads a value. None: it is not JSON, has a number that does not fit a double, or is nested too deep.
#[must_use]
pub fn parse(json: &[u8]) -> Option<Json> {
    let mut reader = Reader { json, i: 0 };
    let value = reader.value(DEPTH)?;
    reader.at_end().then_some(value)
}

/// Writes a value compactly, keys sorted. `escape_html`: `<`, `>` and `&` as `\u003c`, `\u003e`, `\u0026`, Go's default.
#[must_use]
pub fn compact(value: &Json, escape_html: bool) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, value, escape_html);
    out
}

/// A JSON object of text values, keys sorted, nothing escaped for HTML: how the Kubernetes provider hands out a whole Secret.
/// Bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn object_of_text(entries: &BTreeMap<String, SecretBytes>) -> SecretBytes {
    let longest = entries.iter().map(|(key, value)| longest_string(key.as_bytes()) + longest_string(value.expose()) + 2);
    // a vector that grows leaves copies behind
    let mut out = Vec::with_capacity(longest.sum::<usize>() + 2);
    out.push(b'{');
    for (key, value) in entries {
        if out.len() > 1 {
            out.push(b',');
        }
        append_string(&mut out, key.as_bytes(), false);
        out.push(b':');
        append_string(&mut out, value.expose(), false);
    }
    out.push(b'}');
    SecretBytes::new(out)
}

/// A text as a JSON string.
#[must_use]
pub fn string(text: &[u8]) -> SecretBytes {
    let mut out = Vec::with_capacity(longest_string(text));
    append_string(&mut out, text, false);
    SecretBytes::new(out)
}

/// Most bytes of a text as a JSON string: each of its own may become `\u` and four digits.
fn longest_string(text: &[u8]) -> usize {
    6 * text.len() + 2
}

/// A value as bytes of a Secret, as ESO's `GetByteValue` has it: strings as they are, numbers as decimals without exponent,
/// `null` empty, objects and arrays as compact JSON escaped for HTML.
#[must_use]
pub fn byte_value(value: &Json) -> SecretBytes {
    match value {
        Json::Null => SecretBytes::default(),
        Json::String(text) => SecretBytes::from(text.as_str()),
        Json::Number(n) => SecretBytes::from(number::decimal(*n)),
        Json::Bool(_) | Json::Array(_) | Json::Object(_) => SecretBytes::new(compact(value, true)),
    }
}

fn append(out: &mut Vec<u8>, value: &Json, escape_html: bool) {
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Number(n) => out.extend_from_slice(number::json(*n).as_bytes()),
        Json::String(text) => append_string(out, text.as_bytes(), escape_html),
        Json::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                append(out, item, escape_html);
            }
            out.push(b']');
        }
        Json::Object(entries) => {
            out.push(b'{');
            for (i, (key, item)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                append_string(out, key.as_bytes(), escape_html);
                out.push(b':');
                append(out, item, escape_html);
            }
            out.push(b'}');
        }
    }
}

/// Appends text as a JSON string, as Go writes one; each byte that is not UTF-8 becomes `\ufffd`.
pub fn append_string(out: &mut Vec<u8>, text: &[u8], escape_html: bool) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let short = match c {
                '"' | '\\' => c,
                '\u{8}' => 'b',
                '\u{c}' => 'f',
                '\n' => 'n',
                '\r' => 'r',
                '\t' => 't',
                '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                    out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
                    continue;
                }
                '<' | '>' | '&' if escape_html => {
                    out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
                    continue;
                }
                _ => {
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            out.extend([b'\\', short as u8]);
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// The text of a JSON string. A lone surrogate and each byte that is not UTF-8 become U+FFFD, as in Go. What is no string is empty.
#[must_use]
pub fn unquote(raw: &[u8]) -> Vec<u8> {
    let [b'"', content @ .., b'"'] = raw else { return Vec::new() };
    let mut units: Vec<u16> = Vec::new();
    let mut out = String::with_capacity(content.len());
    let mut i = 0;
    while let Some(byte) = content.get(i) {
        if *byte != b'\\' {
            flush(&mut out, &mut units);
            let end = content[i..].iter().position(|b| *b == b'\\').map_or(content.len(), |n| i + n);
            push_lossy(&mut out, &content[i..end]);
            i = end;
            continue;
        }
        let escaped = content.get(i + 1).copied().unwrap_or(b'\\');
        if escaped == b'u' {
            let digits = content.get(i + 2..i + 6).and_then(|digits| std::str::from_utf8(digits).ok());
            units.push(digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or(0xFFFD));
            i += 6;
            continue;
        }
        flush(&mut out, &mut units);
        out.push(match escaped {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            other => char::from(other),
        });
        i += 2;
    }
    flush(&mut out, &mut units);
    out.into_bytes()
}

/// Ends a run of `\u` escapes.
fn flush(out: &mut String, units: &mut Vec<u16>) {
    out.extend(char::decode_utf16(units.drain(..)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
}

fn push_lossy(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

/// A token that begins a value.
enum Token<'j> {
    /// `{` or `[`.
    Open(u8),
    /// A string, with its quotes.
    String(&'j [u8]),
    /// A number.
    Number(&'j [u8]),
    /// `true`, `false` or `null`.
    Word(&'j [u8]),
}

/// Reads JSON strictly.
struct Reader<'j> {
    json: &'j [u8],
    i: usize,
}

impl<'j> Reader<'j> {
    fn peek(&mut self) -> Option<u8> {
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
        self.i += self.json.get(self.i..)?.iter().take_while(|b| blank(b)).count();
        self.json.get(self.i).copied()
    }

    /// Takes a byte if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.i += usize::from(is_next);
        is_next
    }

    fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    fn token(&mut self) -> Option<Token<'j>> {
        let byte = self.peek()?;
        let rest = &self.json[self.i..];
        let (length, token): (usize, fn(&'j [u8]) -> Token<'j>) = match byte {
            b'{' | b'[' => {
                self.i += 1;
                return Some(Token::Open(byte));
            }
            b'"' => (string_length(rest)?, Token::String),
            b'-' | b'0'..=b'9' => (number_length(rest)?, Token::Number),
            _ => ([&b"true"[..], b"false", b"null"].iter().find(|word| rest.starts_with(word))?.len(), Token::Word),
        };
        self.i += length;
        Some(token(&rest[..length]))
    }

    /// A key, with its quotes, and the colon after it.
    fn key(&mut self) -> Option<&'j [u8]> {
        match (self.token()?, self.take(b':')) {
            (Token::String(key), true) => Some(key),
            _ => None,
        }
    }

    /// Skips a value of a text that is known to be valid: its text.
    fn skip(&mut self) -> Option<&'j [u8]> {
        self.peek()?;
        let start = self.i;
        let mut depth = 0;
        loop {
            match self.peek()? {
                b'}' | b']' => {
                    self.i += 1;
                    depth -= 1;
                }
                b',' | b':' => self.i += 1,
                _ => depth += i32::from(matches!(self.token()?, Token::Open(_))),
            }
            if depth == 0 {
                return Some(&self.json[start..self.i]);
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        Some(match self.token()? {
            Token::String(raw) => Json::String(Zeroizing::new(text(raw))),
            Token::Number(raw) => Json::Number(Some(number::parse(raw)).filter(|n| n.is_finite())?),
            Token::Word(b"null") => Json::Null,
            Token::Word(word) => Json::Bool(word == b"true"),
            Token::Open(open) => {
                let depth = depth.checked_sub(1)?;
                if open == b'[' { Json::Array(self.items(depth)?) } else { Json::Object(self.entries(depth)?) }
            }
        })
    }

    fn items(&mut self, depth: usize) -> Option<Vec<Json>> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Some(items);
        }
        loop {
            items.push(self.value(depth)?);
            if !self.take(b',') {
                return self.take(b']').then_some(items);
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Option<BTreeMap<String, Json>> {
        let mut entries = BTreeMap::new();
        if self.take(b'}') {
            return Some(entries);
        }
        loop {
            let key = text(self.key()?);
            entries.insert(key, self.value(depth)?);
            if !self.take(b',') {
                return self.take(b'}').then_some(entries);
            }
        }
    }
}

fn text(raw: &[u8]) -> String {
    String::from_utf8_lossy(&unquote(raw)).into_owned()
}

/// Length of the string at the start, with its quotes.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut i = 1;
    loop {
        match text.get(i)? {
            b'"' => return Some(i + 1),
            b'\\' => match text.get(i + 1)? {
                b'u' if text.get(i + 2..i + 6)?.iter().all(u8::is_ascii_hexdigit) => i += 6,
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => i += 2,
                _ => return None,
            },
            0..=0x1f => return None,
            _ => i += 1,
        }
    }
}

/// Length of the number at the start.
fn number_length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text.get(from..).map_or(0, |rest| rest.iter().take_while(|b| b.is_ascii_digit()).count());
    let mut i = usize::from(text.first() == Some(&b'-'));
    i += match (text.get(i)?, digits(i)) {
        (b'0', _) => 1,
        (_, 0) => return None,
        (_, n) => n,
    };
    if text.get(i) == Some(&b'.') {
        i += 1 + Some(digits(i + 1)).filter(|n| *n > 0)?;
    }
    if matches!(text.get(i), Some(b'e' | b'E')) {
        i += 1 + usize::from(matches!(text.get(i + 1), Some(b'+' | b'-')));
        i += Some(digits(i)).filter(|n| *n > 0)?;
    }
    Some(i)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_json() {
        for good in
            ["{}", " [1, -2.5e+3 ,\"a\\u00e9\"] ", "null", "\"\"", "{\"a\":{\"b\":[[],{}]},\"c\":0}", "0", "-0.0", "1E5"]
        {
            assert!(is_valid(good.as_bytes()), "{good}");
            assert!(parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "{",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "nul",
            "\"\\x\"",
            "\"\u{1}\"",
            "1 2",
            "[1}",
            "{\"a\":1,}",
            "\"\\u12g4\"",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(is_valid(&[b'['].repeat(100_000).into_iter().chain([b']'].repeat(100_000)).collect::<Vec<_>>()));
        assert!(parse("[".repeat(200).as_bytes()).is_none());
        assert!(parse(b"1e999").is_none(), "Go: does not fit a float64");
    }

    #[test]
    fn members_keep_their_text() {
        let json = br#" {"a" : "x", "n":1.50 , "o": { "b" : [1, "]"] } ,"a":null} "#;
        let members = members(json).unwrap();
        let view: Vec<(&str, &[u8])> = members.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(view, [("a", &b"\"x\""[..]), ("n", b"1.50"), ("o", br#"{ "b" : [1, "]"] }"#), ("a", b"null")]);
        assert!(super::members(b"[1]").is_none());
        assert_eq!(super::members(b"null").unwrap().len(), 0);
    }

    #[test]
    fn unquotes_like_go() {
        let table: [(&[u8], &str); 6] = [
            (br#""a\u00e9\ud834\udd1e\n\/""#, "aé𝄞\n/"),
            (br#""\ud834x""#, "\u{fffd}x"),
            (br#""\ud834\u0041""#, "\u{fffd}A"),
            (br#""\udd1e\ud834""#, "\u{fffd}\u{fffd}"),
            (b"\"\xff\xfe\"", "\u{fffd}\u{fffd}"),
            (br#""""#, ""),
        ];
        for (raw, want) in table {
            assert_eq!(unquote(raw), want.as_bytes());
        }
    }

    #[test]
    fn writes_like_go() {
        let value = parse(br#"{"b":1.50,"a":[true,null,"<&>\u2028\b\u0001"],"c":1e21,"d":12345678901234567890}"#).unwrap();
        let html = r#"{"a":[true,null,"\u003c\u0026\u003e\u2028\b\u0001"],"b":1.5,"c":1e+21,"d":12345678901234567000}"#;
        assert_eq!(String::from_utf8(compact(&value, true)).unwrap(), html);
        let plain = html.replace("\\u003c", "<").replace("\\u0026", "&").replace("\\u003e", ">");
        assert_eq!(String::from_utf8(compact(&value, false)).unwrap(), plain);
    }

    #[test]
    fn byte_values_are_those_of_eso() {
        let table = [
            ("\"text\"", "text"),
            ("null", ""),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("12345678901234567890", "12345678901234567000"),
            ("false", "false"),
            ("{\"b\": 1,\"a\":\"<\"}", r#"{"a":"\u003c","b":1}"#),
            ("[1, 2]", "[1,2]"),
        ];
        for (json, want) in table {
            assert_eq!(byte_value(&parse(json.as_bytes()).unwrap()).expose_str(), Some(want), "{json}");
        }
    }

    #[test]
    fn whole_secrets() {
        let entries = BTreeMap::from([
            ("b".to_owned(), SecretBytes::from("<\"")),
            ("a".to_owned(), SecretBytes::new(vec![0xff, b'x'])),
        ]);
        assert_eq!(object_of_text(&entries).expose_str(), Some("{\"a\":\"\\ufffdx\",\"b\":\"<\\\"\"}"));
    }
}
