//! Reads a metadata block as ESO does, through `sigs.k8s.io/yaml`: where a text is wanted, a number or a boolean is one too, and a
//! `null` is as if left out (in a map or list of texts: an empty one). What has no type keeps its own.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Number, Value};

use crate::render::template::go::float;

/// A value that is read so.
pub(super) struct Lenient(pub(super) Value);

impl Lenient {
    /// The value, or for `null` what Go leaves in a field of the wanted type.
    fn or(self, empty: impl Into<Value>) -> Value {
        if self.0.is_null() { empty.into() } else { self.0 }
    }
}

/// A number as the text that `strconv` makes of it: what is no whole one with 32 bits.
#[allow(clippy::cast_possible_truncation)] // as sigs.k8s.io/yaml does
fn text_of(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(value) => float::shortest32(value as f32),
        None => number.to_string(),
    }
}

impl<'de> IntoDeserializer<'de, Error> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.or("") {
            Value::Bool(truth) => visitor.visit_string(truth.to_string()),
            Value::Number(number) => visitor.visit_string(text_of(&number)),
            other => other.deserialize_string(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.or(false).deserialize_bool(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.or(0).deserialize_i64(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.or("").deserialize_enum(name, variants, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.or(Vec::<Value>::new()) {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Self))),
            other => other.deserialize_seq(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.or(Map::new()) {
            Value::Object(fields) => {
                visitor.visit_map(MapDeserializer::new(fields.into_iter().map(|(name, field)| (name, Self(field)))))
            }
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Spec {
        tags: BTreeMap<String, String>,
        text: String,
        maybe: Option<String>,
        list: Vec<String>,
        truth: bool,
        number: i64,
        choice: Choice,
        inner: Inner,
        any: Option<Value>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        text: String,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    enum Choice {
        #[default]
        #[serde(alias = "")]
        First,
        Second,
    }

    fn read(spec: Value) -> Result<Spec, String> {
        Spec::deserialize(Lenient(spec)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_number_and_a_boolean_are_texts_as_in_go() {
        let spec = json!({
            "tags": { "a": 4711, "b": true, "c": -1, "d": 1.5, "e": 1e21, "f": 18_446_744_073_709_551_615_u64, "g": 0.1, "h": "x" },
            "text": false, "maybe": 5, "list": [1, "two", true], "inner": { "text": 1234567.5 },
        });
        let tags = [
            ("a", "4711"),
            ("b", "true"),
            ("c", "-1"),
            ("d", "1.5"),
            ("e", "1e+21"),
            ("f", "18446744073709551615"),
            ("g", "0.1"),
            ("h", "x"),
        ];
        let wanted = Spec {
            tags: tags.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
            text: "false".into(),
            maybe: Some("5".into()),
            list: ["1", "two", "true"].map(str::to_owned).to_vec(),
            inner: Inner { text: "1.2345675e+06".into() },
            ..Spec::default()
        };
        assert_eq!(read(spec), Ok(wanted));
    }

    #[test]
    fn a_null_is_as_if_left_out() {
        let nothing = json!({
            "tags": null, "text": null, "maybe": null, "list": null, "truth": null, "number": null, "choice": null, "inner": null,
            "any": null,
        });
        assert_eq!(read(nothing), Ok(Spec::default()));
        assert_eq!(read(json!(null)), Ok(Spec::default()));
        let inside = read(json!({ "tags": { "a": null }, "list": [null, "b"], "inner": { "text": null } })).unwrap();
        assert_eq!(inside.tags, BTreeMap::from([("a".to_owned(), String::new())]), "Go sets an empty one");
        assert_eq!((inside.list, inside.inner), (vec![String::new(), "b".to_owned()], Inner::default()));
    }

    #[test]
    fn other_types_are_what_they_are() {
        let any = json!([{ "Version": 1, "on": true, "off": null }]);
        let spec = json!({ "truth": true, "number": 7, "choice": "Second", "any": any });
        assert_eq!(
            read(spec),
            Ok(Spec { truth: true, number: 7, choice: Choice::Second, any: Some(any), ..Spec::default() })
        );
        for (wrong, words) in [
            (json!({ "truth": "true" }), "expected a boolean"),
            (json!({ "truth": 1 }), "expected a boolean"),
            (json!({ "number": "7" }), "expected i64"),
            (json!({ "choice": 5 }), "expected string or map"),
            (json!({ "text": ["a"] }), "expected a string"),
            (json!({ "text": {} }), "expected a string"),
            (json!({ "tags": ["a"] }), "expected a map"),
            (json!({ "list": "a" }), "expected a sequence"),
            (json!({ "inner": ["a"] }), "expected struct Inner"),
            (json!({ "nosuch": null }), "unknown field `nosuch`"),
            (json!("text"), "expected struct Spec"),
        ] {
            let error = read(wrong.clone()).unwrap_err();
            assert!(error.contains(words), "{wrong}: {error}");
        }
    }
}
