//! What the providers hold, as a file says it, where no provider is asked.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::api::external_secret::MetadataPolicy;
use crate::providers::{FindQuery, ProviderError, Want};
use crate::render::manifest::SecretJson;
use crate::render::yaml;
use crate::secret_bytes::SecretBytes;

/// The field that holds values of single stores.
const STORES: &str = "stores";
/// Ends the key under which tags or labels stand.
const METADATA: &str = "!metadata";
/// Stands before a version.
const VERSION: char = '@';

/// Values by key; `None` for a key that the provider does not have.
type Held = BTreeMap<String, Option<SecretBytes>>;

/// A values file that cannot be used. Never shows a value.
#[derive(Debug, thiserror::Error)]
#[error("values file {path}: {cause}")]
pub struct BadValues {
    path: String,
    cause: String,
}

/// Values of all stores.
#[derive(Debug, Default)]
pub struct Values {
    shared: Held,
    stores: BTreeMap<String, Held>,
}

/// What the file says about a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// This value.
    Value(SecretBytes),
    /// The provider does not have it.
    Missing,
    /// Nothing.
    Unknown,
}

impl Values {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no map of keys and values.
    pub fn read(path: &Path) -> Result<Self, BadValues> {
        let bad = |cause: String| BadValues { path: path.display().to_string(), cause };
        let text = std::fs::read(path).map(SecretBytes::new).map_err(|e| bad(e.to_string()))?;
        Self::parse(&text).map_err(bad)
    }

    fn parse(text: &SecretBytes) -> Result<Self, String> {
        let json = SecretJson::new(yaml::to_json(text).map_err(|e| match e {
            yaml::YamlError::NotYaml(e) => format!("no YAML: line {}: {}", e.line, e.reason),
            yaml::YamlError::Type { .. } => "no YAML".to_owned(),
        })?);
        let all = match json.expose() {
            Value::Null => return Ok(Self::default()),
            Value::Object(all) => all,
            _ => return Err("must be a map of remote keys and their values".into()),
        };
        let mut values = Self::default();
        for (key, value) in all {
            match value {
                Value::Object(stores) if key == STORES => {
                    for (store, held) in stores {
                        let Value::Object(held) = held else { return Err(format!("{STORES}.{store}: must be a map")) };
                        let held = held.iter().map(|(key, value)| (key.clone(), written(value)));
                        values.stores.insert(store.clone(), held.collect());
                    }
                }
                _ => {
                    values.shared.insert(key.clone(), written(value));
                }
            }
        }
        Ok(values)
    }

    /// What is known of a key of a store. The store's own values come first.
    #[must_use]
    pub fn get(&self, store: &str, want: &Want) -> Known {
        let mut key = want.key.clone();
        if !want.version.is_empty() {
            key.push(VERSION);
            key.push_str(&want.version);
        }
        if want.metadata == MetadataPolicy::Fetch {
            key.push_str(METADATA);
        }
        let own = self.stores.get(store).and_then(|held| held.get(&key));
        match own.or_else(|| self.shared.get(&key)) {
            Some(Some(value)) => Known::Value(value.clone()),
            Some(None) => Known::Missing,
            None => Known::Unknown,
        }
    }

    /// Keys of a store that a search finds.
    ///
    /// # Errors
    /// `Misconfigured` where its expression is none.
    pub fn find(&self, store: &str, query: &FindQuery) -> Result<Vec<String>, ProviderError> {
        let name = query.matcher()?;
        let own = self.stores.get(store);
        let mut keys: Vec<&String> = own.into_iter().chain([&self.shared]).flat_map(|held| held.keys()).collect();
        keys.sort();
        keys.dedup();
        // a version is one of a key that is there, else the sign is a part of the name
        let versioned =
            |key: &str| key.match_indices(VERSION).any(|(at, _)| keys.iter().any(|k| Some(k.as_str()) == key.get(..at)));
        let current = keys.iter().copied().filter(|key| !versioned(key) && !key.ends_with(METADATA));
        Ok(current
            .filter(|key| name.is_match(key) && key.starts_with(&query.path) && self.has_tags(store, key, &query.tags))
            .cloned()
            .collect())
    }

