//! The reconcile of a ClusterExternalSecret or ClusterPushSecret: plan, write its children, tell.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use super::retries::Retries;
use super::{Ctx, object_reference, turn};
use crate::api::fan_out::{Child, ParentKind};
use crate::apply::error::WriteError;
use crate::index::{Index, Key, ParentId};
use crate::plan::Wake;
use crate::plan::fan_out::{self as plan, Facts, Outcome, Plan, Report, Write};
use crate::queue::{Job, Priority};
use crate::report::metrics::{ObjectKind, Ready};

/// How many namespaces of one parent are worked on at once; `--concurrent` bounds the requests of all.
const AT_ONCE: usize = 16;
/// Pause before the next try where somebody else's write came before.
const AGAIN: Duration = Duration::from_secs(2);

/// Looks at one parent, does what is due, and says when it is next.
pub async fn reconcile(ctx: Arc<Ctx>, job: Job<ParentId>) -> Wake {
    let (begun, id) = (Instant::now(), job.key);
    let facts = ctx.index().fan_out_facts(&id);
    let plan = plan::plan(&facts, &ctx.rules);
    let released = release(&ctx, &facts, &plan).await;
    let silent = plan.silent;
    if facts.parent.is_none() {
        ctx.retries.done(&id.to_string());
        ctx.retries.done(&children_of(&id));
        // what was under way when it was deleted has told of it once more
        ctx.metrics.deleted(ObjectKind::of_parent(id.kind), "", &id.name);
    }
    let Some(parent) = facts.parent.clone().filter(|_| !silent) else {
        return released.map_or_else(|pause| Wake::After(pause, Priority::Changed), |()| Wake::OnChange);
    };
    let outcomes = carry_out(&ctx, &facts, &plan).await;
    let pause = pause(&ctx.retries, &id, &outcomes);
    let report = plan::settle(&parent, plan, outcomes, released.err(), pause);
    let turn = turn(!report.ready, report.wake);
    ctx.metrics.reconciled(ObjectKind::of_parent(id.kind), begun.elapsed(), turn);
    tell(&ctx, &facts, report).await
}

/// What a parent's children are called where failures are counted.
fn children_of(id: &ParentId) -> String {
    format!("{id} (children)")
}

/// How long an API server is let be that had no time for some children: longer each time, as a look tries all that are missing.
fn pause(retries: &Retries, id: &ParentId, outcomes: &[(String, Outcome)]) -> Duration {
    let unavailable = outcomes.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Unavailable(why) => Some(WriteError::Unavailable(why.clone())),
        _ => None,
    });
    match unavailable {
        Some(error) => retries.failed(&children_of(id), &error, "not all children could be written"),
        None => {
            retries.done(&children_of(id));
            Duration::ZERO
        }
    }
}

/// Takes ESO's finalizers off, the parent's own last. Where one is left, says when to try again.
async fn release(ctx: &Ctx, facts: &Facts, plan: &Plan) -> Result<(), Duration> {
    let mut left = Vec::new();
    for release in &plan.release {
        let key = Key::new("", &release.namespace);
        if let Err(error) = ctx.writer.namespace_finalizers(&key, &release.finalizers, &release.resource_version).await {
            tracing::debug!(namespace = %key, parent = %facts.id, %error, "ESO's finalizer could not be taken off; trying again");
            left.push((key, error));
        }
    }
    let all = held(&ctx.retries, &facts.id, &left);
    let (Some(parent), Some(finalizers), Ok(())) = (&facts.parent, &plan.let_go, all) else { return all };
    let written = ctx.writer.parent_finalizers(parent, finalizers).await;
    written.map_err(|error| ctx.retries.failed(&facts.id.to_string(), &error, "an object in deletion could not be let go"))
}

/// Says when to try again to take off the finalizers that are left: ever later, where nobody else's write was in the way.
fn held(retries: &Retries, id: &ParentId, left: &[(Key, WriteError)]) -> Result<(), Duration> {
    let object = format!("{id} (finalizers of namespaces)");
    let refused = left.iter().find(|(_, error)| !matches!(error, WriteError::Conflict | WriteError::NotLeader));
    if let Some((namespace, error)) = refused {
        let what = format!("ESO's finalizer could not be taken off Namespace {namespace}");
        return Err(retries.failed(&object, error, &what));
    }
    retries.done(&object);
    if left.is_empty() { Ok(()) } else { Err(AGAIN) }
}

