//! Pure: what ESO makes of a secret of Vault, and what is written for a push.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::answer::{Answer, malformed};
use super::config::Version;
use crate::providers::{ErrorKind, ProviderError};
use crate::render::json::{self, exact};
use crate::render::path;
use crate::secret_bytes::SecretBytes;

/// Mark of the secrets that ESO and keyferry wrote: others are never touched.
pub(super) const MANAGED_BY: &str = "managed-by";
pub(super) const OWNER: &str = "external-secrets";
/// Where an engine without versions keeps the mark: in the secret itself.
pub(super) const CUSTOM_METADATA: &str = "custom_metadata";

/// The values of a secret, each as JSON.
pub(super) type Values = BTreeMap<String, SecretBytes>;

/// A secret that was read: its values as one JSON object, keys sorted, and its version.
pub(super) struct Stored {
    pub object: SecretBytes,
    pub version: Option<u64>,
}

impl Stored {
    /// The secret in an answer; `None` where it is deleted, or holds nothing.
    ///
    /// # Errors
    /// `Malformed` where the answer is none of Vault's; `Misconfigured` where it is of an engine without versions.
    pub fn of(answer: &Answer<'_>, version: Version, what: &str) -> Result<Option<Self>, ProviderError> {
        let Some(data) = answer.data() else { return Ok(None) };
        let values = match version {
            Version::V1 => data,
            Version::V2 => answer.member("data").ok_or_else(|| {
                let text = "failed to find data field: the engine behind that path is not of version v2";
                ProviderError::new(ErrorKind::Misconfigured, format!("{what}: {text}"))
            })?,
        };
        if values == b"null" {
            return Ok(None);
        }
        let object = exact::sorted(values).filter(path::is_json_object).ok_or_else(|| malformed(what))?;
        let version = answer.member("metadata").filter(|_| version == Version::V2).and_then(|metadata| {
            #[derive(Deserialize)]
            struct Versioned {
                version: u64,
            }
            serde_json::from_slice::<Versioned>(metadata).ok()
        });
        Ok(Some(Self { object, version: version.map(|metadata| metadata.version) }))
    }

    pub fn values(&self) -> Values {
        path::raw_entries(&self.object).unwrap_or_default()
    }
}

/// What an engine with versions knows of a secret besides its values.
#[derive(Default)]
pub(super) struct Metadata {
    /// What people and tools wrote there.
    pub custom: BTreeMap<String, String>,
    /// Number of the last version; 0 where there was none yet.
    pub current: u64,
    /// What Vault says itself, as far as ESO gives it out.
    system: BTreeMap<String, String>,
}

impl Metadata {
    pub fn of(answer: &Answer<'_>, what: &str) -> Result<Option<Self>, ProviderError> {
        let Some(data) = answer.data() else { return Ok(None) };
        let data: BTreeMap<String, Value> = serde_json::from_slice(data).map_err(|_| malformed(what))?;
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let texts = |names: [&str; 3]| {
            let found = names.into_iter().filter_map(|name| Some((name, data.get(name).filter(|value| !value.is_null())?)));
            found.map(|(name, value)| (name.to_owned(), text(value))).collect()
        };
        let custom = data.get(CUSTOM_METADATA).and_then(Value::as_object);
        Ok(Some(Self {
            custom: custom.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect(),
            current: data.get("current_version").and_then(Value::as_u64).unwrap_or_default(),
            system: texts(["created_time", "current_version", "delete_version_after"]),
        }))
    }

    pub fn is_ours(&self) -> bool {
        self.custom.get(MANAGED_BY).is_some_and(|owner| owner == OWNER)
    }

    /// Whether it has these tags.
    pub fn has(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.iter().all(|(name, value)| self.custom.get(name).or_else(|| self.system.get(name)) == Some(value))
    }

    /// As the value of a read with `metadataPolicy: Fetch`.
    pub fn object(&self) -> SecretBytes {
        let mut texts = self.system.clone();
        texts.extend(self.custom.clone());
        exact_texts(&texts)
    }
}

/// An object of texts, escaped as all that Vault's provider hands out.
pub(super) fn exact_texts(texts: &BTreeMap<String, String>) -> SecretBytes {
    let values: Values = texts.iter().map(|(name, value)| (name.clone(), json_text(value.as_bytes()))).collect();
    object(&values)
}

