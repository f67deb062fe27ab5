//! The reconcile of a store of either kind: check the login, tell, and wake those who waited for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
        // what was under way when it was deleted has told of it once more
        ctx.metrics.deleted(ObjectKind::of_store(id.kind), &id.key.namespace, &id.key.name);
        return Wake::OnChange;
    };
    let next = plan::before_check(&store, is_referent(&store), &ctx.rules);
    let store = match next {
        Next::Ignore => return Wake::OnChange,
        _ => match hold(&ctx, store).await {
            Ok(store) => store,
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
    let Some(status) = report.status else { return report.wake };
    match ctx.writer.store_status(&store, &status).await {
        Ok(updated) => {
            ctx.index_mut().renew_store(Arc::new(updated));
            report.wake
        }
        Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => Wake::OnChange,
        Err(error) => {
            tracing::warn!(store = %id, %error, "the status could not be written; trying again");
            Wake::After(error.pause(), Priority::Changed)
        }
    }
}

/// Puts the finalizer on the store that PushSecrets need, or takes it off; gives the store as it is then.
async fn hold(ctx: &Ctx, store: Arc<AnyStore>) -> Result<Arc<AnyStore>, Wake> {
    let wanted = if ctx.rules.push_secrets { ctx.index().store_finalizer(&store) } else { None };
    let Some(wanted) = wanted else { return Ok(store) };
    match ctx.writer.store_finalizer(&store, wanted).await {
        Ok(Some(updated)) => {
            let updated = Arc::new(updated);
            ctx.index_mut().renew_store(updated.clone());
            Ok(updated)
        }
        Ok(None) | Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => Err(Wake::OnChange),
        Err(error) => {
            tracing::warn!(store = %StoreId::of(&store), %error, "the finalizer could not be written; trying again");
            Err(Wake::After(std::time::Duration::from_secs(1), Priority::Changed))
        }
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
