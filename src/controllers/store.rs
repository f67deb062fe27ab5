//! The reconcile of a store of either kind: check the login, tell, and wake those who waited for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Ctx, object_reference, turn};
use crate::api::{AnyStore, StoreStatus};
use crate::apply::error::WriteError;
use crate::fetch::is_referent;
use crate::index::StoreId;
use crate::plan::store::{self as plan, Next, Outcome};
use crate::plan::{Note, Wake};
use crate::queue::{Job, Priority};
use crate::report::metrics::{ObjectKind, Ready};

/// What failed, by store.
#[derive(Default)]
pub struct Failures {
    /// How many checks in a row.
    checks: Mutex<HashMap<StoreId, u32>>,
    /// What could not be written.
    unwritten: Mutex<HashMap<StoreId, Checked>>,
}

impl Failures {
    fn of(&self, id: &StoreId) -> u32 {
        lock(&self.checks).get(id).copied().unwrap_or_default()
    }

    fn set(&self, id: &StoreId, failed: bool) {
        let mut checks = lock(&self.checks);
        match failed {
            true => *checks.entry(id.clone()).or_default() += 1,
            false => {
                checks.remove(id);
            }
        }
    }

    fn keep(&self, id: &StoreId, checked: Checked) {
        lock(&self.unwritten).insert(id.clone(), checked);
    }

