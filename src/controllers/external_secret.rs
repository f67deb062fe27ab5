//! The reconcile of an ExternalSecret: gather, plan, fetch, plan, apply, report.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::gather::{self, Reads};
use super::generate::{self, Asker, Generated};
use super::{Ctx, fan_out, manifest, object_reference, template, turn};
use crate::api::external_secret::PendingStatus;
use crate::api::fan_out::ParentKind;
use crate::api::{AnyStore, ExternalSecret, ExternalSecretStatus};
use crate::apply::error::WriteError;
use crate::chance::SystemChance;
use crate::fetch::Freshness;
use crate::index::{Index, Key, StoreId, generator_ids, store_ids, target_key};
use crate::plan::entries::may_take_long;
use crate::plan::external_secret::{
    self as plan, Decision, Facts, Failure, FetchPlan, Gathered, Memory, Next, Report, Seen, StoreFacts, Written,
};
use crate::plan::failover;
use crate::plan::generator_state::Fate;
use crate::plan::status::must_write;
use crate::plan::store::{health_by_status, serves};
use crate::plan::target::Desired;
use crate::plan::{Rules, Wake};
use crate::queue::{Job, Priority};
use crate::report::metrics::{ObjectKind, Ready};

/// How often a write is planned anew because the Secret changed under it.
pub(super) const MOST_CONFLICTS: usize = 5;

/// A shared value that was read since then is not read again for what it has not: all who miss it would.
const JUST_NOW: std::time::Duration = std::time::Duration::from_secs(1);

/// Looks at one ExternalSecret, does what is due, and says when it is next.
pub async fn reconcile(ctx: Arc<Ctx>, job: Job<Key>) -> Wake {
    let begun = Instant::now();
    let unknown_kind = manifest::watch_kind_of(&ctx, &job.key).await;
    let Some(facts) = facts(&ctx, &job.key) else {
        ctx.memory().remove(&job.key);
        ctx.retries.done(&named(&job.key));
        ctx.maker.forget(&named(&job.key));
        ctx.forced.done(&job.key, begun);
        // what was under way when it was deleted has told of it once more
        ctx.metrics.deleted(ObjectKind::ExternalSecret, &job.key.namespace, &job.key.name);
        return Wake::OnChange;
    };
    let worked = match unknown_kind.and_then(|failure| plan::without_kind(&facts, &ctx.rules, &failure)) {
        Some(report) => Ok(Some(report)),
        None => work(&ctx, &facts, job.priority).await,
    };
    match worked {
        Ok(Some(report)) => {
            let turn = turn(report.failure.is_some(), report.wake);
            ctx.metrics.reconciled(ObjectKind::ExternalSecret, begun.elapsed(), turn);
            ctx.metrics.synced(&job.key.namespace, &job.key.name, report.failure.is_some());
            tell(&ctx, &facts, report, job.priority, begun).await
        }
        Ok(None) => Wake::OnChange,
        Err(wake) => {
            show(&ctx, &facts, None);
            wake
        }
    }
}

/// Takes everything that the plan needs from the index, at one moment.
fn facts(ctx: &Ctx, key: &Key) -> Option<Facts> {
    let memory = ctx.memory().get(key).cloned().unwrap_or_default();
    let mut facts = facts_of(&ctx.index(), &ctx.rules, key, memory, Timestamp::now())?;
    let uid = facts.es.metadata.uid.as_deref().unwrap_or_default();
    facts.memory = facts.memory.of_object(uid);
    if !plan::is_written_once(&facts.es) {
        facts.replace_at = ctx.states.replace_at(uid, || plan::state_labels(&facts.es));
    }
    Some(facts)
}

