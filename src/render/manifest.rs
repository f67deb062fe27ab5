//! What an ExternalSecret's values become in an object of another kind (`target.manifest`): its fields as JSON.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use super::target::{self, FromError, Render, Resolved, Sources};
use super::{Entries, yaml};
use crate::api::external_secret::{ManifestRef, Template, TemplateFrom, TemplateScope};
use crate::secret_bytes::SecretBytes;

/// Highest index in a path, and most elements that indexes skip in all lists of an object.
const HIGHEST_INDEX: usize = 10_000;

/// Most names and indexes in a path: what it makes is gone through by recursion.
const MOST_STEPS: usize = 64;

/// JSON that holds values of secrets: zeroed on drop, and without a `Debug` that shows them.
#[derive(Clone, Default, PartialEq)]
pub struct SecretJson(Value);

impl SecretJson {
    /// Takes ownership of JSON.
    #[must_use]
    pub fn new(json: Value) -> Self {
        Self(json)
    }

    /// The JSON. As with [`SecretBytes::expose`], callers must not put it into anything that people read.
    #[must_use]
    pub fn expose(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for SecretJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        fn wipe(json: &mut Value) {
            match json {
                Value::String(text) => text.zeroize(),
                Value::Array(items) => items.iter_mut().for_each(wipe),
                Value::Object(fields) => fields.values_mut().for_each(wipe),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        wipe(&mut self.0);
    }
}

/// What a template made of an object.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// All fields but `apiVersion`, `kind`, `metadata` and `status`.
    pub fields: SecretJson,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A template that could not be rendered into an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// One of `templateFrom`.
    #[error("templateFrom[{index}]: {cause}")]
    From {
        /// Which one.
        index: usize,
        /// Why.
        cause: PathError,
    },
    /// One of `template.data`.
    #[error("failed to execute template.data: unable to execute template at key {key}: {cause}")]
    Data {
        /// Its key.
        key: String,
        /// Why.
        cause: String,
    },
    /// `data` is not there to take the values.
    #[error("failed to execute template.data: {0}")]
    Place(PathError),
}

/// Why a value cannot go where its template says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It could not be rendered.
    #[error(transparent)]
    Render(#[from] FromError),
    /// It is no YAML.
    #[error("could not unmarshal template YAML: {0}")]
    Yaml(#[from] yaml::YamlError),
    /// The path makes no sense.
    #[error("target {path:?} is no path: write names by dots and indexes in brackets, such as spec.rules[0].host: {why}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something on the way is of another shape.
    #[error("target {path:?}: {at} is no {wanted}")]
    Shape {
        /// The path.
        path: String,
        /// Where.
        at: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The object's identity and its owner are not a template's to change.
    #[error(
        "target {0:?} is not a template's to set: use target Labels or Annotations for metadata, and target.manifest for the kind"
    )]
    Reserved(String),
}

/// Puts values into an object as ESO does without a template: a ConfigMap's or Secret's `data`, `spec.data` of all others.
#[must_use]
pub fn plain(kind: &ManifestRef, values: &Entries) -> SecretJson {
    let data = |text: fn(&[u8]) -> String| -> Value {
        values.iter().map(|(key, value)| (key.clone(), Value::String(text(value.expose())))).collect()
    };
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    SecretJson(match kind.kind.as_str() {
        "ConfigMap" => serde_json::json!({ "data": data(lossy) }),
        // ESO writes `spec.data`, which a Secret has not
        "Secret" => serde_json::json!({ "data": data(|bytes| STANDARD.encode(bytes)) }),
        _ => serde_json::json!({ "spec": { "data": data(lossy) } }),
    })
}

/// Renders the template of an object. Labels and annotations of the template's metadata are taken as they are, as under ESO.
///
/// # Errors
/// The first template that fails, or that has no place in the object.
pub fn manifest(
    kind: &ManifestRef,
    template: &Template,
    sources: &Sources,
    render: &Render<'_>,
) -> Result<Manifest, ManifestError> {
    let first = if matches!(kind.kind.as_str(), "ConfigMap" | "Secret") { "data" } else { "spec" };
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut object = Object {
        fields: Map::new(),
        labels: metadata.labels,
        annotations: metadata.annotations,
        skipped: 0,
        resolved: Resolved::default(),
    };
    object.fields.insert(first.into(), Value::Object(Map::new()));
    for (index, from) in template.template_from.iter().enumerate() {
        object.take(from, sources, render).map_err(|cause| ManifestError::From { index, cause })?;
    }
    for (key, text) in &template.data {
        let value = render(key, text.as_bytes()).map_err(|cause| ManifestError::Data { key: key.clone(), cause })?;
        object.set_field("data", key, &value).map_err(ManifestError::Place)?;
    }
    Ok(Manifest { fields: SecretJson(Value::Object(object.fields)), labels: object.labels, annotations: object.annotations })
}

struct Object {
    fields: Map<String, Value>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// Elements that indexes skipped in lists.
    skipped: usize,
    resolved: Resolved,
}

impl Object {
    fn take(&mut self, from: &TemplateFrom, sources: &Sources, render: &Render<'_>) -> Result<(), PathError> {
        let path = from.target.as_deref().filter(|t| !t.is_empty()).unwrap_or("Data");
        match path.to_ascii_lowercase().as_str() {
            "data" => {
                for (key, value) in self.entries(from, sources, render)? {
                    self.set_field("data", &key, &value)?;
                }
            }
            "labels" => {
                let entries = self.entries(from, sources, render)?;
                self.labels.extend(target::texts(entries));
            }
            "annotations" => {
                let entries = self.entries(from, sources, render)?;
                self.annotations.extend(target::texts(entries));
            }
            lower => return self.take_at(if lower == "spec" { "spec" } else { path }, from, sources, render),
        }
        Ok(())
    }

