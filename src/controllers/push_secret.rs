//! The reconcile of a PushSecret: gather, plan, read or generate the source, push, delete what is no longer wanted, report.

mod generated;
mod memories;
mod removal;
mod under_way;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::time::Instant;

use self::generated::{asker, push_generated};
pub use self::memories::Memories;
use self::removal::{clean_up, delete_all, leave, source_gone};
use self::under_way::UnderWay;
use super::generate::Generated;
use super::{Ctx, fan_out, template, turn};
use crate::api::fan_out::ParentKind;
use crate::api::push_secret::{PushData, PushUpdatePolicy, SyncedPushSecrets};
use crate::api::{AnyStore, PushSecret, PushSecretStatus};
use crate::apply::error::WriteError;
use crate::chance::SystemChance;
use crate::fetch::{NotPushed, Outlet, Writing};
use crate::index::{Key, StoreId, pushed_generator};
use crate::plan::names::{MASK, Names};
use crate::plan::push_secret::entries::{self, Entry};
use crate::plan::push_secret::generate::{Plan, Reached, fate_of_former, plan as generator_plan, state_labels};
use crate::plan::push_secret::{
    self as plan, Facts, Failure, Memory, NO_SOURCE, Next, Outcome, Report, Source, SourceVersion, stores,
};
use crate::plan::{Wake, access};
use crate::providers::{Place, ProviderError, Pushed, Source as Values};
use crate::queue::{Job, Priority};
use crate::render::Outside;
use crate::render::target::Sources;
use crate::report::metrics::{ObjectKind, Ready};

/// How often the object may change under one look.
const MOST_LOOKS: usize = 4;
/// How soon to look again where it changed more often.
const SOON: std::time::Duration = std::time::Duration::from_secs(1);

/// Looks at one PushSecret, does what is due, and says when it is next.
pub async fn reconcile(ctx: Arc<Ctx>, memories: Arc<Memories>, job: Job<Key>) -> Wake {
    if !ctx.rules.push_secrets {
        return Wake::OnChange;
    }
    let begun = Instant::now();
    for _ in 0..MOST_LOOKS {
        let Some(facts) = facts(&ctx, &memories, &job.key, job.priority).await else {
            let cause = cause(&job.key);
            memories.set(&job.key, None);
            ctx.maker.forget(&cause);
            ctx.retries.done(&cause);
            // its last look may have ended after it went
            ctx.metrics.deleted(ObjectKind::PushSecret, &job.key.namespace, &job.key.name);
            return Wake::OnChange;
        };
        let mut under_way = None;
        let report = match plan::before_push(&facts, &ctx.rules) {
            Next::Ignore => return Wake::OnChange,
            Next::Idle(wake) => {
                show(&ctx, &job.key, facts.ps.status.as_ref());
                return wake;
            }
            Next::Finalizer(wanted) => match hold(&ctx, &facts.ps, wanted).await {
                Ok(()) => continue,
                Err(wake) => return wake,
            },
            Next::CleanUp(removals) => match clean_up(&ctx, &facts, removals).await {
                Ok(wake) => return wake,
                Err(report) => *report,
            },
            Next::Leave(failure) => plan::settle(&facts, leave(&ctx, &facts, failure, SyncedPushSecrets::new()).await),
            Next::Settle(report) => *report,
            Next::Push(priority) => {
                under_way = UnderWay::begin(&ctx, &facts);
                if under_way.is_none() {
                    continue;
                }
                match sync(&ctx, &memories, &facts, priority).await {
                    // what was generated now may hold for a shorter time than what was there before
                    Some(outcome) => {
                        plan::settle(&Facts { replace_at: replace_at(&ctx, &facts.ps), ..facts.clone() }, outcome)
                    }
                    None => return Wake::OnChange,
                }
            }
        };
        let turn = turn(report.failure.is_some(), report.wake);
        ctx.metrics.reconciled(ObjectKind::PushSecret, begun.elapsed(), turn);
        let wake = tell(&ctx, &memories, &facts, report, job.priority).await;
        // until its status is told, nobody else knows what was pushed where
        drop(under_way);
        return wake;
    }
    Wake::After(SOON, Priority::Changed)
}

