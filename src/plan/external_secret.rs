//! What to do about an ExternalSecret.
//!
//! The shell asks three times: [`before_fetch`] says whether and what to read, [`after_fetch`] what to write, and [`settle`]
//! what to report of how the write went.

mod absent;
mod fetch;
mod generate;
mod inspect;
mod recover;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::digest::Digester;
use super::entries::generates;
use super::refresh::{self, Due, LastSync};
use super::target::{self, Change, Content, Desired};
use super::{Note, Rules, Wake, backoff, duration, generator_state, lease, manifest, object_hash, status, template};
use crate::api::external_secret::{Binding, CreationPolicy, DeletionPolicy, TargetStatus};
use crate::api::{ExternalSecret, ExternalSecretStatus, FINALIZER_ESO, StoreKind};
use crate::index::{Key, TargetView, store_ids};
use crate::providers::ErrorKind;
use crate::queue::Priority;
use crate::validate;

pub use generate::{fate, is_written_once, state_labels};
pub use inspect::{after_inspection, data_digest, seen};
pub use recover::{in_doubt, pending, refused};
pub use words::{
    Decision, Facts, Failure, FetchPlan, Gathered, Generate, Memory, NOT_ALLOWED, Next, ORPHANS_LEFT, Report, Seen,
    StoreFacts, Written, not_deleted,
};

/// How old a shared value may be for an object that is new or was changed, or whose refresh failed.
const NEW_AGE: Duration = Duration::from_secs(10);
/// How soon to plan anew what changed while it was carried out.
const SOON: Duration = Duration::from_millis(500);
/// When to look again at what only somebody else can mend, should its change have been missed.
const LATER: Duration = Duration::from_secs(300);

/// Says whether the object is ours, and what is due.
#[must_use]
pub fn before_fetch(facts: &Facts, rules: &Rules) -> Next {
    let es = &facts.es;
    if es.metadata.deletion_timestamp.is_some() {
        return clean_up(facts);
    }
    if is_anothers(facts, rules) {
        return Next::Ignore;
    }
    if recover::may_be_written(facts) {
        return Next::Inspect;
    }
    what_is_due(facts, rules)
}

fn what_is_due(facts: &Facts, rules: &Rules) -> Next {
    let es = &facts.es;
    let interval = match check_spec(facts, rules) {
        Ok(interval) => interval,
        Err(failure) => return Next::Settle(Box::new(failed(facts, &failure))),
    };
    match due(facts, interval) {
        Due::New => fetch::fetch(facts, rules, NEW_AGE, Priority::New),
        Due::Changed => fetch::fetch(facts, rules, NEW_AGE, Priority::Changed),
        // it may have failed on what was read: each try would find that again for half the interval
        Due::Periodic if has_failed(es) => {
            fetch::fetch(facts, rules, NEW_AGE.min(refresh::shared_age(interval)), Priority::Periodic)
        }
        Due::Periodic => fetch::fetch(facts, rules, refresh::shared_age(interval), Priority::Periodic),
        Due::NotYet(_) if template::source_changed(facts) => fetch::fetch(facts, rules, NEW_AGE, Priority::Changed),
        Due::NotYet(_) if has_failed(es) && recover::can_be_known(facts) => Next::Inspect,
        Due::NotYet(_) if has_failed(es) => fetch::fetch(facts, rules, NEW_AGE, Priority::Changed),
        // after a restart nobody knows whether they changed: what is generated beside them waits for its refresh
        Due::NotYet(_)
            if refresh::follows(es, interval, facts.now) && !generates(es) && facts.values() != facts.memory.values =>
        {
            fetch::fetch(facts, rules, NEW_AGE, Priority::Changed)
        }
        // a refresh that failed is not tried again outside of its window either
        Due::NotYet(left) | Due::Held(left) => not_due(facts, rules, wake_in(left)),
    }
}

fn due(facts: &Facts, interval: SignedDuration) -> Due {
    refresh::due(&facts.es, interval, last_sync(facts), &synced_resource_version(&facts.es), facts.now)
}

fn has_failed(es: &ExternalSecret) -> bool {
    es.ready().is_some_and(|c| c.status == "False")
}

fn wake_in(left: Option<Duration>) -> Wake {
    left.map_or(Wake::OnChange, |left| Wake::After(left, Priority::Periodic))
}

