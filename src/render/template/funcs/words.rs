//! Letters and words: case, and what sprig takes from other libraries with their oddities, of which some work byte by byte.

use super::Type::Str;
use super::{Function, fixed, text};
use crate::render::template::go::runes::{self, ERROR};
use crate::render::template::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("upper", &[Str], |_, args| Ok(Value::bytes(runes::map(text(args, 0), runes::upper)))),
    fixed("lower", &[Str], |_, args| Ok(Value::bytes(runes::map(text(args, 0), runes::lower)))),
    fixed("title", &[Str], |_, args| Ok(Value::bytes(title(text(args, 0))))),
    fixed("untitle", &[Str], |_, args| Ok(Value::bytes(untitle(text(args, 0))))),
    fixed("swapcase", &[Str], |_, args| Ok(Value::bytes(swap_case(text(args, 0))))),
    fixed("nospace", &[Str], |_, args| Ok(Value::bytes(no_space(text(args, 0))))),
    fixed("initials", &[Str], |_, args| Ok(Value::bytes(initials(text(args, 0))))),
    fixed("snakecase", &[Str], |_, args| Ok(Value::bytes(joined_words(text(args, 0), '_')))),
    fixed("kebabcase", &[Str], |_, args| Ok(Value::bytes(joined_words(text(args, 0), '-')))),
    fixed("camelcase", &[Str], |_, args| Ok(Value::bytes(camel_case(text(args, 0))))),
];

/// The first letter of each word as a title.
fn title(text: &[u8]) -> Vec<u8> {
    let mut before = ' ';
    runes::map(text, |c| {
        let starts = separates(before);
        before = c;
        if starts { runes::title(c) } else { c }
    })
}

fn separates(c: char) -> bool {
    if c.is_ascii() {
        return !(c.is_ascii_alphanumeric() || c == '_');
    }
    !runes::is_letter(c) && !runes::is_digit(c) && runes::is_space(c)
}

fn untitle(text: &[u8]) -> Vec<u8> {
    let mut next = true;
    runes::map(text, |c| {
        if runes::is_space(c) {
            next = true;
            c
        } else if std::mem::take(&mut next) {
            runes::lower(c)
        } else {
            c
        }
    })
}

fn swap_case(text: &[u8]) -> Vec<u8> {
    let mut after_space = true;
    runes::map(text, |c| {
        if runes::is_upper(c) || runes::is_title(c) {
            after_space = false;
            runes::lower(c)
        } else if runes::is_lower(c) {
            if std::mem::take(&mut after_space) { runes::title(c) } else { runes::upper(c) }
        } else {
            after_space = runes::is_space(c);
            c
        }
    })
}

/// Without spaces. If there was one, each byte is taken for a character.
fn no_space(text: &[u8]) -> Vec<u8> {
    let is_space = |byte: &u8| runes::is_space(char::from(*byte));
    if !text.iter().any(is_space) {
        return text.to_vec();
    }
    text.iter().filter(|byte| !is_space(byte)).flat_map(|byte| char::from(*byte).to_string().into_bytes()).collect()
}

/// The first byte of each word, taken for a character.
fn initials(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut gap = true;
    for byte in text {
        let c = char::from(*byte);
        if runes::is_space(c) {
            gap = true;
        } else if std::mem::take(&mut gap) {
            runes::push(&mut out, c);
        }
    }
    out
}

fn connects(c: char) -> bool {
    c == '-' || c == '_' || runes::is_space(c)
}

fn is_alphabet(c: char) -> bool {
    runes::is_letter(c)
}

/// Pascal case: connectors go, the letters behind them become large; words in capitals become small but for the first.
fn camel_case(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chars = runes::runes(text).map(|(_, c, _)| c).peekable();
    let mut current = None;
    let mut capitals = false;
    while let Some(c) = chars.next() {
        if !connects(c) {
            capitals = runes::is_upper(c);
            current = Some(runes::upper(c));
            break;
        }
        if chars.peek().is_none() {
            // Nothing but connectors: the last one is kept twice.
            runes::push(&mut out, c);
            current = Some(c);
            break;
        }
        runes::push(&mut out, c);
    }
    let Some(mut current) = current else { return out };
    for c in chars {
        let before = std::mem::replace(&mut current, c);
        if connects(c) && connects(before) {
            runes::push(&mut out, before);
            continue;
        }
        if connects(before) {
            capitals = runes::is_upper(c);
            current = runes::upper(c);
        } else {
            if capitals {
                if runes::is_upper(c) {
                    current = runes::lower(c);
                } else {
                    capitals = false;
                }
            }
            runes::push(&mut out, before);
        }
    }
    runes::push(&mut out, current);
    out
}

/// Kinds of words, as xstrings tells them apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Invalid,
    Number,
    Upper,
    Alphabet,
    Connector,
    Punct,
    Other,
}

