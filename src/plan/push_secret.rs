//! What to do about a PushSecret.
//!
//! The shell asks [`before_push`] whether anything is due, reads the source Secrets, asks [`stores::targets`] where they go and
//! [`entries::entries`] what goes there, pushes, asks [`stores::removals`] what is no longer wanted, and [`settle`] what to report.

mod due;
pub mod entries;
pub mod generate;
mod memory;
pub mod stores;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};

use self::due::{Due, due, held_back, lease_left};
pub use self::memory::{Memory, Untold};
use super::generator_state::OVERDUE;
use super::template::with_engine;
use super::{Note, Rules, Wake, backoff, duration, lease, object_hash, refresh, status};
use crate::api::push_secret::{PushData, PushUpdatePolicy, SyncedPushSecrets};
use crate::api::{AnyStore, Condition, FINALIZER_PUSH, PushSecret, PushSecretStatus};
use crate::index::{GeneratorFacts, StoreId};
use crate::providers::{ErrorKind, Place, ProviderError, ReferenceKind, Source as Values};
use crate::queue::Priority;
use crate::render::target::{Render, Sources};
use crate::render::{Entries, Outside};
use crate::secret_bytes::SecretBytes;

/// Reason of the condition and event of a failure.
pub const ERRORED: &str = "Errored";
/// Reason of the condition and event of a success.
const SYNCED: &str = "Synced";
/// Reason of the condition and event where the source is gone and what it pushed is cleaned up.
const SOURCE_DELETED: &str = "SourceDeleted";
/// Where the source is gone, or cannot be read.
pub const NO_SOURCE: &str = "could not get source secret";

/// All that a decision rests on, taken at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The object.
    pub ps: Arc<PushSecret>,
    /// The stores that it may mean: those of its namespace and the cluster's, as far as its spec or status could.
    pub stores: BTreeMap<StoreId, Arc<AnyStore>>,
    /// Labels of its namespace.
    pub namespace_labels: Option<Arc<BTreeMap<String, String>>>,
    /// The Secrets that it takes values and templates from, as far as they are there.
    pub sources: Vec<SourceVersion>,
    /// Why those with the labels that it selects by could not be listed.
    pub unlisted: Option<Failure>,
    /// What is known of the generator that it names.
    pub generator: Option<GeneratorFacts>,
    /// When what was generated for it must be replaced, as its lease ends; `None`: it has no lease.
    pub replace_at: Option<Timestamp>,
    /// What this process remembers of it.
    pub memory: Memory,
    /// Why it is looked at.
    pub woken: Priority,
    /// Now.
    pub now: Timestamp,
}

/// One Secret in one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceVersion {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
}

impl SourceVersion {
    /// The version of a Secret.
    #[must_use]
    pub fn of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self { name: text(&meta.name), uid: text(&meta.uid), resource_version: text(&meta.resource_version) }
    }
}

/// What to do first.
#[derive(Clone, Debug)]
pub enum Next {
    /// Nothing, until it changes.
    Ignore,
    /// Nothing, until then.
    Idle(Wake),
    /// Put our finalizer on (or take it off), and ask again.
    Finalizer(bool),
    /// It is being deleted: delete what it pushed, then take our finalizer off.
    CleanUp(Removals),
    /// Delete what is left in stores in deletion, so that they can go, and report the failure, if there is one.
    Leave(Option<Failure>),
    /// Report this.
    Settle(Box<Report>),
    /// Read the source, and push it.
    Push(Priority),
}

/// Where the values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source<'a> {
    /// One Secret, by name.
    Named(&'a str),
    /// Those with these labels.
    Selected(&'a LabelSelector),
    /// A generator.
    Generated(&'a crate::api::external_secret::GeneratorRef),
    /// The spec says nowhere.
    Nowhere,
}

/// Where a PushSecret takes its values from. A name wins over labels.
#[must_use]
pub fn source(ps: &PushSecret) -> Source<'_> {
    let selector = &ps.spec.selector;
    let secret = selector.secret.as_ref();
    match (secret.and_then(|s| s.name.as_deref()).filter(|n| !n.is_empty()), &selector.generator_ref) {
        (Some(name), _) => Source::Named(name),
        (None, Some(generator)) => Source::Generated(generator),
        (None, None) => secret.and_then(|s| s.selector.as_ref()).map_or(Source::Nowhere, Source::Selected),
    }
}

/// A place that is no longer wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// The store.
    pub store: StoreId,
    /// The store as the status names it.
    pub store_key: String,
    /// The place as the status names it.
    pub entry: String,
    /// The place.
    pub place: Place,
}

