//! What is pushed to a provider, where to, and the metadata block that goes with it.

mod lenient;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::lenient::Lenient;
use super::{ErrorKind, ProviderError};
use crate::render::{json, json_edit};
use crate::secret_bytes::SecretBytes;

/// `apiVersion` of a metadata block.
const API_VERSION: &str = "kubernetes.external-secrets.io/v1alpha1";
/// `kind` of a metadata block.
const KIND: &str = "PushSecretMetadata";

/// The Secret that is pushed, after its template. It is the same for all its entries.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Its values.
    pub data: BTreeMap<String, SecretBytes>,
    /// Its type; `None`, or empty: `Opaque`.
    pub type_: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A place at the provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Key at the provider, without the store's prefix.
    pub key: String,
    /// A part of the value there; `None`: all of it.
    pub property: Option<String>,
    /// The entry's metadata block, as it stands in the PushSecret.
    pub metadata: Option<Value>,
    /// Namespace of the PushSecret: what the block names in the cluster is looked for there, and nowhere else.
    pub namespace: String,
}

impl Place {
    /// The property, unless it is empty.
    #[must_use]
    pub fn property(&self) -> Option<&str> {
        self.property.as_deref().filter(|p| !p.is_empty())
    }
}

/// A value, and the place that it goes to.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// The Secret, with the keys that the entry is about.
    pub source: Arc<Source>,
    /// Key of the Secret; `None`: the whole Secret.
    pub secret_key: Option<String>,
    /// Where it goes.
    pub place: Place,
}

impl Push {
    /// The value: that of the key, or the whole Secret as a JSON object of texts.
    ///
    /// # Errors
    /// `Misconfigured` where the Secret has no such key.
    pub fn value(&self) -> Result<SecretBytes, ProviderError> {
        match self.secret_key.as_deref().filter(|k| !k.is_empty()) {
            None => Ok(json::object_of_text(&self.source.data)),
            Some(key) => self.source.data.get(key).cloned().ok_or_else(|| {
                ProviderError::new(ErrorKind::Misconfigured, format!("the source Secret has no key {key:?}"))
            }),
        }
    }

    /// The value that the place's key is to have: the pushed one, or `current` with the property set in it, as sjson does.
    ///
    /// # Errors
    /// `Misconfigured` where the present value is no JSON, the property no path to set, or the value no text: JSON holds none other.
    pub fn merged(&self, current: Option<&SecretBytes>) -> Result<SecretBytes, ProviderError> {
        self.merge(self.value()?, current)
    }

    /// Like [`Push::merged`], for a provider that makes another value of the Secret than [`Push::value`].
    ///
    /// # Errors
    /// As there.
    pub fn merge(&self, value: SecretBytes, current: Option<&SecretBytes>) -> Result<SecretBytes, ProviderError> {
        let Some(property) = self.place.property() else { return Ok(value) };
        if value.expose_str().is_none() {
            let text = format!(
                "remoteRef.property {property:?} is part of a JSON value, which holds text only, and the pushed value is no UTF-8 text: \
                 encode it with a template"
            );
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        let empty = SecretBytes::default();
        let current = current.unwrap_or(&empty);
        if !current.expose().trim_ascii().is_empty() && !json::is_valid(current.expose()) {
            let text = format!(
                "remoteRef.property {property:?} needs a JSON value, and that of {:?} is none: delete it, or leave property out",
                self.place.key
            );
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        json_edit::set(current, property, &value).ok_or_else(|| {
            let text = format!("remoteRef.property {property:?} is not a path that can be set in a JSON value");
            ProviderError::new(ErrorKind::Misconfigured, text)
        })
    }
}

/// What is left of a value when what was pushed to a place is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it: the property is not there.
    All,
    /// This.
    Some(SecretBytes),
    /// Nothing worth keeping.
    Nothing,
}

impl Place {
    /// What is left of a value without what the place is about.
    #[must_use]
    pub fn left_of(&self, current: &SecretBytes) -> Left {
        let Some(property) = self.property() else { return Left::Nothing };
        if !self.is_in(current) {
            return Left::All;
        }
        let left = json_edit::remove(current, property).unwrap_or_default();
        match json::members(left.expose()).is_none_or(|members| members.is_empty()) {
            true => Left::Nothing,
            false => Left::Some(left),
        }
    }

    /// Whether a value holds what the place is about.
    #[must_use]
    pub fn is_in(&self, current: &SecretBytes) -> bool {
        self.property().is_none_or(|property| json_edit::exists(current, property))
    }
}

/// What a push came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The provider had the value already: nothing was written.
    Unchanged,
    /// It was written.
    Written,
}

/// Reads the `spec` of a metadata block; `None` where there is no block. Unknown fields are refused, and numbers and booleans are
/// texts where one is wanted, as in ESO.
///
/// # Errors
/// `Misconfigured`, in ESO's words.
pub fn metadata<T: DeserializeOwned>(block: Option<&Value>) -> Result<Option<T>, ProviderError> {
    let Some(block) = block.filter(|b| !b.is_null()) else { return Ok(None) };
    let misconfigured = |text: String| ProviderError::new(ErrorKind::Misconfigured, text);
    let parsed = || format!("failed to parse {API_VERSION} {KIND}: error unmarshaling JSON: while decoding JSON: json: ");
    let Value::Object(fields) = block else { return Err(misconfigured(parsed() + "the metadata is not an object")) };
    if let Some(unknown) = fields.keys().find(|key| !["apiVersion", "kind", "spec"].contains(&key.as_str())) {
        return Err(misconfigured(format!("{}unknown field {unknown:?}", parsed())));
    }
    let spec = Lenient(fields.get("spec").cloned().unwrap_or_default());
    let spec = T::deserialize(spec).map_err(|error| misconfigured(parsed() + &as_go(&error.to_string())))?;
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let found = fields.get(field).and_then(Value::as_str).unwrap_or_default();
        if found != expected {
            return Err(misconfigured(format!("unexpected {field} {found:?}, expected {expected:?}")));
        }
    }
    Ok(Some(spec))
}