/// Nothing is due, unless the Secret drifted.
fn not_due(facts: &Facts, rules: &Rules, wake: Wake) -> Next {
    let synced = facts.es.status.as_ref().and_then(|s| s.synced_resource_version.as_ref());
    match facts.es.target().creation_policy.unwrap_or_default() {
        // what it reads is all that it has: after an edit it is read, whatever the refresh policy
        CreationPolicy::None
            if synced != Some(&synced_resource_version(&facts.es)) && facts.target.as_ref().is_none_or(|t| !t.managed) =>
        {
            return fetch::fetch(facts, rules, NEW_AGE, Priority::Changed);
        }
        CreationPolicy::None | CreationPolicy::Orphan => return Next::Idle(wake),
        CreationPolicy::Owner | CreationPolicy::Merge | CreationPolicy::CreateOrMerge => {}
    }
    let recorded = facts.es.status.as_ref().and_then(|s| s.target.as_ref());
    match (&facts.target, recorded) {
        (None, _) => absent::next(facts, rules, wake),
        (Some(view), Some(recorded)) if is_known(facts, view, recorded) => Next::Idle(wake),
        (Some(_), Some(recorded)) if recorded.digest.is_some() => Next::Inspect,
        (Some(_), _) if recover::can_be_known(facts) => Next::Inspect,
        // there is no digest to compare with, as when ESO wrote it
        (Some(_), _) => fetch::fetch(facts, rules, NEW_AGE, Priority::Changed),
    }
}

/// Whether the Secret is as we last wrote or checked it.
fn is_known(facts: &Facts, view: &TargetView, recorded: &TargetStatus) -> bool {
    let ours = facts.memory.written_to(facts.es.target_name());
    let same = |version: Option<&String>| version == Some(&view.resource_version);
    let lags = || match (ours.and_then(|v| v.parse::<u64>().ok()), view.resource_version.parse::<u64>()) {
        (Some(written), Ok(seen)) => seen < written,
        _ => false,
    };
    same(recorded.resource_version.as_ref()) || same(ours) || lags()
}

/// Says what to do with the Secret, now that the values are here.
#[must_use]
pub fn after_fetch(facts: &Facts, rules: &Rules, gathered: Result<&Gathered, &Failure>, digester: &Digester) -> Decision {
    let es = &facts.es;
    let gathered = match gathered {
        Ok(gathered) => gathered,
        Err(failure) => return Decision::Settle(Box::new(failed(facts, failure))),
    };
    let policy = es.target().creation_policy.unwrap_or_default();
    if gathered.data.is_empty() {
        match es.target().deletion_policy.unwrap_or_default() {
            DeletionPolicy::Retain => return Decision::Settle(Box::new(retained(facts, gathered))),
            DeletionPolicy::Delete => return delete(facts, gathered),
            DeletionPolicy::Merge => {}
        }
    }
    if policy == CreationPolicy::None {
        return Decision::Settle(Box::new(synced(facts, gathered, "Synced", "secret synced", None, Vec::new())));
    }
    if facts.target.is_none() && policy == CreationPolicy::Merge {
        let message = words::not_created(es);
        return Decision::Settle(Box::new(synced(facts, gathered, "Missing", message, None, Vec::new())));
    }
    // what an immutable target holds stays as it is, whatever a template would make
    let stays = es.target().immutable == Some(true) && facts.target.is_some();
    if (es.target().template.is_none() || stays) && es.target().manifest.is_none() {
        let content = Content::plain(es, gathered.data.clone());
        let desired = target::desired(es, Content { found_nothing: gathered.found_nothing(), ..content });
        let applied = digester.desired(&desired);
        return with_desired(facts, Desired { applied, ..desired });
    }
    let inputs = template::inputs(facts, rules, &gathered.data, &facts.sources, digester);
    if is_applied(facts, &inputs) { Decision::Keep(inputs) } else { Decision::Render }
}

/// Says what to do with the Secret, now that its template was rendered.
#[must_use]
pub fn rendered(facts: &Facts, desired: Result<Desired, Failure>) -> Decision {
    match desired {
        Ok(desired) => with_desired(facts, desired),
        Err(failure) => Decision::Settle(Box::new(failed(facts, &failure))),
    }
}

fn with_desired(facts: &Facts, desired: Desired) -> Decision {
    match &facts.target {
        None => Decision::Create(desired),
        Some(_) if is_applied(facts, &desired.applied) => Decision::Keep(desired.applied),
        Some(_) => Decision::ReadTarget(desired),
    }
}