/// What is to be deleted, and what is told of what cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Removals {
    /// What is to be deleted, in order.
    pub delete: Vec<Removal>,
    /// What the status keeps all the same: entries in stores of another controller.
    pub kept: SyncedPushSecrets,
    /// Of stores that are gone: what is there stays there.
    pub notes: Vec<Note>,
}

/// Why it did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Text of the condition and the event.
    pub message: String,
    /// Class, for the next try.
    pub kind: Option<ErrorKind>,
    /// How long the provider asks us to wait.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that only a change of something mends.
    #[must_use]
    pub fn spec(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Some(ErrorKind::Misconfigured), retry_after: None }
    }

    /// What a provider said, after ESO's words.
    #[must_use]
    pub fn provider(words: impl std::fmt::Display, error: &ProviderError) -> Self {
        Self { message: format!("{words}: {error}"), kind: Some(error.kind), retry_after: error.retry_after }
    }

    /// What a provider said, as ESO does, and after it what was to be done.
    #[must_use]
    pub fn after_provider(error: &ProviderError, what: &str) -> Self {
        Self { message: format!("{error} ({what})"), kind: Some(error.kind), retry_after: error.retry_after }
    }

    /// A failure that may go away by itself.
    #[must_use]
    pub fn retry(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Some(ErrorKind::Unavailable), retry_after: None }
    }

    /// With words before it.
    #[must_use]
    pub fn within(self, words: &str) -> Self {
        Self { message: format!("{words}: {}", self.message), ..self }
    }

    /// With what failed besides.
    #[must_use]
    pub fn and(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        Self { message: format!("{}; {}", self.message, other.message), ..self }
    }
}

/// One failure out of those of several stores: the first one's class, and what each said. `None`: there is none.
#[must_use]
pub fn together(failures: BTreeMap<StoreId, Failure>) -> Option<Failure> {
    let first = failures.values().next()?.clone();
    let messages: Vec<String> = failures.into_values().map(|failure| failure.message).collect();
    Some(Failure { message: format!("set secret failed: {}", messages.join("; ")), ..first })
}

/// The source is not there.
#[must_use]
pub fn no_source(ps: &PushSecret) -> Failure {
    let namespace = ps.metadata.namespace.as_deref().unwrap_or_default();
    let what = match source(ps) {
        Source::Named(name) => format!("Secret {namespace}/{name} does not exist"),
        _ => "spec.selector names no Secret".to_owned(),
    };
    Failure::spec(format!("{NO_SOURCE}: {what}"))
}

/// How it went.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All stores are in line.
    Synced {
        /// What was pushed where.
        synced: SyncedPushSecrets,
        /// Whether anything was written or deleted.
        written: bool,
        /// The Secrets that were pushed.
        sources: Vec<SourceVersion>,
    },
    /// The source is gone, and so is what it pushed.
    SourceDeleted {
        /// What is left: entries in stores of another controller.
        synced: SyncedPushSecrets,
    },
    /// Nothing was to be pushed, and nothing is left in stores in deletion.
    Left {
        /// What is pushed elsewhere.
        synced: SyncedPushSecrets,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
        /// What was pushed where; `None`: what the status says.
        synced: Option<SyncedPushSecrets>,
    },
}

/// What to report.
#[derive(Clone, Debug)]
pub struct Report {
    /// The status as it is to be; `None`: it stays.
    pub status: Option<PushSecretStatus>,
    /// Events.
    pub notes: Vec<Note>,
    /// When to look again.
    pub wake: Wake,
    /// What to remember.
    pub memory: Memory,
    /// Class of the failure, for the log.
    pub failure: Option<&'static str>,
}

/// Says what is due. While nothing else is, a status that could not be written is written.
#[must_use]
pub fn before_push(facts: &Facts, rules: &Rules) -> Next {
    match what_is_due(facts, rules) {
        Next::Idle(wake) if facts.memory.untold.is_some() => told_again(facts, wake),
        Next::Ignore if facts.memory.untold.is_some() => told_again(facts, Wake::OnChange),
        next => next,
    }
}

