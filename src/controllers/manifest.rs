//! Targets of other kinds than Secret: which kinds there are, watches of them, and the way of one object from values to the API
//! server.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::discovery::{Scope as KindScope, pinned_kind};
use serde_json::Value;
use tokio::sync::watch as told;
use tokio_util::sync::CancellationToken;

use super::external_secret::{Carried, MOST_CONFLICTS, Outcome};
use super::watch::{Change, Fares, Scope, watch};
use super::{Ctx, template};
use crate::api::external_secret::ManifestRef;
use crate::apply::error::WriteError;
use crate::chance::SystemChance;
use crate::index::{Key, TargetView, target_key};
use crate::plan::Wake;
use crate::plan::external_secret::{Facts, Failure, Gathered, Seen, Written};
use crate::plan::manifest::{self as plan, Change as Write, Desired};
use crate::queue::Priority;
use crate::render::Outside;

/// How long the first list of a kind may take.
const FIRST_LIST: Duration = Duration::from_secs(10);
/// ESO's text where a target cannot be looked at.
const UNREADABLE: &str = "could not get target resource";

/// The kinds that are targets, each with a watch of its objects' metadata.
pub struct Manifests {
    client: kube::Client,
    scope: Scope,
    stop: CancellationToken,
    kinds: Mutex<HashMap<ManifestRef, Kind>>,
}

#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    stop: CancellationToken,
    /// One for each namespace that is watched, or for all.
    lists: Vec<told::Receiver<Option<Fares>>>,
}

impl Manifests {
    /// No kinds yet.
    #[must_use]
    pub fn new(client: kube::Client, scope: Scope, stop: CancellationToken) -> Self {
        Self { client, scope, stop, kinds: Mutex::default() }
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<ManifestRef, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resource(&self, kind: &ManifestRef) -> Option<ApiResource> {
        self.kinds().get(kind).map(|known| known.resource.clone())
    }

    /// Ends the watches of kinds that no ExternalSecret names any more.
    pub fn drop_unused(&self, ctx: &Ctx) {
        if self.kinds().is_empty() {
            return;
        }
        let mut index = ctx.index_mut();
        self.kinds().retain(|kind, known| {
            let used = index.is_manifest_used(kind);
            if !used {
                known.stop.cancel();
                index.forget_manifests(kind);
            }
            used
        });
    }

    /// Sees to it that a kind is watched, and waits for its first list.
    async fn watched(&self, ctx: &Arc<Ctx>, kind: &ManifestRef) -> Result<(), String> {
        let known = self.kinds().get(kind).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let resource = self.discover(kind).await?;
                let mut kinds = self.kinds();
                kinds.entry(kind.clone()).or_insert_with(|| self.begin(ctx, kind, resource)).clone()
            }
        };
        for mut list in known.lists {
            let begun = tokio::time::timeout(FIRST_LIST, list.wait_for(Option::is_some)).await;
            if !matches!(begun.as_ref().map(|r| r.as_ref().map(|fares| **fares)), Ok(Ok(Some(Fares::Synced | Fares::Works))))
            {
                return Err(format!(
                    "{} cannot be listed and watched: grant the operator get, list, watch, create, patch and delete on {} of {:?} \
                     (chart value genericTargets.resources)",
                    kind.kind, known.resource.plural, known.resource.group
                ));
            }
        }
        Ok(())
    }

    async fn discover(&self, kind: &ManifestRef) -> Result<ApiResource, String> {
        let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
        let found = pinned_kind(&self.client, &GroupVersionKind::gvk(group, version, &kind.kind)).await;
        match found {
            Ok((resource, capabilities)) if capabilities.scope == KindScope::Namespaced => Ok(resource),
            Ok(_) => Err(format!(
                "{} {} is cluster-scoped: a target lives in the ExternalSecret's namespace",
                kind.api_version, kind.kind
            )),
            Err(_) => Err(format!(
                "the API server knows no {} {}: check target.manifest, and that the CRD is installed",
                kind.api_version, kind.kind
            )),
        }
    }

    fn begin(&self, ctx: &Arc<Ctx>, kind: &ManifestRef, resource: ApiResource) -> Kind {
        let stop = self.stop.child_token();
        let apis: Vec<Api<PartialObjectMeta<DynamicObject>>> = match &self.scope {
            Scope::Cluster => vec![Api::all_with(self.client.clone(), &resource)],
            Scope::Namespaces(names) => {
                names.iter().map(|name| Api::namespaced_with(self.client.clone(), name, &resource)).collect()
            }
        };
        let begin = |api: Api<PartialObjectMeta<DynamicObject>>| {
            let (teller, list) = told::channel(None);
            // what breaks after the first list comes back by itself, and until then the view is as it was
            let fares = move |fares: Fares| {
                teller.send_if_modified(|known| {
                    let news = !matches!(known, Some(Fares::Synced | Fares::Works));
                    if news {
                        *known = Some(fares);
                    }
                    news
                });
            };
            let (name, weak, kind) = (format!("{} {}", kind.api_version, kind.kind), Arc::downgrade(ctx), kind.clone());
            tokio::spawn(watch(api, name, fares, stop.clone(), move |change| {
                if let Some(ctx) = weak.upgrade() {
                    on_change(&ctx, &kind, change);
                }
            }));
            list
        };
        let lists = apis.into_iter().map(begin).collect();
        Kind { resource, stop, lists }
    }
}