/// Whether the Secret is known to be as we last wrote it, and that is what is wanted.
fn is_applied(facts: &Facts, applied: &str) -> bool {
    let recorded = facts.es.status.as_ref().and_then(|s| s.target.as_ref());
    match (&facts.target, recorded) {
        (Some(view), Some(recorded)) => {
            // where the status of our last write could not be written, what it says was applied is older
            let ours = facts.memory.written_to(facts.es.target_name());
            let told = ours.is_none_or(|version| recorded.resource_version.as_ref() == Some(version));
            told && is_known(facts, view, recorded) && recorded.applied.as_deref() == Some(applied)
        }
        _ => false,
    }
}

/// Says what to do with the Secret, now that it was read.
#[must_use]
pub fn with_target(facts: &Facts, rules: &Rules, desired: Desired, live: Option<&Secret>) -> Decision {
    let es = &facts.es;
    let Some(live) = live else {
        if es.target().creation_policy == Some(CreationPolicy::Merge) {
            let message = words::not_created(es);
            let report = synced(facts, &Gathered::default(), "Missing", message, None, Vec::new());
            return Decision::Settle(Box::new(report));
        }
        return absent::went(facts).map_or(Decision::Create(desired), |report| Decision::Settle(Box::new(report)));
    };
    let change = target::check_owner(es, &live.metadata, rules.adopt).and_then(|()| target::compare(es, &desired, live));
    match change {
        Err(failure) => Decision::Settle(Box::new(failed(facts, &failure))),
        Ok(Change::None) => Decision::Keep(desired.applied),
        Ok(Change::Update(update)) => Decision::Update(update),
    }
}

/// Old Secrets of this object, under names that it had before: they go once the new one is there.
#[must_use]
pub fn orphans(facts: &Facts) -> Vec<(Key, TargetView)> {
    let es = &facts.es;
    let target = es.target();
    if target.creation_policy.unwrap_or_default() != CreationPolicy::Owner || target.manifest.is_some() {
        return Vec::new();
    }
    let namespace = es.metadata.namespace.as_deref().unwrap_or_default();
    let ours = object_hash::created_by_label(namespace, es.metadata.name.as_deref().unwrap_or_default());
    let old = facts.owned.iter().filter(|(key, view)| {
        *key.name != *es.target_name()
            && *key.namespace == *namespace
            && view.created_by.as_ref() == Some(&ours)
            && !view.deleting
    });
    old.cloned().collect()
}

/// Whether the last sync may have failed to delete the old Secrets: what else failed since then says nothing of them.
#[must_use]
pub fn may_have_left_orphans(facts: &Facts) -> bool {
    has_failed(&facts.es)
}

/// The report of a success after which so many old Secrets were deleted. Where one could not be, it is no success, as in ESO, and soon
/// tried again.
#[must_use]
pub fn swept(facts: &Facts, mut report: Report, deleted: Result<usize, Failure>) -> Report {
    match deleted {
        Ok(deleted) => {
            let gone = || Note::normal("Deleted", "secret deleted because it was orphaned");
            report.notes.splice(0..0, (0..deleted).map(|_| gone()));
            report
        }
        Err(failure) => {
            let failed = failed(facts, &failure);
            let said = failed.status.or_else(|| facts.es.status.clone()).unwrap_or_default().conditions;
            let mut status = report.status.or_else(|| facts.es.status.clone()).unwrap_or_default();
            status.conditions = said;
            report.notes.extend(failed.notes);
            let Memory { failures, failed_for, told, .. } = failed.memory;
            let memory = Memory { failures, failed_for, told, ..report.memory };
            Report { status: Some(status), notes: report.notes, memory, ..failed }
        }
    }
}

