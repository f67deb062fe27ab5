//! What the API server checks of an object before CEL: its structural schema, and strictly, that no field is unknown.
//!
//! What is told names the field and the rule, and never what the field holds: a Fake store's spec holds values.

use regex::Regex;
use serde_json::Value;

/// Most fields that are named to somebody who wrote one that is not there.
const MOST_NAMED: usize = 16;

/// An object without the fields whose `null` the schema does not let stay, as the API server stores it: where there is no schema,
/// they stay.
#[must_use]
pub fn without_nulls(schema: &Value, value: &Value) -> Value {
    let part = |name: &str| schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, field)| !field.is_null() || !part(name).is_object() || part(name)["nullable"] == true)
            .map(|(name, field)| (name.clone(), without_nulls(part(name), field)))
            .collect(),
        Value::Array(items) => items.iter().map(|item| without_nulls(&schema["items"], item)).collect(),
        other => other.clone(),
    }
}

/// What is wrong with a value, each with its path; unknown fields among it.
#[must_use]
pub fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let shown = if path.is_empty() { "the object" } else { path };
    if schema["x-kubernetes-preserve-unknown-fields"] == true && schema["properties"].is_null() {
        return;
    }
    let mut wrong = |what: &str| found.push(format!("{shown}: {what}"));
    if !has_type(schema, value) {
        return wrong(&format!("must be {}", wanted(schema)));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        wrong(&format!("must be one of {}", allowed.join(", ")));
    }
    match value {
        Value::String(text) => {
            if let Some(pattern) = schema["pattern"].as_str()
                && Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
            {
                wrong(&format!("must match {pattern}"));
            }
            bounds(schema, "Length", "characters", text.chars().count(), &mut wrong);
        }
        Value::Number(number) => {
            let limit = |name: &str| schema[name].as_f64().zip(number.as_f64());
            if let Some((min, _)) = limit("minimum").filter(|(min, number)| number < min) {
                wrong(&format!("must be at least {min}"));
            }
            if let Some((max, _)) = limit("maximum").filter(|(max, number)| number > max) {
                wrong(&format!("must be at most {max}"));
            }
        }
        Value::Array(items) => {
            bounds(schema, "Items", "items", items.len(), &mut wrong);
            let known = if schema["items"].is_object() { items.as_slice() } else { &[] };
            for (i, item) in known.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{i}]"), found);
            }
        }
        Value::Object(fields) => {
            bounds(schema, "Properties", "fields", fields.len(), &mut wrong);
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    wrong(&format!("lacks {name}"));
                }
            }
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if let Some(property) = schema["properties"].get(name) {
                    check(property, field, &path, found);
                } else if schema["additionalProperties"].is_object() {
                    check(&schema["additionalProperties"], field, &path, found);
                } else if !is_open(schema, &path) {
                    found.push(format!("{path}: unknown field{}", known(schema)));
                }
            }
        }
        _ => {}
    }
}

/// The fields that there are, where they are few.
fn known(schema: &Value) -> String {
    match schema["properties"].as_object() {
        Some(fields) if (1..=MOST_NAMED).contains(&fields.len()) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!("; known are {}", names.join(", "))
        }
        _ => String::new(),
    }
}

/// Whether a field need not be in the schema: where the schema says so, and in `metadata`, which the API server checks elsewhere.
fn is_open(schema: &Value, path: &str) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true || path.starts_with("metadata.")
}

fn has_type(schema: &Value, value: &Value) -> bool {
    if value.is_null() {
        return schema["nullable"] == true;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_i64() || value.is_string();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        _ => true,
    }
}

/// What a field must be, in words.
fn wanted(schema: &Value) -> &'static str {
    if schema["x-kubernetes-int-or-string"] == true {
        return "a number or a text";
    }
    match schema["type"].as_str() {
        Some("object") => "a map",
        Some("array") => "a list",
        Some("string") => "a text (put it in quotes)",
        Some("boolean") => "true or false",
        Some("integer") => "a whole number",
        _ => "a number",
    }
}

fn bounds(schema: &Value, what: &str, unit: &str, count: usize, wrong: &mut impl FnMut(&str)) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    if let Some(min) = schema[format!("min{what}")].as_u64().filter(|min| count < *min) {
        wrong(&format!("must have at least {min} {unit}"));
    }
    if let Some(max) = schema[format!("max{what}")].as_u64().filter(|max| count > *max) {
        wrong(&format!("must have at most {max} {unit}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_null_stays_where_the_schema_says_nothing_of_it() {
        let text = json!({ "type": "string" });
        let schema = json!({ "type": "object", "properties": {
            "a": text, "n": { "type": "string", "nullable": true }, "m": { "type": "object", "additionalProperties": text },
            "any": { "x-kubernetes-preserve-unknown-fields": true },
            "list": { "type": "array", "items": { "type": "object", "properties": { "a": text } } },
        } });
        let open = json!({ "tags": null, "deep": [{ "x": null }, null] });
        let object = json!({ "a": null, "n": null, "m": { "x": null, "y": "z" }, "any": open, "list": [{ "a": null }], "else": null });
        let stored = json!({ "n": null, "m": { "y": "z" }, "any": open, "list": [{}], "else": null });
        assert_eq!(without_nulls(&schema, &object), stored);
        assert_eq!(without_nulls(&schema, &json!({ "any": null })), json!({}));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_value() {
        let text = json!({ "type": "string", "pattern": "^a", "maxLength": 3 });
        let schema = json!({ "type": "object", "required": ["k"], "properties": {
            "k": text, "e": { "type": "string", "enum": ["A", "B"] }, "l": { "type": "array", "minItems": 1, "items": { "type": "integer" } },
            "m": { "type": "object", "additionalProperties": text }, "n": { "type": "boolean", "nullable": true },
        } });
        let table = [
            (json!({ "k": "abc", "e": "A", "l": [1], "m": { "x": "a" }, "n": null }), &[][..]),
            (json!({}), &["the object: lacks k"][..]),
            (json!([]), &["the object: must be a map"]),
            (json!({ "k": "canary" }), &["k: must match ^a", "k: must have at most 3 characters"]),
            (json!({ "k": "a", "e": "canary" }), &[r#"e: must be one of "A", "B""#]),
            (json!({ "k": "a", "l": [] }), &["l: must have at least 1 items"]),
            (json!({ "k": "a", "l": [1, "canary"] }), &["l[1]: must be a whole number"]),
            (json!({ "k": "a", "m": { "x": 5 } }), &["m.x: must be a text (put it in quotes)"]),
            (json!({ "k": "a", "z": "canary" }), &["z: unknown field; known are k, e, l, m, n"]),
        ];
        for (object, wanted) in table {
            assert_eq!(errors(&schema, &object), wanted, "{object}");
        }
    }
}
