//! gjson paths.

use std::collections::BTreeMap;

use crate::secret_bytes::SecretBytes;

/// The property as a literal key (its dots escaped) first, then as a gjson path: AWS's rule, and the common one.
#[must_use]
pub fn escaped_then_path(value: &SecretBytes, property: &str) -> Option<SecretBytes> {
    let _ = (value, property);
    None
}

/// The top-level properties of a JSON object: strings unquoted, `null` empty, anything else its raw text.
#[must_use]
pub fn object_entries(value: &SecretBytes) -> Option<BTreeMap<String, SecretBytes>> {
    let _ = value;
    None
}
