//! Whether the generator of a reference may be asked. The texts are ESO's, where it has one.

use std::sync::Arc;

use super::Rules;
use crate::api::external_secret::{GeneratorKind, GeneratorRef};
use crate::api::generators::{AnySpec, GROUP, VERSION};
use crate::index::{AnyGenerator, GeneratorFacts, GeneratorId};
use crate::providers::{ErrorKind, ProviderError};

/// What is to be done about a reference.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is not known yet what the generator is: whoever waits is woken.
    Wait,
    /// Ask this generator, for this.
    Ask(Arc<AnyGenerator>, Arc<AnySpec>),
}

/// Why a generator cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub error: ProviderError,
    /// Whether only a change of the reference or the generator can mend it.
    pub terminal: bool,
}

impl Refusal {
    fn new(kind: ErrorKind, terminal: bool, detail: &str) -> Self {
        let mark = if terminal { "terminal error: " } else { "" };
        Self { error: ProviderError::new(kind, format!("unable to get generator: {mark}{detail}")), terminal }
    }
}

/// Says whether the generator of a reference may be asked, by what is known of it.
///
/// # Errors
/// Why it may not be.
pub fn answer(
    reference: &GeneratorRef,
    namespace: &str,
    known: Option<&GeneratorFacts>,
    rules: &Rules,
) -> Result<Answer, Refusal> {
    let terminal = |detail: &str| Refusal::new(ErrorKind::Misconfigured, true, detail);
    check_version(reference).map_err(|detail| terminal(&detail))?;
    if reference.kind == GeneratorKind::ClusterGenerator && !rules.cluster_generators {
        let detail = "a ClusterGenerator cannot be used: this keyferry runs without cluster-wide rights (--namespaces); use a \
                      generator in the namespace that needs it";
        return Err(Refusal::new(ErrorKind::Unsupported, false, detail));
    }
    let id = GeneratorId::resolve(reference, namespace);
    let generator = match known {
        None | Some(GeneratorFacts::Unknown) => return Ok(Answer::Wait),
        Some(GeneratorFacts::Unreadable(why)) => {
            let detail = format!("the operator cannot read {}.{GROUP}: {why}", id.kind.plural());
            return Err(Refusal::new(ErrorKind::Unavailable, false, &detail));
        }
        Some(GeneratorFacts::Missing) => {
            let detail = format!("{}.{GROUP} {:?} not found", id.kind, id.key.name);
            return Err(Refusal::new(ErrorKind::Misconfigured, false, &detail));
        }
        Some(GeneratorFacts::Found(generator)) => generator.clone(),
    };
    match &generator.spec {
        Ok(spec) => Ok(Answer::Ask(generator.clone(), spec.clone())),
        Err(invalid) => Err(terminal(&format!("invalid {}: {invalid}", id.kind))),
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