fn told_again(facts: &Facts, wake: Wake) -> Next {
    let failed = facts.memory.failures > 0;
    Next::Settle(Box::new(Report {
        status: facts.ps.status.clone(),
        notes: Vec::new(),
        wake,
        memory: facts.memory.clone(),
        failure: failed.then_some("internal"),
    }))
}

/// The order of the questions is ESO's.
fn what_is_due(facts: &Facts, rules: &Rules) -> Next {
    let ps = &facts.ps;
    let held = ps.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER_PUSH);
    // a store in deletion is emptied whatever else is wrong
    let left = stores::is_left(facts, rules);
    match (ps.metadata.deletion_timestamp.is_some(), held, ps.deletes()) {
        (true, false, _) => return Next::Ignore,
        (true, true, false) | (false, true, false) => return Next::Finalizer(false),
        (true, true, true) => return Next::CleanUp(stores::removals(facts, rules, &SyncedPushSecrets::new())),
        (false, ..) if stores::targets(facts, rules).is_ok_and(|t| t.is_empty()) => {
            return if left { Next::Leave(None) } else { Next::Ignore };
        }
        (false, false, true) => return Next::Finalizer(true),
        (false, true, true) | (false, false, false) => {}
    }
    let failed = |failure| if left { Next::Leave(Some(failure)) } else { settled(facts, failure) };
    let interval = match interval(ps) {
        Ok(interval) => interval,
        Err(failure) => return failed(failure),
    };
    if let Err(wrong) = lease::grace(&ps.metadata, Duration::ZERO) {
        return failed(Failure::spec(wrong));
    }
    if let Err(failure) = entries::check(&ps.spec) {
        return failed(failure);
    }
    if let Some(failure) = &facts.unlisted {
        return failed(failure.clone());
    }
    match due(facts, interval, left) {
        Due::Now(priority) => match (generate::plan(facts, rules), held_back(facts)) {
            (Ok(generate::Plan::Wait), _) if left => Next::Leave(None),
            // whoever waits for its generator is woken
            (Ok(generate::Plan::Wait), _) => Next::Idle(Wake::OnChange),
            (_, Some(pause)) => Next::Idle(Wake::After(pause, Priority::Periodic)),
            (_, None) => Next::Push(priority),
        },
        Due::NotYet(left) => Next::Idle(left.map_or(Wake::OnChange, |left| Wake::After(left, Priority::Periodic))),
    }
}

fn settled(facts: &Facts, failure: Failure) -> Next {
    Next::Settle(Box::new(settle(facts, Outcome::Failed { failure, synced: None })))
}

/// `status.sourceVersion`: which Secrets in which versions were pushed. `None`: none was.
#[must_use]
pub fn source_version(sources: &[SourceVersion]) -> Option<String> {
    let mut lines: Vec<String> = sources.iter().map(|s| format!("{} {} {}", s.name, s.uid, s.resource_version)).collect();
    lines.sort_unstable();
    // one with a template may be among those selected
    lines.dedup();
    (!lines.is_empty()).then(|| object_hash::of_lines(&lines))
}

/// Names of the Secrets that a PushSecret takes templates from.
pub fn template_secrets(ps: &PushSecret) -> impl Iterator<Item = &str> {
    let from = ps.spec.template.iter().flat_map(|t| &t.template_from);
    from.filter_map(|f| f.secret.as_ref()).map(|s| s.name.as_str())
}

/// The versions of the Secrets among what a template was read from.
pub fn template_versions(read: &Sources) -> impl Iterator<Item = SourceVersion> {
    let secrets = read.iter().filter(|(source, _)| source.kind == ReferenceKind::Secret);
    secrets.filter_map(|(source, text)| {
        let text = text.as_ref()?;
        Some(SourceVersion { name: source.name.clone(), uid: text.uid.clone(), resource_version: text.version.clone() })
    })
}

/// `status.syncedResourceVersion`: changes with the spec, the labels and the annotations.
#[must_use]
pub fn synced_resource_version(ps: &PushSecret) -> String {
    let empty = BTreeMap::new();
    let meta = &ps.metadata;
    let (labels, annotations) = (meta.labels.as_ref().unwrap_or(&empty), meta.annotations.as_ref().unwrap_or(&empty));
    object_hash::synced_resource_version(meta.generation.unwrap_or_default(), labels, annotations)
}

