//! Strings of Go: bytes that are mostly UTF-8. A byte that is not counts as one U+FFFD of width one.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// What stands for bytes that are no character.
pub(crate) const ERROR: char = '\u{fffd}';

/// The first character and its width; no bytes have width zero.
pub(crate) fn decode(text: &[u8]) -> (char, usize) {
    let Some(&first) = text.first() else { return (ERROR, 0) };
    let width = match first {
        0..=0x7f => return (char::from(first), 1),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (ERROR, 1),
    };
    let head = text.get(..width).and_then(|head| std::str::from_utf8(head).ok());
    head.and_then(|head| head.chars().next()).map_or((ERROR, 1), |c| (c, width))
}

/// The last character and its width.
pub(crate) fn decode_last(text: &[u8]) -> (char, usize) {
    for width in 1..=text.len().min(4) {
        let tail = &text[text.len() - width..];
        let (c, used) = decode(tail);
        if used == width && (c != ERROR || width == 3) {
            return (c, width);
        }
    }
    (ERROR, usize::from(!text.is_empty()))
}

/// Characters with their offsets and widths.
pub(crate) struct Runes<'t> {
    text: &'t [u8],
    at: usize,
}

/// Goes through the characters.
pub(crate) fn runes(text: &[u8]) -> Runes<'_> {
    Runes { text, at: 0 }
}

impl Iterator for Runes<'_> {
    type Item = (usize, char, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let (c, width) = decode(&self.text[self.at..]);
        let at = self.at;
        self.at += width;
        (width > 0).then_some((at, c, width))
    }
}

/// How many characters there are.
pub(crate) fn count(text: &[u8]) -> usize {
    runes(text).count()
}

/// Appends a character.
pub(crate) fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Each character replaced; what is no character becomes U+FFFD.
pub(crate) fn map(text: &[u8], mut change: impl FnMut(char) -> char) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    runes(text).for_each(|(_, c, _)| push(&mut out, change(c)));
    out
}

/// Where a part begins.
pub(crate) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

/// Simple upper case: one character for one.
pub(crate) fn upper(c: char) -> char {
    match u32::from(c) {
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => offset(c, 8),
        0x1fb3 | 0x1fc3 | 0x1ff3 => offset(c, 9),
        _ => single(c, c.to_uppercase()),
    }
}

/// Simple lower case.
pub(crate) fn lower(c: char) -> char {
    if c == '\u{130}' { 'i' } else { single(c, c.to_lowercase()) }
}

/// Simple title case: upper case, but for digraphs, which have a form of their own, and Georgian, which has none.
pub(crate) fn title(c: char) -> char {
    match u32::from(c) {
        0x1c4..=0x1c6 => '\u{1c5}',
        0x1c7..=0x1c9 => '\u{1c8}',
        0x1ca..=0x1cc => '\u{1cb}',
        0x1f1..=0x1f3 => '\u{1f2}',
        0x10d0..=0x10ff => c,
        _ => upper(c),
    }
}

fn offset(c: char, by: u32) -> char {
    char::from_u32(u32::from(c) + by).unwrap_or(c)
}

/// The result if it is one character: longer ones are no simple mapping.
fn single(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// A set of characters, given as a class of a regular expression.
struct Set {
    class: &'static str,
    ranges: OnceLock<Vec<(char, char)>>,
}

impl Set {
    const fn new(class: &'static str) -> Self {
        Self { class, ranges: OnceLock::new() }
    }

    fn contains(&self, c: char) -> bool {
        let ranges =
            self.ranges.get_or_init(|| match regex_syntax::parse(self.class).map(regex_syntax::hir::Hir::into_kind) {
                Ok(HirKind::Class(Class::Unicode(class))) => class.iter().map(|r| (r.start(), r.end())).collect(),
                _ => Vec::new(),
            });
        let after = ranges.partition_point(|(start, _)| *start <= c);
        after > 0 && c <= ranges[after - 1].1
    }
}

/// `unicode.IsLetter`.
pub(crate) fn is_letter(c: char) -> bool {
    static SET: Set = Set::new(r"\p{L}");
    if c.is_ascii() { c.is_ascii_alphabetic() } else { SET.contains(c) }
}

/// `unicode.IsDigit`.
pub(crate) fn is_digit(c: char) -> bool {
    static SET: Set = Set::new(r"\p{Nd}");
    if c.is_ascii() { c.is_ascii_digit() } else { SET.contains(c) }
}

/// `unicode.IsNumber`.
pub(crate) fn is_number(c: char) -> bool {
    static SET: Set = Set::new(r"\p{N}");
    SET.contains(c)
}

/// `unicode.IsUpper`.
pub(crate) fn is_upper(c: char) -> bool {
    static SET: Set = Set::new(r"\p{Lu}");
    SET.contains(c)
}

/// `unicode.IsLower`.
pub(crate) fn is_lower(c: char) -> bool {
    static SET: Set = Set::new(r"\p{Ll}");
    SET.contains(c)
}

/// `unicode.IsTitle`.
pub(crate) fn is_title(c: char) -> bool {
    static SET: Set = Set::new(r"\p{Lt}");
    SET.contains(c)
}

/// `unicode.IsPunct`.
pub(crate) fn is_punct(c: char) -> bool {
    static SET: Set = Set::new(r"\p{P}");
    SET.contains(c)
}

/// `unicode.IsSpace`.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}'
        | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// `unicode.IsPrint`: the only space is the ASCII one.
pub(crate) fn is_print(c: char) -> bool {
    static SET: Set = Set::new(r"[\p{L}\p{M}\p{N}\p{P}\p{S}]");
    matches!(c, ' '..='~') || (!c.is_ascii() && SET.contains(c))
}

/// Without white space at both ends.
pub(crate) fn trim_space(text: &[u8]) -> &[u8] {
    trim(text, is_space)
}

/// Without such characters at both ends.
pub(crate) fn trim(text: &[u8], cut: impl Fn(char) -> bool) -> &[u8] {
    let start = runes(text).find(|(_, c, _)| !cut(*c)).map_or(text.len(), |(at, _, _)| at);
    let mut rest = &text[start..];
    while !rest.is_empty() {
        let (c, width) = decode_last(rest);
        if !cut(c) {
            break;
        }
        rest = &rest[..rest.len() - width];
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_characters() {
        assert_eq!(decode(b"\xff\x41"), (ERROR, 1));
        assert_eq!(decode(b"\xe2\x82"), (ERROR, 1));
        assert_eq!(decode("é".as_bytes()), ('é', 2));
        assert_eq!(decode_last("a\u{fffd}".as_bytes()), (ERROR, 3));
        assert_eq!(decode_last(b"a\xff"), (ERROR, 1));
        assert_eq!(count(b"a\xff\xc3\xa9"), 3);
        assert_eq!(map(b"a\xff", |c| c), "a\u{fffd}".as_bytes());
        assert_eq!(trim_space("\u{a0} a b\n".as_bytes()), b"a b");
    }

    #[test]
    fn one_character_for_one() {
        assert_eq!([upper('ß'), upper('ǆ'), lower('İ'), title('ǆ'), title('a'), upper('ᾳ')], ['ß', 'Ǆ', 'i', 'ǅ', 'A', 'ᾼ']);
        assert!(is_letter('é') && !is_letter('\u{345}') && is_digit('٣') && !is_digit('²') && is_number('²'));
        assert!(!is_print('\u{a0}') && !is_print('\u{ad}') && is_print('☃') && is_punct('-') && !is_punct('$'));
    }
}
