//! Generators as the source of a PushSecret: what is asked of one, and what becomes of what it noted.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Failure, NO_SOURCE, Outcome, Source, source};
use crate::api::PushSecret;
use crate::index::StoreId;
use crate::plan::Rules;
use crate::plan::external_secret::Generate;
use crate::plan::generator_state::{Fate, Owner};
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

/// The labels of the states that may belong to what the object names now.
#[must_use]
pub fn state_labels(ps: &PushSecret) -> BTreeSet<String> {
    let owner = Owner { api_version: "", kind: "PushSecret", meta: &ps.metadata, entry: STATE_ENTRY };
    matches!(source(ps), Source::Generated(_)).then(|| owner.label()).into_iter().collect()
}

/// How far a push came at one store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The places that have the newest values, as the status names them.
    pub places: BTreeSet<String>,
    /// The places that may have them: the write got no answer.
    pub perhaps: BTreeSet<String>,
    /// Whether that is all of them: none failed, or keeps what it has (`IfNotExists`).
    pub whole: bool,
}

/// What becomes of the states of values that were generated, now that their push ended so. `known`: it is known what was in use before.
/// `again`: they were pushed before; some place has them, or may have, whatever it says now, until all is well.
#[must_use]
pub fn fate(outcome: &Outcome, reached: &BTreeMap<StoreId, Reached>, known: bool, again: bool) -> Fate {
    let somewhere = reached.values().any(|at| !at.places.is_empty());
    let perhaps = reached.values().any(|at| !at.perhaps.is_empty());
    match (somewhere, perhaps) {
        _ if again && matches!(outcome, Outcome::Failed { .. }) => Fate::Leave,
        (true, false) if known => Fate::Commit,
        (false, false) if !again => Fate::RollBack,
        _ => Fate::Leave,
    }
}

/// Whether the next try pushes the same values: it failed, and some place has them, or may have. Others would take their place there with
/// each try, for as long as another store fails.
#[must_use]
pub fn is_pushed_again(outcome: &Outcome, fate: Fate) -> bool {
    fate != Fate::RollBack && matches!(outcome, Outcome::Failed { .. })
}

/// What becomes of the states of a generator that was the source before, now that a push of values that were read ended so: they go out
/// of use once others are in their places.
#[must_use]
pub fn fate_of_former(outcome: &Outcome, reached: &BTreeMap<StoreId, Reached>) -> Fate {
    let replaced = reached.values().all(|at| at.whole) && reached.values().any(|at| !at.places.is_empty());
    if replaced && matches!(outcome, Outcome::Synced { .. }) { Fate::Commit } else { Fate::Leave }
}

/// Which states' values each store may hold, by their names, since not all stores took the newest. ESO takes the newest back then, and
/// so breaks who has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings(BTreeMap<StoreId, Held>);

/// What one store may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    /// In places that took their own.
    places: BTreeMap<String, BTreeSet<String>>,
    /// Everywhere else.
    elsewhere: BTreeSet<String>,
}

impl Holdings {
    /// Notes how a push of the values of the states `newest` went. `before`: the states in use until then, which is what a store may
    /// hold of which nothing is noted; `None`: nobody knows.
    pub fn note(
        &mut self,
        before: Option<&BTreeSet<String>>,
        newest: &BTreeSet<String>,
        reached: &BTreeMap<StoreId, Reached>,
    ) {
        // with nothing noted, each store may hold all that is in use at the next push
        let Some(before) = before else { return self.0.clear() };
        self.0.retain(|store, _| reached.contains_key(store));
        for (store, reached) in reached {
            let unknown = || Held { elsewhere: before.clone(), ..Held::default() };
            let held = self.0.entry(store.clone()).or_insert_with(unknown);
            if reached.whole {
                *held = Held { elsewhere: newest.clone(), ..Held::default() };
                continue;
            }
            held.places.extend(reached.places.iter().map(|place| (place.clone(), newest.clone())));
            for place in &reached.perhaps {
                let had = held.elsewhere.clone();
                held.places.entry(place.clone()).or_insert(had).extend(newest.iter().cloned());
            }
        }
    }

    /// The states whose values some store may hold.
    #[must_use]
    pub fn held(&self) -> BTreeSet<String> {
        self.0.values().flat_map(|held| held.places.values().flatten().chain(&held.elsewhere)).cloned().collect()
    }
}
