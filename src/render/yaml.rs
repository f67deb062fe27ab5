//! YAML as ESO reads it: Go's YAML 1.1 scalars (`yes`, `010`, `0b11`, `1_000`), the first document of a stream only, a later
//! one of two equal keys winning.
//!
//! An error never quotes the text, which was rendered from values.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Number, Value};

use super::Entries;
use crate::secret_bytes::SecretBytes;

/// Most nodes of one document, those that aliases repeat counted each time.
const MOST_NODES: usize = 100_000;
/// Deepest nesting.
const DEEPEST: usize = 100;

/// Why a text is not the YAML that it should be. The texts begin with Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("error converting YAML to JSON: yaml: {what} (line {line}, column {column} of the rendered text)")]
    Syntax {
        /// What is wrong.
        what: &'static str,
        /// Where, counted from one.
        line: usize,
        /// Where, counted from one.
        column: usize,
    },
    /// It is YAML that cannot be used.
    #[error("error converting YAML to JSON: {0}")]
    Unusable(&'static str),
    /// It is something else than a map of strings.
    #[error("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type {wanted}")]
    Type {
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

/// A YAML node, its scalars resolved.
#[derive(Clone, PartialEq)]
enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Reads a map of strings. Scalars that are no strings become some in the way of Go: `1.50` becomes `1.5`, `null` nothing.
///
/// # Errors
/// The text is no YAML, or no map, or holds a map or list as a value.
pub fn keys_and_values(text: &SecretBytes) -> Result<Entries, YamlError> {
    let wrong = |node: &Node| YamlError::Type { found: node.kind(), wanted: "map[string]string" };
    match parse(text)? {
        Node::Null => Ok(Entries::new()),
        Node::Map(pairs) => pairs.into_iter().map(|(key, value)| Ok((key.into_key()?, value.into_text()?))).collect(),
        other => Err(wrong(&other)),
    }
}

/// Reads any document, as JSON. A whole number stays one.
///
/// # Errors
/// The text is no YAML, or has what JSON has not.
pub fn to_json(text: &SecretBytes) -> Result<Value, YamlError> {
    parse(text)?.into_json()
}

impl Node {
    /// What Go's JSON decoder calls it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Uint(_) | Self::Float(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }

    fn into_key(self) -> Result<String, YamlError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Bool(value) => Ok(value.to_string()),
            Self::Int(number) => Ok(number.to_string()),
            Self::Uint(number) => Ok(number.to_string()),
            Self::Float(number) if number.is_nan() => Ok(".nan".into()),
            Self::Float(number) if number.is_infinite() => Ok(if number > 0.0 { ".inf" } else { "-.inf" }.into()),
            Self::Float(number) => Ok(float_text(number)),
            Self::Null | Self::List(_) | Self::Map(_) => Err(YamlError::Unusable("unsupported map key")),
        }
    }

    fn into_text(self) -> Result<SecretBytes, YamlError> {
        let text = match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Uint(number) => number.to_string(),
            Self::Float(number) => float_text(number),
            Self::Text(text) => text,
            node @ (Self::List(_) | Self::Map(_)) => {
                return Err(YamlError::Type { found: node.kind(), wanted: "string" });
            }
        };
        Ok(SecretBytes::from(text))
    }

    fn into_json(self) -> Result<Value, YamlError> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(number) => number.into(),
            Self::Uint(number) => number.into(),
            Self::Float(number) => json_number(number)?,
            Self::Text(text) => Value::String(text),
            Self::List(items) => Value::Array(items.into_iter().map(Self::into_json).collect::<Result<_, _>>()?),
            Self::Map(pairs) => {
                let pair = |(key, value): (Self, Self)| Ok((key.into_key()?, value.into_json()?));
                Value::Object(pairs.into_iter().map(pair).collect::<Result<Map<_, _>, YamlError>>()?)
            }
        })
    }
}

/// A float as a JSON number: a whole one that 64 bits can hold is an integer, as Go prints it without a point.
fn json_number(number: f64) -> Result<Value, YamlError> {
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation)] // checked right here
    if number.fract() == 0.0 && number.abs() <= WHOLE {
        return Ok((number as i64).into());
    }
    Number::from_f64(number).map(Value::Number).ok_or(YamlError::Unusable("json: unsupported value: a number that is not finite"))
}