pub(super) fn object(values: &Values) -> SecretBytes {
    exact::object(values.iter().map(|(name, value)| (name.as_str(), value.expose())))
}

/// A text as JSON.
pub(super) fn json_text(text: &[u8]) -> SecretBytes {
    // room for the worst: a vector that grows leaves a copy behind
    let mut out = Vec::with_capacity(6 * text.len() + 2);
    json::append_string(&mut out, text, true);
    SecretBytes::new(out)
}

/// The values that a secret is to have after a push.
///
/// # Errors
/// `Misconfigured` where Vault cannot keep the value.
pub(super) fn pushed(
    current: Option<&Values>,
    value: &SecretBytes,
    property: Option<&str>,
) -> Result<Values, ProviderError> {
    let misconfigured = |text: &str| ProviderError::new(ErrorKind::Misconfigured, text);
    let Some(property) = property else {
        let text =
            "error unmarshalling vault secret: invalid JSON format: Vault keeps objects, so push one, or name a property";
        let sorted = exact::sorted(value.expose()).filter(path::is_json_object);
        return sorted.as_ref().and_then(path::raw_entries).ok_or_else(|| misconfigured(text));
    };
    let text = value.expose_str().ok_or_else(|| {
        misconfigured("the value is not UTF-8 text, which is all that Vault keeps: push it as base64, or leave it out")
    })?;
    let mut values = current.cloned().unwrap_or_default();
    values.insert(property.to_owned(), json_text(text.as_bytes()));
    Ok(values)
}

/// Whether an engine has these values already. One with versions keeps numbers as doubles, and gives them back so.
pub(super) fn same(found: Option<&Values>, wanted: &Values, version: Version) -> bool {
    let same = |(found, wanted): (&SecretBytes, &SecretBytes)| {
        found == wanted
            || version == Version::V2
                && json::parse(found.expose()).is_some_and(|found| Some(found) == json::parse(wanted.expose()))
    };
    found.is_some_and(|found| found.keys().eq(wanted.keys()) && found.values().zip(wanted.values()).all(same))
}

/// The values as an engine without versions keeps them: with the mark.
pub(super) fn marked(mut values: Values) -> Values {
    let mark = exact_texts(&BTreeMap::from([(MANAGED_BY.to_owned(), OWNER.to_owned())]));
    values.insert(CUSTOM_METADATA.to_owned(), mark);
    values
}

