//! Pure: what a vault holds, and how ESO names and takes it apart.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::misconfigured;
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{ErrorKind, ProviderError, Taker, Want};
use crate::render::{Entries, json, path};
use crate::secret_bytes::SecretBytes;

/// Kind of an object, by the part of a key before its slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `secret/…`, or no part.
    Secret,
    /// `key/…`
    Key,
    /// `cert/…`
    Certificate,
}

/// An object of a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub kind: Kind,
    pub name: String,
}

impl Name {
    /// What a key means.
    ///
    /// # Errors
    /// `Misconfigured` where it is no name: it becomes part of an address.
    pub(super) fn of(key: &str) -> Result<Self, ProviderError> {
        let (kind, name) = match key.split_once('/') {
            None => (Kind::Secret, key),
            Some(("secret", name)) => (Kind::Secret, name),
            Some(("key", name)) => (Kind::Key, name),
            Some(("cert", name)) => (Kind::Certificate, name),
            Some(_) => {
                return Err(misconfigured(format!(
                    "unknown Azure Keyvault object Type for {key:?}: use secret/, key/ or cert/"
                )));
            }
        };
        if !is_word(name) {
            let text = "has letters, digits and dashes only, and 1 to 127 of them";
            return Err(misconfigured(format!("{key:?}: a name in a vault {text}")));
        }
        Ok(Self { kind, name: name.to_owned() })
    }

    /// Path of the object, or of a version of it.
    ///
    /// # Errors
    /// `Misconfigured` where the version is none.
    pub(super) fn path(&self, version: &str) -> Result<String, ProviderError> {
        let all = match self.kind {
            Kind::Secret => "secrets",
            Kind::Key => "keys",
            Kind::Certificate => "certificates",
        };
        match version {
            "" => Ok(format!("{all}/{}", self.name)),
            version if is_word(version) => Ok(format!("{all}/{}/{version}", self.name)),
            _ => Err(misconfigured(format!("{version:?} is no version of {:?}", self.name))),
        }
    }
}

fn is_word(text: &str) -> bool {
    (1..=127).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A secret, key or certificate as a vault shows it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bundle {
    #[serde(default, deserialize_with = "optional_secret")]
    pub value: Option<SecretBytes>,
    pub id: Option<String>,
    /// A JWK: the public half.
    pub key: Option<Box<RawValue>>,
    /// A certificate as base64 of DER.
    pub cer: Option<String>,
    pub content_type: Option<String>,
    #[serde(default)]
    pub attributes: Attributes,
    #[serde(default)]
    pub tags: Option<BTreeMap<String, String>>,
}

/// Times are seconds since 1970.
#[derive(Default, Deserialize)]
pub(super) struct Attributes {
    pub enabled: Option<bool>,
    pub exp: Option<i64>,
    nbf: Option<i64>,
    created: Option<i64>,
    updated: Option<i64>,
}

fn optional_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretBytes>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretBytes::from))
}

impl Bundle {
    pub(super) fn tags(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.tags.as_ref().unwrap_or(&NONE)
    }

    /// The version, from the end of the object's address.
    pub(super) fn version(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Jwk {
            kid: Option<String>,
        }
        let of_key = || serde_json::from_str::<Jwk>(self.key.as_ref()?.get()).ok()?.kid;
        let id = self.id.clone().or_else(of_key)?;
        Some(id.rsplit('/').next()?.to_owned())
    }

    /// What the object stands for: the secret's text, the key's JWK, or the certificate's DER.
    ///
    /// # Errors
    /// `Malformed` where it is not there.
    pub(super) fn into_value(self, key: &str, kind: Kind) -> Result<SecretBytes, ProviderError> {
        let missing = || ProviderError::new(ErrorKind::Malformed, format!("the answer for {key:?} does not hold the value"));
        match kind {
            Kind::Secret => self.value.ok_or_else(missing),
            Kind::Key => self.key.map(|jwk| SecretBytes::from(jwk.get())).ok_or_else(missing),
            Kind::Certificate => {
                let der = self.cer.and_then(|text| STANDARD.decode(text).ok());
                der.map(SecretBytes::new).ok_or_else(missing)
            }
        }
    }

