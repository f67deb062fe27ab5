//! The push of what a generator makes: what it is asked, and what becomes of what it noted.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Goal, Memories, leads, leave, push_all};
use crate::api::PushSecret;
use crate::api::push_secret::SyncedPushSecrets;
use crate::controllers::Ctx;
use crate::controllers::generate::{self, Asker, Generated};
use crate::generators::maker::KEPT_FOR;
use crate::index::Key;
use crate::plan::external_secret::Generate;
use crate::plan::generator_state::{self, Fate};
use crate::plan::push_secret::generate::{STATE_ENTRY, fate, is_pushed_again, state_labels};
use crate::plan::push_secret::{self as plan, Facts, Failure, NO_SOURCE, Outcome};
use crate::providers::Source as Values;

/// Values that were generated, to be pushed.
pub(super) struct Attempt {
    /// Of which object, generator and revision of both.
    of: String,
    since: Instant,
    values: Vec<Values>,
    generated: Generated,
}

impl Attempt {
    /// Whether the next try pushes the same values. What the stores may have holds as long as nothing else is pushed, and each value more
    /// would hold besides; unless somebody took it back. `in_use`: the states whose values hold, as far as they are known.
    fn holds(&self, of: &str, now: Timestamp, in_use: Option<&BTreeSet<String>>) -> bool {
        let replaced = self.generated.replace_at.is_some_and(|at| at <= now);
        let taken_back = in_use.is_some_and(|states| !self.generated.names().is_subset(states));
        self.of == of && self.since.elapsed() < KEPT_FOR && !replaced && !taken_back
    }
}

/// For whom values are generated.
pub(super) fn asker<'a>(ps: &'a PushSecret, revision: &'a str) -> Asker<'a> {
    Asker { api_version: "external-secrets.io/v1alpha1", kind: "PushSecret", meta: &ps.metadata, revision }
}

/// Generates the values, now that all else is there, and pushes them.
pub(super) async fn push_generated(ctx: &Ctx, memories: &Memories, facts: &Facts, order: Generate, goal: Goal) -> Outcome {
    if let Err(failure) = leads(ctx) {
        return Outcome::Failed { failure, synced: None };
    }
    let key = Key::of(&facts.ps.metadata);
    let revision = plan::synced_resource_version(&facts.ps);
    let asker = asker(&facts.ps, &revision);
    let before = in_use(ctx, &facts.ps).await;
    let of = subject(&facts.ps, &order, &revision);
    let unanswered = memories.with(&key, |remembered| remembered.unanswered.take());
    let unanswered = unanswered.filter(|last| last.holds(&of, facts.now, before.as_ref()));
    let again = unanswered.is_some();
    let attempt = match unanswered {
        Some(last) => last,
        None => match make(ctx, &asker, order, of).await {
            Ok(made) => made,
            Err(failure) => return leave(ctx, facts, Some(failure), SyncedPushSecrets::new()).await,
        },
    };
    let (outcome, reached) = push_all(ctx, facts, attempt.values.clone(), goal).await;
    let note = || {
        memories.with(&key, |remembered| {
            remembered.holdings.note(before.as_ref(), &attempt.generated.names(), &reached);
            remembered.holdings.held()
        })
    };
    let fate = fate(&outcome, &reached, before.is_some(), again);
    let held = if fate == Fate::RollBack { BTreeSet::new() } else { note() };
    if fate == Fate::Commit {
        attempt.generated.commit(ctx.generating(), &asker, &held).await;
    }
    if is_pushed_again(&outcome, fate) {
        memories.with(&key, |remembered| remembered.unanswered = Some(attempt));
    } else if fate == Fate::RollBack {
        attempt.generated.end(fate, ctx.generating(), &asker).await;
    }
    outcome
}

/// What a value is generated for; of another subject it is another value.
fn subject(ps: &PushSecret, order: &Generate, revision: &str) -> String {
    let uid = ps.metadata.uid.as_deref().unwrap_or_default();
    format!("{uid}/{}/{}/{revision}", order.generator.uid, order.generator.generation)
}

async fn make(ctx: &Ctx, asker: &Asker<'_>, order: Generate, of: String) -> Result<Attempt, Failure> {
    let entry = |_: &Generate| STATE_ENTRY.to_owned();
    let since = Instant::now();
    // another revision asks for other values: a forced push needs no moment before which they are too old
    let mut generated = generate::generate(ctx.generating(), asker, &[order], entry, None).await;
    let mut values = Vec::new();
    for made in std::mem::take(&mut generated.made).into_values() {
        let made = made.map_err(|error| Failure::provider(format!("{NO_SOURCE}: unable to generate"), &error))?;
        values.push(plan::generated(made.values));
    }
    Ok(Attempt { of, since, values, generated })
}

/// The states of the object whose values may be in use, by name: asked for, as the watch may not have told of all. `None`: nobody knows.
async fn in_use(ctx: &Ctx, ps: &PushSecret) -> Option<BTreeSet<String>> {
    let key = Key::of(&ps.metadata);
    let mut used = BTreeSet::new();
    for label in state_labels(ps) {
        let states = ctx.writer.states_of(&key.namespace, &label).await;
        let states = states.inspect_err(|error| {
            tracing::warn!(object = %key, %error, "the states of its generator could not be listed; all stay for now");
        });
        let of_use = states.ok()?.into_iter().filter(generator_state::in_use);
        used.extend(of_use.filter_map(|state| state.metadata.name));
    }
    Some(used)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn attempt(replace_at: Option<Timestamp>) -> Attempt {
        let generated = Generated::default();
        let mut made = Attempt { of: "u/g/1/r".to_owned(), since: Instant::now(), values: Vec::new(), generated };
        made.generated.replace_at = replace_at;
        made
    }

    #[tokio::test(start_paused = true)]
    async fn what_got_no_answer_is_pushed_again_for_a_while() {
        let now = Timestamp::UNIX_EPOCH;
        let second = jiff::SignedDuration::from_secs(1);
        let lasting = attempt(None);
        assert!(lasting.holds("u/g/1/r", now, None));
        assert!(!lasting.holds("u/g/1/r2", now, None), "it, or its generator, changed");
        let leased = attempt(Some(now + second));
        assert!(leased.holds("u/g/1/r", now, None));
        assert!(!leased.holds("u/g/1/r", now + second, None), "its lease ends");
        tokio::time::advance(KEPT_FOR - Duration::from_secs(1)).await;
        assert!(lasting.holds("u/g/1/r", now, None));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!lasting.holds("u/g/1/r", now, None), "too old");
    }
}
