//! What is deleted again: of an object in deletion, of a source that is gone, of stores in deletion, and what is no longer wanted.

use std::collections::BTreeSet;

use super::{hold, leads, outlet, tell_notes};
use crate::api::push_secret::SyncedPushSecrets;
use crate::controllers::Ctx;
use crate::index::StoreId;
use crate::plan::Wake;
use crate::plan::push_secret::{self as plan, Facts, Failure, Outcome, Removal, Removals, Report, stores};
use crate::providers::ProviderError;

/// The object is being deleted: deletes what it pushed, and lets it go. What belongs to another controller keeps it.
pub(super) async fn clean_up(ctx: &Ctx, facts: &Facts, removals: Removals) -> Result<Wake, Box<Report>> {
    tell_notes(ctx, &facts.ps, removals.notes.clone());
    match delete_all(ctx, facts, &removals, SyncedPushSecrets::new()).await {
        Ok((left, _)) if left.is_empty() => Ok(hold(ctx, &facts.ps, false).await.err().unwrap_or(Wake::OnChange)),
        Ok((left, _)) => {
            let failure = Failure::spec("what was pushed to stores of another controller is still there");
            Err(Box::new(plan::settle(facts, Outcome::Failed { failure, synced: Some(left) })))
        }
        Err((failure, left)) => Err(Box::new(plan::settle(facts, Outcome::Failed { failure, synced: Some(left) }))),
    }
}

/// The source is not there: cleans up where the policy says so.
pub(super) async fn source_gone(ctx: &Ctx, facts: &Facts) -> Outcome {
    let Some(removals) = plan::source_gone(facts, &ctx.rules) else {
        return Outcome::Failed { failure: plan::no_source(&facts.ps), synced: None };
    };
    tell_notes(ctx, &facts.ps, removals.notes.clone());
    match delete_all(ctx, facts, &removals, SyncedPushSecrets::new()).await {
        Ok((synced, _)) => Outcome::SourceDeleted { synced },
        Err((failure, left)) => Outcome::Failed { failure, synced: Some(left) },
    }
}

/// It failed, after this was `pushed`, or there is nothing to push: what is left in stores in deletion goes all the same, so that they can.
pub(super) async fn leave(ctx: &Ctx, facts: &Facts, failure: Option<Failure>, pushed: SyncedPushSecrets) -> Outcome {
    let (removals, elsewhere) = stores::left(facts, &ctx.rules, pushed);
    let (undeleted, synced) = match delete_all(ctx, facts, &removals, elsewhere).await {
        Ok((left, _)) => (None, left),
        Err((undeleted, left)) => (Some(undeleted), left),
    };
    match failure {
        Some(failure) => Outcome::Failed { failure: failure.and(undeleted), synced: Some(synced) },
        None => match undeleted {
            Some(failure) => Outcome::Failed { failure, synced: Some(synced) },
            None => Outcome::Left { synced },
        },
    }
}

/// Deletes places, in order, in each store until one fails. Gives what the bookkeeping says then, and whether anything was deleted.
pub(super) async fn delete_all(
    ctx: &Ctx,
    facts: &Facts,
    removals: &Removals,
    wanted: SyncedPushSecrets,
) -> Result<(SyncedPushSecrets, bool), (Failure, SyncedPushSecrets)> {
    let old = facts.ps.status.as_ref().and_then(|s| s.synced_push_secrets.clone()).unwrap_or_default();
    let mut left = plan::merged(old, wanted.clone());
    let (mut failed, mut first): (BTreeSet<&StoreId>, Option<Failure>) = (BTreeSet::new(), None);
    for removal in &removals.delete {
        if failed.contains(&removal.store) {
            continue;
        }
        if let Err(failure) = delete(ctx, facts, removal).await {
            // it does not hold up the other stores
            failed.insert(&removal.store);
            first = first.or(Some(failure));
        } else if let Some(entries) = left.get_mut(&removal.store_key) {
            entries.remove(&removal.entry);
        }
    }
    match first {
        Some(failure) => Err((failure.within("Failed to Delete Secrets from Provider"), left)),
        None => Ok((plan::merged(removals.kept.clone(), wanted), !removals.delete.is_empty())),
    }
}

async fn delete(ctx: &Ctx, facts: &Facts, removal: &Removal) -> Result<(), Failure> {
    let Some(store) = facts.stores.get(&removal.store) else { return Ok(()) };
    let outlet = outlet(ctx, facts, &removal.store, store, &removal.store_key).await?;
    let failed = |error: ProviderError| {
        Failure::after_provider(&error, &format!("could not delete {} from {}", removal.entry, removal.store_key))
    };
    let writing = outlet.writing(&removal.place).await.map_err(failed)?;
    // after the wait for its turn: another process may lead by now, and have pushed there
    leads(ctx)?;
    writing.delete(&removal.place).await.map_err(failed)
}