    /// Tags and times as one JSON object, as Go writes it.
    pub(super) fn metadata(&self) -> SecretBytes {
        let mut all = self.tags().clone();
        let Attributes { exp, nbf, created, updated, .. } = &self.attributes;
        for (name, time) in [("expires", exp), ("created", created), ("updated", updated), ("notBefore", nbf)] {
            if let Some(time) = time.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
                all.insert(format!("attribute.{name}"), time.to_string());
            }
        }
        let all = json::object_of_text(&all.into_iter().map(|(name, text)| (name, text.into())).collect());
        json::exact::sorted(all.expose()).unwrap_or(all)
    }
}

/// Takes values apart, as ESO does for each kind of object.
pub(super) struct Objects;

impl Taker for Objects {
    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        if want.metadata == MetadataPolicy::Fetch {
            let tags = path::object_entries(value).unwrap_or_default();
            return tag(&tags, property).ok_or_else(|| no_tag(property));
        }
        if Name::of(&want.key)?.kind == Kind::Certificate {
            return Ok(value.clone());
        }
        in_value(value, property).ok_or_else(|| {
            let text = format!("property {property} does not exist in key {}", want.key);
            ProviderError::new(ErrorKind::MissingProperty, text)
        })
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        let name = Name::of(&want.key)?;
        let only = |kind: &str| {
            let text = format!("cannot get use dataFrom to get {kind} secret: use data for {:?}", want.key);
            Err(ProviderError::new(ErrorKind::Unsupported, text))
        };
        match (name.kind, want.metadata) {
            (Kind::Certificate, _) => only("certificate"),
            (Kind::Key, _) => only("key"),
            (Kind::Secret, MetadataPolicy::Fetch) => tags_apart(want, &name.name, value, property),
            (Kind::Secret, MetadataPolicy::None) => {
                let part = property.map(|property| self.property(want, value, property)).transpose()?;
                path::object_entries(part.as_ref().unwrap_or(value)).ok_or_else(|| {
                    ProviderError::new(ErrorKind::Malformed, format!("the value of {:?} is not a JSON object", want.key))
                })
            }
        }
    }
}

/// The property as a gjson path first, then as a literal key.
fn in_value(value: &SecretBytes, property: &str) -> Option<SecretBytes> {
    let at = |path: &str| path::get(value.expose(), path).map(path::Value::into_secret);
    at(property).or_else(|| property.contains('.').then(|| at(&property.replace('.', "\\.")))?)
}

/// A tag by its whole name, else the tag before the first dot, and in its value the path after it.
fn tag(tags: &BTreeMap<String, SecretBytes>, property: &str) -> Option<SecretBytes> {
    if let Some(value) = tags.get(property) {
        return Some(value.clone());
    }
    let (name, path) = property.split_once('.')?;
    in_value(tags.get(name)?, path)
}

fn no_tag(property: &str) -> ProviderError {
    ProviderError::new(ErrorKind::MissingProperty, format!("tag {property} does not exist"))
}

