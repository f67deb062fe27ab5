//! YAML where text is wanted: the keys and values that a template makes, and whole documents as JSON.
//!
//! Both as Go's reader does it that ESO uses, in which a number that stands for text takes the digits of 32 bits.

use serde_json::{Map, Number, Value};

use super::emit::Emitter;
use super::{NotYaml, Yaml, read};
use crate::render::Entries;
use crate::render::template::go::float;
use crate::secret_bytes::SecretBytes;

/// Why a text is not the YAML that it should be. The texts begin with Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML, or none that JSON can hold.
    #[error("error converting YAML to JSON: yaml: {} (line {} of the rendered text)", .0.reason, .0.line)]
    NotYaml(#[from] NotYaml),
    /// It is something else than a map of strings.
    #[error("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type {wanted}")]
    Type {
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Reads a map of strings. Scalars that are no strings become some in the way of Go: `1.50` becomes `1.5`, `null` nothing.
///
/// # Errors
/// The text is no YAML, or no map, or holds a map or list as a value.
pub fn keys_and_values(text: &SecretBytes) -> Result<Entries, YamlError> {
    let pair = |(key, value): (Vec<u8>, Yaml)| Ok((String::from_utf8_lossy(&key).into_owned(), as_text(value)?));
    match read::parse_any_number(text.expose())? {
        Yaml::Null => Ok(Entries::new()),
        Yaml::Map(pairs) => pairs.into_iter().map(pair).collect(),
        other => Err(YamlError::Type { found: kind(&other), wanted: "map[string]string" }),
    }
}

/// Reads any document, as JSON. A whole number stays one.
///
/// # Errors
/// The text is no YAML, or has what JSON has not.
pub fn to_json(text: &SecretBytes) -> Result<Value, YamlError> {
    Ok(as_json(read::parse(text.expose())?))
}

/// Writes a JSON value as YAML, its keys in their order.
#[must_use]
pub fn of_json(value: &Value) -> SecretBytes {
    let mut emitter = Emitter::new();
    emit(&mut emitter, value, false);
    SecretBytes::new(emitter.finish())
}

fn emit(emitter: &mut Emitter, value: &Value, in_map: bool) {
    match value {
        Value::Array(items) if items.is_empty() => emitter.empty("[]"),
        Value::Array(items) => {
            let outer = emitter.begin_list(in_map);
            for item in items {
                emitter.item();
                emit(emitter, item, false);
            }
            emitter.end(outer);
        }
        Value::Object(map) if map.is_empty() => emitter.empty("{}"),
        Value::Object(map) => {
            let outer = emitter.begin_map();
            for (key, item) in map {
                emitter.key(key);
                emit(emitter, item, true);
            }
            emitter.end(outer);
        }
        Value::String(text) => emitter.text(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => emitter.plain(&value.to_string()),
    }
}

/// What Go's JSON decoder calls a value.
fn kind(value: &Yaml) -> &'static str {
    match value {
        Yaml::Null => "null",
        Yaml::Bool(_) => "bool",
        Yaml::Int(_) | Yaml::Uint(_) | Yaml::Float(_) => "number",
        Yaml::Text(_) => "string",
        Yaml::List(_) => "array",
        Yaml::Map(_) => "object",
    }
}

#[allow(clippy::cast_possible_truncation)] // as sigs.k8s.io/yaml does
fn as_text(value: Yaml) -> Result<SecretBytes, YamlError> {
    let text = match value {
        Yaml::Null => String::new(),
        Yaml::Bool(truth) => truth.to_string(),
        Yaml::Int(number) => number.to_string(),
        Yaml::Uint(number) => number.to_string(),
        Yaml::Float(number) => float::shortest32(number as f32),
        // by way of JSON, which is UTF-8
        Yaml::Text(text) => String::from_utf8_lossy(&text).into_owned(),
        other @ (Yaml::List(_) | Yaml::Map(_)) => return Err(YamlError::Type { found: kind(&other), wanted: "string" }),
    };
    Ok(SecretBytes::from(text))
}

fn as_json(value: Yaml) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(truth) => Value::Bool(truth),
        Yaml::Int(number) => number.into(),
        Yaml::Uint(number) => number.into(),
        Yaml::Float(number) => whole(number).map_or_else(|| Number::from_f64(number).into(), Value::from),
        Yaml::Text(bytes) => Value::String(text(&bytes)),
        Yaml::List(items) => Value::Array(items.into_iter().map(as_json).collect()),
        Yaml::Map(pairs) => {
            Value::Object(pairs.into_iter().map(|(key, value)| (text(&key), as_json(value))).collect::<Map<_, _>>())
        }
    }
}

/// A float that Go's JSON prints without a point, as the integer that it is then read as.
#[allow(clippy::cast_possible_truncation)] // checked right here
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
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
            ("~: a", "error converting YAML to JSON: yaml: ".into()),
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
        let texts =
            ["a: *canary", "a: [canary", "canary: b: c", "a: !!int canary", "- canary", "a: {canary: {x: y}}", "a: @canary"];
        for yaml in texts {
            assert!(!read(yaml).unwrap_err().contains("canary"), "{yaml}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let nine = |of: &str| format!("[{}]", [of; 9].join(","));
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

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~é\\n:#'\"-]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z:.0-9 ]{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_json()) {
            prop_assert_eq!(to_json(&of_json(&value)).unwrap(), value);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-c0-9:.,?&*!#|>%@'\"<~_ \\n\\t\\-\\[\\]{}]{0,60}") {
            let text = SecretBytes::from(text);
            let _ = keys_and_values(&text);
            let _ = to_json(&text);
        }
    }
}