/// As [`facts`], of an index that need not be that of a running operator.
#[must_use]
pub fn facts_of(index: &Index, rules: &Rules, key: &Key, memory: Memory, now: Timestamp) -> Option<Facts> {
    let es = index.external_secret(key)?;
    let mut named = store_ids(&es);
    let stand_ins = |id: &StoreId| index.store(id).and_then(|store| failover::stand_ins(&store).ok()).unwrap_or_default();
    named.extend(named.iter().flat_map(stand_ins).collect::<Vec<_>>());
    let stores = named
        .into_iter()
        .map(|id| {
            let store = index.store(&id);
            let current = |s: &Arc<AnyStore>| {
                index.health(&id).filter(|h| {
                    Some(&h.uid) == s.metadata.uid.as_ref()
                        && Some(h.generation) == s.metadata.generation
                        && h.credentials == index.credentials(&id)
                })
            };
            let health = match &store {
                Some(store) if !serves(id.kind, rules) => Some(health_by_status(store)),
                store => store.as_ref().and_then(current).cloned(),
            };
            let holds = |store: &Arc<AnyStore>| store.spec.provider.served().is_some_and(|provider| provider.holds_values());
            let values = store.as_ref().is_some_and(holds).then(|| index.credentials(&id));
            (id, StoreFacts { store, health, values })
        })
        .collect();
    let generators = generator_ids(&es).into_iter().map(|id| (id.clone(), index.generator(&id))).collect();
    Some(Facts {
        stores,
        generators,
        namespace_labels: index.namespace_labels(&key.namespace),
        target: index.target(key, &es).cloned(),
        owned: index.owned_by(key),
        sources: index.sources(key, &es),
        replace_at: None,
        es,
        memory,
        now,
    })
}

/// Carries the plan out. `Err` says when to look again without a report; `Ok(None)` that there is nothing to do at all.
async fn work(ctx: &Ctx, facts: &Facts, priority: Priority) -> Result<Option<Report>, Wake> {
    let mut next = plan::before_fetch(facts, &ctx.rules);
    if matches!(next, Next::Inspect) {
        let seen = match inspect(ctx, facts, priority).await {
            Ok(seen) => seen,
            Err(failure) => return Ok(Some(plan::failed(facts, &failure))),
        };
        next = plan::after_inspection(facts, &ctx.rules, seen);
    }
    match next {
        Next::Ignore => {
            if plan::is_unserved(&facts.es, &ctx.rules) {
                let object = Key::of(&facts.es.metadata);
                let why = "no ClusterSecretStores are served";
                tracing::info!(%object, kind = "ExternalSecret", why, "left to another installation");
            }
            Ok(None)
        }
        Next::Idle(wake) => Err(wake),
        Next::Inspect => Err(Wake::OnChange),
        // what the last sync could not bring to its end is done now
        Next::Written(report) => {
            generate::retire_superseded(ctx.generating(), &facts.es.metadata).await;
            Ok(Some(sweep(ctx, facts, *report, priority).await))
        }
        Next::Settle(report) if report.failure.is_none() && plan::may_have_left_orphans(facts) => {
            Ok(Some(sweep(ctx, facts, *report, priority).await))
        }
        Next::Settle(report) => Ok(Some(*report)),
        Next::CleanUp(delete) => clean_up(ctx, facts, delete).await,
        Next::Fetch(fetch) => sync(ctx, facts, fetch).await,
    }
}

/// Reads the target, to see whether it drifted.
async fn inspect(ctx: &Ctx, facts: &Facts, priority: Priority) -> Result<Option<Seen>, Failure> {
    if facts.es.target().manifest.is_some() {
        return manifest::inspect(ctx, facts, priority).await;
    }
    let key = target_key(&Key::of(&facts.es.metadata), &facts.es);
    let live = ctx.writer.read(&key, priority).await.map_err(|e| e.into_failure("could not update secret"))?;
    Ok(live.map(|live| plan::seen(&facts.es, &live, &ctx.digester)))
}

/// Reads and generates the values, and writes the Secret.
async fn sync(ctx: &Ctx, facts: &Facts, fetch: FetchPlan) -> Result<Option<Report>, Wake> {
    let revision = plan::synced_resource_version(&facts.es);
    let asker = Asker {
        api_version: "external-secrets.io/v1",
        kind: "ExternalSecret",
        meta: &facts.es.metadata,
        revision: &revision,
    };
    let (gathered, generated) = gather_values(ctx, facts, &fetch, &asker).await;
    let (outcome, fate) = store(ctx, facts, &fetch, gathered).await;
    generated.end(fate, ctx.generating(), &asker).await;
    outcome.map(Some)
}