/// Tags as entries of their own: `<secret>_<tag>`, and `<secret>_<tag>_<key>` where a tag is a JSON object of texts.
fn tags_apart(want: &Want, name: &str, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
    let tags = path::object_entries(value).unwrap_or_default();
    if let Some(property) = property {
        let found = tag(&tags, property).ok_or_else(|| no_tag(property))?;
        return Ok(Entries::from([(format!("{}_{property}", want.key), found)]));
    }
    let mut all = Entries::new();
    for (tag, text) in tags {
        match serde_json::from_slice::<BTreeMap<String, String>>(text.expose()) {
            Ok(parts) => {
                all.extend(parts.into_iter().map(|(key, part)| (format!("{name}_{tag}_{key}"), SecretBytes::from(part))));
            }
            Err(_) => drop(all.insert(format!("{name}_{tag}"), text)),
        }
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_objects_and_nothing_else() {
        let of = |key: &str| Name::of(key).map(|name| (name.kind, name.name)).map_err(|error| error.kind);
        assert_eq!(of("app-db"), Ok((Kind::Secret, "app-db".into())));
        assert_eq!(of("secret/a"), Ok((Kind::Secret, "a".into())));
        assert_eq!(of("key/a"), Ok((Kind::Key, "a".into())));
        assert_eq!(of("cert/a"), Ok((Kind::Certificate, "a".into())));
        for bad in ["", "cert/", "other/a", "a b", "../keys/a", "secret/../x", "a?b", "a%2f", "a/b/c", "ä", &"a".repeat(128)]
        {
            assert_eq!(of(bad), Err(ErrorKind::Misconfigured), "{bad}");
        }
        let name = Name::of("key/a").unwrap();
        assert_eq!(name.path("").unwrap(), "keys/a");
        assert_eq!(name.path("0f").unwrap(), "keys/a/0f");
        assert!(name.path("../x").is_err());
    }

    fn bundle(json: &str) -> Bundle {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn times_are_tags_too() {
        let bundle = bundle(
            r#"{"id": "https://v/secrets/a/7", "attributes": {"enabled": true, "exp": 1798761599, "created": 0}, "tags": {"t": "<x>"}}"#,
        );
        let expected =
            r#"{"attribute.created":"1970-01-01T00:00:00Z","attribute.expires":"2026-12-31T23:59:59Z","t":"\u003cx\u003e"}"#;
        assert_eq!(bundle.metadata().expose_str(), Some(expected));
        assert_eq!(bundle.version().as_deref(), Some("7"));
    }

    #[test]
    fn each_kind_has_its_value() {
        let key = bundle(r#"{"key": {"kid": "https://v/keys/a/9", "kty": "RSA", "n": "AQ", "e": "AQAB"}}"#);
        assert_eq!(key.version().as_deref(), Some("9"));
        let jwk = key.into_value("key/a", Kind::Key).unwrap();
        assert_eq!(jwk.expose_str(), Some(r#"{"kid": "https://v/keys/a/9", "kty": "RSA", "n": "AQ", "e": "AQAB"}"#));
        let certificate = bundle(r#"{"cer": "AQL/"}"#).into_value("cert/a", Kind::Certificate).unwrap();
        assert_eq!(certificate.expose(), [1, 2, 255]);
        assert_eq!(bundle("{}").into_value("a", Kind::Secret).unwrap_err().kind, ErrorKind::Malformed);
    }

    fn want(key: &str, metadata: MetadataPolicy) -> Want {
        Want { key: key.into(), metadata, ..Want::default() }
    }

    #[test]
    fn a_path_goes_before_a_literal_key() {
        let value = SecretBytes::from(r#"{"a": {"b": "path"}, "a.b": "literal", "c.d": "dotted"}"#);
        let of = |key: &str, property: &str| {
            let found = Objects.property(&want(key, MetadataPolicy::None), &value, property);
            found.map(|v| v.expose_str().unwrap().to_owned()).map_err(|e| (e.kind, e.detail))
        };
        assert_eq!(of("x", "a.b").unwrap(), "path");
        assert_eq!(of("x", "c.d").unwrap(), "dotted");
        let missing = "property nope does not exist in key x".to_owned();
        assert_eq!(of("x", "nope"), Err((ErrorKind::MissingProperty, missing)));
        assert_eq!(of("cert/x", "nope").unwrap().as_bytes(), value.expose(), "a certificate has no properties");
    }

    #[test]
    fn tags_are_taken_by_name_or_path() {
        let value = SecretBytes::from(r#"{"plain":"p","with.dot":"d","json":"{\"a\":{\"b\":\"c\"}}"}"#);
        let want = want("db", MetadataPolicy::Fetch);
        let of = |property: &str| Objects.property(&want, &value, property).map(|v| v.expose_str().unwrap().to_owned());
        assert_eq!(of("plain").unwrap(), "p");
        assert_eq!(of("with.dot").unwrap(), "d");
        assert_eq!(of("json.a.b").unwrap(), "c");
        assert_eq!(of("nope").unwrap_err().detail, "tag nope does not exist");
        assert_eq!(of("plain.x").unwrap_err().kind, ErrorKind::MissingProperty);
        assert_eq!(Objects.whole(&want, &value).unwrap(), value);
    }

    #[test]
    fn extracted_tags_carry_the_secrets_name() {
        let value = SecretBytes::from(r#"{"flat":"f","map":"{\"a\":\"1\",\"b\":\"2\"}","deep":"{\"a\":{}}"}"#);
        let want = want("secret/db", MetadataPolicy::Fetch);
        let found = Objects.extract(&want, &value, None).unwrap();
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.expose_str().unwrap())).collect();
        assert_eq!(found, [("db_deep", "{\"a\":{}}"), ("db_flat", "f"), ("db_map_a", "1"), ("db_map_b", "2")]);
        let one = Objects.extract(&want, &value, Some("flat")).unwrap();
        assert_eq!(one.keys().collect::<Vec<_>>(), ["secret/db_flat"]);
        for key in ["cert/db", "key/db"] {
            let error = Objects.extract(&Want { key: key.into(), ..Want::default() }, &value, None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unsupported);
        }
    }
}