/// Says what to report of how the write went.
#[must_use]
pub fn settle(facts: &Facts, gathered: &Gathered, applied: &str, written: Result<&Written, &Failure>) -> Report {
    let (es, mut notes) = (&facts.es, Vec::new());
    let merges = target::merges(es.target().creation_policy.unwrap_or_default());
    match written {
        Err(failure) => failed(facts, &Failure { missing: gathered.missing.clone(), ..failure.clone() }),
        Ok(Written::Deleted) => {
            notes.push(words::done(es, "Deleted"));
            synced(facts, gathered, "Deleted", "secret deleted due to DeletionPolicy=Delete", None, notes)
        }
        Ok(Written::Kept { resource_version, data }) => {
            let old = es.status.as_ref().and_then(|s| s.target.clone()).unwrap_or_default();
            if merges && es.target().manifest.is_some() && data.is_some() && old.digest.is_some() && old.digest != *data {
                // others changed what is theirs: ESO notes the new hash of it all
                notes.push(words::done(es, "Updated"));
            }
            let target = TargetStatus {
                resource_version: Some(resource_version.clone()),
                digest: data.clone().or(old.digest),
                applied: Some(applied.to_owned()),
                ..TargetStatus::default()
            };
            synced(facts, gathered, "Synced", "secret synced", Some(target), notes)
        }
        Ok(Written::Applied { created, changed, resource_version, data }) => {
            if facts.memory.written_to(facts.es.target_name()) == Some(resource_version) {
                // it was as we left it: the watch, which did not tell of it, lags behind
            } else if *created {
                notes.push(words::done(es, "Created"));
            } else if *changed {
                notes.push(words::done(es, "Updated"));
            }
            let target = TargetStatus {
                resource_version: Some(resource_version.clone()),
                digest: Some(data.clone()),
                applied: Some(applied.to_owned()),
                ..TargetStatus::default()
            };
            synced(facts, gathered, "Synced", "secret synced", Some(target), notes)
        }
    }
}

/// The kind of the target cannot be looked at: what to report. `None` where that does not matter: an object in deletion is let go,
/// and one that is not ours left alone.
#[must_use]
pub fn without_kind(facts: &Facts, rules: &Rules, failure: &Failure) -> Option<Report> {
    let deleting = facts.es.metadata.deletion_timestamp.is_some();
    (!deleting && !is_anothers(facts, rules)).then(|| failed(facts, failure))
}

/// What a failure comes to: condition, event, next try. The Secret, the refresh time and what was last synced stay.
#[must_use]
pub fn failed(facts: &Facts, failure: &Failure) -> Report {
    let es = &facts.es;
    let uid = es.metadata.uid.as_deref().unwrap_or_default();
    let current = synced_resource_version(es);
    let failures = if facts.memory.failed_for == current { facts.memory.failures.saturating_add(1) } else { 1 };
    let wake = match failure.wait_for_change {
        true => LATER,
        false => {
            let interval = interval(es).ok().and_then(|interval| interval.try_into().ok()).unwrap_or_default();
            backoff::pause(failure.kind, failures, failure.retry_after, interval, uid)
        }
    };
    let mut status = es.status.clone().unwrap_or_default();
    let message = format!("{}: {}", failure.message, failure.cause);
    status.conditions = vec![status::ready(false, &words::error_reason(es, failure), &message, es.ready(), facts.now)];
    if failure.bound && es.target().manifest.is_none() {
        if recover::is_of_another(es) {
            // of this one nothing is known: it was never written
            status.target = Some(TargetStatus::default());
        }
        status.binding = Some(Binding { name: es.target_name().to_owned() });
    }
    let missing = failure.missing.iter().map(|text| Note::normal("MissingProviderSecret", text.clone()));
    let notes: Vec<_> = missing.chain([Note::warning("UpdateFailed", failure.cause.clone())]).collect();
    let told: Vec<_> = notes.iter().map(|note| (note.reason, note.message.clone())).collect();
    let news = facts.memory.told != told;
    let memory = Memory { failures, failed_for: current, told, ..facts.memory.clone() };
    Report {
        status: (es.status.as_ref() != Some(&status)).then_some(status),
        notes: if news { notes } else { Vec::new() },
        wake: Wake::After(wake, if failures <= 3 { Priority::Changed } else { Priority::Periodic }),
        memory,
        failure: Some(failure.kind.map_or("target", ErrorKind::as_str)),
    }
}

/// `status.syncedResourceVersion` as it would be now.
#[must_use]
pub fn synced_resource_version(es: &ExternalSecret) -> String {
    let empty = BTreeMap::new();
    let meta = &es.metadata;
    object_hash::synced_resource_version(
        meta.generation.unwrap_or_default(),
        meta.labels.as_ref().unwrap_or(&empty),
        meta.annotations.as_ref().unwrap_or(&empty),
    )
}

