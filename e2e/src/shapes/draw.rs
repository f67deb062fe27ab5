//! Draws a value from a schema.

use std::collections::BTreeMap;

use kube::core::cel::{CompiledSchema, Validator};
use serde_json::{Map, Value, json};

use super::chance::Chance;
use super::facets::choices;
use super::text;

/// How often a part is drawn until its rules hold.
const TRIES: u32 = 120;

/// How many of its fields an object has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Any number.
    Some,
    /// As many as its rules let it have.
    All,
}

/// What is needed to draw.
pub struct Draw<'a> {
    chance: Chance,
    rules: &'a BTreeMap<String, CompiledSchema>,
    fill: Fill,
    validator: Validator,
}

/// Whether a wanted part is this one, or lies in it.
fn leads_to(path: &str, want: &str) -> bool {
    want.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{', '#']))
}

impl<'a> Draw<'a> {
    pub fn new(chance: Chance, rules: &'a BTreeMap<String, CompiledSchema>, fill: Fill) -> Self {
        Self { chance, rules, fill, validator: Validator::new() }
    }

    /// A value of a schema; it has the part `want`, where that lies in it. `None`: none was found.
    pub fn value(&mut self, schema: &Value, path: &str, want: Option<&str>) -> Option<Value> {
        for attempt in 0..TRIES {
            let value = self.attempt(schema, path, want, attempt)?;
            let Some(rules) = self.rules.get(path) else { return Some(value) };
            if self.validator.validate_compiled(rules, &value, None).is_ok() {
                return Some(value);
            }
        }
        None
    }

    fn attempt(&mut self, schema: &Value, path: &str, want: Option<&str>, attempt: u32) -> Option<Value> {
        let choices = choices(schema);
        if !choices.is_empty() {
            let wanted = want.and_then(|want| want.strip_prefix(path)?.strip_prefix('#')?.parse::<usize>().ok());
            return choices.get(wanted.unwrap_or_else(|| self.chance.below(choices.len()))).cloned();
        }
        match schema["type"].as_str() {
            Some("object") => self.object(schema, path, want, attempt),
            Some("array") => self.array(schema, path, want),
            Some("string") => text::text(schema, &mut self.chance).map(Value::from),
            Some("integer") => Some(self.integer(schema)),
            Some("number") => Some(json!(0.5)),
            _ => Some(self.anything(2)),
        }
    }

    fn object(&mut self, schema: &Value, path: &str, want: Option<&str>, attempt: u32) -> Option<Value> {
        let bound = |name: &str| schema[name].as_u64().and_then(|n| usize::try_from(n).ok());
        let most = bound("maxProperties").unwrap_or(usize::MAX);
        let mut object = Map::new();
        if let Some(properties) = schema["properties"].as_object() {
            let is_required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|r| r == name));
            let is_wanted = |name: &str| want.is_some_and(|want| leads_to(&format!("{path}.{name}"), want));
            let (must, may): (Vec<_>, Vec<_>) =
                properties.iter().partition(|(name, _)| is_required(name) || is_wanted(name));
            let room = may.len().min(most.saturating_sub(must.len()));
            let count = self.count(room, attempt).max(bound("minProperties").unwrap_or(0).saturating_sub(must.len()));
            for (name, part) in must {
                object.insert(name.clone(), self.value(part, &format!("{path}.{name}"), want)?);
            }
            for (name, part) in self.chance.some_of(may, count) {
                let value = self.value(part, &format!("{path}.{name}"), want);
                object.extend(value.map(|value| (name.clone(), value)));
            }
        }
        if schema["additionalProperties"].is_object() {
            let path = format!("{path}{{}}");
            for i in 0..self.entries(&path, want).clamp(bound("minProperties").unwrap_or(0), most) {
                let want = want.filter(|_| i == 0);
                object.insert(text::key(&mut self.chance), self.value(&schema["additionalProperties"], &path, want)?);
            }
        }
        if schema["x-kubernetes-preserve-unknown-fields"] == true && object.is_empty() {
            return Some(self.any_object(2));
        }
        Some(Value::Object(object))
    }

    /// How many optional fields an object has. The more attempts failed, the fewer are tried, where all are to be there.
    fn count(&mut self, room: usize, attempt: u32) -> usize {
        match self.fill {
            Fill::Some => match self.chance.below(8) {
                0 => 0,
                1..4 => room.min(1),
                4 => room.min(2),
                5 => room.min(3),
                6 => self.chance.below(room + 1),
                _ => room,
            },
            Fill::All => {
                let fewer = (0..attempt).fold(room, |room, _| room * 7 / 10);
                if fewer > 0 || attempt == 0 { fewer } else { self.chance.below(room.min(4) + 1) }
            }
        }
    }

    /// How many entries a list or map has, `path` being that of its entries.
    fn entries(&mut self, path: &str, want: Option<&str>) -> usize {
        let wanted = want.is_some_and(|want| leads_to(path, want));
        match self.fill {
            Fill::All => 1 + self.chance.below(2),
            Fill::Some => self.chance.below(4).max(usize::from(wanted)),
        }
    }

    fn array(&mut self, schema: &Value, path: &str, want: Option<&str>) -> Option<Value> {
        let bound = |name: &str| schema[name].as_u64().and_then(|n| usize::try_from(n).ok());
        // entries of a set differ: one does
        let set = ["set", "map"].iter().any(|kind| schema["x-kubernetes-list-type"] == *kind);
        let most = bound("maxItems").unwrap_or(usize::MAX).min(if set { 1 } else { usize::MAX });
        let path = format!("{path}[]");
        let count = self.entries(&path, want).clamp(bound("minItems").unwrap_or(0).min(most), most);
        (0..count).map(|i| self.value(&schema["items"], &path, want.filter(|_| i == 0))).collect()
    }

    /// A number within the schema's bounds: the bounds themselves, small ones, any.
    fn integer(&mut self, schema: &Value) -> Value {
        let (low, high) = match schema["format"].as_str() {
            Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        #[allow(clippy::cast_possible_truncation, reason = "bounds in schemas are whole numbers far below 2^53")]
        let bound = |name: &str, other: i64| schema[name].as_f64().map_or(other, |bound| bound as i64);
        let (low, high) = (bound("minimum", low), bound("maximum", high));
        let any = i64::from_ne_bytes(self.chance.next().to_ne_bytes());
        let number =
            self.chance.one_of(&[low, high, 0, 1, 2, 30, 300, any, any / 1_000_000_007]).copied().unwrap_or_default();
        number.clamp(low, high).into()
    }

    /// Any JSON but `null`, which the API server drops.
    fn anything(&mut self, depth: usize) -> Value {
        match self.chance.below(if depth == 0 { 4 } else { 6 }) {
            0 => json!(true),
            1 => json!(self.chance.below(1000)),
            2 => json!(0.5),
            3 => text::text(&json!({}), &mut self.chance).into(),
            4 => (0..self.chance.below(3)).map(|_| self.anything(depth - 1)).collect(),
            _ => self.any_object(depth - 1),
        }
    }

    fn any_object(&mut self, depth: usize) -> Value {
        let count = self.chance.below(4);
        (0..count).map(|_| (text::key(&mut self.chance), self.anything(depth))).collect::<Map<_, _>>().into()
    }
}