/// The refresh interval, or what is wrong with it.
fn interval(ps: &PushSecret) -> Result<SignedDuration, Failure> {
    match ps.spec.refresh_interval.as_deref() {
        None | Some("") => Ok(SignedDuration::try_from(refresh::DEFAULT_INTERVAL).unwrap_or_default()),
        Some(text) => duration::parse(text)
            .map_err(|e| Failure::spec(format!("spec.refreshInterval: {e}; write a Go duration such as 1h, 15m or 90s"))),
    }
}

/// What follows from a source Secret, by name, that is not there: with deletion policy `Delete`, what it pushed goes.
/// `None`: nothing is to be deleted, and it is a failure.
#[must_use]
pub fn source_gone(facts: &Facts, rules: &Rules) -> Option<Removals> {
    let synced = facts.ps.status.as_ref().and_then(|s| s.synced_push_secrets.as_ref());
    let any = synced.is_some_and(|s| s.values().any(|entries| !entries.is_empty()));
    let is_named = matches!(source(&facts.ps), Source::Named(_));
    (is_named && facts.ps.deletes() && any).then(|| stores::removals(facts, rules, &SyncedPushSecrets::new()))
}

/// Says what to report.
#[must_use]
pub fn settle(facts: &Facts, outcome: Outcome) -> Report {
    let ps = &facts.ps;
    let old = ps.status.clone().unwrap_or_default();
    let uid = ps.metadata.uid.as_deref().unwrap_or_default();
    let interval = interval(ps).unwrap_or_default();
    let period = (interval > SignedDuration::ZERO).then(|| refresh::period(interval, uid).unsigned_abs());
    let ready = ps.ready();
    let with = |ok, reason, message: &str, synced: SyncedPushSecrets| PushSecretStatus {
        conditions: vec![status::ready(ok, reason, message, ready, facts.now)],
        synced_push_secrets: (!synced.is_empty()).then_some(synced),
        ..old.clone()
    };
    match outcome {
        Outcome::Synced { synced, written, sources } => {
            let mut message = "PushSecret synced successfully".to_owned();
            if ps.spec.update_policy == Some(PushUpdatePolicy::IfNotExists) {
                message.push_str(". Existing secrets in providers unchanged.");
            }
            let status = PushSecretStatus {
                refresh_time: Some(Time(facts.now)),
                synced_resource_version: Some(synced_resource_version(ps)),
                source_version: source_version(&sources),
                ..with(true, SYNCED, &message, synced)
            };
            let holds =
                lease_left(facts).map(|left| if left > SignedDuration::ZERO { left.unsigned_abs() } else { OVERDUE });
            let again = period.into_iter().chain(holds).min();
            let news = written || is_news(ready, &status.conditions);
            Report {
                status: Some(status),
                notes: if news { vec![Note::normal(SYNCED, message)] } else { Vec::new() },
                wake: again.map_or(Wake::OnChange, |again| Wake::After(again, Priority::Periodic)),
                memory: Memory { refreshed: Some(facts.now), ..Memory::default() },
                failure: None,
            }
        }
        Outcome::SourceDeleted { synced } => {
            let message = "source secret deleted; provider secrets cleaned up";
            let status = PushSecretStatus {
                synced_resource_version: Some(synced_resource_version(ps)),
                source_version: None,
                ..with(false, SOURCE_DELETED, message, synced)
            };
            Report {
                notes: vec![Note::normal(SOURCE_DELETED, message)],
                status: Some(status),
                wake: Wake::OnChange,
                memory: Memory::default(),
                failure: None,
            }
        }
        Outcome::Left { synced } => Report {
            status: Some(PushSecretStatus { synced_push_secrets: (!synced.is_empty()).then_some(synced), ..old.clone() }),
            notes: Vec::new(),
            wake: Wake::OnChange,
            memory: facts.memory.clone(),
            failure: None,
        },
        Outcome::Failed { failure, synced } => {
            let synced = synced.or_else(|| old.synced_push_secrets.clone()).unwrap_or_default();
            let empty = ps.status.as_ref().and_then(|s| s.synced_push_secrets.as_ref()).is_some() || !synced.is_empty();
            let mut status = with(false, ERRORED, &failure.message, synced.clone());
            status.synced_push_secrets = empty.then_some(synced);
            let news = is_news(ready, &status.conditions);
            let failures = facts.memory.failures + 1;
            let every = period.unwrap_or_default();
            let pause = backoff::pause(failure.kind, failures, failure.retry_after, every, uid);
            Report {
                notes: if news { vec![Note::warning(ERRORED, failure.message)] } else { Vec::new() },
                status: Some(status),
                wake: Wake::After(pause, if failures <= 3 { Priority::Changed } else { Priority::Periodic }),
                memory: Memory { failures, paused: Some((facts.now, pause)), ..facts.memory.clone() },
                failure: Some(failure.kind.map_or("internal", ErrorKind::as_str)),
            }
        }
    }
}