/// A float as Go's YAML reader writes it where text is wanted: with the digits of 32 bits, and with an exponent from a million on
/// and below a ten-thousandth (`strconv.FormatFloat(number, 'g', -1, 32)`).
#[allow(clippy::cast_possible_truncation)] // that is the point
fn float_text(number: f64) -> String {
    let number = number as f32;
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Reads the first document; nothing at all is `null`.
fn parse(text: &SecretBytes) -> Result<Node, YamlError> {
    let text = text.expose_str().ok_or(YamlError::Unusable("yaml: the text is not UTF-8"))?;
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), left: MOST_NODES };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::StreamEnd | Event::DocumentEnd => return Ok(Node::Null),
            event => return reader.node(event, DEEPEST),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    /// How many more nodes there may be.
    left: usize,
}

impl<'a> Reader<'a> {
    /// The next event that means something; comments do not.
    fn next(&mut self) -> Result<Event<'a>, YamlError> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, _))) => return Ok(event),
                Some(Err(error)) => return Err(syntax(&error)),
                None => return Ok(Event::StreamEnd),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, YamlError> {
        self.count(1)?;
        if depth == 0 {
            return Err(YamlError::Unusable("yaml: exceeded max depth"));
        }
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node = node.ok_or(YamlError::Unusable("yaml: an alias stands inside of what it names"))?;
                self.count(size(&node))?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref())?, anchor),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            _ => return Err(YamlError::Unusable("yaml: did not find expected node content")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Node, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Node::List(items)),
                event => items.push(self.node(event, depth - 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, YamlError> {
        let mut pairs = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Node::Map(pairs)),
                event => event,
            };
            let merges = matches!(&key, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(key, depth - 1)?;
            let value = self.next()?;
            let value = self.node(value, depth - 1)?;
            if merges { pairs.extend(merged(value)?) } else { pairs.push((key, value)) }
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), YamlError> {
        self.left = self.left.checked_sub(nodes).ok_or(YamlError::Unusable("yaml: the document is too large"))?;
        Ok(())
    }
}

