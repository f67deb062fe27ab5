//! Prints what was made: as a stream of YAML, or as one List of JSON. Values are masked unless they are asked for.

use std::collections::BTreeSet;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::make::Made;
use crate::api::ExternalSecret;

/// Stands for a value. It is no base64, so that nobody applies it by mistake, and as long as no value in particular.
pub const MASK: &str = "<masked>";
/// `apiVersion` of what tells what is pushed where. It is an object of no cluster.
pub const PUSHES_VERSION: &str = "render.keyferry.io/v1alpha1";
/// Its kind.
pub const PUSHES: &str = "Pushes";
/// Its field with a value.
pub const VALUE: &str = "value";
/// What keyferry's own labels begin with.
const OWN: &str = "reconcile.external-secrets.io/";

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A stream of documents.
    Yaml,
    /// One List.
    Json,
}

/// An object, and where it comes from.
pub struct Printed {
    object: Value,
    comment: String,
}

impl Printed {
    /// An object as it is printed. `comment` says where it comes from.
    #[must_use]
    pub fn new(made: &Made, show: bool, comment: String) -> Self {
        let mut object = match made {
            Made::Secret(secret, _) => json!(secret),
            Made::Object(json, _) | Made::Pushes(json) => json.expose().clone(),
        };
        match made {
            _ if show => {}
            Made::Secret(_, es) | Made::Object(_, es) => mask(&mut object, es),
            Made::Pushes(_) => mask_pushes(&mut object),
        }
        Self { object: sorted(object), comment }
    }

    /// By what objects are sorted.
    #[must_use]
    pub fn order(&self) -> (String, String, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&self.object["metadata"]["namespace"]), text(&self.object["kind"]), text(&self.object["metadata"]["name"]))
    }
}

/// All objects as one text.
///
/// # Errors
/// An object that cannot be written, which none is.
pub fn text(all: &[Printed], format: Format) -> Result<String, String> {
    match format {
        Format::Json => {
            let items: Vec<&Value> = all.iter().map(|printed| &printed.object).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
            serde_json::to_string_pretty(&list).map(|text| text + "\n").map_err(|e| e.to_string())
        }
        Format::Yaml => all
            .iter()
            .map(|Printed { object, comment }| {
                // long values on one line, as kubectl prints them
                let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
                let yaml = serde_saphyr::to_string_with_options(object, options)
                    .map_err(|_| "an object cannot be written as YAML".to_owned())?;
                Ok(format!("---\n# {comment}\n{yaml}"))
            })
            .collect(),
    }
}

/// Fields by name, as kubectl prints them.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, field)| (name, sorted(field))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// Masks all that may come from a value: everything but names of fields, and what the ExternalSecret itself says in the clear.
fn mask(object: &mut Value, es: &ExternalSecret) {
    let clear = clear(es);
    let Some(fields) = object.as_object_mut() else { return };
    for (name, field) in fields {
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "type" | "immutable" if es.target().manifest.is_none() => {}
            "metadata" => {
                for part in ["labels", "annotations"] {
                    for (key, value) in field.get_mut(part).and_then(Value::as_object_mut).into_iter().flatten() {
                        let known = value.as_str().is_some_and(|text| clear.contains(&(key.as_str(), text)));
                        if !known && !key.starts_with(OWN) {
                            *value = MASK.into();
                        }
                    }
                }
            }
            _ => mask_all(field),
        }
    }
}

/// Masks what is pushed. All else stands in the PushSecret, or is a name of a key.
fn mask_pushes(object: &mut Value) {
    for push in object["pushes"].as_array_mut().into_iter().flatten() {
        push[VALUE] = MASK.into();
    }
}

fn mask_all(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(mask_all),
        Value::Array(items) => items.iter_mut().for_each(mask_all),
        Value::Null => {}
        other => *other = MASK.into(),
    }
}

/// Labels and annotations that stand in the ExternalSecret as they are written.
fn clear(es: &ExternalSecret) -> BTreeSet<(&str, &str)> {
    let own = es.metadata.labels.iter().chain(&es.metadata.annotations);
    let template = es.spec.target.as_ref().and_then(|t| t.template.as_ref()).and_then(|t| t.metadata.as_ref());
    let template = template.into_iter().flat_map(|m| [&m.labels, &m.annotations]);
    own.chain(template).flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