fn is_news(old: Option<&Condition>, new: &[Condition]) -> bool {
    let said = |c: &Condition| (c.status.clone(), c.reason.clone(), c.message.clone());
    old.map(said) != new.first().map(said)
}

/// Whether a status must be written: one before could not be, anything but the refresh time differs, or that one is old enough, or is
/// in the future: the object would look due for ever. Where values were generated, it says at once when: a process that comes after
/// must not make others too early.
#[must_use]
pub fn must_write(facts: &Facts, new: &PushSecretStatus, heartbeat: Duration) -> bool {
    let ps = &facts.ps;
    let Some(old) = ps.status.as_ref().filter(|_| facts.memory.untold.is_none()) else { return true };
    if old.refresh_time != new.refresh_time && old.refresh_time.as_ref().is_some_and(|time| time.0 > facts.now) {
        return true;
    }
    let uid = ps.metadata.uid.as_deref().unwrap_or_default();
    let heartbeat = if matches!(source(ps), Source::Generated(_)) { Duration::ZERO } else { heartbeat };
    let timeless = |status: &PushSecretStatus| PushSecretStatus { refresh_time: None, ..status.clone() };
    timeless(old) != timeless(new) || status::is_stale(old.refresh_time.as_ref(), new.refresh_time.as_ref(), heartbeat, uid)
}

/// The name of a store in the status.
#[must_use]
pub fn store_key(id: &StoreId) -> String {
    format!("{}/{}", id.kind, id.key.name)
}

/// The name of a place in the status.
#[must_use]
pub fn entry_key(data: &PushData) -> String {
    let place = &data.match_.remote_ref;
    match place.property.as_deref().filter(|p| !p.is_empty()) {
        Some(property) => format!("{}/{property}", place.remote_key),
        None => place.remote_key.clone(),
    }
}

/// One state of the bookkeeping over another.
#[must_use]
pub fn merged(mut under: SyncedPushSecrets, above: SyncedPushSecrets) -> SyncedPushSecrets {
    for (store, entries) in above {
        under.entry(store).or_default().extend(entries);
    }
    under
}

/// Names, labels and values of a Secret, as what is pushed.
#[must_use]
pub fn opened(secret: Secret) -> Values {
    let data = secret.data.unwrap_or_default();
    Values {
        data: data.into_iter().map(|(k, v)| (k, SecretBytes::new(v.0))).collect(),
        type_: secret.type_,
        labels: secret.metadata.labels.unwrap_or_default(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
    }
}

/// Values that were generated, as what is pushed.
#[must_use]
pub fn generated(values: Entries) -> Values {
    Values { data: values, type_: None, labels: BTreeMap::new(), annotations: BTreeMap::new() }
}

/// What is pushed, after the template of the spec. Unlike in an ExternalSecret, what the template makes goes over the Secret,
/// whatever its merge policy says, and its type takes the place of the Secret's also where it names none.
///
/// # Errors
/// The template cannot be rendered. ESO tells nobody of that.
pub fn shaped(
    ps: &PushSecret,
    rules: &Rules,
    mut values: Values,
    sources: &Sources,
    outside: Outside<'_>,
) -> Result<Values, Failure> {
    let Some(template) = &ps.spec.template else { return Ok(values) };
    let make = |engine: &Render<'_>| crate::render::target::secret(template, &values.data, sources, engine);
    let (rendered, _) = with_engine(&values.data, rules, outside, make);
    let rendered = rendered.map_err(|e| Failure::spec(format!("could not apply template: {e}")))?;
    values.data.extend(rendered.data);
    values.labels.extend(rendered.labels);
    values.annotations.extend(rendered.annotations);
    values.type_.clone_from(&template.type_);
    Ok(values)
}
