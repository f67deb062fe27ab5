//! How values of Bitwarden are taken apart: a value can be JSON or YAML.

use crate::providers::{ErrorKind, Plain, ProviderError, Taker, Want};
use crate::render::{Entries, path, yaml};
use crate::secret_bytes::SecretBytes;

/// Texts that hold JSON, or for `extract` YAML.
pub struct Text;

impl Taker for Text {
    /// What is no text in there comes as JSON.
    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        let part = property.map(|property| self.property(want, value, property)).transpose()?;
        let value = part.as_ref().unwrap_or(value);
        if path::object_entries(value).is_some() {
            return Plain.extract(want, value, None);
        }
        let serde_json::Value::Object(map) = yaml::to_json(value).unwrap_or_default() else {
            let text = format!("the value of {:?} is neither a JSON object nor a map in YAML", want.key);
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        };
        let entry = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => SecretBytes::from(text),
            serde_json::Value::Null => SecretBytes::default(),
            other => SecretBytes::from(other.to_string()),
        };
        Ok(map.into_iter().map(|(key, value)| (key, entry(value))).collect())
    }
}
