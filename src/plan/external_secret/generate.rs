//! Generators: what an entry asks of its own.

use std::collections::BTreeSet;

use super::words::{Facts, Failure, Generate, Written};
use crate::api::ExternalSecret;
use crate::index::{GeneratorFacts, GeneratorId};
use crate::plan::Rules;
use crate::plan::entries::{Entry, entries};
use crate::plan::generator_state::{Fate, Owner};
use crate::plan::generators::{Answer, answer};

/// What is to be done for an entry.
pub(super) enum Plan {
    /// It asks no generator.
    NoGenerator,
    /// It is not known yet what its generator is.
    Wait,
    /// This.
    Make(Generate),
}

/// The labels of the states that may belong to the object's entries as they are now: one that was moved or taken out has none.
#[must_use]
pub fn state_labels(es: &ExternalSecret) -> BTreeSet<String> {
    let (meta, all) = (&es.metadata, entries(es));
    let generating = all.iter().filter(|entry| entry.generator().is_some());
    let indexes =
        generating.filter_map(|entry| if let Entry::From(index, _) = entry { Some(index.to_string()) } else { None });
    let owner = |entry: &str| Owner { api_version: "", kind: "ExternalSecret", meta, entry }.label();
    indexes.map(|entry| owner(&entry)).collect()
}

/// Whether the values of a target are written once: those of an immutable Secret. Other kinds are replaced as ever.
#[must_use]
pub fn is_written_once(es: &ExternalSecret) -> bool {
    es.target().immutable == Some(true) && es.target().manifest.is_none()
}

/// What becomes of generated values, now that a write ended so: `written` if it went well, `unsure` if the target may hold the values all
/// the same.
#[must_use]
pub fn fate(es: &ExternalSecret, written: Option<&Written>, unsure: bool) -> Fate {
    let writes = !is_written_once(es);
    match written {
        Some(Written::Applied { created, .. }) if *created || writes => Fate::Commit,
        Some(Written::Kept { .. }) if writes => Fate::Commit,
        _ if unsure => Fate::Leave,
        _ => Fate::RollBack,
    }
}

/// Classes that the object's generators name.
pub(super) fn classes(facts: &Facts) -> impl Iterator<Item = String> + '_ {
    facts.generators.values().filter_map(|known| match known {
        GeneratorFacts::Found(generator) => generator.class.clone(),
        _ => None,
    })
}

/// Says what an entry asks of its generator.
pub(super) fn plan(facts: &Facts, rules: &Rules, entry: &Entry<'_>) -> Result<Plan, Failure> {
    let (Entry::From(index, _), Some(reference)) = (entry, entry.generator()) else { return Ok(Plan::NoGenerator) };
    let namespace = facts.es.metadata.namespace.as_deref().unwrap_or_default();
    let known = facts.generators.get(&GeneratorId::resolve(reference, namespace));
    match answer(reference, namespace, known, rules) {
        Ok(Answer::Wait) => Ok(Plan::Wait),
        Ok(Answer::Ask(generator, spec)) => Ok(Plan::Make(Generate { index: *index, generator, spec })),
        Err(refusal) => {
            Err(Failure { wait_for_change: refusal.terminal, ..Failure::provider(&entry.place(), &refusal.error) })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn es(spec: Value) -> ExternalSecret {
        serde_json::from_value(json!({ "metadata": { "name": "es", "namespace": "ns" }, "spec": spec })).unwrap()
    }

    #[test]
    fn only_entries_that_generate_have_states() {
        let generator = json!({ "sourceRef": { "generatorRef": { "kind": "Grafana", "name": "g" } } });
        let es = es(json!({ "dataFrom": [{ "extract": { "key": "k" } }, generator, generator] }));
        let label = |entry: &str| crate::plan::object_hash::owner_key_label("ExternalSecret", "ns", "es", entry);
        assert_eq!(state_labels(&es), BTreeSet::from([label("1"), label("2")]));
    }

    #[test]
    fn what_is_in_use_is_kept_and_what_is_not_taken_back() {
        let written =
            |created| Written::Applied { created, changed: true, resource_version: "1".into(), data: String::new() };
        let kept = Written::Kept { resource_version: "1".into(), data: None };
        let (plain, immutable) = (es(json!({})), es(json!({ "target": { "immutable": true } })));
        let manifest = json!({ "apiVersion": "v1", "kind": "ConfigMap" });
        let generic = es(json!({ "target": { "immutable": true, "manifest": manifest } }));
        for (es, written, unsure, wanted) in [
            (&plain, Some(&written(true)), false, Fate::Commit),
            (&plain, Some(&written(false)), true, Fate::Commit),
            (&plain, Some(&kept), false, Fate::Commit),
            (&plain, Some(&Written::Deleted), false, Fate::RollBack),
            (&plain, None, false, Fate::RollBack),
            (&plain, None, true, Fate::Leave),
            (&immutable, Some(&written(true)), false, Fate::Commit),
            (&immutable, Some(&written(false)), false, Fate::RollBack),
            (&immutable, Some(&kept), false, Fate::RollBack),
            (&generic, Some(&written(false)), false, Fate::Commit),
            (&generic, Some(&kept), false, Fate::Commit),
        ] {
            assert_eq!(fate(es, written, unsure), wanted, "{:?} {written:?} {unsure}", es.target().immutable);
        }
    }
}