/// Writes the Secret, and says what becomes of generated values.
async fn store(
    ctx: &Ctx,
    facts: &Facts,
    fetch: &FetchPlan,
    gathered: Result<Gathered, Failure>,
) -> (Result<Report, Wake>, Fate) {
    let priority = fetch.priority;
    let mut decision = plan::after_fetch(facts, &ctx.rules, gathered.as_ref(), &ctx.digester);
    if let (Decision::Render, Ok(gathered), None) = (&decision, &gathered, &facts.es.target().manifest) {
        decision = plan::rendered(facts, template::render(ctx, facts, gathered, priority).await);
    }
    let gathered = match (gathered, decision) {
        (_, Decision::Settle(report)) => return (Ok(*report), Fate::RollBack),
        (Ok(gathered), other) => {
            decision = other;
            gathered
        }
        (Err(_), _) => return (Err(Wake::OnChange), Fate::RollBack),
    };
    let target = target_key(&Key::of(&facts.es.metadata), &facts.es);
    let _lock = ctx.lock_target(&target).await;
    decision = match decision {
        // another may have made it since: to apply as the same manager would take its keys
        Decision::Create(desired) if ctx.index().is_shared(&target) => Decision::ReadTarget(desired),
        other => other,
    };
    let at = gathered.read_at.filter(|_| !fetch.generate.is_empty());
    let mut announcement = Announcement { at, held: None, said: None };
    let Carried { outcome, unsure } = match decision {
        Decision::Render => manifest::write(ctx, facts, &gathered, priority).await,
        decision => write(ctx, facts, decision, &target, priority, &mut announcement).await,
    };
    let fate = plan::fate(&facts.es, outcome.written(), unsure);
    let report = match outcome {
        Outcome::Settled(report) => *report,
        Outcome::Written { applied, result } => plan::settle(facts, &gathered, &applied, result.as_ref()),
        Outcome::Later(wake) => return (Err(wake), fate),
    };
    let report = match (report.failure, announcement.said) {
        (None, _) if !gathered.data.is_empty() => sweep(ctx, facts, report, priority).await,
        (Some(_), Some(said)) if unsure => plan::in_doubt(facts, report, said),
        (Some(_), Some(_)) => plan::refused(facts, report),
        _ => report,
    };
    (Ok(report), fate)
}

/// What the status tells of generated values before they are written, as they cannot be read again.
struct Announcement {
    /// When they were made; `None`: there are none, and nothing is told.
    at: Option<Timestamp>,
    /// Digest of the values that the object wrote into the Secret before, if that was read.
    held: Option<String>,
    /// What was told.
    said: Option<PendingStatus>,
}

/// How a decision was carried out.
pub(super) struct Carried {
    /// What became of it.
    pub outcome: Outcome,
    /// The target may hold the values, whatever became of it.
    pub unsure: bool,
}

/// What became of a decision.
pub(super) enum Outcome {
    Settled(Box<Report>),
    Written { applied: String, result: Result<Written, Failure> },
    Later(Wake),
}

impl Outcome {
    /// How the target was written, if it was.
    fn written(&self) -> Option<&Written> {
        match self {
            Self::Written { result, .. } => result.as_ref().ok(),
            _ => None,
        }
    }

    /// Nothing was written, for that reason.
    pub(super) fn failed(failure: Failure) -> Self {
        Self::Written { applied: String::new(), result: Err(failure) }
    }
}