/// Deletes first, so that a new name never stands beside the old one for long, then writes.
async fn carry_out(ctx: &Ctx, facts: &Facts, plan: &Plan) -> Vec<(String, Outcome)> {
    // each list of futures is made at once: a lazy one would be tied to a borrow that no spawned task may have
    let delete: Vec<_> = plan.delete.iter().map(|(key, uid)| delete_child(ctx, facts, key, uid)).collect();
    let mut outcomes: Vec<_> = futures::stream::iter(delete).buffer_unordered(AT_ONCE).collect().await;
    let write: Vec<_> = plan.write.iter().map(|write| write_child(ctx, facts, write)).collect();
    outcomes.extend(futures::stream::iter(write).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
    outcomes
}

async fn delete_child(ctx: &Ctx, facts: &Facts, key: &Key, uid: &str) -> (String, Outcome) {
    (key.namespace.to_string(), outcome(ctx.writer.delete_child(facts.id.kind, key, uid).await))
}

async fn write_child(ctx: &Ctx, facts: &Facts, write: &Write) -> (String, Outcome) {
    let namespace = write.key.namespace.to_string();
    let Some(parent) = &facts.parent else { return (namespace, Outcome::Moot) };
    let result = match &write.live {
        Some(live) => ctx.writer.update_child(parent, live, &write.key).await,
        None => ctx.writer.create_child(parent, &write.key).await,
    };
    let outcome = match result {
        Ok(child) => {
            remember(ctx, child, write.live.is_none());
            Outcome::Done
        }
        // one that cannot be understood is not in the index, and is not ours to write
        Err(WriteError::Conflict) if write.live.is_none() => Outcome::Refused(facts.id.kind.exists().into()),
        Err(error) => outcome(Err(error)),
    };
    (namespace, outcome)
}

/// Takes a child as our own write left it, so that the next look does not depend on how fast the watch is. One that was changed and is
/// gone since does not come back.
fn remember(ctx: &Ctx, child: Child, is_new: bool) {
    match child {
        Child::ExternalSecret(es) => {
            let key = Key::of(&es.metadata);
            let take = |index: &mut Index| match is_new {
                true => index.upsert_external_secret(es),
                false => index.renew_external_secret(es),
            };
            if let Some(priority) = ctx.forced.take_in(ctx.index_mut(), &key, take) {
                ctx.external_secrets.wake(key, priority);
            }
        }
        Child::PushSecret(ps) => {
            let key = Key::of(&ps.metadata);
            let priority = match is_new {
                true => ctx.index_mut().upsert_push_secret(ps),
                false => ctx.index_mut().renew_push_secret(ps),
            };
            if let Some(priority) = priority {
                ctx.push_secrets.wake(key, priority);
            }
        }
    }
}

/// The children that are held, of parents whose children are of such a kind. Their watch may not have seen those that we made.
pub fn children_held(ctx: &Ctx, child: &str, namespace: Option<&str>) -> Vec<Key> {
    let index = ctx.index();
    let parents = [ParentKind::ClusterExternalSecret, ParentKind::ClusterPushSecret];
    parents.into_iter().filter(|kind| kind.child() == child).flat_map(|kind| index.children_of(kind, namespace)).collect()
}

/// An object that may be a child changed: wakes the parents that it concerns, or did before. `differs`: more than its owners.
pub fn child_changed(ctx: &Ctx, kind: ParentKind, before: Option<&ObjectMeta>, now: &ObjectMeta, differs: bool) {
    if differs || before.is_some_and(|before| before.owner_references != now.owner_references) {
        wake_parents_of(ctx, kind, before.into_iter().chain([now]));
    }
}

/// Wakes the parents that objects concern.
pub fn wake_parents_of<'a>(ctx: &Ctx, kind: ParentKind, children: impl IntoIterator<Item = &'a ObjectMeta>) {
    let parents: BTreeSet<ParentId> = {
        let index = ctx.index();
        children.into_iter().flat_map(|meta| index.parents_of(kind, meta)).collect()
    };
    wake_parents(ctx, parents);
}

