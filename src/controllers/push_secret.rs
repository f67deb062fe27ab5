//! The reconcile of a PushSecret: gather, plan, read or generate the source, push, delete what is no longer wanted, report.

mod generated;
mod memories;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use tokio::time::Instant;

use self::generated::{asker, push_generated};
pub use self::memories::Memories;
use super::generate::Generated;
use super::{Ctx, fan_out, template, turn};
use crate::api::fan_out::ParentKind;
use crate::api::push_secret::{PushUpdatePolicy, SyncedPushSecrets};
use crate::api::{AnyStore, PushSecret, PushSecretStatus};
use crate::apply::error::WriteError;
use crate::chance::SystemChance;
use crate::fetch::{NotPushed, Outlet};
use crate::index::{Key, StoreId, pushed_generator};
use crate::plan::push_secret::entries::{self, Entry};
use crate::plan::push_secret::generate::{Plan, Reached, fate_of_former, plan as generator_plan, state_labels};
use crate::plan::push_secret::{
    self as plan, Facts, Failure, NO_SOURCE, Next, Outcome, Removals, Report, Source, SourceVersion, stores,
};
use crate::plan::{Wake, access};
use crate::providers::{Pushed, Source as Values};
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
        let facts = match facts(&ctx, &memories, &job.key, job.priority).await {
            Ok(Some(facts)) => facts,
            Ok(None) => {
                memories.set(&job.key, None);
                ctx.maker.forget(&cause(&job.key));
                // its last look may have ended after it went
                ctx.metrics.deleted(ObjectKind::PushSecret, &job.key.namespace, &job.key.name);
                return Wake::OnChange;
            }
            Err(wake) => return wake,
        };
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
            Next::Settle(report) => *report,
            Next::Push(priority) => match sync(&ctx, &memories, &facts, priority).await {
                Some(outcome) => plan::settle(&facts, outcome),
                None => return Wake::OnChange,
            },
        };
        let turn = turn(report.failure.is_some(), report.wake);
        ctx.metrics.reconciled(ObjectKind::PushSecret, begun.elapsed(), turn);
        return tell(&ctx, &memories, &facts, report, job.priority).await;
    }
    Wake::After(SOON, Priority::Changed)
}

/// Takes everything that the plan needs, at one moment.
async fn facts(ctx: &Ctx, memories: &Memories, key: &Key, priority: Priority) -> Result<Option<Facts>, Wake> {
    let mut facts = {
        let index = ctx.index();
        let Some(ps) = index.push_secret(key) else { return Ok(None) };
        Facts {
            stores: index.push_stores(&ps),
            namespace_labels: index.namespace_labels(&key.namespace),
            sources: index.push_named_sources(&ps),
            generator: pushed_generator(&ps).map(|id| index.generator(&id)),
            replace_at: ctx.states.replace_at(ps.metadata.uid.as_deref().unwrap_or_default(), || state_labels(&ps)),
            ps,
            memory: memories.of(key),
            now: Timestamp::now(),
        }
    };
    let ps = facts.ps.clone();
    if let Source::Selected(selector) = plan::source(&ps)
        && ps.metadata.deletion_timestamp.is_none()
        && let Ok(selector) = access::to_text(selector)
    {
        match ctx.writer.list_metadata(&key.namespace, &selector, priority).await {
            Ok(secrets) => facts.sources.extend(secrets.iter().map(|s| SourceVersion::of(&s.metadata))),
            Err(error) => {
                tracing::warn!(object = %key, %error, "the source Secrets could not be listed; trying again");
                return Err(Wake::After(SOON, priority));
            }
        }
    }
    Ok(Some(facts))
}

/// Puts our finalizer on the object, or takes it off.
async fn hold(ctx: &Ctx, ps: &PushSecret, wanted: bool) -> Result<(), Wake> {
    match ctx.writer.push_secret_finalizer(ps, wanted).await {
        Ok(Some(updated)) => {
            renew(ctx, &Arc::new(updated));
            Ok(())
        }
        Ok(None) | Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => Err(Wake::OnChange),
        Err(WriteError::Conflict) => Err(Wake::After(SOON, Priority::Changed)),
        Err(error) => {
            let object = Key::of(&ps.metadata);
            tracing::warn!(%object, %error, "the finalizer could not be written; trying again");
            Err(Wake::After(SOON * 5, Priority::Changed))
        }
    }
}