/// serde's word for an unknown field, as Go says it. The block holds no secret.
fn as_go(error: &str) -> String {
    match error.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => format!("unknown field {field:?}"),
        None => error.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Spec {
        tags: BTreeMap<String, String>,
    }

    #[test]
    fn a_metadata_block_is_read_strictly() {
        let block = |spec: Value| json!({ "apiVersion": API_VERSION, "kind": KIND, "spec": spec });
        assert_eq!(metadata::<Spec>(None), Ok(None));
        assert_eq!(metadata::<Spec>(Some(&Value::Null)), Ok(None));
        assert_eq!(metadata::<Spec>(Some(&block(Value::Null))), Ok(Some(Spec::default())));
        let tags = metadata::<Spec>(Some(&block(json!({ "tags": { "a": "b" } })))).unwrap().unwrap().tags;
        assert_eq!(tags, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        let tags =
            metadata::<Spec>(Some(&block(json!({ "tags": { "costcenter": 4711, "prod": true } })))).unwrap().unwrap().tags;
        assert_eq!(
            tags,
            BTreeMap::from([("costcenter", "4711"), ("prod", "true")].map(|(k, v)| (k.to_owned(), v.to_owned())))
        );
        assert_eq!(metadata::<Spec>(Some(&block(json!({ "tags": null })))), Ok(Some(Spec::default())));
        let failed = "failed to parse kubernetes.external-secrets.io/v1alpha1 PushSecretMetadata: \
                      error unmarshaling JSON: while decoding JSON: json: ";
        for (wrong, text) in [
            (block(json!({ "nosuch": "x" })), format!("{failed}unknown field \"nosuch\"")),
            (json!({ "extra": 1 }), format!("{failed}unknown field \"extra\"")),
            (json!(["a"]), format!("{failed}the metadata is not an object")),
            (
                json!({ "apiVersion": "other/v1", "kind": "X", "spec": {} }),
                format!("unexpected apiVersion \"other/v1\", expected {API_VERSION:?}"),
            ),
            (json!({ "apiVersion": API_VERSION, "kind": "X" }), format!("unexpected kind \"X\", expected {KIND:?}")),
        ] {
            assert_eq!(metadata::<Spec>(Some(&wrong)).unwrap_err().detail, text);
        }
    }

    fn push(secret_key: Option<&str>, property: Option<&str>) -> Push {
        let data = [("user", "ann"), ("pw", "p&w<\"")].map(|(k, v)| (k.to_owned(), SecretBytes::from(v)));
        let place = Place { key: "r".into(), property: property.map(Into::into), ..Place::default() };
        Push {
            source: Arc::new(Source { data: data.into(), ..Source::default() }),
            secret_key: secret_key.map(Into::into),
            place,
        }
    }

    #[test]
    fn a_whole_secret_is_a_json_object_of_texts() {
        let text = |push: Push| push.value().map(|v| v.expose_str().unwrap().to_owned());
        assert_eq!(text(push(None, None)).unwrap(), r#"{"pw":"p&w<\"","user":"ann"}"#);
        assert_eq!(text(push(Some(""), None)).unwrap(), r#"{"pw":"p&w<\"","user":"ann"}"#);
        assert_eq!(text(push(Some("user"), None)).unwrap(), "ann");
        assert_eq!(text(push(Some("zz"), None)).unwrap_err().kind, ErrorKind::Misconfigured);
    }

    #[test]
    fn a_property_is_set_in_the_present_value() {
        let merged = |property: &str, current: &str| {
            let merged = push(Some("user"), Some(property)).merged(Some(&SecretBytes::from(current)));
            merged.map(|v| v.expose_str().unwrap().to_owned()).map_err(|e| e.kind)
        };
        assert_eq!(merged("u", ""), Ok(r#"{"u":"ann"}"#.to_owned()));
        assert_eq!(merged("u", r#"{"a": 1}"#), Ok(r#"{"a": 1,"u":"ann"}"#.to_owned()));
        assert_eq!(merged("u", "not json"), Err(ErrorKind::Misconfigured), "nothing went out, and `Malformed` is an answer");
        assert_eq!(merged("u.#", "{}"), Err(ErrorKind::Misconfigured));
        let error = push(Some("user"), Some("u")).merged(Some(&SecretBytes::from("c4n4ry"))).unwrap_err();
        assert!(!error.detail.contains("c4n4ry"));
        let bytes = SecretBytes::new(vec![0xff, 0x00]);
        let error = push(Some("user"), Some("u")).merge(bytes.clone(), None).unwrap_err();
        assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("no UTF-8 text"), "{error}");
        assert_eq!(push(Some("user"), None).merge(bytes.clone(), None), Ok(bytes));
    }
}