/// Carries a decision about the Secret out; plans anew where the Secret changed under it.
async fn write(
    ctx: &Ctx,
    facts: &Facts,
    mut decision: Decision,
    target: &Key,
    priority: Priority,
    announcement: &mut Announcement,
) -> Carried {
    let (mut read_version, mut unsure, mut whole) = (None, false, None);
    for _ in 0..MOST_CONFLICTS {
        let (desired, result) = match decision {
            Decision::Settle(report) => return Carried { outcome: Outcome::Settled(report), unsure },
            // was answered before
            Decision::Render => return Carried { outcome: Outcome::Later(Wake::OnChange), unsure },
            Decision::ReadTarget(desired) => match ctx.writer.read(target, priority).await {
                Ok(live) => {
                    read_version = live.as_ref().map(|l| {
                        (
                            l.metadata.resource_version.clone().unwrap_or_default(),
                            plan::data_digest(&desired, l, &ctx.digester),
                        )
                    });
                    let own = |live| plan::seen(&facts.es, live, &ctx.digester).own;
                    announcement.held = live.as_ref().filter(|_| announcement.at.is_some()).and_then(own);
                    decision = plan::with_target(facts, &ctx.rules, desired.clone(), live.as_ref());
                    whole = Some(desired);
                    continue;
                }
                Err(error) => (desired, Err(error)),
            },
            Decision::Keep(applied) => {
                let known = facts.target.as_ref().map(|t| t.resource_version.clone()).unwrap_or_default();
                let (version, data) = match read_version {
                    Some((version, data)) => (version, Some(data)),
                    None => (facts.memory.written_to(&target.name).cloned().unwrap_or(known), None),
                };
                let result = Ok(Written::Kept { resource_version: version, data });
                return Carried { outcome: Outcome::Written { applied, result }, unsure };
            }
            Decision::Create(desired) => {
                let result = match announced(ctx, facts, &desired, priority, announcement).await {
                    Ok(()) => ctx.writer.create(&desired, priority).await,
                    Err(error) => Err(error),
                };
                (desired, result)
            }
            Decision::Update(update) => {
                let result = match announced(ctx, facts, &update.desired, priority, announcement).await {
                    Ok(()) => ctx.writer.update(&update, priority).await,
                    Err(error) => Err(error),
                };
                if let (Ok(_), Some(failure)) = (&result, update.then) {
                    return Carried { outcome: Outcome::failed(failure), unsure };
                }
                (update.desired, result)
            }
            Decision::Delete { uid } => {
                let result = delete(ctx, facts, target, &uid, priority).await;
                let result = result.map(|()| Written::Deleted).map_err(|e| e.into_failure(plan::not_deleted(&facts.es)));
                return Carried { outcome: Outcome::Written { applied: String::new(), result }, unsure };
            }
        };
        let (error, doubt) = match result {
            Ok(written) => {
                let outcome = Outcome::Written { applied: desired.applied, result: Ok(written) };
                return Carried { outcome, unsure };
            }
            Err(error) => error.certainty(),
        };
        unsure |= doubt;
        let outcome = match error {
            WriteError::Conflict | WriteError::Gone => {
                // an update holds what was to be kept of that very Secret
                decision = Decision::ReadTarget(whole.take().unwrap_or(desired));
                continue;
            }
            WriteError::NotLeader | WriteError::Terminating => Outcome::Later(Wake::OnChange),
            error => {
                Outcome::failed(Failure { bound: facts.target.is_some(), ..error.into_failure("could not update secret") })
            }
        };
        return Carried { outcome, unsure };
    }
    Carried { outcome: Outcome::Later(Wake::After(std::time::Duration::from_secs(1), priority)), unsure }
}

/// Announces generated values in the status before they are written, so that a process which comes after a crash knows them again.
async fn announced(
    ctx: &Ctx,
    facts: &Facts,
    desired: &Desired,
    priority: Priority,
    announcement: &mut Announcement,
) -> Result<(), WriteError> {
    let Some(at) = announcement.at else { return Ok(()) };
    let Some(status) = plan::pending(facts, desired, announcement.held.as_deref(), at, &ctx.digester) else {
        return Ok(());
    };
    let updated = ctx.writer.external_secret_status(&facts.es, &status, priority).await?;
    renew(ctx, updated);
    announcement.said = status.target.and_then(|target| target.pending);
    Ok(())
}