    fn entries(&mut self, from: &TemplateFrom, sources: &Sources, render: &Render<'_>) -> Result<Entries, FromError> {
        target::from(from, &target::parts_of_object(from, sources)?, render, &mut self.resolved)
    }

    /// Puts each template's result at a path: text of `Values` as the YAML that it is, maps of `KeysAndValues` merged in.
    fn take_at(&mut self, path: &str, from: &TemplateFrom, sources: &Sources, render: &Render<'_>) -> Result<(), PathError> {
        let steps = steps(path)?;
        for part in target::parts_of_object(from, sources)? {
            let value = part.render(render)?;
            let strategy = from.values_decoding_strategy.unwrap_or_default();
            match part.scope {
                TemplateScope::Values if path == "spec" => {
                    self.set_field(path, part.key, &target::decoded_one(strategy, part.key, value)?)?;
                }
                TemplateScope::Values => {
                    let value = target::decoded_one(strategy, part.key, value)?;
                    let text = || Value::String(String::from_utf8_lossy(value.expose()).into_owned());
                    let parsed = yaml::to_json(&value).unwrap_or_else(|_| text());
                    self.resolved.add(weight(&parsed))?;
                    *self.at(path, &steps)? = parsed;
                }
                TemplateScope::KeysAndValues => {
                    let parsed = yaml::to_json(&value)?;
                    self.resolved.add(weight(&parsed))?;
                    let place = self.at(path, &steps)?;
                    match (place, parsed) {
                        (Value::Object(there), Value::Object(more)) if steps.len() > 1 => there.extend(more),
                        (place, parsed) => *place = parsed,
                    }
                }
            }
        }
        Ok(())
    }

    fn set_field(&mut self, field: &str, key: &str, value: &SecretBytes) -> Result<(), PathError> {
        let there = self.fields.entry(field).or_insert_with(|| Value::Object(Map::new()));
        let Some(there) = there.as_object_mut() else {
            return Err(PathError::Shape { path: field.into(), at: field.into(), wanted: "map" });
        };
        there.insert(key.to_owned(), Value::String(String::from_utf8_lossy(value.expose()).into_owned()));
        Ok(())
    }

