//! Pure: the values of an open environment, and the definition of one that is changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::render::json::{self, Json};
use crate::secret_bytes::SecretBytes;

/// How deep values may be nested.
const DEPTH: usize = 100;
/// What makes a value of a definition a secret one.
const SECRET: &str = "fn::secret";

/// A step of a path into values.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The steps of a property path: `a.b`, `a["b.c"]`, `a[0]`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut found = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]")?;
            found.push(Step::Key(key.to_owned()));
            rest = after;
        } else if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = index.split_once(']')?;
            found.push(Step::Index(index.parse().ok()?));
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at_checked(end)?;
            if key.is_empty() {
                return None;
            }
            found.push(Step::Key(key.to_owned()));
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('.') {
            if after.is_empty() {
                return None;
            }
            rest = after;
        }
    }
    (!found.is_empty()).then_some(found)
}

/// The values that an open environment has, without what Pulumi says of where they come from. None: it is no environment, or some
/// value of it is not known.
pub(super) fn resolved(environment: &SecretBytes) -> Option<Json> {
    let Json::Object(mut environment) = json::parse(environment.expose())? else { return None };
    match environment.remove("properties") {
        Some(Json::Object(properties)) => members(properties, DEPTH),
        // An environment without values.
        None | Some(Json::Null) => Some(Json::Object(BTreeMap::new())),
        Some(_) => None,
    }
}

fn members(map: BTreeMap<String, Json>, depth: usize) -> Option<Json> {
    let members = map.into_iter().map(|(key, value)| Some((key, inner(value, depth)?)));
    members.collect::<Option<_>>().map(Json::Object)
}

fn inner(value: Json, depth: usize) -> Option<Json> {
    let Json::Object(mut value) = value else { return None };
    if value.get("unknown") == Some(&Json::Bool(true)) {
        return None;
    }
    let depth = depth.checked_sub(1)?;
    match value.remove("value").unwrap_or(Json::Null) {
        Json::Object(map) => members(map, depth),
        Json::Array(items) => items.into_iter().map(|item| inner(item, depth)).collect::<Option<_>>().map(Json::Array),
        leaf => Some(leaf),
    }
}

/// The value at a path. A key that stands there letter for letter comes first.
pub(super) fn at<'v>(values: &'v Json, path: &str) -> Option<&'v Json> {
    if let Json::Object(map) = values
        && let Some(found) = map.get(path)
    {
        return Some(found);
    }
    steps(path)?.iter().try_fold(values, |value, step| match (value, step) {
        (Json::Object(map), Step::Key(key)) => map.get(key),
        (Json::Array(items), Step::Index(index)) => items.get(*index),
        _ => None,
    })
}

/// The definition of an environment: YAML, read as JSON.
#[derive(Clone, PartialEq)]
pub(super) struct Definition(pub Value);

impl Definition {
    /// The value at a path: as text, and whether it is a secret one.
    pub(super) fn text(&self, path: &[String]) -> Option<(&str, bool)> {
        let mut value = self.0.get("values")?;
        for step in path {
            value = value.get(step)?;
        }
        match value.get(SECRET) {
            Some(secret) => Some((secret.as_str()?, true)),
            None => Some((value.as_str()?, false)),
        }
    }

    /// Whether there is anything at a path.
    pub(super) fn has(&self, path: &[String]) -> bool {
        let values = self.0.get("values");
        path.iter()
            .try_fold(values, |value, step| value.map(|value| value.get(step)))
            .flatten()
            .is_some_and(|v| !v.is_null())
    }

    /// Sets the value at a path, in place of whatever is there.
    pub(super) fn set(&mut self, path: &[String], text: &str, is_secret: bool) {
        let new = if is_secret { Value::Object(Map::from_iter([(SECRET.to_owned(), text.into())])) } else { text.into() };
        let mut place = child(&mut self.0, "values");
        for step in path {
            place = child(place, step);
        }
        *place = new;
    }