/// Deletes the target, whatever its kind is.
async fn delete(ctx: &Ctx, facts: &Facts, target: &Key, uid: &str, priority: Priority) -> Result<(), WriteError> {
    match &facts.es.target().manifest {
        Some(kind) => manifest::delete(ctx, kind, target, uid, priority).await,
        None => ctx.writer.delete(target, uid, priority).await,
    }
}

/// Deletes Secrets under names that the object had before, now that what it has in place of them is there.
async fn sweep(ctx: &Ctx, facts: &Facts, report: Report, priority: Priority) -> Report {
    let orphans = plan::orphans(facts);
    let delete = async {
        for (key, view) in &orphans {
            ctx.writer.delete(key, &view.uid, priority).await?;
        }
        Ok::<_, WriteError>(orphans.len())
    };
    let deleted = delete.await.map_err(|error| error.into_failure(plan::ORPHANS_LEFT));
    plan::swept(facts, report, deleted)
}

/// Reads all values that the object wants, each store's together, then generates what is to be generated, and puts all into
/// keys and values. Nothing is generated where a read failed.
async fn gather_values(
    ctx: &Ctx,
    facts: &Facts,
    fetch: &FetchPlan,
    asker: &Asker<'_>,
) -> (Result<Gathered, Failure>, Generated) {
    let begun = Instant::now();
    let key = Key::of(&facts.es.metadata);
    let not_before = ctx.forced.since(&key);
    let freshness = Freshness { max_age: fetch.max_age, not_before, again: fetch.again, priority: fetch.priority };
    let mut reads = read_all(ctx, facts, fetch, freshness).await;
    let mut gathered = put_together(ctx, facts, &reads, &Generated::default()).await;
    // something is missing: a shared value may just be too old to have it
    let shared =
        |reads: &Reads| reads.values().flat_map(|store| store.reads.values()).any(|read| read.sent + JUST_NOW < begun);
    if fetch.insist && gathered.as_ref().map_or_else(gather::is_missing, |g| !g.missing.is_empty()) && shared(&reads) {
        let fresh = Freshness { not_before: Some(begun), ..freshness };
        reads = read_all(ctx, facts, fetch, fresh).await;
        gathered = put_together(ctx, facts, &reads, &Generated::default()).await;
    }
    if fetch.generate.is_empty() || gathered.is_err() {
        return (gathered, Generated::default());
    }
    let entry = |order: &plan::Generate| order.index.to_string();
    let generated = generate::generate(ctx.generating(), asker, &fetch.generate, entry, freshness.not_before).await;
    (put_together(ctx, facts, &reads, &generated).await, generated)
}

async fn put_together(ctx: &Ctx, facts: &Facts, reads: &Reads, generated: &Generated) -> Result<Gathered, Failure> {
    let values = || gather::values(facts, reads, generated, &SystemChance);
    if may_take_long(&facts.es) { ctx.rendering(values).await } else { values() }
}

async fn read_all(ctx: &Ctx, facts: &Facts, fetch: &FetchPlan, freshness: Freshness) -> Reads {
    gather::read(&ctx.fetcher, |id| ctx.index().credentials(id), facts, fetch, freshness).await
}

/// The object is being deleted: deletes its Secret where the policy says so, and lets it go.
async fn clean_up(ctx: &Ctx, facts: &Facts, doomed: Option<(String, String)>) -> Result<Option<Report>, Wake> {
    let namespace = facts.es.metadata.namespace.as_deref().unwrap_or_default();
    let done = async {
        if let Some((name, uid)) = doomed {
            delete(ctx, facts, &Key::new(namespace, &name), &uid, Priority::Changed).await?;
        }
        ctx.writer.remove_finalizer(&facts.es).await
    };
    let object = named(&Key::of(&facts.es.metadata));
    match done.await {
        Ok(()) => {
            ctx.retries.done(&object);
            Ok(None)
        }
        Err(error) => {
            let pause = ctx.retries.failed(&object, &error, "an object in deletion could not be let go");
            Err(Wake::After(pause, Priority::Changed))
        }
    }
}

