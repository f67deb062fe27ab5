//! What of a schema an object shows: fields, entries, and choices among few.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::parts;

/// Everything that objects of a schema can show: each part by its path, and after a `#` which of few choices was taken.
pub fn of_schema(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(schema, "", &mut found);
    found
}

fn collect(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    found.extend((0..choices(schema).len()).map(|i| format!("{path}#{i}")));
    for (path, part) in parts(schema, path) {
        collect(part, &path, found);
    }
}

/// What an object of that schema shows.
pub fn of_object(schema: &Value, object: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    see(schema, object, "", &mut found);
    found
}

fn see(schema: &Value, value: &Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    let matches = |choice: &Value| choice == value || (schema["x-kubernetes-int-or-string"] == true && alike(choice, value));
    let taken = choices(schema).iter().position(matches);
    found.extend(taken.map(|i| format!("{path}#{i}")));
    match value {
        Value::Array(items) => items.iter().for_each(|item| see(&schema["items"], item, &format!("{path}[]"), found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Some(part) = schema["properties"].get(name) {
                    see(part, field, &format!("{path}.{name}"), found);
                } else if schema["additionalProperties"].is_object() {
                    see(&schema["additionalProperties"], field, &format!("{path}{{}}"), found);
                }
            }
        }
        _ => {}
    }
}

fn alike(one: &Value, other: &Value) -> bool {
    one.is_string() == other.is_string()
}

/// The choices of a part that has few: the words of an enum, both booleans, a number or a text.
pub fn choices(schema: &Value) -> Vec<Value> {
    if let Some(words) = schema["enum"].as_array() {
        return words.clone();
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return vec![json!(30), json!("5m")];
    }
    if schema["type"] == "boolean" { vec![json!(false), json!(true)] } else { Vec::new() }
}
