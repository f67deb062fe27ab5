//! Generators: what an entry asks of its own.

use super::words::{Facts, Failure, Generate};
use crate::index::{GeneratorFacts, GeneratorId};
use crate::plan::Rules;
use crate::plan::entries::Entry;
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