/// Writes the status where it must be, records the events, and remembers.
async fn tell(ctx: &Ctx, facts: &Facts, report: Report, priority: Priority, begun: Instant) -> Wake {
    let key = Key::of(&facts.es.metadata);
    let (object, uid) = (named(&key), facts.es.metadata.uid.as_deref().unwrap_or_default());
    log(&key, &report);
    if report.failure.is_none() {
        ctx.forced.done(&key, begun);
        ctx.maker.forget(&object);
    }
    let memory = Memory { uid: uid.to_owned(), ..report.memory };
    ctx.memory().insert(key.clone(), memory.clone());
    let reference = object_reference("ExternalSecret", &facts.es.metadata);
    for note in report.notes {
        ctx.events.record(reference.clone(), note);
    }
    show(ctx, facts, report.status.as_ref());
    // what was announced is there by now
    let there = ctx.index().external_secret(&key).filter(|es| es.metadata.uid == facts.es.metadata.uid);
    let old = there.as_ref().unwrap_or(&facts.es).status.as_ref();
    let is_news = |new: &ExternalSecretStatus| must_write(old, new, ctx.rules.heartbeat, uid, facts.now);
    let Some(status) = report.status.filter(is_news) else {
        ctx.retries.done(&object);
        return report.wake;
    };
    let error = match ctx.writer.external_secret_status(&facts.es, &status, priority).await {
        Ok(updated) => {
            ctx.retries.done(&object);
            renew(ctx, updated);
            return report.wake;
        }
        Err(error) => error,
    };
    // what was done is not told: it is due again
    ctx.memory().insert(key, memory.untold(&facts.memory));
    ctx.retries.untold(&object, &error, report.wake, report.failure.is_some())
}

/// An object as it is called beside those of other kinds.
fn named(key: &Key) -> String {
    format!("ExternalSecret/{key}")
}

/// Shows the Ready condition as a metric: that of a new status, or of the one that stays, also from before a restart.
fn show(ctx: &Ctx, facts: &Facts, new: Option<&ExternalSecretStatus>) {
    let key = Key::of(&facts.es.metadata);
    let status = new.or(facts.es.status.as_ref()).filter(|status| !status.conditions.is_empty());
    if let Some(status) = status {
        ctx.metrics.condition(ObjectKind::ExternalSecret, &key.namespace, &key.name, Ready::of(&status.conditions));
    }
}

/// Takes the object as our own write left it, so that the next look does not depend on how fast the watch is.
fn renew(ctx: &Ctx, es: ExternalSecret) {
    let (key, es) = (Key::of(&es.metadata), Arc::new(es));
    let before = ctx.index().external_secret(&key);
    let priority = ctx.forced.take_in(ctx.index_mut(), &key, |index| index.renew_external_secret(es.clone()));
    // somebody may have changed it as we wrote
    let before = before.as_ref().map(|es| &es.metadata);
    fan_out::child_changed(ctx, ParentKind::ClusterExternalSecret, before, &es.metadata, priority.is_some());
    if let Some(priority) = priority {
        ctx.external_secrets.wake(key, priority);
    }
}

/// One line for each outcome; names and classes only.
fn log(key: &Key, report: &Report) {
    let reason = report.status.as_ref().and_then(|s| s.conditions.first()?.reason.clone()).unwrap_or_default();
    match report.failure {
        Some(class) if !report.notes.is_empty() => {
            let message = report.status.as_ref().and_then(|s| s.conditions.first()?.message.clone()).unwrap_or_default();
            tracing::warn!(object = %key, kind = "ExternalSecret", reason, class, message, "the sync failed");
        }
        Some(class) => tracing::debug!(object = %key, kind = "ExternalSecret", reason, class, "the sync failed again"),
        None if report.notes.is_empty() => tracing::debug!(object = %key, kind = "ExternalSecret", reason, "synced"),
        None => {
            let did = report.notes.iter().map(|n| n.reason).collect::<Vec<_>>().join(",");
            tracing::info!(object = %key, kind = "ExternalSecret", reason, did, "synced");
        }
    }
}
