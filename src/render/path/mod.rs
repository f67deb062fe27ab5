//! gjson paths: how a `property` picks a part out of a JSON value.
//!
//! The syntax and its results are those of Go's gjson 1.18.0, on whose every corner existing manifests may lean, broken JSON
//! included; `tests/vectors/gjson.jsonl` holds what the original answers. Unlike it, a look-up is bounded: one that would take
//! more than [`limits`] allow finds nothing.

mod limits;
mod modifiers;
mod multipath;
mod pretty;
mod query;
mod scan;
mod value;
mod walk;

use std::collections::BTreeMap;

use super::json;
use crate::secret_bytes::SecretBytes;

pub use value::Value;

/// What is at a path, or nothing.
#[must_use]
pub fn get<'j>(json: &'j [u8], path: &str) -> Option<Value<'j>> {
    let found = walk::get(json, path.as_bytes(), &mut limits::Limits::of(json.len())).ok()?;
    found.exists().then_some(found)
}

/// The property as a literal key (its dots escaped) first, then as a gjson path: AWS's rule, and the common one.
#[must_use]
pub fn escaped_then_path(value: &SecretBytes, property: &str) -> Option<SecretBytes> {
    let json = value.expose();
    let literal = property.contains('.').then(|| get(json, &property.replace('.', "\\."))).flatten();
    literal.or_else(|| get(json, property)).map(Value::into_secret)
}

/// The property as a top-level key, taken letter for letter, then as a gjson path: Vault's rule.
#[must_use]
pub fn exact_then_path(value: &SecretBytes, property: &str) -> Option<SecretBytes> {
    let exact = object_entries(value).and_then(|mut entries| entries.remove(property));
    exact.or_else(|| get(value.expose(), property).map(Value::into_secret))
}

/// The top-level properties of a JSON object: strings unquoted, `null` empty, anything else its raw text.
///
/// As in Go, the last of several properties of one name wins, and a bare `null` is an object without properties.
#[must_use]
pub fn object_entries(value: &SecretBytes) -> Option<BTreeMap<String, SecretBytes>> {
    let entries = json::members(value.expose())?;
    Some(entries.into_iter().map(|(key, raw)| (key, json::unquoted(raw))).collect())
}

/// The top-level properties of a JSON object, each as the JSON text that it is; strings keep their quotes.
#[must_use]
pub fn raw_entries(value: &SecretBytes) -> Option<BTreeMap<String, SecretBytes>> {
    let entries = json::members(value.expose())?;
    Some(entries.into_iter().map(|(key, raw)| (key, SecretBytes::new(raw.to_vec()))).collect())
}

/// Whether the bytes are a JSON object.
#[must_use]
pub fn is_json_object(value: &SecretBytes) -> bool {
    let bytes = value.expose();
    bytes.trim_ascii_start().first() == Some(&b'{') && json::is_valid(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