/// Takes everything that the plan needs, at one moment.
async fn facts(ctx: &Ctx, memories: &Memories, key: &Key, priority: Priority) -> Option<Facts> {
    let mut facts = {
        let index = ctx.index();
        let (memory, ps) = memories.of(key).told(index.push_secret(key)?);
        Facts {
            stores: index.push_stores(&ps),
            namespace_labels: index.namespace_labels(&key.namespace),
            sources: index.push_named_sources(&ps),
            unlisted: None,
            generator: pushed_generator(&ps).map(|id| index.generator(&id)),
            replace_at: replace_at(ctx, &ps),
            ps,
            memory,
            woken: priority,
            now: Timestamp::now(),
        }
    };
    let ps = facts.ps.clone();
    if let Source::Selected(selector) = plan::source(&ps)
        && ps.metadata.deletion_timestamp.is_none()
        && let Ok(selector) = access::to_text(selector)
    {
        match ctx.writer.list_metadata(&key.namespace, &selector, priority).await {
            Ok(secrets) => {
                // where nothing is due, too: who is woken when one of them goes, or loses its labels, is known by this alone
                let names = secrets.iter().filter_map(|meta| meta.name.clone()).collect();
                ctx.index_mut().set_push_sources(key, names);
                facts.sources.extend(secrets.iter().map(SourceVersion::of));
            }
            Err(error) => facts.unlisted = Some(unread(&error)),
        }
    }
    Some(facts)
}

/// When what was generated for the object must be replaced.
fn replace_at(ctx: &Ctx, ps: &PushSecret) -> Option<Timestamp> {
    ctx.states.replace_at(ps.metadata.uid.as_deref().unwrap_or_default(), || state_labels(ps))
}

/// The source cannot be read.
fn unread(error: &WriteError) -> Failure {
    Failure::retry(format!("{NO_SOURCE}: {error}"))
}

/// Puts our finalizer on the object, or takes it off.
async fn hold(ctx: &Ctx, ps: &PushSecret, wanted: bool) -> Result<(), Wake> {
    let cause = cause(&Key::of(&ps.metadata));
    match ctx.writer.push_secret_finalizer(ps, wanted).await {
        Ok(Some(updated)) => {
            ctx.retries.done(&cause);
            renew(ctx, &Arc::new(updated));
            Ok(())
        }
        Ok(None) | Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => {
            ctx.retries.done(&cause);
            Err(Wake::OnChange)
        }
        Err(WriteError::Conflict) => Err(Wake::After(SOON, Priority::Changed)),
        Err(error) => {
            let pause = ctx.retries.failed(&cause, &error, "the finalizer could not be written");
            Err(Wake::After(pause, Priority::Changed))
        }
    }
}

/// Reads or generates the source, pushes it everywhere, and deletes what is no longer wanted. `None`: all stores are another
/// controller's.
async fn sync(ctx: &Ctx, memories: &Memories, facts: &Facts, priority: Priority) -> Option<Outcome> {
    let (order, secrets, goal) = match prepare(ctx, facts, priority).await {
        Ok(Some(ready)) => ready,
        Ok(None) => return Some(source_gone(ctx, facts).await),
        Err(failure) => return Some(leave(ctx, facts, Some(failure), SyncedPushSecrets::new()).await),
    };
    match order {
        // was answered before, both
        _ if goal.targets.is_empty() => None,
        Plan::Wait => None,
        Plan::NoGenerator => Some(push_read(ctx, facts, secrets, goal).await),
        Plan::Make(order) => Some(push_generated(ctx, memories, facts, order, goal).await),
    }
}