/// The object is being deleted: deletes what it pushed, and lets it go. What belongs to another controller keeps it.
async fn clean_up(ctx: &Ctx, facts: &Facts, removals: Removals) -> Result<Wake, Box<Report>> {
    tell_notes(ctx, &facts.ps, removals.notes.clone());
    match delete_all(ctx, facts, &removals, SyncedPushSecrets::new()).await {
        Ok((left, _)) if left.is_empty() => Ok(hold(ctx, &facts.ps, false).await.err().unwrap_or(Wake::OnChange)),
        Ok((left, _)) => {
            let failure = Failure::spec("what was pushed to stores of another controller is still there");
            Err(Box::new(plan::settle(facts, Outcome::Failed { failure, synced: Some(left) })))
        }
        Err((failure, left)) => {
            let failure = failure.within("Failed to Delete Secrets from Provider");
            Err(Box::new(plan::settle(facts, Outcome::Failed { failure, synced: Some(left) })))
        }
    }
}

/// Reads or generates the source, pushes it everywhere, and deletes what is no longer wanted. `None`: all stores are another
/// controller's.
async fn sync(ctx: &Ctx, memories: &Memories, facts: &Facts, priority: Priority) -> Option<Outcome> {
    let failed = |failure| Some(Outcome::Failed { failure, synced: None });
    let order = match generator_plan(facts, &ctx.rules) {
        Ok(order) => order,
        Err(failure) => return Some(leave(ctx, facts, failure).await),
    };
    let (secrets, sources) = match read_sources(ctx, facts, priority).await {
        Ok(Some(read)) => read,
        Ok(None) => return Some(source_gone(ctx, facts).await),
        Err(failure) => return failed(failure),
    };
    let targets = match stores::targets(facts, &ctx.rules) {
        Ok(targets) if targets.is_empty() => return None,
        Ok(targets) => targets,
        Err(failure) => return Some(leave(ctx, facts, failure).await),
    };
    let known: Vec<&AnyStore> = targets.iter().filter_map(|id| facts.stores.get(id)).map(AsRef::as_ref).collect();
    if let Err(failure) = entries::check_selectors(&facts.ps.spec, &known) {
        return failed(failure);
    }
    let templates = match read_templates(ctx, facts, priority).await {
        Ok(templates) => templates,
        Err(failure) => return failed(failure),
    };
    let goal = Goal { targets, templates, sources };
    match order {
        Plan::NoGenerator => Some(push_read(ctx, facts, secrets, goal).await),
        Plan::Make(order) => Some(push_generated(ctx, memories, facts, order, goal).await),
        // was answered before
        Plan::Wait => None,
    }
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
        let shaped =
            || counted(facts, steps, |outside| plan::shaped(&facts.ps, &ctx.rules, values, &goal.templates, outside));
        let (shaped, steps) = ctx.rendering(shaped).await;
        progress.steps = steps;
        let source = match shaped {
            Ok(source) => Arc::new(source),
            Err(failure) => {
                let reached = progress.reached(&goal.targets);
                return (failed(facts, failure, progress.synced), reached);
            }
        };
        for id in goal.targets.iter().filter(|id| !progress.failures.contains_key(*id)).cloned().collect::<Vec<_>>() {
            if let Err(failure) = push_to(ctx, facts, &id, &source, &mut progress).await {
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
    fn reached(&self, targets: &[StoreId]) -> BTreeMap<StoreId, Reached> {
        let reached = |id: &StoreId| Reached {
            places: self.pushed.get(id).cloned().unwrap_or_default(),
            perhaps: self.perhaps.get(id).cloned().unwrap_or_default(),
            whole: !self.kept.contains(id) && !self.failures.contains_key(id),
        };
        targets.iter().map(|id| (id.clone(), reached(id))).collect()
    }
}

/// A failure, after this was pushed.
fn failed(facts: &Facts, failure: Failure, synced: SyncedPushSecrets) -> Outcome {
    let old = facts.ps.status.as_ref().and_then(|s| s.synced_push_secrets.clone()).unwrap_or_default();
    Outcome::Failed { failure, synced: Some(plan::merged(old, synced)) }
}

async fn finish(ctx: &Ctx, facts: &Facts, progress: Progress, sources: Vec<SourceVersion>) -> Outcome {
    let Progress { synced, mut written, failures, .. } = progress;
    if let Some(failure) = plan::together(failures) {
        return failed(facts, failure, synced);
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
        Err((failure, left)) => {
            Outcome::Failed { failure: failure.within("Failed to Delete Secrets from Provider"), synced: Some(left) }
        }
    }
}

/// All entries for one store, until one fails.
async fn push_to(
    ctx: &Ctx,
    facts: &Facts,
    id: &StoreId,
    source: &Arc<Values>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    progress.synced.entry(plan::store_key(id)).or_default();
    let Some(store) = facts.stores.get(id) else { return Ok(()) };
    let outlet = outlet(ctx, facts, id, store, &id.key.name).await?;
    let namespace = facts.ps.metadata.namespace.as_deref().unwrap_or_default();
    let (spec, steps) = (&facts.ps.spec, progress.steps);
    let entries = || counted(facts, steps, |outside| entries::entries(spec, namespace, store, source, outside));
    // nothing else takes its time
    let (entries, steps) = if spec.data_to.is_empty() { entries() } else { ctx.rendering(entries).await };
    progress.steps = steps;
    for Entry { data, push } in entries? {
        let push = push?;
        let key = push.secret_key.clone().unwrap_or_default();
        if is_kept(facts, &outlet, &push.place).await? {
            progress.kept.insert(id.clone());
        } else {
            leads(ctx)?;
            let words = format!("could not write remote ref {key} to target secretstore {}", id.key.name);
            let place = plan::entry_key(&data);
            match outlet.push(&push).await {
                Ok(pushed) => {
                    progress.written |= pushed == Pushed::Written;
                    progress.pushed.entry(id.clone()).or_default().insert(place);
                }
                Err(NotPushed { error, perhaps }) => {
                    if perhaps {
                        progress.perhaps.entry(id.clone()).or_default().insert(place);
                    }
                    return Err(Failure::provider(words, &error));
                }
            }
        }
        stores::note(&mut progress.synced, id, data);
    }
    Ok(())
}

/// Whether the place has a value already that must stay.
///
/// # Errors
/// What kept the provider from telling.
pub async fn is_kept(facts: &Facts, outlet: &Outlet<'_>, place: &crate::providers::Place) -> Result<bool, Failure> {
    if facts.ps.spec.update_policy != Some(PushUpdatePolicy::IfNotExists) {
        return Ok(false);
    }
    outlet.exists(place).await.map_err(|error| Failure::provider("could not verify if secret exists in store", &error))
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

/// Deletes places, in order, until one fails. Gives what the bookkeeping says then, and whether anything was deleted.
async fn delete_all(
    ctx: &Ctx,
    facts: &Facts,
    removals: &Removals,
    wanted: SyncedPushSecrets,
) -> Result<(SyncedPushSecrets, bool), (Failure, SyncedPushSecrets)> {
    let old = facts.ps.status.as_ref().and_then(|s| s.synced_push_secrets.clone()).unwrap_or_default();
    let mut left = plan::merged(old, wanted.clone());
    for removal in &removals.delete {
        let delete = async {
            let Some(store) = facts.stores.get(&removal.store) else { return Ok(()) };
            let outlet = outlet(ctx, facts, &removal.store, store, &removal.store_key).await?;
            leads(ctx)?;
            outlet.delete(&removal.place).await.map_err(|error| {
                Failure::after_provider(&error, &format!("could not delete {} from {}", removal.entry, removal.store_key))
            })
        };
        if let Err(failure) = delete.await {
            return Err((failure, left));
        }
        if let Some(entries) = left.get_mut(&removal.store_key) {
            entries.remove(&removal.entry);
        }
    }
    Ok((plan::merged(removals.kept.clone(), wanted), !removals.delete.is_empty()))
}

/// The source is not there: cleans up where the policy says so.
async fn source_gone(ctx: &Ctx, facts: &Facts) -> Outcome {
    let Some(removals) = plan::source_gone(facts, &ctx.rules) else {
        return Outcome::Failed { failure: plan::no_source(&facts.ps), synced: None };
    };
    tell_notes(ctx, &facts.ps, removals.notes.clone());
    match delete_all(ctx, facts, &removals, SyncedPushSecrets::new()).await {
        Ok((synced, _)) => Outcome::SourceDeleted { synced },
        Err((failure, left)) => {
            Outcome::Failed { failure: failure.within("Failed to Delete Secrets from Provider"), synced: Some(left) }
        }
    }
}

/// There is nothing to push, or no store to push to: what is left in stores in deletion goes all the same, so that they can.
async fn leave(ctx: &Ctx, facts: &Facts, failure: Failure) -> Outcome {
    if !facts.ps.deletes() {
        return Outcome::Failed { failure, synced: None };
    }
    let mut removals = stores::removals(facts, &ctx.rules, &SyncedPushSecrets::new());
    let old = facts.ps.status.as_ref().and_then(|s| s.synced_push_secrets.clone()).unwrap_or_default();
    let leaving = |id: &StoreId| facts.stores.get(id).is_some_and(|s| s.metadata.deletion_timestamp.is_some());
    removals.delete.retain(|removal| leaving(&removal.store));
    let namespace = facts.ps.metadata.namespace.as_deref().unwrap_or_default();
    let kept: SyncedPushSecrets =
        old.into_iter().filter(|(key, _)| !stores::parsed(key, namespace).is_some_and(|id| leaving(&id))).collect();
    match delete_all(ctx, facts, &removals, kept).await {
        Ok((left, _)) => Outcome::Failed { failure, synced: Some(left) },
        Err((failure, left)) => {
            Outcome::Failed { failure: failure.within("Failed to Delete Secrets from Provider"), synced: Some(left) }
        }
    }
}

/// The source Secrets, whole, and which versions they and the Secrets with templates are in. `None`: the one named is gone.
async fn read_sources(
    ctx: &Ctx,
    facts: &Facts,
    priority: Priority,
) -> Result<Option<(Vec<Secret>, Vec<SourceVersion>)>, Failure> {
    let key = Key::of(&facts.ps.metadata);
    let unread = |error: WriteError| Failure::retry(format!("{NO_SOURCE}: {error}"));
    let mut secrets = match plan::source(&facts.ps) {
        Source::Named(name) => {
            let secret = ctx.writer.read(&Key::new(&key.namespace, name), priority).await.map_err(unread)?;
            match secret {
                Some(secret) => vec![secret],
                None => return Ok(None),
            }
        }
        Source::Selected(selector) => {
            let text = access::to_text(selector)
                .map_err(|e| Failure::spec(format!("{NO_SOURCE}: spec.selector.secret.selector: {e}")))?;
            ctx.writer.list(&key.namespace, &text, priority).await.map_err(unread)?
        }
        Source::Generated(_) => Vec::new(),
        Source::Nowhere => return Ok(None),
    };
    secrets.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let read: BTreeMap<String, SourceVersion> =
        secrets.iter().map(|s| SourceVersion::of(&s.metadata)).map(|v| (v.name.clone(), v)).collect();
    let templates = plan::template_secrets(&facts.ps).collect::<BTreeSet<_>>();
    let others = facts.sources.iter().filter(|v| templates.contains(v.name.as_str()) && !read.contains_key(&v.name));
    let sources: Vec<SourceVersion> = read.values().chain(others).cloned().collect();
    ctx.index_mut().set_push_sources(&key, read.into_keys().collect());
    Ok(Some((secrets, sources)))
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
    memories.set(&key, Some(report.memory));
    tell_notes(ctx, &facts.ps, report.notes);
    show(ctx, &key, report.status.as_ref().or(facts.ps.status.as_ref()));
    let Some(status) = report.status else { return report.wake };
    if !plan::must_write(&facts.ps, &status, ctx.rules.heartbeat) {
        return report.wake;
    }
    match ctx.writer.push_secret_status(&facts.ps, &status, priority).await {
        Ok(updated) => {
            // until the status tells that values are pushed, the next try pushes the same
            if report.failure.is_none() {
                ctx.maker.forget(&cause(&key));
            }
            let updated = Arc::new(updated);
            let wake = renew(ctx, &updated);
            hold_stores(ctx, &updated);
            match wake {
                Some(priority) => Wake::After(std::time::Duration::ZERO, priority),
                None => report.wake,
            }
        }
        Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => Wake::OnChange,
        Err(error) => {
            tracing::warn!(object = %key, %error, "the status could not be written; trying again");
            Wake::After(error.pause(), Priority::Changed)
        }
    }
}

/// Shows the object's condition in the metrics: after a restart, too, when nothing is due.
fn show(ctx: &Ctx, key: &Key, status: Option<&PushSecretStatus>) {
    if let Some(status) = status {
        ctx.metrics.condition(ObjectKind::PushSecret, &key.namespace, &key.name, Ready::of(&status.conditions));
    }
}

/// Takes the object as our own write left it. `Some`: somebody changed it as we wrote.
fn renew(ctx: &Ctx, ps: &Arc<PushSecret>) -> Option<Priority> {
    let wake = ctx.index_mut().renew_push_secret(ps.clone());
    if wake.is_some() {
        fan_out::wake_parents_of(ctx, ParentKind::ClusterPushSecret, [&ps.metadata]);
    }
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
