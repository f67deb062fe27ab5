//! Prints what was made: as a stream of YAML, or as one List of JSON. Values are masked unless they are asked for.

use std::collections::BTreeSet;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::make::Made;
use crate::api::{ExternalSecret, LABEL_CREATED_BY, LABEL_MANAGED, LABEL_MANAGED_VALUE};
use crate::plan::names::Names;
use crate::plan::object_hash;

/// Stands for a value. It is no base64, so that nobody applies it by mistake, and as long as no value in particular.
pub const MASK: &str = crate::plan::names::MASK;
/// `apiVersion` of what tells what is pushed where. It is an object of no cluster.
pub const PUSHES_VERSION: &str = "render.keyferry.io/v1alpha1";
/// Its kind.
pub const PUSHES: &str = "Pushes";
/// Its field with a value.
pub const VALUE: &str = "value";
/// Its field with the key of the Secret.
pub const SECRET_KEY: &str = "secretKey";
/// Its field with the key at the provider.
pub const REMOTE_KEY: &str = "remoteKey";
/// Its field with what of the value at the provider is meant.
pub const PROPERTY: &str = "property";
/// Its fields that `dataTo` makes of the key of the Secret.
const NAMED_BY_KEY: [&str; 3] = [SECRET_KEY, REMOTE_KEY, PROPERTY];
/// keyferry's own labels.
const OWN: [&str; 2] = [LABEL_MANAGED, LABEL_CREATED_BY];

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
            Made::Secret(secret, ..) => json!(secret),
            Made::Object(json, ..) | Made::Pushes(json, _) => json.expose().clone(),
        };
        match made {
            _ if show => {}
            Made::Secret(_, es, names) | Made::Object(_, es, names) => mask(&mut object, es, names),
            Made::Pushes(_, names) => mask_pushes(&mut object, names),
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

/// Masks all that may come from a value: everything but names of fields that no value became, and what the ExternalSecret itself
/// says in the clear.
fn mask(object: &mut Value, es: &ExternalSecret, names: &Names) {
    let clear = clear(es);
    let Some(fields) = object.as_object_mut() else { return };
    for (name, field) in fields {
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "type" | "immutable" if es.target().manifest.is_none() => {}
            "metadata" => {
                for part in ["labels", "annotations"] {
                    let own = |key: &str, text: &str| part == "labels" && is_own(es, key, text);
                    let Some(map) = field.get_mut(part).and_then(Value::as_object_mut) else { continue };
                    for (key, value) in map.iter_mut() {
                        let is_known = |text: &str| clear.contains(&(key.as_str(), text)) || own(key.as_str(), text);
                        if !value.as_str().is_some_and(is_known) {
                            *value = MASK.into();
                        }
                    }
                    mask_names(map, names);
                }
            }
            _ => mask_all(field, names),
        }
    }
}

/// Masks what is pushed. All else stands in the PushSecret, or is a name of a key, or made of one.
fn mask_pushes(object: &mut Value, names: &Names) {
    for push in object["pushes"].as_array_mut().into_iter().flatten() {
        let shown = push[SECRET_KEY].as_str().is_none_or(|key| names.shows(key));
        for (name, field) in push.as_object_mut().into_iter().flatten() {
            if name == VALUE || (!shown && NAMED_BY_KEY.contains(&name.as_str())) {
                *field = MASK.into();
            }
        }
    }
}

/// Masks names that a value may have become; each stays one of its own.
fn mask_names(fields: &mut Map<String, Value>, names: &Names) {
    let mut hidden = 0;
    let all = std::mem::take(fields);
    fields.extend(all.into_iter().map(|(name, value)| {
        if names.shows(&name) || OWN.contains(&name.as_str()) {
            return (name, value);
        }
        hidden += 1;
        (if hidden == 1 { MASK.to_owned() } else { format!("{MASK}{hidden}") }, value)
    }));
}

fn mask_all(value: &mut Value, names: &Names) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| mask_all(field, names));
            mask_names(fields, names);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_all(item, names)),
        Value::Null => {}
        other => *other = MASK.into(),
    }
}

/// Whether a label is keyferry's own, and says what keyferry says: a template can make one of the same name.
fn is_own(es: &ExternalSecret, key: &str, text: &str) -> bool {
    let (namespace, name) = (es.metadata.namespace.as_deref(), es.metadata.name.as_deref());
    match key {
        LABEL_MANAGED => text == LABEL_MANAGED_VALUE,
        LABEL_CREATED_BY => text == object_hash::created_by_label(namespace.unwrap_or_default(), name.unwrap_or_default()),
        _ => false,
    }
}

/// Labels and annotations that stand in the ExternalSecret as they are written.
fn clear(es: &ExternalSecret) -> BTreeSet<(&str, &str)> {
    let own = es.metadata.labels.iter().chain(&es.metadata.annotations);
    let template = es.spec.target.as_ref().and_then(|t| t.template.as_ref()).and_then(|t| t.metadata.as_ref());
    let template = template.into_iter().flat_map(|m| [&m.labels, &m.annotations]);
    own.chain(template).flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
