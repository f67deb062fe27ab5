//! The reconcile of a store of either kind: check the login, tell, and wake those who waited for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Ctx, object_reference, turn};
use crate::api::AnyStore;
use crate::apply::error::WriteError;
use crate::fetch::is_referent;
use crate::index::StoreId;
use crate::plan::Wake;
use crate::plan::store::{self as plan, Next, Outcome};
use crate::queue::{Job, Priority};
use crate::report::metrics::{ObjectKind, Ready};

/// Failures in a row, by store.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<StoreId, u32>>);

impl Failures {
    fn of(&self, id: &StoreId) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or_default()
    }

    fn set(&self, id: &StoreId, failed: bool) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            true => *failures.entry(id.clone()).or_default() += 1,
            false => {
                failures.remove(id);
            }
        }
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
    log(&id, &outcome, !report.notes.is_empty());
    let waiting = ctx.index_mut().set_health(&id, report.health);
    for (key, priority) in waiting {
        ctx.external_secrets.wake(key, priority);
    }
    let waiting = ctx.index().push_waiting(&id);
    for (key, priority) in waiting {
        ctx.push_secrets.wake(key, priority);
    }
    let reference = object_reference(id.kind.as_str(), &store.metadata);
    for note in report.notes {
        ctx.events.record(reference.clone(), note);
    }
    if let Some(status) = report.status.as_ref().or(store.status.as_ref()) {
        // also what was written before a restart
        ctx.metrics.condition(kind, &id.key.namespace, &id.key.name, Ready::of(&status.conditions));
    }
    let Some(status) = report.status else {
        ctx.retries.done(&id.to_string());
        return sooner(report.wake, again);
    };
    match ctx.writer.store_status(&store, &status).await {
        Ok(updated) => {
            ctx.retries.done(&id.to_string());
            ctx.index_mut().renew_store(Arc::new(updated));
            sooner(report.wake, again)
        }
        Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => Wake::OnChange,
        Err(error) => {
            let pause = ctx.retries.failed(&id.to_string(), &error, "the status could not be written");
            sooner(Wake::After(pause, Priority::Changed), again)
        }
    }
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
