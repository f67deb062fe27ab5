//! Which names of keys may be told: a template can make one of a value.

use std::collections::BTreeSet;

use super::template::Delimiters;
use crate::api::external_secret::{Template, TemplateScope};
use crate::providers::ReferenceKind;
use crate::render::target::{Source, Sources};
use crate::secret_bytes::SecretBytes;

/// Stands for what may be a value.
pub const MASK: &str = "<masked>";

/// Stands for an action in a text.
const ACTION: char = '\0';
/// What may stand before a key in YAML.
const BEFORE_A_KEY: [char; 4] = ['{', ',', '"', '\''];

/// The names that are no value's: all, unless a template makes names; then those that stand in it, and those that are known otherwise.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: BTreeSet<String>,
    /// Templates that make names, without their actions. They may be a Secret's.
    texts: Vec<SecretBytes>,
}

impl Names {
    /// Those that a template leaves. `object`: it is that of another kind than Secret, where any text may be a map.
    #[must_use]
    pub fn of(template: Option<&Template>, sources: &Sources, delimiters: &Delimiters, object: bool) -> Self {
        let mut names = Self::default();
        let Some(template) = template else { return names };
        let texts = texts(template, sources, object).into_iter().map(|text| without_actions(text, delimiters));
        let texts: Vec<String> = texts.collect();
        if !texts.iter().any(|text| text.contains(ACTION)) {
            return names;
        }
        names.texts = texts.into_iter().map(SecretBytes::from).collect();
        names.know(template.data.keys());
        names.know(template.metadata.iter().flat_map(|m| m.labels.keys().chain(m.annotations.keys())));
        for from in &template.template_from {
            let references = from.config_map.iter().chain(&from.secret);
            names.know(references.flat_map(|reference| reference.items.iter().map(|item| &item.key)));
            let steps = from.target.iter().flat_map(|path| path.split(['.', '[', ']']));
            names.known.extend(steps.map(str::to_owned));
        }
        names
    }

    /// Adds names that are known.
    pub fn know<'a>(&mut self, names: impl IntoIterator<Item = &'a String>) {
        self.known.extend(names.into_iter().cloned());
    }

    /// Whether a name may be told.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        let stands_in = |text: &SecretBytes| text.expose_str().is_some_and(|text| is_key_in(text, name));
        self.texts.is_empty() || self.known.contains(name) || self.texts.iter().any(stands_in)
    }
}

/// The texts of a template that make keys.
fn texts<'a>(template: &'a Template, sources: &'a Sources, object: bool) -> Vec<&'a str> {
    let mut found = Vec::new();
    for from in &template.template_from {
        for (kind, reference) in [(ReferenceKind::ConfigMap, &from.config_map), (ReferenceKind::Secret, &from.secret)] {
            let Some(reference) = reference else { continue };
            let source = Source { kind, name: reference.name.clone() };
            let Some(Some(read)) = sources.get(&source) else { continue };
            let keys = |scope: Option<TemplateScope>| object || scope.unwrap_or_default() == TemplateScope::KeysAndValues;
            let items = reference.items.iter().filter(|item| keys(item.template_as));
            found.extend(items.filter_map(|item| read.texts.get(&item.key)?.expose_str()));
        }
        found.extend(from.literal.as_deref());
    }
    found
}

fn without_actions(text: &str, delimiters: &Delimiters) -> String {
    let or = |own: &str, default: &str| if own.is_empty() { default.to_owned() } else { own.to_owned() };
    let (left, right) = (or(&delimiters.left, "{{"), or(&delimiters.right, "}}"));
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, action)) = rest.split_once(&left) {
        out.push_str(before);
        out.push(ACTION);
        rest = action.split_once(&right).map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

/// Whether a text has a name as a key of YAML, with nothing beside it that a value could become.
fn is_key_in(text: &str, name: &str) -> bool {
    !name.is_empty()
        && text.match_indices(name).any(|(at, _)| {
            let (before, rest) = text.split_at(at);
            let begins = before.chars().next_back().is_none_or(|c| c.is_whitespace() || BEFORE_A_KEY.contains(&c));
            let after = rest.strip_prefix(name).unwrap_or_default().trim_start_matches(['"', '\'']);
            begins && after.trim_start_matches(' ').starts_with(':')
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::target::SourceText;

    fn names(from: serde_json::Value, delimiters: &Delimiters) -> Names {
        let template: Template =
            serde_json::from_value(json!({ "data": { "own": "{{ .r }}" }, "templateFrom": [from] })).unwrap();
        let texts =
            [("whole".to_owned(), SecretBytes::from("{{ .r }}")), ("map".to_owned(), "{{ .r }}: x\nfixed: y".into())];
        let source = Source { kind: ReferenceKind::ConfigMap, name: "cm".into() };
        let sources = [(source, Some(SourceText { texts: texts.into(), ..SourceText::default() }))].into();
        let mut names = Names::of(Some(&template), &sources, delimiters, false);
        names.know(&["read".to_owned()]);
        names
    }

    #[test]
    fn a_name_is_shown_if_it_stands_in_the_template_or_is_known() {
        let go = Delimiters::default();
        let shown = |literal: &str, name: &str| names(json!({ "literal": literal }), &go).shows(name);
        let text = "fixed: {{ .r }}\n{{ .r }}: x\npre-{{ .r }}: x\n'quoted': {a: {{ .r }}, \"b\" : 1}\n{{ .r }}-post: x";
        for name in ["fixed", "quoted", "a", "b", "own", "read"] {
            assert!(shown(text, name), "{name}");
        }
        for name in ["canary", "pre-canary", "canary-post", "-post", "x", "r", "fix", ""] {
            assert!(!shown(text, name), "{name}");
        }
        assert!(shown("fixed: x", "anything"), "no action, no name of a value");
    }

    #[test]
    fn texts_of_objects_count_where_they_are_maps() {
        let of = |item: serde_json::Value| json!({ "configMap": { "name": "cm", "items": [item] } });
        let go = Delimiters::default();
        assert!(names(of(json!({ "key": "whole" })), &go).shows("canary"), "its key is its own");
        let map = names(of(json!({ "key": "map", "templateAs": "KeysAndValues" })), &go);
        assert!(!map.shows("canary") && map.shows("fixed"));
        let other = Delimiters { left: "<<".into(), right: ">>".into() };
        assert!(!names(json!({ "literal": "<< .r >>: x" }), &other).shows("canary"));
        assert!(names(json!({ "literal": "{{ .r }}: x" }), &other).shows("canary"), "no action there");
    }
}