fn on_change(ctx: &Ctx, kind: &ManifestRef, change: Change<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>) {
    let users = match change {
        Change::Upsert(meta) => ctx.index_mut().note_manifest(kind, &Key::of(&meta), Some(TargetView::of(&meta))),
        Change::Gone(key) => ctx.index_mut().note_manifest(kind, &key, None),
        Change::Invalid(..) => return,
    };
    for user in users {
        ctx.external_secrets.wake(user, Priority::Changed);
    }
}

/// Sees to it that the kind of an object's target is watched, where it has one and may have it; says why that cannot be.
pub async fn watch_kind_of(ctx: &Arc<Ctx>, key: &Key) -> Option<Failure> {
    if !ctx.rules.generic_targets {
        return None;
    }
    let es = ctx.index().external_secret(key)?;
    let kind = es.spec.target.as_ref()?.manifest.clone()?;
    let why = ctx.manifests.watched(ctx, &kind).await.err()?;
    Some(Failure { bound: false, ..Failure::retry(UNREADABLE, why) })
}

/// Reads an object, to see whether it drifted.
///
/// # Errors
/// It cannot be read.
pub async fn inspect(ctx: &Ctx, facts: &Facts, priority: Priority) -> Result<Option<Seen>, Failure> {
    let key = target_key(&Key::of(&facts.es.metadata), &facts.es);
    let target = facts.es.target();
    let Some(resource) = target.manifest.as_ref().and_then(|kind| ctx.manifests.resource(kind)) else { return Ok(None) };
    let live = ctx.writer.read_manifest(&resource, &key, priority).await.map_err(|e| e.into_failure(UNREADABLE))?;
    Ok(live.map(|live| Seen {
        view: TargetView::of(&live.metadata),
        digest: plan::digest(&live.data, &ctx.digester),
        own: None,
    }))
}

/// Deletes an object.
///
/// # Errors
/// What the API server said. A kind that is served no more has no objects.
pub async fn delete(ctx: &Ctx, kind: &ManifestRef, target: &Key, uid: &str, priority: Priority) -> Result<(), WriteError> {
    match ctx.manifests.resource(kind) {
        Some(resource) => ctx.writer.delete_manifest(&resource, target, uid, priority).await,
        None => Ok(()),
    }
}

/// Renders the object that is wanted, compares it with the one that is there, and writes it where it must be.
pub(super) async fn write(ctx: &Ctx, facts: &Facts, gathered: &Gathered, priority: Priority) -> Carried {
    let failed = |failure| Carried { outcome: Outcome::failed(failure), unsure: false };
    let sources = match template::read(ctx, facts, "could not apply template to manifest", priority).await {
        Ok(sources) => sources,
        Err(failure) => return failed(failure),
    };
    let render = || {
        let taken = Cell::new(0);
        let outside = Outside { now: facts.now, chance: &SystemChance, taken: &taken };
        plan::render(facts, &ctx.rules, gathered, &sources, outside, &ctx.digester)
    };
    let desired = match ctx.rendering(render).await {
        Ok(desired) => desired,
        Err(failure) => return failed(failure),
    };
    let target = facts.es.target();
    let Some(resource) = target.manifest.as_ref().and_then(|kind| ctx.manifests.resource(kind)) else {
        return Carried { outcome: Outcome::Later(Wake::After(Duration::from_secs(1), priority)), unsure: false };
    };
    let mut unsure = false;
    for _ in 0..MOST_CONFLICTS {
        let (error, doubt) = match write_once(ctx, facts, &resource, &desired, priority).await {
            Ok(result) => return Carried { outcome: Outcome::Written { applied: desired.applied, result }, unsure },
            Err(error) => error.certainty(),
        };
        unsure |= doubt;
        let outcome = match error {
            WriteError::Conflict | WriteError::Gone => continue,
            WriteError::NotLeader | WriteError::Terminating => Outcome::Later(Wake::OnChange),
            error => Outcome::failed(error.into_failure("could not update secret")),
        };
        return Carried { outcome, unsure };
    }
    Carried { outcome: Outcome::Later(Wake::After(Duration::from_secs(1), priority)), unsure }
}

async fn write_once(
    ctx: &Ctx,
    facts: &Facts,
    resource: &ApiResource,
    desired: &Desired,
    priority: Priority,
) -> Result<Result<Written, Failure>, WriteError> {
    let key = target_key(&Key::of(&facts.es.metadata), &facts.es);
    let live = ctx.writer.read_manifest(resource, &key, priority).await?;
    let seen = live.as_ref().map(|live| (&live.metadata, whole(live)));
    let change = plan::change(&facts.es, &ctx.rules, desired, seen.as_ref().map(|(meta, whole)| (*meta, whole)));
    let version = |live: &DynamicObject| live.metadata.resource_version.clone().unwrap_or_default();
    let digest = |live: &DynamicObject| plan::digest(&live.data, &ctx.digester);
    let written = match (change, &live) {
        (Err(failure), _) => return Ok(Err(failure)),
        (Ok(Write::None), Some(live)) => Written::Kept { resource_version: version(live), data: Some(digest(live)) },
        (Ok(Write::Update(update)), _) => {
            let live = ctx.writer.write_manifest(resource, &key, desired, Some(&update), priority).await?;
            let changed = version(&live) != update.resource_version;
            Written::Applied { created: false, changed, resource_version: version(&live), data: digest(&live) }
        }
        (Ok(Write::Create | Write::None), _) => {
            let live = ctx.writer.write_manifest(resource, &key, desired, None, priority).await?;
            Written::Applied { created: true, changed: true, resource_version: version(&live), data: digest(&live) }
        }
    };
    Ok(Ok(written))
}

/// An object as one piece of JSON, its metadata in it.
fn whole(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
