//! Generators: whether an entry's may be asked, and what for.

use super::words::{Facts, Failure, Generate};
use crate::api::external_secret::{GeneratorKind, GeneratorRef};
use crate::api::generators::{GROUP, VERSION};
use crate::index::{GeneratorFacts, GeneratorId};
use crate::plan::Rules;
use crate::plan::entries::Entry;
use crate::providers::{ErrorKind, ProviderError};

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

/// Says whether the generator of an entry may be asked. The texts are ESO's, where it has one.
pub(super) fn plan(facts: &Facts, rules: &Rules, entry: &Entry<'_>) -> Result<Plan, Failure> {
    let (Entry::From(index, _), Some(reference)) = (entry, entry.generator()) else { return Ok(Plan::NoGenerator) };
    let refuse = |kind, detail: String| {
        Failure::provider(&entry.place(), &ProviderError::new(kind, format!("unable to get generator: {detail}")))
    };
    // only a change of the reference can mend it
    let terminal = |detail: String| Failure {
        wait_for_change: true,
        ..refuse(ErrorKind::Misconfigured, format!("terminal error: {detail}"))
    };
    check_version(reference).map_err(terminal)?;
    if reference.kind == GeneratorKind::ClusterGenerator && !rules.cluster_generators {
        let detail = "a ClusterGenerator cannot be used: this keyferry runs without cluster-wide rights (--namespaces); use a \
                      generator in the ExternalSecret's namespace";
        return Err(refuse(ErrorKind::Unsupported, detail.into()));
    }
    let id = GeneratorId::resolve(reference, facts.es.metadata.namespace.as_deref().unwrap_or_default());
    let generator = match facts.generators.get(&id) {
        None | Some(GeneratorFacts::Unknown) => return Ok(Plan::Wait),
        Some(GeneratorFacts::Unreadable(why)) => {
            let detail = format!("the operator cannot read {}.{GROUP}: {why}", id.kind.plural());
            return Err(refuse(ErrorKind::Unavailable, detail));
        }
        Some(GeneratorFacts::Missing) => {
            let detail = format!("{}.{GROUP} {:?} not found", id.kind, id.key.name);
            return Err(refuse(ErrorKind::Misconfigured, detail));
        }
        Some(GeneratorFacts::Found(generator)) => generator.clone(),
    };
    match &generator.spec {
        Ok(spec) => Ok(Plan::Make(Generate { index: *index, spec: spec.clone(), generator })),
        Err(invalid) => Err(terminal(format!("invalid {}: {invalid}", id.kind))),
    }
}

fn check_version(reference: &GeneratorRef) -> Result<(), String> {
    let Some(named) = reference.api_version.as_deref().filter(|v| !v.is_empty()) else { return Ok(()) };
    let (group, version) = named.split_once('/').unwrap_or(("", named));
    if group != GROUP {
        return Err(format!("generatorRef may only reference the generators group, but got {group}"));
    }
    if version != VERSION {
        return Err(format!("generatorRef references an unknown GVK {named}, Kind={}", reference.kind));
    }
    Ok(())
}