/// Whether the mark is among the values of a secret of an engine without versions.
pub(super) fn is_marked(values: &Values) -> bool {
    let metadata = values.get(CUSTOM_METADATA).and_then(path::object_entries);
    metadata.is_some_and(|metadata| metadata.get(MANAGED_BY).is_some_and(|owner| owner.expose() == OWNER.as_bytes()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn stored(body: &str, version: Version) -> Result<Option<(String, Option<u64>)>, ErrorKind> {
        let body = SecretBytes::from(body);
        let answer = Answer::of(Some(&body), "x").unwrap();
        let stored = Stored::of(&answer, version, "x").map_err(|error| error.kind)?;
        Ok(stored.map(|stored| (stored.object.expose_str().unwrap().to_owned(), stored.version)))
    }

    #[test]
    fn a_secret_is_one_object() {
        let versioned = r#"{"data":{"data":{"b":"<","a":12345678901234567890},"metadata":{"version":3}}}"#;
        let sorted = r#"{"a":12345678901234567890,"b":"\u003c"}"#.to_owned();
        assert_eq!(stored(versioned, Version::V2), Ok(Some((sorted.clone(), Some(3)))));
        let plain = r#"{"data":{"b":"<","a":12345678901234567890}}"#;
        assert_eq!(stored(plain, Version::V1), Ok(Some((sorted, None))));
        for none in [r#"{"data":{"data":null,"metadata":{"version":3}}}"#, r#"{"data":null}"#, "{}"] {
            assert_eq!(stored(none, Version::V2), Ok(None), "{none}");
        }
        assert_eq!(stored(plain, Version::V2), Err(ErrorKind::Misconfigured), "an engine without versions");
        for bad in [r#"{"data":{"data":[]}}"#, r#"{"data":{"data":"x"}}"#] {
            assert_eq!(stored(bad, Version::V2), Err(ErrorKind::Malformed), "{bad}");
        }
        assert_eq!(stored(r#"{"data":[1]}"#, Version::V1), Err(ErrorKind::Malformed));
    }

    #[test]
    fn metadata_is_texts() {
        let body = SecretBytes::from(
            r#"{"data":{"cas_required":false,"created_time":"t","current_version":3,"custom_metadata":{"z":"<","managed-by":"external-secrets"},"delete_version_after":"0s","max_versions":0,"versions":{}}}"#,
        );
        let metadata = Metadata::of(&Answer::of(Some(&body), "x").unwrap(), "x").unwrap().unwrap();
        let want = r#"{"created_time":"t","current_version":"3","delete_version_after":"0s","managed-by":"external-secrets","z":"\u003c"}"#;
        assert_eq!(metadata.object().expose_str(), Some(want));
        assert!(metadata.is_ours());
        let tags = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert!(metadata.has(&tags(&[("z", "<"), ("current_version", "3")])) && metadata.has(&tags(&[])));
        assert!(!metadata.has(&tags(&[("z", "<"), ("y", "")])));
        let bare = SecretBytes::from(r#"{"data":{"custom_metadata":null,"current_version":0}}"#);
        let bare = Metadata::of(&Answer::of(Some(&bare), "x").unwrap(), "x").unwrap().unwrap();
        assert!(!bare.is_ours() && bare.current == 0);
    }

    #[test]
    fn a_push_keeps_what_it_is_not_about() {
        let text = |values: Result<Values, ProviderError>| {
            values.map(|values| object(&values).expose_str().unwrap().to_owned()).map_err(|error| error.kind)
        };
        let value = SecretBytes::from;
        let current = Values::from([("a.b".to_owned(), value("1.50")), ("c".to_owned(), value("\"x\""))]);
        let set = pushed(Some(&current), &value("v<"), Some("a.b"));
        assert_eq!(text(set).unwrap(), r#"{"a.b":"v\u003c","c":"x"}"#, "a property is a name, not a path");
        assert_eq!(text(pushed(None, &value("v"), Some("p"))).unwrap(), r#"{"p":"v"}"#);
        assert_eq!(text(pushed(Some(&current), &value(r#"{"z":1.50}"#), None)).unwrap(), r#"{"z":1.50}"#);
        for bad in ["text", "[1]", "null", ""] {
            assert_eq!(text(pushed(None, &value(bad), None)), Err(ErrorKind::Misconfigured), "{bad}");
        }
        let binary = SecretBytes::new(vec![0xff]);
        assert_eq!(text(pushed(None, &binary, Some("p"))), Err(ErrorKind::Misconfigured));
    }

    #[test]
    fn numbers_are_compared_as_the_engine_keeps_them() {
        let values = |json: &str| Values::from([("n".to_owned(), SecretBytes::from(json))]);
        let same = |found, wanted, version| same(Some(&values(found)), &values(wanted), version);
        for (found, wanted) in [("1.5", "1.50"), ("12345678901234567000", "12345678901234567890"), ("[1000]", "[1e3]")] {
            assert!(same(found, wanted, Version::V2) && !same(found, wanted, Version::V1), "{found} {wanted}");
        }
        for (found, wanted) in [("1", "\"1\""), ("1.5", "1.6"), ("\"a\"", "\"b\"")] {
            assert!(!same(found, wanted, Version::V2), "{found} {wanted}");
        }
        assert!(
            !super::same(None, &values("1"), Version::V2) && !super::same(Some(&Values::new()), &values("1"), Version::V2)
        );
    }

    #[test]
    fn the_mark_stands_among_the_values() {
        let values = Values::from([("a".to_owned(), SecretBytes::from("\"x\""))]);
        assert!(!is_marked(&values));
        let marked = marked(values);
        assert!(is_marked(&marked));
        assert_eq!(object(&marked).expose_str(), Some(r#"{"a":"x","custom_metadata":{"managed-by":"external-secrets"}}"#));
        let other = Values::from([(CUSTOM_METADATA.to_owned(), SecretBytes::from(r#"{"managed-by":"me"}"#))]);
        assert!(!is_marked(&other));
    }
}
