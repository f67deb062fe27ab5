//! When a PushSecret is pushed: what makes that due, and what holds it back.

use std::time::Duration;

use jiff::SignedDuration;

use super::{Facts, SOURCE_DELETED, Source, source, source_version, synced_resource_version};
use crate::api::PushSecret;
use crate::api::push_secret::PushUpdatePolicy;
use crate::plan::refresh;
use crate::queue::Priority;

/// What is left of the pause after a failure. Each push of what a generator makes takes a new value, so it must not come sooner because
/// of a lease; what mends the failure wakes at a better priority.
pub(super) fn held_back(facts: &Facts) -> Option<Duration> {
    let is_generated = matches!(source(&facts.ps), Source::Generated(_));
    let (since, pause) = facts.memory.paused.filter(|_| is_generated && facts.woken == Priority::Periodic)?;
    // a clock that went back holds nothing up
    let waited = Duration::try_from(facts.now.duration_since(since)).ok()?;
    pause.checked_sub(waited).filter(|left| !left.is_zero())
}

/// How long what was generated still holds. Under `IfNotExists` it is never replaced: what a store has stays there.
pub(super) fn lease_left(facts: &Facts) -> Option<SignedDuration> {
    let replaces = facts.ps.spec.update_policy != Some(PushUpdatePolicy::IfNotExists);
    facts.replace_at.filter(|_| replaces).map(|at| at.duration_since(facts.now))
}

/// Whether a push is due.
pub(super) enum Due {
    /// It is.
    Now(Priority),
    /// Not now; perhaps after that time.
    NotYet(Option<Duration>),
}

/// Whether a push is due. `left`: a store in deletion still holds something.
pub(super) fn due(facts: &Facts, interval: SignedDuration, left: bool) -> Due {
    let ps = &facts.ps;
    if is_cleaned_up(facts) {
        return Due::NotYet(None);
    }
    let status = ps.status.clone().unwrap_or_default();
    let recorded = status.refresh_time.map(|t| t.0);
    let Some(refreshed) = recorded.max(facts.memory.refreshed) else { return Due::Now(first(ps)) };
    let synced = status.synced_resource_version.unwrap_or_default();
    if synced.is_empty() {
        return Due::Now(first(ps));
    }
    // ESO does not note in which versions it took templates: nothing else is generated because of that
    let unsaid = status.source_version.is_none() && matches!(source(ps), Source::Generated(_));
    let changed = synced != synced_resource_version(ps)
        || (!unsaid && status.source_version != source_version(&facts.sources))
        || ps.ready().is_none_or(|c| !c.is_ready())
        || left;
    if changed {
        return Due::Now(Priority::Changed);
    }
    let holds = lease_left(facts);
    if holds.is_some_and(|left| left <= SignedDuration::ZERO) {
        return Due::Now(Priority::Periodic);
    }
    if interval <= SignedDuration::ZERO {
        return Due::NotYet(holds.map(SignedDuration::unsigned_abs));
    }
    let uid = ps.metadata.uid.as_deref().unwrap_or_default();
    let left = refresh::period(interval, uid) - facts.now.duration_since(refreshed);
    if left > SignedDuration::ZERO && refreshed <= facts.now {
        let left = holds.map_or(left, |holds| holds.min(left));
        return Due::NotYet(Some(left.unsigned_abs()));
    }
    Due::Now(Priority::Periodic)
}

fn first(ps: &PushSecret) -> Priority {
    if ps.ready().is_some() { Priority::Changed } else { Priority::New }
}

/// The source is gone, what it pushed is deleted, and nothing changed since: there is nothing to do until it comes back.
fn is_cleaned_up(facts: &Facts) -> bool {
    let Source::Named(name) = source(&facts.ps) else { return false };
    // those of templates are there all the same
    let is_gone = !facts.sources.iter().any(|source| source.name == name);
    let reason = facts.ps.ready().and_then(|c| c.reason.as_deref());
    let same = facts.ps.status.as_ref().and_then(|s| s.synced_resource_version.as_deref());
    reason == Some(SOURCE_DELETED) && is_gone && same == Some(synced_resource_version(&facts.ps).as_str())
}