/// What a push needs: what is asked of a generator, the source Secrets, and where they go. `None`: the source Secret is gone.
async fn prepare(ctx: &Ctx, facts: &Facts, priority: Priority) -> Result<Option<(Plan, Vec<Secret>, Goal)>, Failure> {
    let order = generator_plan(facts, &ctx.rules)?;
    let Some(secrets) = read_sources(ctx, facts, priority).await? else { return Ok(None) };
    let targets = stores::targets(facts, &ctx.rules)?;
    let known: Vec<&AnyStore> = targets.iter().filter_map(|id| facts.stores.get(id)).map(AsRef::as_ref).collect();
    entries::check_selectors(&facts.ps.spec, &known)?;
    let templates = read_templates(ctx, facts, priority).await?;
    let mut sources: Vec<_> = secrets.iter().map(|s| SourceVersion::of(&s.metadata)).collect();
    // as they were read: the watch may not know them yet
    for read in plan::template_versions(&templates) {
        if sources.iter().all(|source| source.name != read.name) {
            sources.push(read);
        }
    }
    Ok(Some((order, secrets, Goal { targets, templates, sources })))
}

/// Where values go, through which templates.
struct Goal {
    targets: Vec<StoreId>,
    templates: Sources,
    sources: Vec<SourceVersion>,
}

/// Pushes values that were read. A generator that was the source before is so no more.
async fn push_read(ctx: &Ctx, facts: &Facts, secrets: Vec<Secret>, goal: Goal) -> Outcome {
    if secrets.is_empty() {
        // as in ESO: no Secret has the labels, so nothing is pushed, and nothing deleted
        return Outcome::Synced { synced: SyncedPushSecrets::new(), written: false, sources: goal.sources };
    }
    let (outcome, reached) = push_all(ctx, facts, secrets.into_iter().map(plan::opened), goal).await;
    Generated::default().end(fate_of_former(&outcome, &reached), ctx.generating(), &asker(&facts.ps, "")).await;
    outcome
}

/// Pushes values everywhere, and says how much of them each store has now.
async fn push_all(
    ctx: &Ctx,
    facts: &Facts,
    all: impl IntoIterator<Item = Values>,
    goal: Goal,
) -> (Outcome, BTreeMap<StoreId, Reached>) {
    let mut progress = Progress::default();
    for values in all {
        let steps = progress.steps;
        let names = entries::names(&facts.ps, &ctx.rules, &goal.templates, &values);
        let shaped =
            || counted(facts, steps, |outside| plan::shaped(&facts.ps, &ctx.rules, values, &goal.templates, outside));
        let (shaped, steps) = ctx.rendering(shaped).await;
        progress.steps = steps;
        let source = match shaped {
            Ok(source) => Arc::new(source),
            Err(failure) => {
                let reached = progress.reached(&goal.targets);
                return (leave(ctx, facts, Some(failure), progress.synced).await, reached);
            }
        };
        for id in goal.targets.iter().filter(|id| !progress.failures.contains_key(*id)).cloned().collect::<Vec<_>>() {
            if let Err(failure) = push_to(ctx, facts, &id, &source, &names, &mut progress).await {
                progress.failures.insert(id, failure);
            }
        }
    }
    let reached = progress.reached(&goal.targets);
    (finish(ctx, facts, progress, goal.sources).await, reached)
}

/// How far the pushes came.
#[derive(Default)]
struct Progress {
    synced: SyncedPushSecrets,
    written: bool,
    /// Steps of templates and rewrites: those of all source Secrets and stores count together.
    steps: u64,
    /// The places that have the values, by store.
    pushed: BTreeMap<StoreId, BTreeSet<String>>,
    /// The places that may have them.
    perhaps: BTreeMap<StoreId, BTreeSet<String>>,
    /// Stores of which some place keeps what it had.
    kept: BTreeSet<StoreId>,
    failures: BTreeMap<StoreId, Failure>,
}

impl Progress {
    /// A place may have the values. It is in the book, too, so that it is known when they are to go.
    fn note_perhaps(&mut self, id: &StoreId, data: PushData) {
        self.perhaps.entry(id.clone()).or_default().insert(plan::entry_key(&data));
        stores::note(&mut self.synced, id, data);
    }