/// The pairs that `<<` brings in; of several maps, an earlier one wins.
fn merged(value: Node) -> Result<Vec<(Node, Node)>, YamlError> {
    const WRONG: YamlError = YamlError::Unusable("yaml: map merge requires map or sequence of maps as the value");
    match value {
        Node::Map(pairs) => Ok(pairs),
        Node::List(items) => {
            let maps = items.into_iter().rev().map(|item| if let Node::Map(pairs) = item { Ok(pairs) } else { Err(WRONG) });
            Ok(maps.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        _ => Err(WRONG),
    }
}

fn size(node: &Node) -> usize {
    match node {
        Node::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Node::Map(pairs) => 1 + pairs.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>(),
        _ => 1,
    }
}

fn syntax(error: &ScanError) -> YamlError {
    let what = match error.kind() {
        ErrorKind::MappingValueNotAllowed => "mapping values are not allowed in this context",
        _ => "did not find what the syntax asks for",
    };
    YamlError::Syntax { what, line: error.marker().line(), column: error.marker().col() + 1 }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, YamlError> {
    let as_text = || Node::Text(text.to_owned());
    let Some(name) = tag.and_then(known_tag) else {
        let plain = style == ScalarStyle::Plain && tag.is_none();
        return Ok(if plain { resolve(text) } else { as_text() });
    };
    match (name, resolve(text)) {
        ("str" | "timestamp", _) => Ok(as_text()),
        ("binary", _) => {
            let bytes = STANDARD.decode(text.replace(['\n', '\r'], ""));
            let bytes = bytes.map_err(|_| YamlError::Unusable("yaml: !!binary value contains invalid base64 data"))?;
            Ok(Node::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        #[allow(clippy::cast_precision_loss)] // a float was asked for
        ("float", Node::Int(number)) => Ok(Node::Float(number as f64)),
        ("int", node @ (Node::Int(_) | Node::Uint(_)))
        | ("float", node @ Node::Float(_))
        | ("bool", node @ Node::Bool(_))
        | ("null", node @ Node::Null) => Ok(node),
        _ => Err(YamlError::Unusable("yaml: a value cannot be decoded as its tag says")),
    }
}

/// A tag that says how a scalar is read; others say nothing here.
fn known_tag(tag: &Tag) -> Option<&'static str> {
    let name = tag.suffix_in_namespace("tag:yaml.org,2002:")?;
    ["str", "int", "float", "bool", "null", "binary", "timestamp"].into_iter().find(|known| *known == name)
}

/// What a plain scalar means.
fn resolve(text: &str) -> Node {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Node::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Node::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Node::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Node::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Node::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Node::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes() {
        [b'.', ..] => float(text),
        [b'0'..=b'9' | b'+' | b'-', ..] => {
            let plain = text.replace('_', "");
            integer(&plain).or_else(|| float(&plain))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Node::Text(text.to_owned()))
}

/// An integer with Go's prefixes: `0x`, `0o`, `0b`, and `0` for octal.
fn integer(text: &str) -> Option<Node> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let (negative, signs) = (text.starts_with('-'), text.len() - unsigned.len());
    let (radix, digits) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    if signs > 1 || digits.starts_with(['+', '-']) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    match (negative, i64::try_from(size)) {
        (false, Ok(number)) => Some(Node::Int(number)),
        (true, Ok(number)) => Some(Node::Int(-number)),
        (true, Err(_)) => (size == i64::MIN.unsigned_abs()).then_some(Node::Int(i64::MIN)),
        (false, Err(_)) => (signs == 0).then_some(Node::Uint(size)),
    }
}

fn float(text: &str) -> Option<Node> {
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let number: f64 = if numeric { text.parse().ok()? } else { return None };
    number.is_finite().then_some(Node::Float(number))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let entries = keys_and_values(&SecretBytes::from(text)).map_err(|e| e.to_string())?;
        Ok(entries.iter().map(|(k, v)| (k.clone(), v.expose_str().unwrap().to_owned())).collect())
    }

    /// What sigs.k8s.io/yaml 1.6.0 prints, and golden case tfrom-11.
    #[test]
    fn scalars_become_text_as_in_go() {
        let table = [
            ("5432", "5432"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("0x10", "16"),
            ("010", "8"),
            ("0o10", "8"),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("12345678901234567890", "12345678901234567890"),
            ("-7", "-7"),
            ("+7", "7"),
            ("True", "true"),
            ("off", "false"),
            ("~", ""),
            ("", ""),
            ("2001-01-01", "2001-01-01"),
            ("12:30:45", "12:30:45"),
            (".nan", "NaN"),
            ("1.5e-7", "1.5e-07"),
            ("1e21", "1e+21"),
            ("1.2.3", "1.2.3"),
            ("5.", "5"),
            (".5", "0.5"),
            ("00", "0"),
            ("a #c", "a"),
            ("1e6", "1e+06"),
            ("999999.5", "999999.5"),
            ("1234567.5", "1.2345675e+06"),
            ("3.14159265358979", "3.1415927"),
            ("1e400", "1e400"),
            ("1e39", "+Inf"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("-.inf", "-Inf"),
            ("0O17", "15"),
            ("08", "8"),
            ("-0b11", "-3"),
            ("0b2", "0b2"),
            ("+0x1F", "31"),
            ("._5", "._5"),
            ("+.5", "0.5"),
            ("1e", "1e"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "1.8446744e+19"),
            ("-9223372036854775809", "-9.223372e+18"),
            ("!!str 5", "5"),
            ("!!float 3", "3"),
            ("!!int '7'", "7"),
            ("!!binary aGk=", "hi"),
            ("!!timestamp 2001-01-01", "2001-01-01"),
            ("!foo 5", "5"),
            ("'5'", "5"),
            ("nULL", "nULL"),
            ("yES", "yES"),
            ("=", "="),
            ("0x", "0x"),
            ("1_000.5", "1000.5"),
            ("-010", "-8"),
            ("!!bool yes", "true"),
            ("\"\\u00e9\"", "é"),
            ("1e-400", "0"),
            ("--5", "--5"),
        ];
        for (yaml, text) in table {
            assert_eq!(read(&format!("k: {yaml}\n")).unwrap(), [("k".to_owned(), text.to_owned())], "{yaml}");
        }
        for wrong in ["!!int abc", "!!binary '?'", "!!null x"] {
            assert!(read(&format!("k: {wrong}")).is_err(), "{wrong}");
        }
    }

    /// What sigs.k8s.io/yaml 1.6.0 prints, and golden cases tfrom-02 and tfrom-11.
    #[test]
    fn maps_are_read_as_in_go() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("# c", &[]),
            ("null", &[]),
            (
                "y: 1\n1.5: half\n1: one\n.nan: x\n0x10: h",
                &[(".nan", "x"), ("1", "one"), ("1.5", "half"), ("16", "h"), ("true", "1")],
            ),
            ("a: 1\na: 2", &[("a", "2")]),
            ("a: 1\n---\nb: 2", &[("a", "1")]),
            ("a: &x shared\nb: *x", &[("a", "shared"), ("b", "shared")]),
            ("<<: {a: 1, b: 2}\na: 3", &[("a", "3"), ("b", "2")]),
            ("a: 3\n<<: {a: 1, b: 2}", &[("a", "1"), ("b", "2")]),
            ("<<: [{a: 1},{a: 2, c: 3}]", &[("a", "1"), ("c", "3")]),
            ("a: >\n  one\n  two\nb: |-\n  x\n  y\n", &[("a", "one two\n"), ("b", "x\ny")]),
            ("{\"a\": \"x\", \"b\": 5, \"c\": true}", &[("a", "x"), ("b", "5"), ("c", "true")]),
            ("{a: b, c}", &[("a", "b"), ("c", "")]),
            ("? a\n: b", &[("a", "b")]),
        ];
        for (yaml, pairs) in table {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(read(yaml).unwrap(), pairs, "{yaml}");
        }
    }

    #[test]
    fn errors_begin_with_gos_words() {
        let json = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal";
        let table = [
            ("- a", format!("{json} array into Go value of type map[string]string")),
            ("a:\n  b: c", format!("{json} object into Go value of type string")),
            ("5", format!("{json} number into Go value of type map[string]string")),
            ("text", format!("{json} string into Go value of type map[string]string")),
            ("a: b: c", "error converting YAML to JSON: yaml: mapping values are not allowed in this context".into()),
            ("a: [", "error converting YAML to JSON: yaml: ".into()),
            ("a: *x", "error converting YAML to JSON: yaml: ".into()),
            ("~: a", "error converting YAML to JSON: unsupported map key".into()),
            ("<<: 5", "error converting YAML to JSON: yaml: map merge requires map or sequence of maps as the value".into()),
        ];
        for (yaml, text) in table {
            let error = read(yaml).unwrap_err();
            assert!(error.starts_with(&text), "{yaml}: {error}");
        }
    }

    /// A value in the text must not come out by way of an error.
    #[test]
    fn errors_quote_nothing() {
        let texts = ["a: *canary", "a: [canary", "canary: b: c", "a: !!int canary", "- canary", "a: {canary: {x: y}}", "a: @canary"];
        for yaml in texts {
            assert!(!read(yaml).unwrap_err().contains("canary"), "{yaml}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let nine = |of: &str| format!("[{}]", vec![of; 9].join(","));
        let levels = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut bomb = format!("a: &a {}\n", nine("x"));
        for pair in levels.windows(2) {
            bomb += &format!("{}: &{} {}\n", pair[1], pair[1], nine(&format!("*{}", pair[0])));
        }
        assert!(read(&bomb).unwrap_err().contains("too large"));
        assert!(read(&format!("a: {}", "[".repeat(50_000))).is_err());
        assert!(read("a: &a [*a]").is_err());
    }

    #[test]
    fn any_document_becomes_json() {
        let json = to_json(&SecretBytes::from("a: [1, 1.5, 1e3, yes, null, 'x']\nb: {c: 010}\n")).unwrap();
        assert_eq!(json, serde_json::json!({ "a": [1, 1.5, 1000, true, null, "x"], "b": { "c": 8 } }));
        assert!(to_json(&SecretBytes::from(".nan")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c0-9:.,?&*!#|>%@'\"<~_ \\n\\t\\-\\[\\]{}]{0,60}") {
            let text = SecretBytes::from(text);
            let _ = keys_and_values(&text);
            let _ = to_json(&text);
        }
    }
}