    /// Takes the value at a path away, and maps above it down to the first `keep` steps that are empty then. Whether it was there.
    pub(super) fn remove(&mut self, path: &[String], keep: usize) -> bool {
        fn remove(value: &mut Value, path: &[String], keep: usize) -> bool {
            let (Some((step, rest)), Some(map)) = (path.split_first(), value.as_object_mut()) else { return false };
            if rest.is_empty() {
                return map.remove(step).is_some();
            }
            let Some(below) = map.get_mut(step) else { return false };
            let removed = remove(below, rest, keep.saturating_sub(1));
            if removed && keep == 0 && below.as_object().is_some_and(Map::is_empty) {
                map.remove(step);
            }
            removed
        }
        self.0.get_mut("values").is_some_and(|values| remove(values, path, keep))
    }
}

/// The member of a map; what is no map becomes one.
fn child<'v>(value: &'v mut Value, key: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map.entry(key).or_insert(Value::Null),
        other => other,
    }
}

/// The steps of a key that is written to: those between dots, as in ESO.
pub(super) fn written_to(key: &str, property: Option<&str>) -> Vec<String> {
    let steps = key.split('.').chain(property.into_iter().flat_map(|property| property.split('.')));
    steps.map(str::to_owned).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let key = |key: &str| Step::Key(key.into());
        for (path, expected) in [
            ("a", Some(vec![key("a")])),
            ("a.b", Some(vec![key("a"), key("b")])),
            (r#"a["b.c"][2].d"#, Some(vec![key("a"), key("b.c"), Step::Index(2), key("d")])),
            (r#"["a"]"#, Some(vec![key("a")])),
            ("", None),
            ("a.", None),
            (".a", None),
            ("a..b", None),
            ("a[x]", None),
            ("a[1", None),
        ] {
            assert_eq!(steps(path), expected, "{path}");
        }
    }

    #[test]
    fn values_lose_what_is_said_of_them() {
        let open = json!({"properties": {
            "s": {"value": "x", "secret": true, "trace": {"def": {"environment": "e"}}},
            "m": {"value": {"a": {"value": 1.5}, "l": {"value": [{"value": true}, {"value": null}]}}},
            "e": {},
        }});
        let values = resolved(&SecretBytes::from(open.to_string())).unwrap();
        let text = |path: &str| at(&values, path).map(|value| String::from_utf8(json::compact(value, false)).unwrap());
        for (path, expected) in [
            ("s", Some("\"x\"")),
            ("m", Some(r#"{"a":1.5,"l":[true,null]}"#)),
            ("m.l[0]", Some("true")),
            ("m.l[2]", None),
            ("m[0]", None),
            ("e", Some("null")),
            ("s.x", None),
        ] {
            assert_eq!(text(path).as_deref(), expected, "{path}");
        }
        for bad in [
            json!({"properties": {"a": {"unknown": true}}}),
            json!({"properties": {"a": "x"}}),
            json!([]),
            json!({"properties": 1}),
        ] {
            assert!(resolved(&SecretBytes::from(bad.to_string())).is_none(), "{bad}");
        }
        assert!(resolved(&SecretBytes::from("{}")).is_some());
    }

    #[test]
    fn definitions_are_changed_at_one_place() {
        let path = |text: &str| written_to(text, None);
        let whole = json!({"imports": ["base"], "values": {"a": {"b": {"fn::secret": "x"}, "c": 1}, "t": "plain"}});
        let mut definition = Definition(whole.clone());
        assert_eq!(definition.text(&path("a.b")), Some(("x", true)));
        assert_eq!(definition.text(&path("t")), Some(("plain", false)));
        assert!(definition.text(&path("a.c")).is_none() && definition.has(&path("a.c")) && !definition.has(&path("a.d")));
        definition.set(&path("a.b"), "y", true);
        definition.set(&path("n.e.w"), "z", false);
        definition.set(&path("t.x"), "map now", false);
        let expected = json!({"imports": ["base"], "values": {
            "a": {"b": {"fn::secret": "y"}, "c": 1}, "t": {"x": "map now"}, "n": {"e": {"w": "z"}},
        }});
        assert_eq!(definition.0, expected);
        assert!(definition.remove(&path("n.e.w"), 0) && !definition.remove(&path("n.e.w"), 0));
        assert!(definition.remove(&path("t.x"), 1));
        assert!(!definition.has(&path("n")), "what is empty goes");
        assert_eq!(definition.0["values"]["t"], json!({}), "what is kept stays");
    }
}
