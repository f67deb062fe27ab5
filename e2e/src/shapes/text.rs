//! Texts as a schema wants them.

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::Value;

use super::chance::Chance;

/// How much more often than it must a part of a pattern is repeated at most.
const REPEATS: usize = 7;
/// How many texts are tried for one of the right length.
const TRIES: usize = 60;

/// What people write, and what they should not.
const WORDS: &[&str] = &[
    "",
    "a",
    "prod/db",
    "5m",
    "1h30m",
    "-1s",
    "10",
    "true",
    "null",
    "{{ .a }}",
    "{{ .a",
    "{{ end }}",
    "^(.*)-(.*)$",
    "^a(",
    r"\1",
    "$1",
    "a.b.c",
    "data.#(a==1).b",
    "../../etc/passwd",
    "https://example.com/a?b=c",
    "-----BEGIN CERTIFICATE-----",
    "with space",
    "line\nbreak\ttab",
    "ключ é 密 \u{1f511}",
    "\u{0}\u{1}\u{7f}",
    "\u{feff}\u{202e}",
    "9999999999999999999999999",
    "2026-01-02T03:04:05Z",
    "Secret",
    "kubernetes.io/service-account-token",
];

/// A text of a schema of type `string`.
pub fn text(schema: &Value, chance: &mut Chance) -> Option<String> {
    let bound = |name: &str| schema[name].as_u64().and_then(|n| usize::try_from(n).ok());
    let (least, most) = (bound("minLength").unwrap_or(0), bound("maxLength").unwrap_or(usize::MAX));
    let pattern = match schema["pattern"].as_str() {
        Some(pattern) => Some(regex_syntax::parse(pattern).ok()?),
        None => None,
    };
    (0..TRIES).find_map(|_| {
        let text = match (&pattern, schema["format"].as_str()) {
            (Some(pattern), _) => matching(pattern, chance),
            (None, Some("date-time")) => instant(chance),
            (None, Some("byte")) => base64(chance),
            (None, _) => word(chance, least),
        };
        (least..=most).contains(&text.chars().count()).then_some(text)
    })
}

fn word(chance: &mut Chance, least: usize) -> String {
    match chance.below(12) {
        0 => "long-".repeat(least + 1 + chance.below(80)),
        1..4 => format!("w{}", chance.next()),
        _ => chance.one_of(WORDS).copied().unwrap_or_default().to_owned(),
    }
}

/// A key of a map.
pub fn key(chance: &mut Chance) -> String {
    const KEYS: &[&str] = &["a", "b-c", "tls.crt", "example.com/role", "A_b.9", "with space", "ключ", "esoMeta"];
    chance.one_of(KEYS).copied().unwrap_or_default().to_owned()
}

fn instant(chance: &mut Chance) -> String {
    let (month, day, hour) = (1 + chance.below(12), 1 + chance.below(28), chance.below(24));
    format!("{}-{month:02}-{day:02}T{hour:02}:{:02}:{:02}Z", 1970 + chance.below(130), chance.below(60), chance.below(60))
}

fn base64(chance: &mut Chance) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let count = 4 * (1 + chance.below(9));
    (0..count).filter_map(|_| chance.one_of(DIGITS).map(|digit| char::from(*digit))).collect()
}

/// A text that matches an expression that is anchored at both ends.
fn matching(expression: &Hir, chance: &mut Chance) -> String {
    let mut text = String::new();
    write(expression, chance, &mut text);
    text
}

fn write(expression: &Hir, chance: &mut Chance, text: &mut String) {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => text.extend(a_char(class, chance)),
        HirKind::Repetition(repeated) => {
            let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
            let least = count(repeated.min);
            let more = repeated.max.map_or(REPEATS, |most| (count(most) - least).min(REPEATS));
            for _ in 0..least + chance.below(more + 1) {
                write(&repeated.sub, chance, text);
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, chance, text),
        HirKind::Concat(all) => all.iter().for_each(|part| write(part, chance, text)),
        HirKind::Alternation(all) => all.get(chance.below(all.len())).into_iter().for_each(|one| write(one, chance, text)),
    }
}

/// A character of a class: mostly one of ASCII, where it has such.
fn a_char(class: &Class, chance: &mut Chance) -> Option<char> {
    let Class::Unicode(class) = class else { return None };
    let within = |c: &char| class.ranges().iter().any(|range| (range.start()..=range.end()).contains(c));
    let plain: Vec<char> = (' '..='~').filter(within).collect();
    if plain.is_empty() || chance.below(20) == 0 {
        return chance.one_of(class.ranges()).map(|range| range.start());
    }
    chance.one_of(&plain).copied()
}
