//! Where the pieces of a JSON text begin and end. It need not be valid: like gjson, this goes by the bytes that open and close.

use std::borrow::Cow;

/// Index of the quote that ends a string whose content starts at `start`.
pub(super) fn closing_quote(json: &[u8], start: usize) -> Option<usize> {
    let mut i = start;
    while let Some(byte) = json.get(i) {
        match byte {
            b'"' => return Some(i),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    None
}

/// Skips a block that opens at `start`: to after the bracket that closes it. All three kinds of bracket count alike. One
/// more than the length means that a string in it does not end.
pub(super) fn block_end(json: &[u8], start: usize) -> usize {
    let mut depth = 1;
    let mut i = start + 1;
    while let Some(byte) = json.get(i) {
        match byte {
            b'"' => match closing_quote(json, i + 1) {
                Some(quote) => i = quote,
                None => return json.len() + 1,
            },
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
        i += 1;
    }
    i
}

/// Length of the block or string at the start of the text.
pub(super) fn squash(text: &[u8]) -> usize {
    let end = match text.first() {
        Some(b'"') => closing_quote(text, 1).map_or(text.len(), |quote| quote + 1),
        _ => block_end(text, 0),
    };
    end.min(text.len())
}

/// End of a number that starts at `start`: gjson lets anything but a separator belong to it.
pub(super) fn number_end(json: &[u8], start: usize) -> usize {
    end_of(json, start, |byte| byte <= b' ' || matches!(byte, b',' | b']' | b'}'))
}

/// End of a word such as `true` that starts at `start`.
pub(super) fn literal_end(json: &[u8], start: usize) -> usize {
    end_of(json, start, |byte| !byte.is_ascii_lowercase())
}

/// The first byte after `start` that ends what starts there.
fn end_of(json: &[u8], start: usize, ends: impl Fn(u8) -> bool) -> usize {
    let after = start + 1;
    json.get(after..).and_then(|rest| rest.iter().position(|byte| ends(*byte))).map_or(json.len(), |n| after + n)
}

/// The text without the bytes up to space at both ends.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| *b > b' ').unwrap_or(text.len());
    let end = text.iter().rposition(|b| *b > b' ').map_or(start, |last| last + 1);
    &text[start..end]
}

/// The content of a string with its escapes resolved. One that makes no sense ends the text there, as in gjson.
pub(super) fn unescape(content: &[u8]) -> Cow<'_, [u8]> {
    if !content.contains(&b'\\') {
        return Cow::Borrowed(content);
    }
    let mut out = Vec::with_capacity(content.len());
    let mut i = 0;
    while let Some(&byte) = content.get(i) {
        if byte < b' ' {
            break;
        }
        if byte != b'\\' {
            out.push(byte);
            i += 1;
            continue;
        }
        let plain = match content.get(i + 1) {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(c @ (b'\\' | b'/' | b'"')) => *c,
            Some(b'u') => match code_point(content, i) {
                Some((c, used)) => {
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    i += used;
                    continue;
                }
                None => break,
            },
            _ => break,
        };
        out.push(plain);
        i += 2;
    }
    Cow::Owned(out)
}

/// The character that `\uXXXX` at `start` stands for, with the second half of a surrogate pair where one follows, and how
/// many bytes that took. Four bytes that are not hexadecimal count as zero.
fn code_point(content: &[u8], start: usize) -> Option<(char, usize)> {
    let unit = |from: usize| content.get(from..from + 4).map(hex4);
    let first = unit(start + 2)?;
    let is_surrogate = (0xD800..0xE000).contains(&first);
    if is_surrogate
        && content.get(start + 6..start + 8) == Some(b"\\u")
        && let Some(second) = unit(start + 8)
    {
        let pair = char::decode_utf16([first, second]).next().and_then(Result::ok).filter(|c| c.len_utf16() == 2);
        return Some((pair.unwrap_or(char::REPLACEMENT_CHARACTER), 12));
    }
    Some((char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER), 6))
}

/// Four hexadecimal digits, or zero.
fn hex4(digits: &[u8]) -> u16 {
    let value = |byte: &u8| char::from(*byte).to_digit(16);
    digits
        .iter()
        .try_fold(0, |sum, byte| value(byte).map(|digit| sum * 16 + digit))
        .and_then(|n| n.try_into().ok())
        .unwrap_or(0)
}
