//! JSONPath (RFC 9535), which the webhook generator and provider cut their answers with.

use jsonpath_rust::JsonPath as _;
use serde_json::Value;

use crate::secret_bytes::SecretBytes;

/// Most bytes of a path, and most brackets inside each other: the parser goes one level down for each.
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 32;
/// Most values in an answer, and most that a path may come by: the parser and the library keep some hundred bytes for each.
const MAX_VALUES: usize = 500_000;

/// Why a path gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    /// The path is none, or one that is too long or nested too deep.
    #[error("it is not a JSONPath like \"$.data.items[0]\"")]
    Path,
    /// The value is not JSON.
    #[error("the answer is not JSON")]
    Json,
    /// The answer holds too much for that path.
    #[error("the answer is too large for that path: let it name what is wanted more closely")]
    Large,
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
    if cost(path, values(json.expose())) > MAX_VALUES {
        return Err(JsonPathError::Large);
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

/// About how many values a JSON text holds, and never less.
fn values(json: &[u8]) -> usize {
    1 + json.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count()
}

/// About how many values a path comes by in an answer of `values`. The library keeps what it comes by twice twice: so for each
/// comma, and all the more for `..` after `..`; what stands in a filter is looked for once for each value.
fn cost(path: &str, values: usize) -> usize {
    let (mut cost, mut descents, mut filters) = (values, 0_usize, Vec::new());
    let (mut before, mut bytes) = (b' ', path.bytes());
    while let Some(byte) = bytes.next() {
        let inside = filters.contains(&true);
        match byte {
            b'\'' | b'"' => pass_name(byte, &mut bytes),
            b'[' | b'(' => filters.push(false),
            b']' | b')' => drop(filters.pop()),
            b',' => cost = cost.saturating_mul(2),
            b'*' if inside => cost = cost.saturating_mul(values),
            b'?' => {
                cost = if inside { cost.saturating_mul(values) } else { cost };
                if let Some(filter) = filters.last_mut() {
                    *filter = true;
                }
            }
            b'.' if before == b'.' => {
                descents += 1;
                cost = if inside || descents > 1 { cost.saturating_mul(values) } else { cost };
            }
            _ => {}
        }
        before = byte;
    }
    cost
}

/// Passes over a name in quotes.
fn pass_name(quote: u8, bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            _ if byte == quote => return,
            _ => {}
        }
    }
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

    #[test]
    fn what_would_come_by_too_much_is_refused_before_it_begins() {
        let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        let wide = format!("[{}0]", "0,".repeat(MAX_VALUES));
        let rows = format!("[{}{{\"id\":0}}]", "{\"id\":1},".repeat(20_000));
        for (json, path) in [
            (&nested, format!("${}", "[0,0]".repeat(40))),
            (&nested, "$..*..*..*..*".to_owned()),
            (&nested, "$..[?@..[?@..x]]".to_owned()),
            (&rows, "$[?@..id == 1]".to_owned()),
            (&wide, "$[0]".to_owned()),
            (&nested, format!(r"$['\\']{}", "[0,0]".repeat(40))),
        ] {
            assert_eq!(get(json, &path), Err(JsonPathError::Large), "{path}");
        }
        assert_eq!(get(&rows, "$[?@.id == 0].id").as_deref(), Ok("0"));
        assert_eq!(get(&rows, "$[-1].id").as_deref(), Ok("0"));
        assert_eq!(get(r#"{"a,*?..b": [1, 2, 3]}"#, "$['a,*?..b'][0, 1]").as_deref(), Ok("1"), "names are not looked into");
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics(path in r#"[$@.?*:!,'"\[\]()&|<>=a-c0-9 -]{0,40}"#) {
            let _ = get(r#"{"a": [1, {"b": "c"}]}"#, &format!("${path}"));
        }
    }
}