    fn reached(&self, targets: &[StoreId]) -> BTreeMap<StoreId, Reached> {
        let reached = |id: &StoreId| Reached {
            places: self.pushed.get(id).cloned().unwrap_or_default(),
            perhaps: self.perhaps.get(id).cloned().unwrap_or_default(),
            whole: !self.kept.contains(id) && !self.failures.contains_key(id),
        };
        targets.iter().map(|id| (id.clone(), reached(id))).collect()
    }
}

async fn finish(ctx: &Ctx, facts: &Facts, progress: Progress, sources: Vec<SourceVersion>) -> Outcome {
    let Progress { synced, mut written, failures, .. } = progress;
    if let Some(failure) = plan::together(failures) {
        return leave(ctx, facts, Some(failure), synced).await;
    }
    if !facts.ps.deletes() {
        return Outcome::Synced { synced, written, sources };
    }
    let removals = stores::removals(facts, &ctx.rules, &synced);
    tell_notes(ctx, &facts.ps, removals.notes.clone());
    match delete_all(ctx, facts, &removals, synced).await {
        Ok((synced, deleted)) => {
            written |= deleted;
            Outcome::Synced { synced, written, sources }
        }
        Err((failure, left)) => Outcome::Failed { failure, synced: Some(left) },
    }
}

/// All entries for one store, until one fails.
async fn push_to(
    ctx: &Ctx,
    facts: &Facts,
    id: &StoreId,
    source: &Arc<Values>,
    names: &Names,
    progress: &mut Progress,
) -> Result<(), Failure> {
    progress.synced.entry(plan::store_key(id)).or_default();
    let Some(store) = facts.stores.get(id) else { return Ok(()) };
    let outlet = outlet(ctx, facts, id, store, &id.key.name).await?;
    let namespace = facts.ps.metadata.namespace.as_deref().unwrap_or_default();
    let (spec, steps) = (&facts.ps.spec, progress.steps);
    let entries = || counted(facts, steps, |outside| entries::entries(spec, namespace, store, source, names, outside));
    // nothing else takes its time
    let (entries, steps) = if spec.data_to.is_empty() { entries() } else { ctx.rendering(entries).await };
    progress.steps = steps;
    for Entry { data, push } in entries? {
        let push = push?;
        let shown = entries::shown(&push, names);
        let key = if shown { push.secret_key.as_deref().unwrap_or_default() } else { MASK };
        let words = format!("could not write remote ref {key} to target secretstore {}", id.key.name);
        let place = place_to_write(facts, &outlet, &push.place, &words).await;
        if let Some(place) = place.map_err(|failure| entries::masked(failure, shown))? {
            leads(ctx)?;
            match place.push(&push).await {
                Ok(pushed) => {
                    progress.written |= pushed == Pushed::Written;
                    progress.pushed.entry(id.clone()).or_default().insert(plan::entry_key(&data));
                }
                Err(NotPushed { error, perhaps }) => {
                    if perhaps {
                        progress.note_perhaps(id, data);
                    }
                    return Err(entries::masked(Failure::provider(words, &error), shown));
                }
            }
        } else {
            progress.kept.insert(id.clone());
        }
        stores::note(&mut progress.synced, id, data);
    }
    Ok(())
}

/// Whether the place has a value already that must stay.
///
/// # Errors
/// What kept the provider from telling.
pub async fn is_kept(facts: &Facts, outlet: &Outlet<'_>, place: &Place) -> Result<bool, Failure> {
    Ok(keeps(&facts.ps) && place_to_write(facts, outlet, place, "").await?.is_none())
}

fn keeps(ps: &PushSecret) -> bool {
    ps.spec.update_policy == Some(PushUpdatePolicy::IfNotExists)
}

/// The turn of a place; `None`: it has a value already that must stay. In one turn, or another object writes between. `words`: what stands
/// before a failure.
async fn place_to_write<'o>(
    facts: &Facts,
    outlet: &'o Outlet<'_>,
    place: &Place,
    words: &str,
) -> Result<Option<Writing<'o>>, Failure> {
    let keeps = keeps(&facts.ps);
    let words = if keeps { "could not verify if secret exists in store" } else { words };
    let failed = |error: ProviderError| Failure::provider(words, &error);
    let writing = outlet.writing(place).await.map_err(failed)?;
    let kept = keeps && writing.exists(place).await.map_err(failed)?;
    Ok((!kept).then_some(writing))
}

