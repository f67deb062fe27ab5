//! A Secret that is not there: whether the last sync said why, and when its values are asked for again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::words::{Facts, Next, Report};
use super::{NEW_AGE, SOON, fetch, interval, last_sync, synced_resource_version};
use crate::api::external_secret::{CreationPolicy, RefreshPolicy};
use crate::api::{Condition, ExternalSecret, ExternalSecretStatus};
use crate::plan::refresh::{self, LastSync};
use crate::plan::{Rules, Wake};
use crate::queue::Priority;

/// What the condition says where there was nothing to write, and what is there was left: ESO's text.
pub(super) const RETAINED: &str = "secret retained due to DeletionPolicy=Retain";

/// Says what to do where nothing is due, and there is no Secret.
pub(super) fn next(facts: &Facts, rules: &Rules, wake: Wake) -> Next {
    let es = &facts.es;
    let current = synced_resource_version(es);
    let meant = |status: &&ExternalSecretStatus| {
        status.synced_resource_version.as_ref() == Some(&current) && status.target.is_none() && is_told(status)
    };
    let Some(status) = es.status.as_ref().filter(meant) else {
        return fetch::fetch(facts, rules, NEW_AGE, Priority::Changed);
    };
    match interval(es).ok().and_then(|interval| again(es, status, interval, last_sync(facts), facts.now)) {
        Some(left) if left.is_zero() => fetch::fetch(facts, rules, NEW_AGE, Priority::Periodic),
        Some(left) => Next::Idle(Wake::After(left, Priority::Periodic)),
        None => Next::Idle(wake),
    }
}

/// Whether a status says that the last sync left no Secret there, or may have found none to leave.
pub(super) fn is_told(status: &ExternalSecretStatus) -> bool {
    let says = |c: &Condition| {
        let reason = c.reason.as_deref().unwrap_or_default();
        let kept = c.message.as_deref().is_some_and(|message| message.starts_with(RETAINED));
        c.status == "True" && (reason.ends_with("Missing") || reason.ends_with("Deleted") || kept)
    };
    status.conditions.iter().any(|c| c.type_ == Condition::READY && says(c))
}

/// After what time the values of a Secret that is not there are asked for, whatever the refresh policy says: ESO reads them at each of
/// its looks, which come in intervals. A merge waits for its Secret, and an orphan is left to itself.
pub(super) fn again(
    es: &ExternalSecret,
    status: &ExternalSecretStatus,
    interval: SignedDuration,
    last: LastSync<'_>,
    now: Timestamp,
) -> Option<Duration> {
    let creation = es.target().creation_policy.unwrap_or_default();
    let creates = matches!(creation, CreationPolicy::Owner | CreationPolicy::CreateOrMerge);
    let of_itself = es.spec.refresh_policy.unwrap_or_default() == RefreshPolicy::Periodic;
    if of_itself || !creates || interval <= SignedDuration::ZERO || status.target.is_some() || !is_told(status) {
        return None;
    }
    let uid = es.metadata.uid.as_deref().unwrap_or_default();
    let left = refresh::period(interval, uid) - now.duration_since(last.refresh_time?);
    Some(left.max(SignedDuration::ZERO).unsigned_abs())
}

/// Where the Secret went since the plan was made and what is wanted is not the whole of a new one, as the values of an immutable
/// target stay and its template was not rendered: the report that has it planned anew.
pub(super) fn went(facts: &Facts) -> Option<Report> {
    let target = facts.es.target();
    (facts.target.is_some() && target.immutable == Some(true) && target.template.is_some()).then(|| soon(facts))
}

/// Nothing is said or done; soon the object is looked at again.
fn soon(facts: &Facts) -> Report {
    Report {
        status: None,
        notes: Vec::new(),
        wake: Wake::After(SOON, Priority::Changed),
        memory: facts.memory.clone(),
        failure: None,
    }
}
