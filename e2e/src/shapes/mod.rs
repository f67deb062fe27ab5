//! Random valid objects of a kind, drawn from the schema of its definition: whatever a manifest may hold, some object holds.
//!
//! A rule (CEL) looks only at the part of the object that it stands at. So each part is drawn again until its own rules hold, and
//! nothing here knows what they say. The same seed gives the same object.

mod chance;
mod draw;
mod facets;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use kube::core::cel::{CompiledSchema, compile_schema};
use serde_json::{Map, Value, json};

use self::chance::Chance;
use self::draw::{Draw, Fill};

/// How often an object is drawn that is to have one certain part.
const TRIES: u64 = 50;

/// One served version of a kind, and what its objects look like.
pub struct Shape {
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// The resource's name in URLs.
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Schema of an object without `apiVersion`, `kind` and `metadata`, which are the same for all kinds.
    pub schema: Value,
    /// The rules of each part that has some, by its path.
    rules: BTreeMap<String, CompiledSchema>,
}

impl Shape {
    /// The served versions of a CustomResourceDefinition.
    #[must_use]
    pub fn all(crd: &Value) -> Vec<Self> {
        let spec = &crd["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let served = spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true);
        served
            .map(|version| {
                let mut schema = version["schema"]["openAPIV3Schema"].clone();
                if let Some(properties) = schema["properties"].as_object_mut() {
                    properties.retain(|name, _| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
                }
                let mut rules = BTreeMap::new();
                compile(&schema, "", &mut rules);
                Self {
                    group: text(&spec["group"]),
                    version: text(&version["name"]),
                    kind: text(&spec["names"]["kind"]),
                    plural: text(&spec["names"]["plural"]),
                    namespaced: spec["scope"] == "Namespaced",
                    schema,
                    rules,
                }
            })
            .collect()
    }

    /// Group and version, as they stand in manifests.
    #[must_use]
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// A random object; `None` where none was found whose rules hold.
    #[must_use]
    pub fn random(&self, seed: u64) -> Option<Value> {
        self.draw(seed, Fill::Some, None)
    }

    /// Objects that are as full as the rules let them be and have, together, every field, list entry, map entry and word of an
    /// enum: of fields that exclude each other, each is in another object.
    ///
    /// # Errors
    /// What no object was found to have.
    pub fn complete(&self) -> Result<Vec<Value>, BTreeSet<String>> {
        let (mut left, mut unmet, mut found) = (facets::of_schema(&self.schema), BTreeSet::new(), Vec::new());
        while let Some(facet) = left.pop_last() {
            let has = |object: &Value| facets::of_object(&self.schema, object).contains(&facet);
            match (0..TRIES).filter_map(|seed| self.draw(seed, Fill::All, Some(&facet))).find(has) {
                Some(object) => {
                    left = &left - &facets::of_object(&self.schema, &object);
                    found.push(object);
                }
                None => drop(unmet.insert(facet)),
            }
        }
        if unmet.is_empty() { Ok(found) } else { Err(unmet) }
    }

    fn draw(&self, seed: u64, fill: Fill, want: Option<&str>) -> Option<Value> {
        let mut draw = Draw::new(Chance::new(seed), &self.rules, fill);
        let mut object = draw.value(&self.schema, "", want)?;
        object["apiVersion"] = self.api_version().into();
        object["kind"] = self.kind.as_str().into();
        object["metadata"] = json!({ "name": format!("shape-{seed}"), "annotations": { "force-sync": seed.to_string() } });
        Some(object)
    }
}

/// Finds the parts of a schema that have rules, and compiles each with its own rules only: those of the parts in it were
/// asked before.
fn compile(schema: &Value, path: &str, found: &mut BTreeMap<String, CompiledSchema>) {
    if let Some(own) = schema.get("x-kubernetes-validations") {
        let mut alone = without_rules(schema);
        alone["x-kubernetes-validations"] = own.clone();
        found.insert(path.to_owned(), compile_schema(&alone));
    }
    for (path, part) in parts(schema, path) {
        compile(part, &path, found);
    }
}

fn without_rules(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "x-kubernetes-validations");
            Value::Object(kept.map(|(name, field)| (name.clone(), without_rules(field))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// The schemas right below a schema, and their paths: `.field`, `[]`, `{}`.
fn parts<'a>(schema: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let mut all: Vec<_> = fields.map(|(name, part)| (format!("{path}.{name}"), part)).collect();
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[keyword].is_object() {
            all.push((format!("{path}{mark}"), &schema[keyword]));
        }
    }
    all
}