/// A store that the namespace may use, logged in to.
async fn outlet<'c>(
    ctx: &'c Ctx,
    facts: &Facts,
    id: &StoreId,
    store: &AnyStore,
    named: &str,
) -> Result<Outlet<'c>, Failure> {
    let words = words_of_outlet(named);
    stores::allowed(facts, store).map_err(|failure| failure.within(&words))?;
    let meta = &facts.ps.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let cause = cause(&Key::of(meta));
    let credentials = ctx.index().credentials(id);
    let outlet = ctx.fetcher.outlet(store, credentials, namespace, &cause).await;
    outlet.map_err(|error| Failure::provider(words, &error))
}

/// What stands before what keeps a store from being written to.
#[must_use]
pub fn words_of_outlet(store: &str) -> String {
    format!("could not get secrets client for store {store}")
}

/// Two processes never write, to a provider either.
fn leads(ctx: &Ctx) -> Result<(), Failure> {
    if ctx.writer.may_write() { Ok(()) } else { Err(Failure::retry("this process does not hold the lease")) }
}

/// The source Secrets, whole. `None`: the one named is gone.
async fn read_sources(ctx: &Ctx, facts: &Facts, priority: Priority) -> Result<Option<Vec<Secret>>, Failure> {
    let key = Key::of(&facts.ps.metadata);
    let mut secrets = match plan::source(&facts.ps) {
        Source::Named(name) => {
            let secret = ctx.writer.read(&Key::new(&key.namespace, name), priority).await.map_err(|e| unread(&e))?;
            match secret {
                Some(secret) => vec![secret],
                None => return Ok(None),
            }
        }
        Source::Selected(selector) => {
            let text = access::to_text(selector)
                .map_err(|e| Failure::spec(format!("{NO_SOURCE}: spec.selector.secret.selector: {e}")))?;
            ctx.writer.list(&key.namespace, &text, priority).await.map_err(|e| unread(&e))?
        }
        Source::Generated(_) => Vec::new(),
        // a mistake, and not a source that is gone: nothing goes because of it
        Source::Nowhere => return Err(plan::no_source(&facts.ps)),
    };
    secrets.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    ctx.index_mut().set_push_sources(&key, secrets.iter().filter_map(|s| s.metadata.name.clone()).collect());
    Ok(Some(secrets))
}

/// For whom a provider or a generator is asked.
fn cause(key: &Key) -> String {
    format!("PushSecret/{key}")
}

