//! JSONPath (RFC 9535), which the webhook generator and provider cut their answers with.

use jsonpath_rust::JsonPath as _;
use serde_json::Value;

use crate::secret_bytes::SecretBytes;

/// Most bytes of a path, and most brackets inside each other: the parser goes one level down for each.
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 32;

/// Why a path gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    /// The path is none, or one that is too long or nested too deep.
    #[error("it is not a JSONPath like \"$.data.items[0]\"")]
    Path,
    /// The value is not JSON.
    #[error("the answer is not JSON")]
    Json,
    /// Nothing is there.
    #[error("the answer has nothing at that path")]
    Nothing,
}

/// What a path leads to, as JSON text: of several matches the first one.
///
/// # Errors
/// [`JsonPathError`]. It never holds a value.
pub fn first(json: &SecretBytes, path: &str) -> Result<SecretBytes, JsonPathError> {
    if path.len() > MAX_PATH || depth(path) > MAX_DEPTH {
        return Err(JsonPathError::Path);
    }
    let value: Value = serde_json::from_slice(json.expose()).map_err(|_| JsonPathError::Json)?;
    let found = value.query(path).map_err(|_| JsonPathError::Path)?;
    found.first().map(|value| SecretBytes::from(value.to_string())).ok_or(JsonPathError::Nothing)
}

/// How deep brackets and negations are nested; those in quoted names count too, which does no harm.
fn depth(path: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for byte in path.bytes() {
        match byte {
            b'(' | b'[' | b'!' => open += 1,
            b')' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn get(json: &str, path: &str) -> Result<String, JsonPathError> {
        first(&SecretBytes::from(json), path).map(|found| found.expose_str().unwrap().to_owned())
    }

    #[test]
    fn paths_lead_to_values() {
        let json =
            r#"{"data": {"a b": [1, {"x": "y"}], "n": null, "items": [{"id": 1, "v": "one"}, {"id": 2, "v": "two"}]}}"#;
        for (path, want) in [
            ("$.data['a b'][1]", r#"{"x":"y"}"#),
            ("$[\"data\"].n", "null"),
            ("$.data.items[-1].v", r#""two""#),
            ("$.data.items[?@.id == 2].v", r#""two""#),
            ("$.data.items[*].v", r#""one""#),
            ("$..x", r#""y""#),
        ] {
            assert_eq!(get(json, path).as_deref(), Ok(want), "{path}");
        }
        assert_eq!(get(json, "$.gone"), Err(JsonPathError::Nothing));
        assert_eq!(get(json, "$.data.items[7]"), Err(JsonPathError::Nothing));
        assert_eq!(get("canary", "$"), Err(JsonPathError::Json));
        for bad in ["", "data", "$.", "$[", "$[?"] {
            assert_eq!(get(json, bad), Err(JsonPathError::Path), "{bad}");
        }
    }

    #[test]
    fn paths_are_bounded() {
        for bad in [
            "$[?(".repeat(50_000),
            format!("$[?{}", "(".repeat(4000)),
            format!("$[?{}@.a", "!".repeat(4000)),
            "$.a".repeat(2000),
        ] {
            assert_eq!(get("{}", &bad), Err(JsonPathError::Path));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics(path in r#"[$@.?*:!,'"\[\]()&|<>=a-c0-9 -]{0,40}"#) {
            let _ = get(r#"{"a": [1, {"b": "c"}]}"#, &format!("${path}"));
        }
    }
}
