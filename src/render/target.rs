//! What a template makes of the values: keys, labels and annotations of a Secret.
//!
//! The templates stand in the ExternalSecret (`template.data`, literals) or in ConfigMaps and Secrets of its namespace, whose
//! texts the shell brings along. Nothing here reads anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::decode::{self, NotBase64};
use super::{Entries, yaml};
use crate::api::external_secret::{
    DecodingStrategy, Template, TemplateFrom, TemplateMergePolicy, TemplateRef, TemplateScope,
};
use crate::providers::ReferenceKind;
use crate::secret_bytes::SecretBytes;

/// Renders one template, given its name for errors and its text; an error is its text, which begins with ESO's words.
pub type Render<'a> = dyn Fn(&str, &[u8]) -> Result<SecretBytes, String> + 'a;

/// Most bytes that all templates of an object may make, and their YAML may come to: a Secret holds half of it.
pub const MOST_RENDERED: usize = 2 << 20;

/// A ConfigMap or Secret that holds templates, in the namespace of the ExternalSecret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// `ConfigMap` or `Secret`.
    pub kind: ReferenceKind,
    /// Its name.
    pub name: String,
}

impl Source {
    fn config_map(reference: &TemplateRef) -> Self {
        Self { kind: ReferenceKind::ConfigMap, name: reference.name.clone() }
    }

    fn secret(reference: &TemplateRef) -> Self {
        Self { kind: ReferenceKind::Secret, name: reference.name.clone() }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = if self.kind == ReferenceKind::Secret { "secret" } else { "configmap" };
        write!(f, "{resource} {}", self.name)
    }
}

/// What was read of a source.
#[derive(Clone, Debug, Default)]
pub struct SourceText {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Its keys and the templates that they hold.
    pub texts: Entries,
}

/// What was read of all sources; `None` where there is none of that name.
pub type Sources = BTreeMap<Source, Option<SourceText>>;

/// The sources that a template names.
#[must_use]
pub fn sources(template: &Template) -> BTreeSet<Source> {
    let from = &template.template_from;
    let config_maps = from.iter().filter_map(|f| f.config_map.as_ref().map(Source::config_map));
    config_maps.chain(from.iter().filter_map(|f| f.secret.as_ref().map(Source::secret))).collect()
}

/// What a template made.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// Keys and values.
    pub data: Entries,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A template that could not be rendered. The texts begin with ESO's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// One of `templateFrom`.
    #[error("error fetching templateFrom data: {0}")]
    From(#[from] FromError),
    /// One of `data` or of the metadata.
    #[error("could not execute template: could not execute template: unable to execute template at key {key}: {cause}")]
    Execute {
        /// Its key.
        key: String,
        /// Why.
        cause: String,
    },
}

/// An entry of `templateFrom` that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FromError {
    /// There is no such object.
    #[error("{source_} not found in the ExternalSecret's namespace")]
    Missing {
        /// The object.
        source_: Source,
    },
    /// The object has no such key.
    #[error("error in {source_}: missing key {key}")]
    MissingKey {
        /// The object.
        source_: Source,
        /// The key.
        key: String,
    },
    /// The template cannot be rendered.
    #[error("unable to execute template at key {key}: {cause}")]
    Execute {
        /// Its key.
        key: String,
        /// Why.
        cause: String,
    },
    /// What it makes is no map of keys and values.
    #[error("could not unmarshal template to 'map[string][]byte': {0}")]
    NotAMap(#[from] yaml::YamlError),
    /// Aliases make too much of it.
    #[error("the YAML that the templates make comes to more than {MOST_RENDERED} bytes together, aliases resolved")]
    TooLarge,
    /// A value that it makes is not in the encoding asked for.
    #[error("failed to decode rendered template value for key {key}: {error}")]
    Decode {
        /// Key of the value.
        key: String,
        /// Why not.
        error: NotBase64,
    },
}

/// Renders the template of a Secret.
///
/// # Errors
/// The first template that fails; nothing is made then.
pub fn secret(
    template: &Template,
    values: &Entries,
    sources: &Sources,
    render: &Render<'_>,
) -> Result<Rendered, TargetError> {
    let mut rendered = Rendered::default();
    if keeps_values(template) {
        rendered.data.clone_from(values);
    }
    let mut resolved = Resolved::default();
    for from in &template.template_from {
        let entries = self::from(from, &parts(from, sources)?, render, &mut resolved)?;
        match from.target.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
            "labels" => rendered.labels.extend(texts(entries)),
            "annotations" => rendered.annotations.extend(texts(entries)),
            _ => rendered.data.extend(entries),
        }
    }
    rendered.data.extend(each(&template.data, render)?);
    if let Some(metadata) = &template.metadata {
        rendered.labels.extend(texts(each(&metadata.labels, render)?));
        rendered.annotations.extend(texts(each(&metadata.annotations, render)?));
    }
    Ok(rendered)
}