/// Wakes parents.
pub fn wake_parents(ctx: &Ctx, parents: BTreeSet<ParentId>) {
    for id in parents {
        ctx.parents.wake(id, Priority::Changed);
    }
}

fn outcome(result: Result<(), WriteError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(WriteError::Conflict | WriteError::Gone) => Outcome::Again,
        Err(WriteError::Terminating | WriteError::NotLeader) => Outcome::Moot,
        Err(WriteError::Busy(why) | WriteError::Unavailable(why)) => Outcome::Unavailable(why),
        Err(WriteError::Refused(why) | WriteError::Unreadable(why)) => Outcome::Refused(why),
        Err(WriteError::Unsure(error)) => outcome(Err(*error)),
    }
}

/// Writes the status where it must be, and records the events.
async fn tell(ctx: &Ctx, facts: &Facts, report: Report) -> Wake {
    let Some(parent) = &facts.parent else { return Wake::OnChange };
    let (kind, id) = (facts.id.kind, &facts.id);
    let reference = ObjectReference {
        api_version: Some(kind.api_version().into()),
        ..object_reference(kind.as_str(), parent.metadata())
    };
    for note in report.notes {
        ctx.events.record(reference.clone(), note);
    }
    let ready = if report.ready { Ready::True } else { Ready::False };
    ctx.metrics.condition(ObjectKind::of_parent(kind), "", &id.name, ready);
    let Some(status) = report.status else {
        ctx.retries.done(&id.to_string());
        return report.wake;
    };
    let (provisioned, failed) = (status.seen.provisioned.len(), status.seen.failed.len());
    match report.ready {
        true => tracing::info!(object = %id, provisioned, "all namespaces are provided for"),
        false => {
            let cause = status.seen.conditions.first().and_then(|c| c.message.as_deref()).unwrap_or_default();
            tracing::warn!(object = %id, provisioned, failed, cause, "not ready");
        }
    }
    match ctx.writer.parent_status(parent, &status).await {
        Ok(updated) => {
            ctx.retries.done(&id.to_string());
            let edited = ctx.index_mut().renew_parent(Arc::new(updated));
            if let Some(priority) = edited {
                ctx.parents.wake(id.clone(), priority);
            }
            report.wake
        }
        Err(WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) => Wake::OnChange,
        Err(error) => {
            let pause = ctx.retries.failed(&id.to_string(), &error, "the status could not be written");
            Wake::After(pause, Priority::Changed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_that_has_no_time_for_children_is_let_be_for_longer_each_time() {
        let (retries, id) = (Retries::default(), ParentId::new(ParentKind::ClusterExternalSecret, "p"));
        let look = |outcome: Outcome| pause(&retries, &id, &[("a".into(), Outcome::Done), ("b".into(), outcome)]).as_secs();
        let unavailable = || Outcome::Unavailable("why".into());
        assert_eq!([(); 4].map(|()| look(unavailable())), [1, 2, 4, 8]);
        assert_eq!(look(Outcome::Refused("why".into())), 0);
        assert_eq!(look(unavailable()), 1, "from the beginning");
    }

    #[test]
    fn a_finalizer_that_cannot_be_taken_off_is_tried_ever_later() {
        let (retries, id) = (Retries::default(), ParentId::new(ParentKind::ClusterExternalSecret, "p"));
        let look = |errors: &[WriteError]| {
            let left: Vec<_> = errors.iter().map(|error| (Key::new("", "ns"), error.clone())).collect();
            held(&retries, &id, &left).map_err(|pause| pause.as_secs())
        };
        let refused = WriteError::Refused("why".into());
        let both = [WriteError::Conflict, refused.clone()];
        assert_eq!([(); 4].map(|()| look(&both)), [Err(10), Err(20), Err(40), Err(60)]);
        assert_eq!(look(&[WriteError::Conflict]), Err(2), "somebody else was faster");
        assert_eq!(look(&[refused]), Err(10), "from the beginning");
        assert_eq!(look(&[]), Ok(()));
    }
}