/// Renders, on the account of the object: `steps` were taken before, and so many are after.
fn counted<T>(facts: &Facts, steps: u64, render: impl FnOnce(Outside<'_>) -> T) -> (T, u64) {
    let taken = Cell::new(steps);
    let rendered = render(Outside { now: facts.now, chance: &SystemChance, taken: &taken });
    (rendered, taken.get())
}

/// What the template of the spec is made of.
async fn read_templates(ctx: &Ctx, facts: &Facts, priority: Priority) -> Result<Sources, Failure> {
    let Some(template) = &facts.ps.spec.template else { return Ok(Sources::new()) };
    let namespace = facts.ps.metadata.namespace.as_deref().unwrap_or_default();
    let read = template::read_all(ctx, namespace, template, priority).await;
    read.map_err(|error| Failure::retry(format!("could not apply template: {error}")))
}

fn tell_notes(ctx: &Ctx, ps: &PushSecret, notes: Vec<crate::plan::Note>) {
    let mut reference = super::object_reference("PushSecret", &ps.metadata);
    reference.api_version = Some("external-secrets.io/v1alpha1".into());
    for note in notes {
        ctx.events.record(reference.clone(), note);
    }
}

/// Writes the status where it must be, records the events, remembers, and sees to the stores' finalizers.
async fn tell(ctx: &Ctx, memories: &Memories, facts: &Facts, report: Report, priority: Priority) -> Wake {
    let key = Key::of(&facts.ps.metadata);
    log(&key, &report);
    let memory = Memory { untold: None, ..report.memory };
    memories.set(&key, Some(memory.clone()));
    tell_notes(ctx, &facts.ps, report.notes);
    show(ctx, &key, report.status.as_ref().or(facts.ps.status.as_ref()));
    let Some(status) = report.status else { return report.wake };
    if !plan::must_write(facts, &status, ctx.rules.heartbeat) {
        return report.wake;
    }
    let cause = cause(&key);
    let error = match ctx.writer.push_secret_status(&facts.ps, &status, priority).await {
        Ok(updated) => {
            ctx.retries.done(&cause);
            // until the status tells that values are pushed, the next try pushes the same
            if report.failure.is_none() {
                ctx.maker.forget(&cause);
            }
            let updated = Arc::new(updated);
            let wake = renew(ctx, &updated);
            hold_stores(ctx, &updated);
            return match wake {
                Some(priority) => Wake::After(std::time::Duration::ZERO, priority),
                None => report.wake,
            };
        }
        Err(error) => error,
    };
    memories.set(&key, Some(memory.untold(facts, status)));
    ctx.retries.untold(&cause, &error, report.wake, report.failure.is_some())
}

/// Shows the object's condition in the metrics: after a restart, too, when nothing is due.
fn show(ctx: &Ctx, key: &Key, status: Option<&PushSecretStatus>) {
    if let Some(status) = status {
        ctx.metrics.condition(ObjectKind::PushSecret, &key.namespace, &key.name, Ready::of(&status.conditions));
    }
}

/// Takes the object as our own write left it. `Some`: somebody changed it as we wrote.
fn renew(ctx: &Ctx, ps: &Arc<PushSecret>) -> Option<Priority> {
    let before = ctx.index().push_secret(&Key::of(&ps.metadata));
    let wake = ctx.index_mut().renew_push_secret(ps.clone());
    let before = before.as_ref().map(|ps| &ps.metadata);
    fan_out::child_changed(ctx, ParentKind::ClusterPushSecret, before, &ps.metadata, wake.is_some());
    wake
}

/// Wakes the stores that must get or lose our finalizer because of what a PushSecret says now.
pub fn hold_stores(ctx: &Ctx, ps: &PushSecret) {
    let stores = ctx.index().stores_to_hold(ps);
    for id in stores {
        ctx.stores.wake(id, Priority::Changed);
    }
}

/// One line for each outcome; names and classes only.
fn log(key: &Key, report: &Report) {
    let condition = report.status.as_ref().and_then(|s| s.conditions.first());
    let reason = condition.and_then(|c| c.reason.clone()).unwrap_or_default();
    match report.failure {
        Some(class) if !report.notes.is_empty() => {
            let message = condition.and_then(|c| c.message.clone()).unwrap_or_default();
            tracing::warn!(object = %key, kind = "PushSecret", reason, class, message, "the push failed");
        }
        Some(class) => tracing::debug!(object = %key, kind = "PushSecret", reason, class, "the push failed again"),
        None if report.notes.is_empty() => tracing::debug!(object = %key, kind = "PushSecret", reason, "in line"),
        None => tracing::info!(object = %key, kind = "PushSecret", reason, "pushed"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::StoreKind;

    #[test]
    fn what_got_no_answer_is_in_the_book() {
        let id = StoreId { kind: StoreKind::SecretStore, key: Key::new("ns", "s") };
        let place = json!({ "match": { "remoteRef": { "remoteKey": "r", "property": "p" } } });
        let mut progress = Progress::default();
        progress.note_perhaps(&id, serde_json::from_value(place).unwrap());
        let reached = progress.reached(std::slice::from_ref(&id)).remove(&id).unwrap();
        assert_eq!(reached.perhaps, BTreeSet::from(["r/p".to_owned()]));
        assert!(reached.places.is_empty(), "it is not known to be there");
        assert!(progress.synced["SecretStore/s"].contains_key("r/p"), "or nobody would ever delete it");
    }
}
