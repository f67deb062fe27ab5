//! An object as it comes from the API server: what its type says, or why not.
//!
//! In place of kube's `DeserializeGuard`, which copies each object twice on the way, with the record of who set which field. That is
//! often the half of an object, and nobody asks for it.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

/// How deep what is in an object may be nested, of the object on. The API server takes far more, and serde_json fails all of an
/// answer, so a list of every object of the kind, where something in it is 128 deep.
const DEPTH: usize = 64;

/// An object, or its metadata and why the rest cannot be understood, without a value. Its managed fields are left out.
#[derive(Clone, Debug)]
pub struct Guard<K>(pub Result<K, (Box<ObjectMeta>, String)>);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guard<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let too_deep = Cell::new(false);
        let object = Part { at: At::Object { fields: false }, depth: 0, too_deep: &too_deep };
        let object = deserializer.deserialize_map(object)?;
        let why = if too_deep.get() {
            format!("it is nested more than {DEPTH} levels deep")
        } else {
            match K::deserialize(&object) {
                Ok(object) => return Ok(Self(Ok(object))),
                Err(error) => without_value(&error.to_string()),
            }
        };
        let meta = object.get("metadata").map(ObjectMeta::deserialize).transpose().map_err(de::Error::custom)?;
        Ok(Self(Err((Box::new(meta.unwrap_or_default()), why))))
    }
}

/// Where in an object a part of it is.
#[derive(Clone, Copy)]
enum At {
    /// The object itself; `fields`: with its managed fields.
    Object { fields: bool },
    /// Its metadata.
    Metadata { fields: bool },
    /// Its managed fields: as deep as the object, and nobody asks for what is deep in them.
    ManagedFields,
    /// Elsewhere.
    Inside,
}

/// A part of an object, read no deeper than is safe: what is deeper is skipped, and noted.
#[derive(Clone, Copy)]
struct Part<'c> {
    at: At,
    depth: usize,
    too_deep: &'c Cell<bool>,
}

impl Part<'_> {
    /// The part of that name in this one, if it is read.
    fn child(self, name: &str) -> Option<Self> {
        let at = match (self.at, name) {
            (At::Object { fields }, "metadata") => At::Metadata { fields },
            (At::Metadata { fields: false }, "managedFields") => return None,
            (At::Metadata { fields: true }, "managedFields") | (At::ManagedFields, _) => At::ManagedFields,
            _ => At::Inside,
        };
        Some(Self { at, depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > DEPTH {
            self.too_deep.set(self.too_deep.get() || !matches!(self.at, At::ManagedFields));
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(if matches!(self.at, At::Object { .. }) { "an object" } else { "a JSON value" })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let at = if matches!(self.at, At::ManagedFields) { At::ManagedFields } else { At::Inside };
        while let Some(item) = from.next_element_seed(Self { at, depth: self.depth + 1, ..self })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            match self.child(&name) {
                Some(child) => {
                    fields.insert(name, from.next_value_seed(child)?);
                }
                None => {
                    from.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(fields))
    }
}

/// What the API calls it, which is what it calls a `K`.
macro_rules! of_its_kind {
    () => {
        type DynamicType = K::DynamicType;
        type Scope = K::Scope;

        fn kind(of: &K::DynamicType) -> Cow<'_, str> {
            K::kind(of)
        }

        fn group(of: &K::DynamicType) -> Cow<'_, str> {
            K::group(of)
        }

        fn version(of: &K::DynamicType) -> Cow<'_, str> {
            K::version(of)
        }

        fn plural(of: &K::DynamicType) -> Cow<'_, str> {
            K::plural(of)
        }
    };
}

impl<K: Resource> Resource for Guard<K> {
    of_its_kind!();

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|(meta, _)| &**meta, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|(meta, _)| &mut **meta, K::meta_mut)
    }
}

/// The metadata of an object, all that the API server is asked for. Who may write an object writes its managed fields, too: those that are
/// deeper than anybody asks are cut, and those that make no sense left out.
#[derive(Clone, Debug)]
pub struct Metadata<K>(pub ObjectMeta, PhantomData<fn() -> K>);