    /// The place of a path; maps and lists on the way are made.
    fn at(&mut self, path: &str, steps: &[Step<'_>]) -> Result<&mut Value, PathError> {
        let shape = |at: usize, wanted| PathError::Shape { path: path.into(), at: format!("part {}", at + 1), wanted };
        let (Some(Step::Key(first)), rest) = (steps.first(), &steps[1.min(steps.len())..]) else {
            return Err(shape(0, "map"));
        };
        let full = || PathError::Path { path: path.into(), why: "the indexes skip more than 10000 elements of lists" };
        let mut place = self.fields.entry(*first).or_insert(Value::Null);
        for (i, step) in rest.iter().enumerate() {
            place = match step {
                Step::Key(key) => {
                    if place.is_null() {
                        *place = Value::Object(Map::new());
                    }
                    place.as_object_mut().ok_or_else(|| shape(i, "map"))?.entry(*key).or_insert(Value::Null)
                }
                Step::Index(index) => {
                    if place.is_null() {
                        *place = Value::Array(Vec::new());
                    }
                    let list = place.as_array_mut().ok_or_else(|| shape(i, "list"))?;
                    if list.len() <= *index {
                        self.skipped += index - list.len();
                        if self.skipped > HIGHEST_INDEX {
                            return Err(full());
                        }
                        list.resize(index + 1, Value::Null);
                    }
                    list.get_mut(*index).ok_or_else(|| shape(i, "list"))?
                }
            };
        }
        Ok(place)
    }
}

/// About how many bytes some JSON has.
fn weight(json: &Value) -> usize {
    let inside: usize = match json {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    inside + 4
}

/// One step of a path.
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Takes a path apart: `a.b[0].c`.
fn steps(path: &str) -> Result<Vec<Step<'_>>, PathError> {
    let wrong = |why| PathError::Path { path: path.to_owned(), why };
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (key, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if key.is_empty() {
            return Err(wrong("a name is missing"));
        }
        steps.push(Step::Key(key));
        while !rest.is_empty() {
            let (index, after) =
                rest.strip_prefix('[').and_then(|r| r.split_once(']')).ok_or_else(|| wrong("a bracket is missing"))?;
            let index = index.parse().ok().filter(|index| *index <= HIGHEST_INDEX);
            steps.push(Step::Index(index.ok_or_else(|| wrong("an index must be a number from 0 to 10000"))?));
            rest = after;
        }
    }
    if steps.len() > MOST_STEPS {
        return Err(wrong("it has more than 64 names and indexes"));
    }
    match steps.first() {
        Some(Step::Key("apiVersion" | "kind" | "metadata" | "status")) => Err(PathError::Reserved(path.to_owned())),
        _ => Ok(steps),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::providers::ReferenceKind;
    use crate::render::target::{Source, SourceText};

    fn kind(name: &str) -> ManifestRef {
        ManifestRef { api_version: "example.org/v1".into(), kind: name.into() }
    }

    fn made(name: &str, template: &Value) -> Result<Manifest, String> {
        let texts = [("port", "80"), ("rules", "- host: a\n- host: b\n"), ("map", "x: 1\nl: [2]\n")];
        let texts = texts.iter().map(|(k, v)| ((*k).to_owned(), SecretBytes::from(*v))).collect();
        let source = Source { kind: ReferenceKind::ConfigMap, name: "cm".into() };
        let sources = [(source, Some(SourceText { version: "1".into(), texts, ..SourceText::default() }))].into();
        let render = |_: &str, text: &[u8]| Ok(SecretBytes::new(text.to_vec()));
        let template: Template = serde_json::from_value(template.clone()).unwrap();
        manifest(&kind(name), &template, &sources, &render).map_err(|e| e.to_string())
    }

    fn fields(name: &str, template: &Value) -> Value {
        made(name, template).unwrap().fields.expose().clone()
    }

    fn from(target: &str, key: &str, scope: &str) -> Value {
        json!({ "target": target, "configMap": { "name": "cm", "items": [{ "key": key, "templateAs": scope }] } })
    }

    #[test]
    fn without_a_template() {
        let values = [("a".to_owned(), SecretBytes::from("1"))].into();
        assert_eq!(*plain(&kind("ConfigMap"), &values).expose(), json!({ "data": { "a": "1" } }));
        assert_eq!(*plain(&kind("Secret"), &values).expose(), json!({ "data": { "a": "MQ==" } }));
        assert_eq!(*plain(&kind("Thing"), &values).expose(), json!({ "spec": { "data": { "a": "1" } } }));
    }

    #[test]
    fn values_go_where_the_target_says() {
        let table = [
            (json!({}), json!({ "spec": {} })),
            (json!({ "data": { "k": "1" } }), json!({ "spec": {}, "data": { "k": "1" } })),
            (json!({ "templateFrom": [from("", "port", "Values")] }), json!({ "spec": {}, "data": { "port": "80" } })),
            (json!({ "templateFrom": [from("SPEC", "port", "Values")] }), json!({ "spec": { "port": "80" } })),
            (json!({ "templateFrom": [from("Spec", "map", "KeysAndValues")] }), json!({ "spec": { "x": 1, "l": [2] } })),
            (
                json!({ "templateFrom": [from("spec.web.port", "port", "Values")] }),
                json!({ "spec": { "web": { "port": 80 } } }),
            ),
            (
                json!({ "templateFrom": [from("spec.Rules", "rules", "Values"), from("spec.Rules[1].port", "port", "Values")] }),
                json!({ "spec": { "Rules": [{ "host": "a" }, { "host": "b", "port": 80 }] } }),
            ),
            (json!({ "templateFrom": [from("spec.l[1][0]", "port", "Values")] }), json!({ "spec": { "l": [null, [80]] } })),
            (
                json!({ "templateFrom": [{ "target": "spec.m", "literal": "x: 0\nz: 3" }, from("spec.m", "map", "KeysAndValues")] }),
                json!({ "spec": { "m": { "x": 1, "z": 3, "l": [2] } } }),
            ),
            (
                // the literal of an entry comes first
                json!({ "templateFrom": [{ "target": "spec.m", "literal": "x: 0\nz: 3", "configMap": { "name": "cm", "items": [{ "key": "map", "templateAs": "KeysAndValues" }] } }] }),
                json!({ "spec": { "m": { "x": 1, "z": 3, "l": [2] } } }),
            ),
            (
                json!({ "templateFrom": [{ "literal": "port: 1", "configMap": { "name": "cm", "items": [{ "key": "port" }] } }] }),
                json!({ "spec": {}, "data": { "port": "80" } }),
            ),
            (
                json!({ "templateFrom": [{ "target": "stringData", "literal": "a: 1" }, { "target": "stringData", "literal": "b: 2" }] }),
                json!({ "spec": {}, "stringData": { "b": 2 } }),
            ),
        ];
        for (template, wanted) in table {
            assert_eq!(fields("Thing", &template), wanted, "{template}");
        }
        assert_eq!(fields("ConfigMap", &json!({ "data": { "k": "1" } })), json!({ "data": { "k": "1" } }));
    }

    #[test]
    fn metadata_of_the_template_is_not_rendered_and_that_of_sources_is() {
        let template = json!({
            "metadata": { "labels": { "a": "{{ .x }}" } },
            "templateFrom": [{ "target": "Labels", "literal": "b: 2" }, { "target": "annotations", "literal": "c: yes" }],
        });
        let made = made("Thing", &template).unwrap();
        assert_eq!(made.labels, [("a".to_owned(), "{{ .x }}".to_owned()), ("b".to_owned(), "2".to_owned())].into());
        assert_eq!(made.annotations["c"], "true");
    }

    #[test]
    fn what_has_no_place_is_told() {
        let long = format!("spec.a[{}]", HIGHEST_INDEX + 1);
        let (deep, nested) = (format!("spec{}", ".a".repeat(64)), format!("spec.a{}", "[0]".repeat(63)));
        let table = [
            ("[0].a", "a name is missing"),
            ("spec..a", "a name is missing"),
            ("spec.a[0", "a bracket is missing"),
            ("spec.a]0[", "a bracket is missing"),
            ("spec.a[-1]", "an index"),
            (long.as_str(), "an index"),
            (deep.as_str(), "it has more than 64 names and indexes"),
            (nested.as_str(), "it has more than 64 names and indexes"),
            ("spec.a[5000][5001]", "the indexes skip more than 10000 elements of lists"),
            ("metadata.ownerReferences", "not a template's to set"),
            ("kind", "not a template's to set"),
            ("apiVersion", "not a template's to set"),
            ("status.a", "not a template's to set"),
        ];
        for (path, why) in table {
            let error = made("Thing", &json!({ "templateFrom": [{ "target": path, "literal": "a: 1" }] })).unwrap_err();
            assert!(error.starts_with("templateFrom[0]: target ") && error.contains(why), "{path}: {error}");
        }
        let error = made(
            "Thing",
            &json!({ "templateFrom": [from("spec.p", "port", "Values"), from("spec.p.q", "port", "Values")] }),
        );
        assert_eq!(error.unwrap_err(), "templateFrom[1]: target \"spec.p.q\": part 2 is no map");
        let error = made("Thing", &json!({ "templateFrom": [{ "target": "data", "literal": "- a" }] })).unwrap_err();
        assert!(error.contains("cannot unmarshal array"), "{error}");
    }

    /// As deep, and with as many elements, as it may be; those of several paths count together.
    #[test]
    fn paths_have_bounds() {
        let made = |paths: &[&str]| {
            let all: Vec<Value> = paths.iter().map(|path| json!({ "target": path, "literal": "b: 1" })).collect();
            made("Thing", &json!({ "templateFrom": all }))
        };
        let deepest = format!("spec{}", ".a".repeat(63));
        let deep = made(&[deepest.as_str()]).unwrap();
        assert_eq!(deep.fields.expose().pointer(&format!("/spec{}/b", "/a".repeat(63))), Some(&json!(1)));
        for (paths, good) in [
            (&["spec.a[10000]", "spec.a[5]"][..], true),
            (&["spec.a[9999]", "spec.b[1]"][..], true),
            (&["spec.a[9999]", "spec.b[2]"][..], false),
        ] {
            assert_eq!(made(paths).is_ok(), good, "{paths:?}");
        }
    }

    #[test]
    fn what_aliases_stand_for_counts() {
        let made = |aliases: usize| {
            let list = vec!["*a"; aliases].join(",");
            let literal = format!("a: &a {}\nb: [{list}]", "x".repeat(100_000));
            made("Thing", &json!({ "templateFrom": [{ "target": "spec.x", "literal": literal }] }))
        };
        assert!(made(19).is_ok());
        assert!(made(20).unwrap_err().contains("more than 2097152 bytes together, aliases resolved"));
    }

    #[test]
    fn nothing_is_shown() {
        let made = made("Thing", &json!({ "data": { "k": "canary" } })).unwrap();
        assert!(!format!("{made:?}").contains("canary"));
    }

    proptest! {
        #[test]
        fn any_path_is_taken_or_refused(path in "[a-b.\\[\\]0-9]{0,12}") {
            let _ = made("Thing", &json!({ "templateFrom": [{ "target": path, "literal": "a: 1" }, from(&path, "rules", "Values")] }));
        }
    }
}