/// The next character that is one; what is none is skipped and counts for its width.
fn next_valid(text: &[u8], otherwise: char) -> (char, usize) {
    let mut size = 0;
    while size < text.len() {
        let (c, width) = runes::decode(&text[size..]);
        size += width;
        if c != ERROR {
            return (c, size);
        }
    }
    (otherwise, size)
}

/// Length of a run of characters, from an offset on.
fn run(text: &[u8], from: usize, before: char, goes_on: impl Fn(char) -> bool) -> usize {
    let mut end = from;
    let mut last = before;
    while end < text.len() {
        let (c, width) = next_valid(&text[end..], last);
        if !goes_on(c) {
            break;
        }
        last = c;
        end += width;
    }
    end
}

/// Splits the first word off.
fn next_word(text: &[u8]) -> (Word, &[u8], &[u8]) {
    let (first, size) = next_valid(text, ERROR);
    let small = |c: char| is_alphabet(c) && !runes::is_upper(c);
    let (kind, end) = if text.is_empty() || first == ERROR {
        (Word::Invalid, size)
    } else if connects(first) {
        (Word::Connector, run(text, size, first, connects))
    } else if runes::is_punct(first) {
        (Word::Punct, run(text, size, first, runes::is_punct))
    } else if runes::is_upper(first) {
        (Word::Upper, capital_word(text, first, size))
    } else if is_alphabet(first) {
        (Word::Alphabet, run(text, size, first, small))
    } else if runes::is_number(first) {
        (Word::Number, run(text, size, first, runes::is_number))
    } else {
        let other = |c: char| !(connects(c) || is_alphabet(c) || runes::is_number(c) || runes::is_punct(c));
        (Word::Other, run(text, size, first, other))
    };
    (kind, &text[..end], &text[end..])
}

/// `HTTPStatus` is `HTTP` and `Status`.
fn capital_word(text: &[u8], first: char, size: usize) -> usize {
    if size == text.len() {
        return size;
    }
    let (second, width) = next_valid(&text[size..], first);
    if !runes::is_upper(second) {
        return if is_alphabet(second) {
            run(text, size + width, second, |c| is_alphabet(c) && !runes::is_upper(c))
        } else {
            size
        };
    }
    let mut end = size + width;
    let (mut last, mut last_width) = (second, width);
    while end < text.len() {
        let (c, width) = next_valid(&text[end..], last);
        last = c;
        if !runes::is_upper(c) {
            break;
        }
        last_width = width;
        end += width;
    }
    if end < text.len() && is_alphabet(last) { end - last_width } else { end }
}

/// Appends a word in small letters, connectors unified.
fn push_word(out: &mut Vec<u8>, kind: Word, word: &[u8], connector: char) {
    if !matches!(kind, Word::Upper | Word::Connector) {
        out.extend_from_slice(word);
        return;
    }
    for (_, c, _) in runes::runes(word) {
        runes::push(
            out,
            if connects(c) {
                connector
            } else if runes::is_upper(c) {
                runes::lower(c)
            } else {
                c
            },
        );
    }
}

/// Words in small letters with connectors between.
fn joined_words(text: &[u8], connector: char) -> Vec<u8> {
    let mut out = Vec::new();
    let separates = |kind: Word| !matches!(kind, Word::Connector | Word::Punct);
    let (mut kind, mut word, mut rest) = next_word(text);
    while !rest.is_empty() {
        if kind != Word::Connector {
            push_word(&mut out, kind, word, connector);
        }
        let (before, last) = (kind, word);
        (kind, word, rest) = next_word(rest);
        match before {
            Word::Number => {
                (kind, word, rest) = letters_and_numbers(&mut out, (kind, word, rest), connector);
                if kind != Word::Invalid && separates(kind) {
                    runes::push(&mut out, connector);
                }
            }
            Word::Connector => push_word(&mut out, before, last, connector),
            Word::Punct => {}
            _ if kind != Word::Number => {
                if separates(kind) {
                    runes::push(&mut out, connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                // A number belongs to the word before it, unless small letters follow.
                let number = word;
                (kind, word, rest) = next_word(rest);
                if kind == Word::Alphabet {
                    runes::push(&mut out, connector);
                    push_word(&mut out, Word::Number, number, connector);
                    (kind, word, rest) = letters_and_numbers(&mut out, (kind, word, rest), connector);
                    if kind != Word::Invalid && separates(kind) {
                        runes::push(&mut out, connector);
                    }
                } else {
                    push_word(&mut out, Word::Number, number, connector);
                    if separates(kind) {
                        runes::push(&mut out, connector);
                    }
                }
            }
        }
    }
    push_word(&mut out, kind, word, connector);
    out
}

type Next<'t> = (Word, &'t [u8], &'t [u8]);

fn letters_and_numbers<'t>(out: &mut Vec<u8>, mut next: Next<'t>, connector: char) -> Next<'t> {
    while matches!(next.0, Word::Alphabet | Word::Number) {
        push_word(out, next.0, next.1, connector);
        next = if next.2.is_empty() { (Word::Invalid, b"", b"") } else { next_word(next.2) };
    }
    next
}
