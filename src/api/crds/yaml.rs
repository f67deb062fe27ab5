//! Definitions as YAML that is short: what fits on a line stands on one, in the form that JSON and YAML share.
//!
//! Nested as deep as schemas are, YAML in blocks is half indentation, and a file of more than 256 KiB can be applied by nobody who
//! keeps it in an annotation or a ConfigMap.

use serde_json::Value;

/// Longest value that stands on the line of its key.
const LINE: usize = 160;

/// A document.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                out.extend(std::iter::repeat_n(' ', depth));
                out.push_str(&scalar(name));
                out.push(':');
                member(value, depth + 1, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                out.extend(std::iter::repeat_n(' ', depth));
                out.push('-');
                member(value, depth + 1, out);
            }
        }
        other => {
            out.push_str(&line(other));
            out.push('\n');
        }
    }
}

fn member(value: &Value, depth: usize, out: &mut String) {
    let short = line(value);
    if short.len() <= LINE || !(value.is_object() || value.is_array()) {
        out.push(' ');
        out.push_str(&short);
        out.push('\n');
        return;
    }
    out.push('\n');
    block(value, depth, out);
}

fn line(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Object(map) => {
            let members: Vec<_> = map.iter().map(|(name, value)| format!("{}: {}", scalar(name), line(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(line).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A text as YAML: as it is where nothing could take it for something else, else quoted as in JSON.
fn scalar(text: &str) -> String {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '$';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "-_./$".contains(c);
    let word = text.len() > 1 && text.starts_with(begins) && text.chars().all(goes_on);
    let other = ["true", "false", "null", "yes", "no", "on", "off", "nan", "inf"].contains(&text.to_lowercase().as_str());
    if word && !other { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let long = "words ".repeat(50);
        let value = json!({
            "a": {"yes": "no", "n": 1, "y": [true, null, "1e3", "0x1", "~", "a: b", "- x", "#", "", "é", "\u{2028}"]},
            "long": {"text": long, "list": [{"x": long}, [], {}, long]},
            "x-kubernetes-validations": [{"rule": "self.all(x, x == \"a\" || x == 'b')", "message": "one\nof"}],
        });
        let text = document(&value);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
        assert!(text.contains("{\"yes\": \"no\", "), "{text}");
    }
}
