//! What the API server checks of an object before CEL: the structural schema, and strictly, that no field is unknown.

use regex::Regex;
use serde_json::Value;

/// An object without the fields whose `null` the schema does not let stay, as the API server stores it.
pub fn without_nulls(schema: &Value, value: &Value) -> Value {
    let part = |name: &str| schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, field)| !field.is_null() || part(name)["nullable"] == true)
            .map(|(name, field)| (name.clone(), without_nulls(part(name), field)))
            .collect(),
        Value::Array(items) => items.iter().map(|item| without_nulls(&schema["items"], item)).collect(),
        other => other.clone(),
    }
}

/// What is wrong with a value, each with its path; unknown fields among it.
pub fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut wrong = |what: &str| found.push(format!("{path}: {what}"));
    if !has_type(schema, value) {
        return wrong(&format!("is not of type {}", schema["type"]));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        wrong(&format!("is none of {allowed:?}"));
    }
    match value {
        Value::String(text) => {
            if let Some(pattern) = schema["pattern"].as_str()
                && !Regex::new(pattern).unwrap().is_match(text)
            {
                wrong(&format!("does not match {pattern}"));
            }
            bounds(schema, "Length", text.chars().count(), &mut wrong);
        }
        Value::Number(number) => {
            let (min, max) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            if min.is_some_and(|min| number.as_f64() < Some(min)) || max.is_some_and(|max| number.as_f64() > Some(max)) {
                wrong("is out of range");
            }
        }
        Value::Array(items) => {
            bounds(schema, "Items", items.len(), &mut wrong);
            let known = if schema["items"].is_object() { items.as_slice() } else { &[] };
            for (i, item) in known.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{i}]"), found);
            }
        }
        Value::Object(fields) => {
            bounds(schema, "Properties", fields.len(), &mut wrong);
            for name in schema["required"].as_array().into_iter().flatten() {
                if !fields.contains_key(name.as_str().unwrap()) {
                    wrong(&format!("lacks {name}"));
                }
            }
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                if let Some(property) = schema["properties"].get(name) {
                    check(property, field, &path, found);
                } else if schema["additionalProperties"].is_object() {
                    check(&schema["additionalProperties"], field, &path, found);
                } else if !is_open(schema, &path) {
                    found.push(format!("{path}: unknown field"));
                }
            }
        }
        _ => {}
    }
}

/// Whether a field need not be in the schema: where the schema says so, and in `metadata`, which the API server checks elsewhere.
fn is_open(schema: &Value, path: &str) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true || path.starts_with(".metadata.")
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
        None if schema["x-kubernetes-preserve-unknown-fields"] == true => true,
        other => panic!("a schema of type {other:?}"),
    }
}

fn bounds(schema: &Value, what: &str, count: usize, wrong: &mut impl FnMut(&str)) {
    let count = count as u64;
    if schema[format!("min{what}")].as_u64().is_some_and(|min| count < min) {
        wrong(&format!("has too few: min{what}"));
    }
    if schema[format!("max{what}")].as_u64().is_some_and(|max| count > max) {
        wrong(&format!("has too many: max{what}"));
    }
}
