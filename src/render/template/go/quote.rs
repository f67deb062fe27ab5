//! `strconv.Quote` and its opposite.

use super::runes::{self, ERROR};

/// A string literal of Go. With `ascii`, all other characters are escaped.
pub(crate) fn quote(text: &[u8], ascii: bool) -> Vec<u8> {
    let mut out = vec![b'"'];
    for (at, c, width) in runes::runes(text) {
        if c == ERROR && width == 1 {
            out.extend(format!("\\x{:02x}", text[at]).bytes());
        } else {
            escape(&mut out, c, '"', ascii);
        }
    }
    out.push(b'"');
    out
}

/// A character literal of Go.
pub(crate) fn quote_rune(c: char, ascii: bool) -> Vec<u8> {
    let mut out = vec![b'\''];
    escape(&mut out, c, '\'', ascii);
    out.push(b'\'');
    out
}

fn escape(out: &mut Vec<u8>, c: char, quote: char, ascii: bool) {
    let short = match c {
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{b}' => "\\v",
        '\\' => "\\\\",
        _ => "",
    };
    let code = u32::from(c);
    if c == quote {
        out.push(b'\\');
        runes::push(out, c);
    } else if !short.is_empty() {
        out.extend(short.bytes());
    } else if if ascii { matches!(c, ' '..='~') } else { runes::is_print(c) } {
        runes::push(out, c);
    } else if code < 0x20 || code == 0x7f {
        out.extend(format!("\\x{code:02x}").bytes());
    } else if code < 0x10000 {
        out.extend(format!("\\u{code:04x}").bytes());
    } else {
        out.extend(format!("\\U{code:08x}").bytes());
    }
}

/// What a string literal stands for, with its quotes: `"…"` or `` `…` ``.
pub(crate) fn unquote(literal: &[u8]) -> Option<Vec<u8>> {
    match literal {
        [b'`', inner @ .., b'`'] => {
            (!inner.contains(&b'`')).then(|| inner.iter().copied().filter(|b| *b != b'\r').collect())
        }
        [b'"', inner @ .., b'"'] => {
            let mut out = Vec::with_capacity(inner.len());
            let mut rest = inner;
            while !rest.is_empty() {
                if matches!(rest[0], b'"' | b'\n') {
                    return None;
                }
                let (unit, after) = unescape(rest, b'"')?;
                match unit {
                    Unit::Byte(byte) => out.push(byte),
                    Unit::Rune(c) => runes::push(&mut out, c),
                    Unit::Raw(bytes) => out.extend_from_slice(bytes),
                }
                rest = after;
            }
            Some(out)
        }
        _ => None,
    }
}

/// The number of a character literal, with its quotes.
pub(crate) fn unquote_rune(literal: &[u8]) -> Option<i64> {
    let inner = literal.strip_prefix(b"'")?;
    if inner.first().is_none_or(|b| *b == b'\'') {
        return None;
    }
    let (unit, rest) = unescape(inner, b'\'')?;
    let number = match unit {
        Unit::Byte(byte) => i64::from(byte),
        Unit::Rune(c) => i64::from(u32::from(c)),
        Unit::Raw(bytes) => i64::from(u32::from(runes::decode(bytes).0)),
    };
    (rest == b"'").then_some(number)
}

/// One piece of a literal.
enum Unit<'t> {
    /// From `\x41` or `\101`.
    Byte(u8),
    /// From another escape.
    Rune(char),
    /// As it is written.
    Raw(&'t [u8]),
}

fn unescape(text: &[u8], quote: u8) -> Option<(Unit<'_>, &[u8])> {
    if text[0] != b'\\' {
        let (_, width) = runes::decode(text);
        return Some((Unit::Raw(&text[..width]), &text[width..]));
    }
    let kind = *text.get(1)?;
    let rest = &text[2..];
    let simple = |c| Some((Unit::Rune(c), rest));
    let digits = |count: usize, radix: u32, text: &[u8]| {
        let digits = text.get(..count)?;
        digits.iter().try_fold(0u32, |sum, digit| Some(sum * radix + char::from(*digit).to_digit(radix)?))
    };
    match kind {
        b'a' => simple('\u{7}'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'v' => simple('\u{b}'),
        b'\\' => simple('\\'),
        b'\'' | b'"' if kind == quote => simple(char::from(kind)),
        b'x' => Some((Unit::Byte(u8::try_from(digits(2, 16, rest)?).ok()?), &rest[2..])),
        b'u' => Some((Unit::Rune(char::from_u32(digits(4, 16, rest)?)?), &rest[4..])),
        b'U' => Some((Unit::Rune(char::from_u32(digits(8, 16, rest)?)?), &rest[8..])),
        b'0'..=b'7' => Some((Unit::Byte(u8::try_from(digits(3, 8, &text[1..])?).ok()?), &rest[2..])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(quote(b"a\"\\\n\x00\xff\xc3\xa9", false), "\"a\\\"\\\\\\n\\x00\\xffé\"".as_bytes());
        assert_eq!(quote("é😀\u{ad}".as_bytes(), true), br#""\u00e9\U0001f600\u00ad""#);
        assert_eq!(quote_rune('\'', false), br"'\''");
        assert_eq!(unquote(br#""a\x41\101\u00e9\"""#), Some("aAAé\"".into()));
        assert_eq!(unquote(b"`a\\n\r`"), Some(b"a\\n".to_vec()));
        for bad in [&br#""\q""#[..], br#""\x4""#, br#""\ud800""#, b"\"", b"", br#""\'""#, br#""\400""#] {
            assert_eq!(unquote(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(
            [unquote_rune(b"'x'"), unquote_rune(br"'\n'"), unquote_rune(b"'ab'"), unquote_rune(b"''")],
            [Some(120), Some(10), None, None]
        );
    }
}