impl<'de, K> Deserialize<'de> for Metadata<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Part { at: At::Object { fields: true }, depth: 0, too_deep: &Cell::new(false) };
        let mut object = deserializer.deserialize_map(object)?;
        let meta = object.get_mut("metadata").map(Value::take).unwrap_or_default();
        let read = ObjectMeta::deserialize(&meta).or_else(|_| ObjectMeta::deserialize(without_managed_fields(meta)));
        Ok(Self(read.map_err(de::Error::custom)?, PhantomData))
    }
}

fn without_managed_fields(mut meta: Value) -> Value {
    meta.as_object_mut().and_then(|meta| meta.remove("managedFields"));
    meta
}

impl<K: Resource> Resource for Metadata<K> {
    of_its_kind!();

    /// By this kube asks for metadata only.
    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}

/// What serde says of an object, without the value that it quotes, which may be a secret's: of which kind that is, and what is expected.
fn without_value(why: &str) -> String {
    const QUOTING: [&str; 5] = ["invalid type", "invalid value", "invalid length", "unknown variant", "unknown field"];
    const EXPECTED: &str = "expected ";
    let lower = why.to_ascii_lowercase();
    if ["missing field ", "duplicate field "].iter().any(|head| lower.starts_with(head)) {
        return why.to_owned();
    }
    let head = QUOTING.into_iter().find(|head| lower.starts_with(head));
    // the last: what comes before may be the value
    let expected = lower.rfind(EXPECTED).and_then(|at| why.get(at + EXPECTED.len()..));
    let Some((head, expected)) = head.zip(expected) else {
        return "a value in it has not the form that its kind asks for".into();
    };
    let kind = match head {
        "invalid type" | "invalid value" => why.get(head.len()..).and_then(|rest| rest.split(['"', '`', ',', '.']).next()),
        _ => None,
    };
    let kind = kind.unwrap_or_default().trim_matches([':', ' ']);
    let space = if kind.is_empty() { "" } else { " " };
    format!("{head}{space}{kind}, {EXPECTED}{expected}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::json;

    use super::*;
    use crate::api::ExternalSecret;

    fn object(spec: &Value) -> Value {
        let managed = json!([{ "manager": "kubectl", "operation": "Apply", "fieldsV1": { "f:spec": {} } }]);
        let metadata = json!({ "name": "a", "namespace": "ns", "resourceVersion": "7", "managedFields": managed });
        json!({ "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata, "spec": spec })
    }

    #[test]
    fn an_object_is_read_without_its_managed_fields() {
        let text = object(&json!({ "refreshInterval": "1h" })).to_string();
        let es = serde_json::from_str::<Guard<ExternalSecret>>(&text).unwrap().0.unwrap();
        assert_eq!((es.spec.refresh_interval.as_deref(), es.metadata.resource_version.as_deref()), (Some("1h"), Some("7")));
        assert_eq!(es.metadata.managed_fields, None);
    }

    #[test]
    fn one_that_cannot_be_understood_is_known_by_its_metadata_and_stops_no_other() {
        let (bad, good) = (object(&json!({ "data": "text" })), object(&json!({})));
        let list = json!({ "metadata": { "resourceVersion": "9" }, "items": [bad, good] }).to_string();
        let list: ObjectList<Guard<ExternalSecret>> = serde_json::from_str(&list).unwrap();
        let (meta, why) = list.items[0].0.as_ref().unwrap_err();
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("a"), Some("ns")));
        assert!(why.contains("invalid type"), "{why}");
        assert_eq!(list.items[0].meta().resource_version.as_deref(), Some("7"));
        assert!(list.items[1].0.is_ok());
    }

    #[test]
    fn what_cannot_be_understood_is_told_without_its_value() {
        for (serde, told) in [
            (r#"Invalid type string "hun, ter2. Expected x". Expected u32"#, "invalid type string, expected u32"),
            (r#"invalid type: string "hun, ter2, expected x", expected u32"#, "invalid type string, expected u32"),
            ("unknown variant `hunter2`, expected `Owner` or `Merge`", "unknown variant, expected `Owner` or `Merge`"),
            ("invalid type: integer `5`, expected a string", "invalid type integer, expected a string"),
            ("Invalid type map. Expected a sequence", "invalid type map, expected a sequence"),
            ("Invalid length 7. Expected 2 elements", "invalid length, expected 2 elements"),
            ("Unknown variant hunter2. Expected one of Owner, Merge", "unknown variant, expected one of Owner, Merge"),
            ("Missing field provider", "Missing field provider"),
            ("hunter2 is no duration", "a value in it has not the form that its kind asks for"),
            ("unknown variant hunter2", "a value in it has not the form that its kind asks for"),
        ] {
            assert_eq!(without_value(serde), told, "{serde}");
        }
        let object = json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "es", "namespace": "ns"},
            "spec": {"data": "hunter2"},
        });
        let (meta, why) = serde_json::from_value::<Guard<ExternalSecret>>(object).unwrap().0.unwrap_err();
        assert_eq!((meta.namespace.as_deref(), meta.name.as_deref()), (Some("ns"), Some("es")));
        assert!(why.starts_with("invalid type string, expected ") && !why.contains("hunter2"), "{why}");
    }

    /// As the API server takes them, and serde_json does not.
    #[test]
    fn one_that_is_too_deep_stops_no_other() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let of = |levels: usize| object(&json!({ "x": "DEEP" })).to_string().replace(r#""DEEP""#, &nested(levels));
        let list = format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{},{},{}]}}"#, of(62), of(63), of(9_000));
        let list: ObjectList<Guard<ExternalSecret>> = serde_json::from_str(&list).unwrap();
        assert!(list.items[0].0.is_ok());
        for item in &list.items[1..] {
            let (meta, why) = item.0.as_ref().unwrap_err();
            assert_eq!((meta.name.as_deref(), why.as_str()), (Some("a"), "it is nested more than 64 levels deep"));
        }
        let event = format!(r#"{{"type":"ADDED","object":{}}}"#, of(9_000));
        assert!(matches!(serde_json::from_str(&event).unwrap(), WatchEvent::Added(Guard::<ExternalSecret>(Err(_)))));
    }

    /// Whoever may write an object writes them.
    #[test]
    fn metadata_keep_their_managed_fields_as_far_as_they_make_sense() {
        let of = |fields: &str| object(&json!({})).to_string().replace(r#"{"f:spec":{}}"#, fields);
        let deep = format!("{}1{}", r#"{"f:a":"#.repeat(9_000), "}".repeat(9_000));
        let none = object(&json!({})).to_string().replace(r#""manager""#, r#""time":"none","manager""#);
        let list = format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{},{none}]}}"#, of(&deep));
        let list: ObjectList<Metadata<ExternalSecret>> = serde_json::from_str(&list).unwrap();
        let fields = list.items[0].0.managed_fields.as_ref().unwrap();
        assert!(fields[0].fields_v1.as_ref().unwrap().0["f:a"]["f:a"].is_object());
        assert_eq!(fields[0].manager.as_deref(), Some("kubectl"));
        assert_eq!((list.items[1].0.name.as_deref(), &list.items[1].0.managed_fields), (Some("a"), &None));
        assert!(Metadata::<ExternalSecret>::metadata_api() && !Guard::<ExternalSecret>::metadata_api());
    }

    /// Whichever of the two a server writes first.
    #[test]
    fn events_are_read_in_any_order() {
        let object = object(&json!({}));
        for text in [format!(r#"{{"type":"ADDED","object":{object}}}"#), format!(r#"{{"object":{object},"type":"ADDED"}}"#)]
        {
            let event: WatchEvent<Guard<ExternalSecret>> = serde_json::from_str(&text).unwrap();
            assert!(matches!(event, WatchEvent::Added(Guard(Ok(_)))), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["null", "[]", r#"{"metadata":[]}"#] {
            assert!(serde_json::from_str::<Guard<ExternalSecret>>(text).is_err(), "{text}");
        }
    }
}