    /// Whether a key has tags: a map of them, or labels in the metadata of a Secret.
    fn has_tags(&self, store: &str, key: &str, tags: &BTreeMap<String, String>) -> bool {
        if tags.is_empty() {
            return true;
        }
        let want = Want { key: key.to_owned(), metadata: MetadataPolicy::Fetch, ..Want::default() };
        let Known::Value(held) = self.get(store, &want) else { return false };
        let Ok(held) = yaml::to_json(&held) else { return false };
        let has = |map: &Value| tags.iter().all(|(tag, text)| map.get(tag).and_then(Value::as_str) == Some(text));
        has(&held) || has(&held["labels"])
    }
}

/// A value as the provider would hold it: text as it is, all else as JSON.
fn written(value: &Value) -> Option<SecretBytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(SecretBytes::from(text.as_str())),
        other => Some(SecretBytes::from(other.to_string())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FILE: &str = "\
plain: text
number: 010
map: {user: app, port: 5432}
gone: null
plain@v1: old
plain!metadata: {team: a}
stores:
  special: {plain: own, other: x}
";

    fn values() -> Values {
        Values::parse(&FILE.into()).unwrap()
    }

    fn want(key: &str) -> Want {
        Want { key: key.into(), ..Want::default() }
    }

    #[test]
    fn a_value_is_found_by_store_key_version_and_policy() {
        let values = values();
        let value = |text: &str| Known::Value(text.into());
        assert_eq!(values.get("s", &want("plain")), value("text"));
        assert_eq!(values.get("special", &want("plain")), value("own"));
        assert_eq!(values.get("special", &want("number")), value("8"));
        assert_eq!(values.get("s", &want("other")), Known::Unknown);
        assert_eq!(values.get("s", &want("map")), value(r#"{"port":5432,"user":"app"}"#));
        assert_eq!(values.get("s", &want("gone")), Known::Missing);
        assert_eq!(values.get("s", &Want { version: "v1".into(), ..want("plain") }), value("old"));
        assert_eq!(values.get("s", &Want { version: "v2".into(), ..want("plain") }), Known::Unknown);
        assert_eq!(values.get("s", &Want { metadata: MetadataPolicy::Fetch, ..want("plain") }), value(r#"{"team":"a"}"#));
    }

    #[test]
    fn a_search_finds_current_values() {
        let query = |name: &str, path: &str, tags: &[(&str, &str)]| FindQuery {
            name: name.into(),
            path: path.into(),
            tags: tags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        };
        let values = values();
        assert_eq!(values.find("s", &query("^[mp]", "", &[])).unwrap(), ["map", "plain"]);
        assert_eq!(values.find("special", &query("", "o", &[])).unwrap(), ["other"]);
        assert_eq!(values.find("s", &query("", "", &[("team", "a")])).unwrap(), ["plain"]);
        assert!(values.find("s", &query("", "", &[("team", "b")])).unwrap().is_empty());
        assert_eq!(values.find("s", &query(r"\Qpl\E", "", &[])).unwrap(), ["plain"], "RE2's syntax, as providers take it");
        assert!(values.find("s", &query("a**", "", &[])).is_err());
    }

    #[test]
    fn a_search_finds_keys_with_the_sign_of_a_version() {
        let values = Values::parse(&"{user@corp: x, user@corp@v1: old, a@b@c: y, plain: z, plain@v1: old}".into()).unwrap();
        assert_eq!(values.find("s", &FindQuery::default()).unwrap(), ["a@b@c", "plain", "user@corp"]);
    }

    #[test]
    fn a_file_that_is_no_map_is_told_without_its_text() {
        for text in ["- canary", "canary", "a: canary: b", "stores: {s: canary}"] {
            let why = Values::parse(&text.into()).unwrap_err();
            assert!(!why.contains("canary"), "{why}");
        }
        assert!(Values::parse(&"".into()).unwrap().shared.is_empty());
    }
}