/// Whether the values themselves go in beside what the templates make.
fn keeps_values(template: &Template) -> bool {
    let nothing_to_render = template.data.is_empty() && template.template_from.is_empty();
    nothing_to_render || template.merge_policy.unwrap_or_default() == TemplateMergePolicy::Merge
}

/// Renders a map of templates.
fn each(templates: &BTreeMap<String, String>, render: &Render<'_>) -> Result<Entries, TargetError> {
    let one = |(key, text): (&String, &String)| match render(key, text.as_bytes()) {
        Ok(value) => Ok((key.clone(), value)),
        Err(cause) => Err(TargetError::Execute { key: key.clone(), cause }),
    };
    templates.iter().map(one).collect()
}

/// Renders the templates of an entry of `templateFrom`; later keys win.
///
/// # Errors
/// The first template that fails.
pub(super) fn from(
    from: &TemplateFrom,
    parts: &[Part<'_>],
    render: &Render<'_>,
    resolved: &mut Resolved,
) -> Result<Entries, FromError> {
    let strategy = from.values_decoding_strategy.unwrap_or_default();
    let mut all = Entries::new();
    for part in parts {
        all.extend(part.decoded(strategy, part.entries(render, resolved)?)?);
    }
    Ok(all)
}

/// Bytes that the YAML of all templates of an object came to so far: aliases make much of a short text.
#[derive(Default)]
pub(super) struct Resolved(usize);

impl Resolved {
    /// Counts more, which may be too much.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), FromError> {
        self.0 = self.0.saturating_add(bytes);
        if self.0 > MOST_RENDERED { Err(FromError::TooLarge) } else { Ok(()) }
    }
}

/// One template of an entry of `templateFrom`.
pub(super) struct Part<'a> {
    pub(super) key: &'a str,
    text: &'a [u8],
    pub(super) scope: TemplateScope,
}

impl Part<'_> {
    pub(super) fn render(&self, render: &Render<'_>) -> Result<SecretBytes, FromError> {
        render(self.key, self.text).map_err(|cause| FromError::Execute { key: self.key.to_owned(), cause })
    }

    fn entries(&self, render: &Render<'_>, resolved: &mut Resolved) -> Result<Entries, FromError> {
        let value = self.render(render)?;
        match self.scope {
            TemplateScope::Values => Ok([(self.key.to_owned(), value)].into()),
            TemplateScope::KeysAndValues => {
                let entries = yaml::keys_and_values(&value)?;
                resolved.add(entries.iter().map(|(key, value)| key.len() + value.len()).sum())?;
                Ok(entries)
            }
        }
    }

    /// Decodes what it made. A key that does not stand in it may be a value's text, and is not told.
    fn decoded(&self, strategy: DecodingStrategy, entries: Entries) -> Result<Entries, FromError> {
        decode::decode_all(strategy, entries).map_err(|(key, error)| {
            let stands_here = String::from_utf8_lossy(self.text).contains(&key);
            FromError::Decode { key: if stands_here { key } else { self.key.to_owned() }, error }
        })
    }
}

/// What a literal is called in errors.
const LITERAL: &str = "literal";

/// The templates of an entry of `templateFrom`: its ConfigMap, then its Secret, then its literal.
fn parts<'a>(from: &'a TemplateFrom, sources: &'a Sources) -> Result<Vec<Part<'a>>, FromError> {
    let mut parts = Vec::new();
    if let Some(reference) = &from.config_map {
        parts.extend(parts_of(reference, Source::config_map(reference), sources)?);
    }
    if let Some(reference) = &from.secret {
        parts.extend(parts_of(reference, Source::secret(reference), sources)?);
    }
    let literal = from.literal.as_deref().map(|text| Part {
        key: LITERAL,
        text: text.as_bytes(),
        scope: TemplateScope::KeysAndValues,
    });
    parts.extend(literal);
    Ok(parts)
}

/// The same for an object of another kind, where the literal comes first, as in ESO.
pub(super) fn parts_of_object<'a>(from: &'a TemplateFrom, sources: &'a Sources) -> Result<Vec<Part<'a>>, FromError> {
    let mut parts = parts(from, sources)?;
    if from.literal.is_some() {
        parts.rotate_right(1);
    }
    Ok(parts)
}

