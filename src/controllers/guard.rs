//! An object as it comes from the API server: what its type says, or why not.
//!
//! In place of kube's `DeserializeGuard`, which copies each object twice on the way, with the record of who set which field. That is
//! often the half of an object, and nobody asks for it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

/// Metadata that are not read.
const LEFT_OUT: &str = "managedFields";

/// An object, or its metadata and why the rest cannot be understood; without its managed fields.
#[derive(Clone, Debug)]
pub struct Guard<K>(pub Result<K, (Box<ObjectMeta>, String)>);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guard<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = deserializer.deserialize_map(Fields::<Object>(PhantomData))?;
        let why = match K::deserialize(&object) {
            Ok(object) => return Ok(Self(Ok(object))),
            Err(error) => error.to_string(),
        };
        let meta = object.get("metadata").map(ObjectMeta::deserialize).transpose().map_err(de::Error::custom)?;
        Ok(Self(Err((Box::new(meta.unwrap_or_default()), why))))
    }
}

/// What to do with a field of an object that is read.
trait Field {
    fn read<'de, A: MapAccess<'de>>(name: &str, from: &mut A) -> Result<Option<Value>, A::Error>;
}

struct Object;

impl Field for Object {
    fn read<'de, A: MapAccess<'de>>(name: &str, from: &mut A) -> Result<Option<Value>, A::Error> {
        match name {
            "metadata" => from.next_value::<Metadata>().map(|metadata| Some(metadata.0)),
            _ => from.next_value().map(Some),
        }
    }
}

struct Meta;

impl Field for Meta {
    fn read<'de, A: MapAccess<'de>>(name: &str, from: &mut A) -> Result<Option<Value>, A::Error> {
        match name {
            LEFT_OUT => from.next_value::<IgnoredAny>().map(|_| None),
            _ => from.next_value().map(Some),
        }
    }
}

struct Metadata(Value);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields::<Meta>(PhantomData)).map(|fields| Self(Value::Object(fields)))
    }
}

struct Fields<F>(PhantomData<F>);

impl<'de, F: Field> Visitor<'de> for Fields<F> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if let Some(value) = F::read(&name, &mut from)? {
                fields.insert(name, value);
            }
        }
        Ok(fields)
    }
}

impl<K: Resource> Resource for Guard<K> {
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

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|(meta, _)| &**meta, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|(meta, _)| &mut **meta, K::meta_mut)
    }
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