/// A sync that came to its end. `target` is what was written; `None` leaves what is recorded of it out.
fn synced(
    facts: &Facts,
    gathered: &Gathered,
    reason: &'static str,
    message: &str,
    target: Option<TargetStatus>,
    mut notes: Vec<Note>,
) -> Report {
    let es = &facts.es;
    let old = es.status.as_ref();
    let read_at = gathered.read_at.unwrap_or(facts.now);
    let missing = gathered.missing.iter().map(|text| Note::normal("MissingProviderSecret", text.clone()));
    let stood_in = fetch::stood_in(gathered);
    let news: Vec<_> = missing.chain(stood_in.clone().map(|text| Note::warning("FailedOver", text))).collect();
    let told: Vec<_> = news.iter().map(|note| (note.reason, note.message.clone())).collect();
    if facts.memory.told != told {
        notes.extend(news);
    }
    let message = stood_in.map_or_else(|| message.to_owned(), |text| format!("{message}; {text}"));
    let binding = match &target {
        Some(_) if es.target().manifest.is_none() => Some(Binding { name: es.target_name().to_owned() }),
        _ => old.and_then(|s| s.binding.clone()),
    };
    let memory = Memory {
        refresh_time: Some(read_at),
        written: target.as_ref().and_then(|t| Some((es.target_name().to_owned(), t.resource_version.clone()?))),
        told,
        sources: Some(facts.sources.clone()),
        read_again: gathered.read_again,
        values: facts.values(),
        ..Memory::default()
    };
    let target = target.map(|target| TargetStatus { read_again: gathered.read_again.map(Time), ..target });
    let status = ExternalSecretStatus {
        refresh_time: Some(Time(read_at)),
        synced_resource_version: Some(synced_resource_version(es)),
        binding,
        conditions: vec![status::ready(true, &words::reason(es, reason), &message, es.ready(), facts.now)],
        target,
    };
    let wake = wake_after(es, &status, &memory, gathered.replace_at, facts.now);
    Report { status: Some(status), notes, wake, memory, failure: None }
}

/// Zero keys under `Retain`: the Secret stays as it is, and that is a success.
fn retained(facts: &Facts, gathered: &Gathered) -> Report {
    let recorded = facts.es.status.as_ref().and_then(|s| s.target.clone());
    let target = recorded.filter(|_| facts.target.is_some());
    let mut report = synced(facts, gathered, "Synced", absent::RETAINED, target, Vec::new());
    if let Some(status) = &mut report.status {
        status.binding = facts.es.status.as_ref().and_then(|s| s.binding.clone());
    }
    report.memory.written.clone_from(&facts.memory.written);
    report
}

/// Zero keys under `Delete`.
fn delete(facts: &Facts, gathered: &Gathered) -> Decision {
    let es = &facts.es;
    let policy = es.target().creation_policy.unwrap_or_default();
    if policy != CreationPolicy::Owner {
        let cause = format!("unable to delete secret {}: creationPolicy={policy:?} is not Owner", es.target_name());
        let missing = gathered.missing.clone();
        let failure = Failure { bound: false, missing, ..Failure::target(words::not_deleted(es), cause) };
        return Decision::Settle(Box::new(failed(facts, &failure)));
    }
    let uid = es.metadata.uid.as_deref();
    let deleted = || {
        let message = "secret deleted due to DeletionPolicy=Delete";
        Decision::Settle(Box::new(synced(facts, gathered, "Deleted", message, None, Vec::new())))
    };
    match &facts.target {
        Some(view) if view.controller.as_deref() == uid => match target::vanished(es).filter(|_| gathered.found_nothing()) {
            Some(cause) => Decision::Settle(Box::new(failed(facts, &Failure::retry(words::not_deleted(es), cause)))),
            // only a finalizer holds it
            None if view.deleting => deleted(),
            None => Decision::Delete { uid: view.uid.clone() },
        },
        Some(_) => {
            let cause = format!("unable to delete secret {}: it is not owned by this ExternalSecret", es.target_name());
            let missing = gathered.missing.clone();
            Decision::Settle(Box::new(failed(facts, &Failure { missing, ..Failure::target(words::not_deleted(es), cause) })))
        }
        None => deleted(),
    }
}

/// The object is being deleted: owned Secrets go by their owner reference; ESO's finalizer holds the object until we take it off.
fn clean_up(facts: &Facts) -> Next {
    let es = &facts.es;
    if !es.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER_ESO) {
        return Next::Ignore;
    }
    let delete = (es.target().deletion_policy == Some(DeletionPolicy::Delete))
        .then_some(facts.target.as_ref())
        .flatten()
        .filter(|view| view.controller == es.metadata.uid)
        .map(|view| (es.target_name().to_owned(), view.uid.clone()));
    Next::CleanUp(delete)
}