    fn take(&self, id: &StoreId) -> Option<Checked> {
        lock(&self.unwritten).remove(id)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a check came to. It is kept while it, or the finalizer, could not be written: until the next check is due, only that is tried
/// again, and nothing is told twice.
struct Checked {
    /// The store as it was.
    store: Arc<AnyStore>,
    /// Version of the objects that it logs in with.
    credentials: u64,
    /// When that was.
    at: Instant,
    /// How long after it the next check is due.
    wake: Wake,
    /// The status to write.
    status: Option<StoreStatus>,
    /// The events that tell what that status says.
    notes: Vec<Note>,
}

impl Checked {
    /// When the next check is due, from now on.
    fn next(&self, now: Instant) -> Wake {
        match self.wake {
            Wake::OnChange => Wake::OnChange,
            Wake::After(time, priority) => {
                Wake::After(time.saturating_sub(now.saturating_duration_since(self.at)), priority)
            }
        }
    }

    /// Whether a check would come to the same, as far as one can tell, and is not due.
    fn holds(&self, store: &AnyStore, credentials: u64, now: Instant) -> bool {
        let version = |store: &AnyStore| (store.metadata.uid.clone(), store.metadata.resource_version.clone());
        let is_due = matches!(self.next(now), Wake::After(time, _) if time.is_zero());
        !is_due && self.credentials == credentials && version(&self.store) == version(store)
    }

    /// Whether events of a store tell what these have not told.
    fn is_news(&self, store: &AnyStore, notes: &[Note]) -> bool {
        self.store.metadata.uid != store.metadata.uid || self.notes != notes
    }
}

/// Checks one store, and says when to check it again.
pub async fn reconcile(ctx: Arc<Ctx>, failures: Arc<Failures>, job: Job<StoreId>) -> Wake {
    let (begun, id) = (Instant::now(), job.key);
    let (store, credentials) = {
        let index = ctx.index();
        (index.store(&id), index.credentials(&id))
    };
    let Some(store) = store.filter(|_| plan::serves(id.kind, &ctx.rules)) else {
        failures.set(&id, false);
        failures.take(&id);
        ctx.fetcher.forget(&id);
        ctx.retries.done(&id.to_string());
        ctx.retries.done(&finalizer_of(&id));
        // what was under way when it was deleted has told of it once more
        ctx.metrics.deleted(ObjectKind::of_store(id.kind), &id.key.namespace, &id.key.name);
        return Wake::OnChange;
    };
    let next = plan::before_check(&store, is_referent(&store), &ctx.rules);
    let (store, again) = match next {
        Next::Ignore => return Wake::OnChange,
        _ => match hold(&ctx, &id, store).await {
            Ok(held) => held,
            Err(wake) => return wake,
        },
    };
    let last = match failures.take(&id) {
        Some(last) if last.holds(&store, credentials, begun) => return write(&ctx, &failures, &id, last, again).await,
        last => last,
    };
    let outcome = match next {
        Next::Ignore => return Wake::OnChange,
        Next::Known(outcome) => outcome,
        Next::Check => Outcome::from(ctx.fetcher.validate(&store, credentials).await),
    };
    let report = plan::settle(&store, credentials, &outcome, failures.of(&id), &ctx.rules, Timestamp::now());
    let failed = matches!(outcome, Outcome::Invalid { .. });
    failures.set(&id, failed);
    let kind = ObjectKind::of_store(id.kind);
    ctx.metrics.reconciled(kind, begun.elapsed(), turn(failed, report.wake));
    let news = !report.notes.is_empty() && last.is_none_or(|last| last.is_news(&store, &report.notes));
    log(&id, &outcome, news);
    let (waiting, pushing) = ctx.index_mut().set_health(&id, report.health);
    for (key, priority) in waiting {
        ctx.external_secrets.wake(key, priority);
    }
    for (key, priority) in pushing {
        ctx.push_secrets.wake(key, priority);
    }
    let reference = object_reference(id.kind.as_str(), &store.metadata);
    for note in report.notes.iter().filter(|_| news) {
        ctx.events.record(reference.clone(), note.clone());
    }
    if let Some(status) = report.status.as_ref().or(store.status.as_ref()) {
        // also what was written before a restart
        ctx.metrics.condition(kind, &id.key.namespace, &id.key.name, Ready::of(&status.conditions));
    }
    let (wake, status, notes) = (report.wake, report.status, report.notes);
    let checked = Checked { store, credentials, at: Instant::now(), wake, status, notes };
    write(&ctx, &failures, &id, checked, again).await
}

/// A store appeared or changed: it is checked, and the PushSecrets that it concerns are looked at.
pub fn changed(ctx: &Ctx, before: Option<&AnyStore>, now: &AnyStore) {
    before.into_iter().chain([now]).for_each(|store| wake_pushers(ctx, store));
    ctx.stores.wake(StoreId::of(now), Priority::Changed);
}

/// Wakes the PushSecrets that a store concerns, as it was or as it is.
pub fn wake_pushers(ctx: &Ctx, store: &AnyStore) {
    let wakes = ctx.index().push_wakes(store);
    for (key, priority) in wakes {
        ctx.push_secrets.wake(key, priority);
    }
}

/// Writes what a check came to, where that is not written yet, and says when to look again. `again`: so soon for the finalizer.
async fn write(ctx: &Ctx, failures: &Failures, id: &StoreId, mut checked: Checked, again: Option<Duration>) -> Wake {
    let refused = match &checked.status {
        None => None,
        Some(status) => match ctx.writer.store_status(&checked.store, status).await {
            Ok(updated) => {
                let updated = Arc::new(updated);
                if ctx.index_mut().renew_store(updated.clone()) {
                    // it was edited meanwhile, and what was checked is no more
                    ctx.retries.done(&id.to_string());
                    changed(ctx, Some(&checked.store), &updated);
                    return Wake::OnChange;
                }
                // what the status says is told
                checked = Checked { store: updated, status: None, notes: Vec::new(), ..checked };
                None
            }
            Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => return Wake::OnChange,
            Err(error) => Some(ctx.retries.failed(&id.to_string(), &error, "the status could not be written")),
        },
    };
    let wake = match refused {
        Some(pause) => Wake::After(pause, Priority::Changed),
        None => {
            ctx.retries.done(&id.to_string());
            checked.next(Instant::now())
        }
    };
    if refused.is_some() || again.is_some() {
        failures.keep(id, checked);
    }
    sooner(wake, again)
}

/// Puts the finalizer on the store that PushSecrets need, or takes it off; gives the store as it is then, and when to try again what could
/// not be written: an admission policy may leave stores to others, and the store is checked all the same.
async fn hold(ctx: &Ctx, id: &StoreId, store: Arc<AnyStore>) -> Result<(Arc<AnyStore>, Option<Duration>), Wake> {
    let wanted = if ctx.rules.push_secrets { ctx.index().store_finalizer(&store) } else { None };
    let Some(wanted) = wanted else {
        ctx.retries.done(&finalizer_of(id));
        return Ok((store, None));
    };
    match ctx.writer.store_finalizer(&store, wanted).await {
        Ok(Some(updated)) => {
            let updated = Arc::new(updated);
            ctx.retries.done(&finalizer_of(id));
            ctx.index_mut().renew_store(updated.clone());
            Ok((updated, None))
        }
        Ok(None) | Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => Err(Wake::OnChange),
        Err(error) => {
            let pause = ctx.retries.failed(&finalizer_of(id), &error, "the finalizer could not be written");
            Ok((store, Some(pause)))
        }
    }
}

/// What the finalizer of a store is called where its failures are counted.
fn finalizer_of(id: &StoreId) -> String {
    format!("{id} (finalizer)")
}

/// The earlier of the next look and the next try.
fn sooner(wake: Wake, again: Option<Duration>) -> Wake {
    match (wake, again) {
        (_, None) => wake,
        (Wake::After(time, _), Some(pause)) if time <= pause => wake,
        (_, Some(pause)) => Wake::After(pause, Priority::Changed),
    }
}

fn log(id: &StoreId, outcome: &Outcome, news: bool) {
    match outcome {
        Outcome::Invalid { reason, cause, kind, .. } if news => {
            tracing::warn!(store = %id, reason, class = kind.as_str(), cause, "the store cannot be used");
        }
        Outcome::Unknown(cause) if news => {
            tracing::warn!(store = %id, cause, "it could not be told whether the store can be used")
        }
        Outcome::Valid if news => tracing::info!(store = %id, "the store can be used"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::StoreKind;
    use crate::index::Key;

    fn store(uid: &str, version: &str) -> AnyStore {
        let mut store = AnyStore::default();
        store.metadata.uid = Some(uid.into());
        store.metadata.resource_version = Some(version.into());
        store
    }

    /// A store that was checked at that moment and is to be checked again after 300 s.
    fn checked(at: Instant) -> Checked {
        Checked {
            store: Arc::new(store("uid", "5")),
            credentials: 1,
            at,
            wake: Wake::After(Duration::from_secs(300), Priority::Periodic),
            status: Some(StoreStatus::default()),
            notes: vec![Note::warning("InvalidProviderConfig", "denied")],
        }
    }

    /// Else each try to write it would log in to the provider.
    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_holds_until_the_next_check_is_due() {
        let (now, seconds) = (Instant::now(), Duration::from_secs);
        let checked = checked(now);
        assert_eq!(checked.next(now + seconds(60)), Wake::After(seconds(240), Priority::Periodic));
        assert!(checked.holds(&store("uid", "5"), 1, now + seconds(299)));
        assert!(!checked.holds(&store("uid", "5"), 1, now + seconds(300)), "it is due");
        assert!(!checked.holds(&store("uid", "6"), 1, now), "the store was changed");
        assert!(!checked.holds(&store("another", "5"), 1, now));
        assert!(!checked.holds(&store("uid", "5"), 2, now), "what it logs in with was changed");
    }

    /// Else an event and a log line would tell the same at each try.
    #[test]
    fn what_was_told_is_no_news_while_the_status_cannot_say_it() {
        let checked = checked(Instant::now());
        let same = || Note::warning("InvalidProviderConfig", "denied");
        assert!(!checked.is_news(&store("uid", "6"), &[same()]));
        assert!(checked.is_news(&store("uid", "6"), &[Note::normal("Valid", "store validated")]));
        assert!(checked.is_news(&store("another", "6"), &[same()]));
    }

    #[test]
    fn what_failed_is_kept_by_store_until_it_is_taken() {
        let (failures, now) = (Failures::default(), Instant::now());
        let id = |name: &str| StoreId { kind: StoreKind::SecretStore, key: Key::new("ns", name) };
        failures.keep(&id("a"), checked(now));
        assert!(failures.take(&id("b")).is_none());
        assert_eq!(failures.take(&id("a")).map(|checked| checked.at), Some(now));
        assert!(failures.take(&id("a")).is_none());
    }

    #[test]
    fn a_write_that_failed_is_tried_again_before_the_next_check() {
        let seconds = Duration::from_secs;
        let check = Wake::After(seconds(300), Priority::Periodic);
        assert_eq!(sooner(check, None), check);
        assert_eq!(sooner(check, Some(seconds(4))), Wake::After(seconds(4), Priority::Changed));
        assert_eq!(sooner(check, Some(seconds(300))), check);
        assert_eq!(sooner(Wake::OnChange, Some(seconds(4))), Wake::After(seconds(4), Priority::Changed));
        assert_eq!(sooner(Wake::OnChange, None), Wake::OnChange);
    }
}
