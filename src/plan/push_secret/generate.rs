//! Generators as the source of a PushSecret: what is asked of one, and what becomes of what it noted.

use super::{Facts, Failure, NO_SOURCE, Source, source};
use crate::index::GeneratorFacts;
use crate::plan::Rules;
use crate::plan::external_secret::Generate;
use crate::plan::generators::{Answer, answer};

/// The entry under which the states of a PushSecret's generator are noted, as ESO calls it.
pub const STATE_ENTRY: &str = "__pushsecret";

/// What is to be asked of the generator.
#[derive(Clone, Debug)]
pub enum Plan {
    /// The values come from elsewhere.
    NoGenerator,
    /// It is not known yet what the generator is.
    Wait,
    /// This.
    Make(Generate),
}

/// Says what the PushSecret asks of its generator.
///
/// # Errors
/// Why it cannot be asked.
pub fn plan(facts: &Facts, rules: &Rules) -> Result<Plan, Failure> {
    let Source::Generated(reference) = source(&facts.ps) else { return Ok(Plan::NoGenerator) };
    let namespace = facts.ps.metadata.namespace.as_deref().unwrap_or_default();
    match answer(reference, namespace, facts.generator.as_ref(), rules) {
        Ok(Answer::Wait) => Ok(Plan::Wait),
        Ok(Answer::Ask(generator, spec)) => Ok(Plan::Make(Generate { index: 0, generator, spec })),
        Err(refusal) => Err(Failure::provider(NO_SOURCE, &refusal.error)),
    }
}

/// Whether the generator belongs to another controller: then the PushSecret does, as an ExternalSecret would.
pub(super) fn of_another_class(facts: &Facts, rules: &Rules) -> bool {
    let Some(GeneratorFacts::Found(generator)) = &facts.generator else { return false };
    generator.class.as_ref().is_some_and(|class| *class != rules.class)
}

/// Where the values of one push went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Some store has them.
    pub somewhere: bool,
    /// Some store may have those from before: it failed, or keeps what it has (`IfNotExists`).
    pub not_everywhere: bool,
}

/// What becomes of the states of a generator after a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The new values are in use, and those before no longer: they go after the grace period.
    Commit,
    /// The new values are nowhere: they are taken back.
    RollBack,
    /// New and old ones are in use: both stay until a push goes everywhere. ESO takes the new ones back, and so breaks who has them.
    KeepBoth,
}

impl Used {
    /// What follows.
    #[must_use]
    pub fn fate(self) -> Fate {
        match (self.somewhere, self.not_everywhere) {
            (false, _) => Fate::RollBack,
            (true, false) => Fate::Commit,
            (true, true) => Fate::KeepBoth,
        }
    }
}