/// Whether the object is another installation's to look at.
fn is_anothers(facts: &Facts, rules: &Rules) -> bool {
    is_unserved(&facts.es, rules) || of_another_class(facts, rules)
}

/// Whether the object's own store is of a kind that this installation does not serve. Another one may: it writes the status then
/// (ESO's rule).
#[must_use]
pub fn is_unserved(es: &ExternalSecret, rules: &Rules) -> bool {
    let kind = es.spec.secret_store_ref.as_ref().and_then(|store| store.kind);
    kind == Some(StoreKind::ClusterSecretStore) && !rules.cluster_stores
}

/// Whether a store or generator of the object belongs to another controller: then the whole object does (ESO's rule).
fn of_another_class(facts: &Facts, rules: &Rules) -> bool {
    let class = |id| {
        facts.stores.get(&id).and_then(|s: &StoreFacts| s.store.as_ref()?.spec.controller.clone()).filter(|c| !c.is_empty())
    };
    store_ids(&facts.es).into_iter().filter_map(class).chain(generate::classes(facts)).any(|c| c != rules.class)
}

/// Checks what the spec says, and gives the refresh interval.
fn check_spec(facts: &Facts, rules: &Rules) -> Result<SignedDuration, Failure> {
    let es = &facts.es;
    let invalid = |e: validate::FieldError| Failure::spec("could not get secret data from provider", e.to_string());
    validate::validate_external_secret(es).map_err(invalid)?;
    manifest::check_allowed(es, rules)?;
    lease::grace(&es.metadata, Duration::ZERO).map_err(|e| Failure::spec("could not get secret data from provider", e))?;
    validate::validate_template(&es.target())
        .map_err(|e| Failure::spec("could not update secret", format!("could not apply template: {}", e.message)))
        .map_err(|failure| Failure { bound: facts.target.is_some(), ..failure })?;
    interval(es)
}

/// The refresh interval, or what is wrong with it.
fn interval(es: &ExternalSecret) -> Result<SignedDuration, Failure> {
    match es.spec.refresh_interval.as_deref() {
        None | Some("") => Ok(SignedDuration::try_from(refresh::DEFAULT_INTERVAL).unwrap_or_default()),
        Some(text) => duration::parse(text).map_err(|e| {
            let cause = format!("spec.refreshInterval: {e}; write a Go duration such as 1h, 15m or 90s");
            Failure::spec("could not get secret data from provider", cause)
        }),
    }
}

fn last_sync(facts: &Facts) -> LastSync<'_> {
    last_of(facts.es.status.as_ref(), &facts.memory, facts.replace_at)
}

fn last_of<'a>(status: Option<&'a ExternalSecretStatus>, memory: &Memory, replace_at: Option<Timestamp>) -> LastSync<'a> {
    let recorded = status.and_then(|s| s.refresh_time.as_ref()).map(|t| t.0);
    let read_again = status.and_then(|s| s.target.as_ref()?.read_again.as_ref()).map(|t| t.0);
    let refresh_time = recorded.max(memory.refresh_time);
    let replace_at = replace_at.map(|at| generator_state::replace_again(at, refresh_time));
    LastSync {
        refresh_time,
        synced: status.and_then(|s| s.synced_resource_version.as_deref()),
        again: memory.read_again.or(read_again).into_iter().chain(replace_at).min(),
    }
}

/// When an object that needs nothing now is to be looked at again.
fn idle_wake(facts: &Facts) -> Wake {
    facts
        .es
        .status
        .as_ref()
        .map_or(Wake::OnChange, |status| wake_after(&facts.es, status, &facts.memory, facts.replace_at, facts.now))
}

/// When an object with that status is next due.
fn wake_after(
    es: &ExternalSecret,
    status: &ExternalSecretStatus,
    memory: &Memory,
    replace_at: Option<Timestamp>,
    now: Timestamp,
) -> Wake {
    let Ok(interval) = interval(es) else { return Wake::OnChange };
    let last = last_of(Some(status), memory, replace_at);
    // the values were read after the plan was begun: that is not the future
    let now = now.max(last.refresh_time.unwrap_or(now));
    match refresh::due(es, interval, last, &synced_resource_version(es), now) {
        Due::NotYet(left) | Due::Held(left) => wake_in(left.or_else(|| absent::again(es, status, interval, last, now))),
        Due::New | Due::Changed | Due::Periodic => Wake::After(Duration::from_secs(1), Priority::Periodic),
    }
}