fn parts_of<'a>(reference: &'a TemplateRef, source: Source, sources: &'a Sources) -> Result<Vec<Part<'a>>, FromError> {
    let Some(Some(read)) = sources.get(&source) else { return Err(FromError::Missing { source_: source }) };
    let part = |item: &'a crate::api::external_secret::TemplateRefItem| {
        let (source_, key) = (source.clone(), item.key.clone());
        let Some(text) = read.texts.get(&item.key) else { return Err(FromError::MissingKey { source_, key }) };
        Ok(Part { key: &item.key, text: text.expose(), scope: item.template_as.unwrap_or_default() })
    };
    reference.items.iter().map(part).collect()
}

/// Decodes one rendered value.
pub(super) fn decoded_one(strategy: DecodingStrategy, key: &str, value: SecretBytes) -> Result<SecretBytes, FromError> {
    decode::decode(strategy, value).map_err(|error| FromError::Decode { key: key.to_owned(), error })
}

/// Values as they stand in labels and annotations, which are text.
pub(super) fn texts(entries: Entries) -> impl Iterator<Item = (String, String)> {
    entries.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(value.expose()).into_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Entries {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), SecretBytes::from(*v))).collect()
    }

    /// Renders by putting values in the place of `<key>`.
    fn rendered(template: &Value, values: &[(&str, &str)]) -> Result<Rendered, String> {
        let values = entries(values);
        let template: Template = serde_json::from_value(template.clone()).unwrap();
        let text = |name: &str, texts: &[(&str, &str)]| {
            let kind = if name.starts_with("cm") { ReferenceKind::ConfigMap } else { ReferenceKind::Secret };
            let text = SourceText { version: "1".into(), texts: entries(texts), ..SourceText::default() };
            (Source { kind, name: name.into() }, Some(text))
        };
        let sources = [
            text(
                "cm",
                &[("k", "cm"), ("a", "cm <user>"), ("map", "<user>_x: <pw>\nnum: 1.50\n"), ("list", "- a"), ("b64", "aGk=")],
            ),
            text("sec", &[("k", "secret"), ("b", "sec <pw>")]),
        ];
        let render = |key: &str, text: &[u8]| {
            let mut text = String::from_utf8(text.to_vec()).unwrap();
            for (name, value) in &values {
                text = text.replace(&format!("<{name}>"), value.expose_str().unwrap());
            }
            if text.contains('<') { Err(format!("no entry at {key}")) } else { Ok(SecretBytes::from(text)) }
        };
        secret(&template, &values, &sources.into(), &render).map_err(|e| e.to_string())
    }

    fn data(template: &Value) -> Vec<(String, String)> {
        let made = rendered(template, &[("user", "ann"), ("pw", "s3")]).unwrap();
        made.data.iter().map(|(k, v)| (k.clone(), v.expose_str().unwrap().to_owned())).collect()
    }

    fn items(keys: &[&str]) -> Value {
        keys.iter().map(|k| json!({ "key": k })).collect()
    }

    /// Golden cases tmpl-30 and tfrom-08.
    #[test]
    fn values_stay_where_nothing_is_rendered_or_where_they_are_merged() {
        let both: &[(&str, &str)] = &[("pw", "s3"), ("user", "ann")];
        let table: [(Value, &[(&str, &str)]); 6] = [
            (json!({}), both),
            (json!({ "data": {}, "templateFrom": [] }), both),
            (json!({ "mergePolicy": "Merge" }), both),
            (
                json!({ "mergePolicy": "Merge", "data": { "pw": "<pw>!", "c": "new" } }),
                &[("c", "new"), ("pw", "s3!"), ("user", "ann")],
            ),
            (json!({ "mergePolicy": "Replace", "data": { "c": "<user>" } }), &[("c", "ann")]),
            (json!({ "templateFrom": [{}] }), &[]),
        ];
        for (template, wanted) in table {
            let wanted: Vec<_> = wanted.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(data(&template), wanted, "{template}");
        }
    }

    #[test]
    fn what_aliases_stand_for_counts_for_all_templates_together() {
        let literal = |aliases: usize| {
            let keys: String = (0..aliases).map(|i| format!("k{i}: *a\n")).collect();
            json!({ "literal": format!("a: &a {}\n{keys}", "x".repeat(100_000)) })
        };
        let keys = |all: &[usize]| {
            let from: Vec<Value> = all.iter().map(|aliases| literal(*aliases)).collect();
            rendered(&json!({ "templateFrom": from }), &[]).map(|made| made.data.len())
        };
        assert_eq!(keys(&[19]), Ok(20));
        assert_eq!(keys(&[9, 9]), Ok(10));
        let told = "error fetching templateFrom data: the YAML that the templates make comes to more than 2097152 bytes together, \
                    aliases resolved";
        for all in [&[20][..], &[9, 10][..], &[6, 6, 6][..]] {
            assert_eq!(keys(all), Err(told.to_owned()), "{all:?}");
        }
    }

    /// Golden case tfrom-08: ConfigMap, then Secret, then literal; `data` wins over all.
    #[test]
    fn later_sources_win() {
        let from = json!([{
            "configMap": { "name": "cm", "items": items(&["k", "a"]) },
            "secret": { "name": "sec", "items": items(&["k", "b"]) },
            "literal": "k: literal\nc: <user>\n",
        }]);
        let made = data(&json!({ "templateFrom": from, "data": { "c": "last" } }));
        let wanted = [("a", "cm ann"), ("b", "sec s3"), ("c", "last"), ("k", "literal")];
        assert_eq!(made, wanted.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn results_go_where_the_target_says() {
        let map = json!({ "name": "cm", "items": [{ "key": "map", "templateAs": "KeysAndValues" }] });
        let template = json!({
            "templateFrom": [
                { "configMap": map, "target": "LABELS" },
                { "literal": "a: <pw>", "target": "annotations" },
                { "literal": "a: <pw>", "target": "Data" },
            ],
            "metadata": { "labels": { "num": "metadata wins" } },
        });
        let made = rendered(&template, &[("user", "ann"), ("pw", "s3")]).unwrap();
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(made.labels, map(&[("ann_x", "s3"), ("num", "metadata wins")]));
        assert_eq!(made.annotations, map(&[("a", "s3")]));
        assert_eq!(made.data.len(), 1);
    }

    /// Golden case tfrom-09.
    #[test]
    fn rendered_values_are_decoded_and_those_of_data_are_not() {
        let template = json!({
            "templateFrom": [
                { "configMap": { "name": "cm", "items": items(&["b64"]) }, "valuesDecodingStrategy": "Base64" },
                { "literal": "lit: aGk=", "valuesDecodingStrategy": "Auto" },
            ],
            "data": { "data": "aGk=" },
        });
        assert_eq!(
            data(&template),
            [("b64", "hi"), ("data", "aGk="), ("lit", "hi")].map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn errors_begin_with_esos_words() {
        let of = |item: Value| json!({ "templateFrom": [{ "configMap": { "name": "cm", "items": [item] } }] });
        let from = "error fetching templateFrom data: ";
        let table = [
            (of(json!({ "key": "zz" })), "error in configmap cm: missing key zz"),
            (
                json!({ "templateFrom": [{ "secret": { "name": "cm", "items": items(&["k"]) } }] }),
                "secret cm not found in the ExternalSecret's namespace",
            ),
            (
                of(json!({ "key": "list", "templateAs": "KeysAndValues" })),
                "could not unmarshal template to 'map[string][]byte': error unmarshaling JSON: while decoding JSON: json: cannot \
                 unmarshal array into Go value of type map[string]string",
            ),
            (
                json!({ "templateFrom": [{ "literal": "plain: words", "valuesDecodingStrategy": "Base64" }] }),
                "failed to decode rendered template value for key plain: illegal base64 data",
            ),
            (
                json!({ "templateFrom": [{ "literal": "<pw>: words", "valuesDecodingStrategy": "Base64" }] }),
                "failed to decode rendered template value for key literal: illegal base64 data",
            ),
            (
                json!({ "templateFrom": [{ "literal": "a: <gone>" }] }),
                "unable to execute template at key literal: no entry at literal",
            ),
        ];
        for (template, text) in table {
            assert_eq!(
                rendered(&template, &[("user", "ann"), ("pw", "s3")]).unwrap_err(),
                format!("{from}{text}"),
                "{template}"
            );
        }
        let twice =
            "could not execute template: could not execute template: unable to execute template at key x: no entry at x";
        for template in [json!({ "data": { "x": "<gone>" } }), json!({ "metadata": { "labels": { "x": "<gone>" } } })] {
            assert_eq!(rendered(&template, &[]).unwrap_err(), twice, "{template}");
        }
    }

    #[test]
    fn sources_are_told_once_each() {
        let both = json!({ "configMap": { "name": "a", "items": [] }, "secret": { "name": "a", "items": [] } });
        let template: Template =
            serde_json::from_value(json!({ "templateFrom": [both, both, { "literal": "x" }] })).unwrap();
        let named: Vec<String> = sources(&template).iter().map(ToString::to_string).collect();
        assert_eq!(named, ["secret a", "configmap a"]);
    }
}
