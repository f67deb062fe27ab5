//! YAML as `sigs.k8s.io/yaml` reads and writes it: YAML 1.1 by way of JSON.
//!
//! The parser takes YAML 1.2, which differs in little but the types of plain scalars; those are resolved here as go-yaml v2 does, with
//! `yes` for true and `010` for eight.

pub(crate) mod emit;
mod read;
mod resolve;
mod text;

use std::collections::BTreeMap;

pub(crate) use read::is_content;
pub use read::{Size, parse, parse_counted};
pub(crate) use resolve::{Scalar, resolve, timestamp};
pub use text::{YamlError, keys_and_values, of_json, to_json};

/// A value read from YAML. Keys are text, as in JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Yaml {
    /// Nothing.
    Null,
    /// Truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above all of those.
    Uint(u64),
    /// A number; finite, but where text is read for which JSON is only the way.
    Float(f64),
    /// Text, or bytes of `!!binary`.
    Text(Vec<u8>),
    /// A list.
    List(Vec<Yaml>),
    /// A map.
    Map(BTreeMap<Vec<u8>, Yaml>),
}

/// A text that is no YAML, or none that JSON can hold. Never shows the text, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct NotYaml {
    /// Line, from one.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// Most levels of lists and maps.
pub(crate) const MAX_DEPTH: usize = 100;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(text: &str) -> BTreeMap<Vec<u8>, Yaml> {
        match parse(text.as_bytes()).unwrap() {
            Yaml::Map(map) => map,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn types_of_yaml_1_1() {
        let read = map(
            "a: yes\nb: 010\nc: '5'\nd: 1.50\ne: ~\nf: 2001-01-01\ny: off\n1: x\n1.5: z\ng: !!str 5\nh: 0b11\ni: 1_000\nj: !!binary aGk=",
        );
        let get = |key: &str| read[key.as_bytes()].clone();
        let text = |text: &str| Yaml::Text(text.into());
        assert_eq!([get("a"), get("b"), get("c"), get("d")], [Yaml::Bool(true), Yaml::Int(8), text("5"), Yaml::Float(1.5)]);
        assert_eq!(
            [get("e"), get("f"), get("true"), get("1"), get("1.5")],
            [Yaml::Null, text("2001-01-01"), Yaml::Bool(false), text("x"), text("z")]
        );
        assert_eq!([get("g"), get("h"), get("i"), get("j")], [text("5"), Yaml::Int(3), Yaml::Int(1000), text("hi")]);
    }

    #[test]
    fn anchors_and_merges() {
        let read = map("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\ne: *x");
        let Yaml::Map(d) = &read[&b"d"[..]] else { unreachable!() };
        assert_eq!((d[&b"b"[..]].clone(), d[&b"c"[..]].clone()), (Yaml::Int(1), Yaml::Int(3)));
        assert_eq!(read[&b"a"[..]], read[&b"e"[..]]);
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        for text in ["a: .nan", "~: x", "[a]: b", "a: *none", "a: [", "a: !!int x", "a: \u{1}", "a: !!binary '!'"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"a: \xff").is_err());
        let bomb = format!(
            "a: &a [x,x,x,x,x,x,x,x]\n{}",
            (b'b'..b'p')
                .map(|c| {
                    let (this, before) = (char::from(c), char::from(c - 1));
                    format!("{this}: &{this} [{}]\n", vec![format!("*{before}"); 8].join(","))
                })
                .collect::<String>()
        );
        assert_eq!(parse(bomb.as_bytes()).unwrap_err().reason, "aliases make it too large");
        assert!(parse("[".repeat(5000).as_bytes()).is_err());
    }
}
