//! Targets of other kinds than Secret: which kinds there are, watches of them, and the way of one object from values to the API
//! server.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope as KindScope, pinned_kind};
use serde_json::Value;
use tokio::sync::watch as told;
use tokio_util::sync::CancellationToken;

use super::external_secret::{Carried, MOST_CONFLICTS, Outcome};
use super::watch::{Change, Fares, Scope, watch_and_tell};
use super::{Ctx, template};
use crate::api::external_secret::ManifestRef;
use crate::apply::error::WriteError;
use crate::chance::SystemChance;
use crate::guard::Metadata;
use crate::index::{Index, Key, TargetView, target_key};
use crate::plan::Wake;
use crate::plan::external_secret::{Facts, Failure, Gathered, Seen, Written};
use crate::plan::manifest::{self as plan, Change as Write, Desired};
use crate::queue::Priority;
use crate::render::Outside;

/// How long the API server may take to tell of a kind.
const ANSWER: Duration = Duration::from_secs(10);
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
    lists: Vec<List>,
}

/// The namespace whose objects are listed, or `None` for all, and how that fares.
type List = (Option<String>, told::Receiver<Option<Fares>>);

impl Kind {
    /// The lists that an object of this namespace is in: what is refused elsewhere is nothing to it.
    fn lists_of(&self, namespace: &str) -> Vec<told::Receiver<Option<Fares>>> {
        let of_it = |list: &&List| list.0.as_deref().is_none_or(|of| of == namespace);
        self.lists.iter().filter(of_it).map(|(_, list)| list.clone()).collect()
    }
}

/// Why a kind cannot be a target.
#[derive(Debug, PartialEq, Eq)]
struct Unusable {
    why: String,
    /// Whether the API server said so, rather than nothing.
    certain: bool,
}

impl Unusable {
    fn certainly(why: String) -> Self {
        Self { why, certain: true }
    }

    /// What it means that a kind could not be looked for; without an error there was no answer in time.
    fn of(kind: &ManifestRef, error: Option<&kube::Error>) -> Self {
        let ManifestRef { api_version, kind } = kind;
        let failed = |why: String| Self { why: format!("unable to look for {api_version} {kind}: {why}"), certain: false };
        match error {
            Some(kube::Error::Api(status)) if status.code != 404 => {
                failed(format!("the API server answered {}", status.code))
            }
            Some(kube::Error::Api(_) | kube::Error::Discovery(_) | kube::Error::HttpError(_)) => Self::certainly(format!(
                "the API server knows no {api_version} {kind}: check target.manifest, and that the CRD is installed"
            )),
            _ => failed("the API server did not answer".into()),
        }
    }
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
        if !self.kinds().is_empty() {
            self.forget(ctx, |index, kind| !index.is_manifest_used(kind));
        }
    }

    /// Ends the watches of such kinds, and forgets their objects.
    fn forget(&self, ctx: &Ctx, such: impl Fn(&Index, &ManifestRef) -> bool) {
        let mut index = ctx.index_mut();
        self.kinds().retain(|kind, known| {
            let such = such(&index, kind);
            if such {
                known.stop.cancel();
                index.forget_manifests(kind);
            }
            !such
        });
    }

    /// Sees to it that a kind is watched, and waits for its first list in a namespace.
    async fn watched(&self, ctx: &Arc<Ctx>, kind: &ManifestRef, namespace: &str) -> Result<(), String> {
        let known = self.kinds().get(kind).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let resource = self.discover(kind).await.map_err(|unusable| unusable.why)?;
                let mut kinds = self.kinds();
                kinds.entry(kind.clone()).or_insert_with(|| self.begin(ctx, kind, resource)).clone()
            }
        };
        for mut list in known.lists_of(namespace) {
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

    async fn discover(&self, kind: &ManifestRef) -> Result<ApiResource, Unusable> {
        let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
        let gvk = GroupVersionKind::gvk(group, version, &kind.kind);
        let answer = tokio::time::timeout(ANSWER, pinned_kind(&self.client, &gvk)).await;
        match answer.map_err(|_| None).and_then(|found| found.map_err(Some)) {
            Ok((resource, capabilities)) if capabilities.scope == KindScope::Namespaced => Ok(resource),
            Ok(_) => Err(Unusable::certainly(format!(
                "{} {} is cluster-scoped: a target lives in the ExternalSecret's namespace",
                kind.api_version, kind.kind
            ))),
            Err(error) => Err(Unusable::of(kind, error.as_ref())),
        }
    }

    /// Asks anew for a kind that is watched. Where it is not served any more as it was, its watch ends and its users are woken: they
    /// look for it as if it were new.
    ///
    /// # Errors
    /// Says what became of it.
    async fn ask_again(&self, ctx: &Ctx, kind: &ManifestRef) -> Result<(), String> {
        let why = match self.discover(kind).await {
            Ok(resource) if self.resource(kind).is_none_or(|known| known == resource) => return Ok(()),
            Ok(_) => format!("{} {} is another resource now", kind.api_version, kind.kind),
            Err(unusable) if unusable.certain => unusable.why,
            Err(_) => return Ok(()),
        };
        // once: it may be many who find it out
        if self.resource(kind).is_some() {
            self.forget(ctx, |_, known| known == kind);
            let users = ctx.index().users_of_kind(kind);
            wake(ctx, users);
        }
        Err(why)
    }

    fn begin(&self, ctx: &Arc<Ctx>, kind: &ManifestRef, resource: ApiResource) -> Kind {
        let stop = self.stop.child_token();
        let apis: Vec<Api<Metadata<DynamicObject>>> = match &self.scope {
            Scope::Cluster => vec![Api::all_with(self.client.clone(), &resource)],
            Scope::Namespaces(names) => {
                names.iter().map(|name| Api::namespaced_with(self.client.clone(), name, &resource)).collect()
            }
        };
        let follow = |api: Api<Metadata<DynamicObject>>| {
            let (ctx, namespace) = (Arc::downgrade(ctx), api.namespace().map(str::to_owned));
            Follower { ctx, kind: kind.clone(), namespace, stop: stop.clone() }.follow(api)
        };
        let lists = apis.into_iter().map(follow).collect();
        Kind { resource, stop, lists }
    }
}

/// Hears of the objects of a kind, in a namespace or in all.
#[derive(Clone)]
struct Follower {
    ctx: Weak<Ctx>,
    kind: ManifestRef,
    namespace: Option<String>,
    stop: CancellationToken,
}

impl Follower {
    fn follow(self, api: Api<Metadata<DynamicObject>>) -> List {
        let (teller, list) = told::channel(None);
        let listed = self.clone();
        // what breaks after the first list comes back by itself, and until then the view is as it was
        let fares = move |fares: Fares| {
            let is_listed = |fares: Fares| matches!(fares, Fares::Synced | Fares::Works);
            let news = teller.send_if_modified(|known: &mut Option<Fares>| {
                let news = !known.is_some_and(is_listed);
                if news {
                    *known = Some(fares);
                }
                news
            });
            if news && is_listed(fares) {
                listed.wake_waiting();
            }
        };
        let (broken, stop, namespace) = (self.clone(), self.stop.clone(), self.namespace.clone());
        let tell = move |told: Result<(), String>| {
            if told.is_err() {
                broken.ask_again();
            }
        };
        let kind = format!("{} {}", self.kind.api_version, self.kind.kind);
        let name = namespace.as_ref().map_or_else(|| kind.clone(), |namespace| format!("{kind} in {namespace}"));
        tokio::spawn(watch_and_tell(api, name, fares, stop, move |change| self.on_change(change), tell));
        (namespace, list)
    }

    fn on_change(&self, change: Change<ObjectMeta>) {
        let Some(ctx) = self.ctx.upgrade() else { return };
        let (key, view) = match change {
            Change::Upsert(meta) => (Key::of(&meta), Some(TargetView::of(&meta))),
            Change::Gone(key) => (key, None),
            Change::Invalid(..) => return,
        };
        let users = {
            let mut index = ctx.index_mut();
            // what is forgotten stays so: nobody would tell that it is gone
            if self.stop.is_cancelled() {
                return;
            }
            index.note_manifest(&self.kind, &key, view)
        };
        wake(&ctx, users);
    }

    /// The objects are known now: who failed, as they were not, is looked at again.
    fn wake_waiting(&self) {
        let Some(ctx) = self.ctx.upgrade() else { return };
        let waiting = ctx.index().waiting_for_kind(&self.kind, self.namespace.as_deref());
        wake(&ctx, waiting);
    }

    /// A watch breaks where its kind is served no more, too.
    fn ask_again(&self) {
        let Some(ctx) = self.ctx.upgrade() else { return };
        let kind = self.kind.clone();
        tokio::spawn(async move { ctx.manifests.ask_again(&ctx, &kind).await });
    }
}

fn wake(ctx: &Ctx, users: impl IntoIterator<Item = Key>) {
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
    let why = ctx.manifests.watched(ctx, &kind, &key.namespace).await.err()?;
    Some(unreadable(why))
}

fn unreadable(why: String) -> Failure {
    Failure { bound: false, ..Failure::retry(UNREADABLE, why) }
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
    Ok(live.map(|live| plan::seen(&facts.es, &live.metadata, &live.data, &ctx.digester)))
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
    let known = target.manifest.as_ref().and_then(|kind| Some((kind, ctx.manifests.resource(kind)?)));
    let Some((kind, resource)) = known else {
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
            WriteError::Conflict => continue,
            // that is also what is told of a kind that is served no more
            WriteError::Gone => match ctx.manifests.ask_again(ctx, kind).await {
                Ok(()) => continue,
                Err(why) => Outcome::failed(unreadable(why)),
            },
            WriteError::NotLeader | WriteError::Terminating => Outcome::Later(Wake::OnChange),
            error => Outcome::failed(error.into_failure("could not update secret")),
        };
        return Carried { outcome, unsure };
    }
    Carried { outcome: Outcome::failed(WriteError::Conflict.into_failure("could not update secret")), unsure }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// What is told of a kind where the API server answers so.
    async fn told_of(code: u16, answer: Value) -> Unusable {
        let service = tower::service_fn(move |_: Request<Body>| {
            let body = Body::from(answer.to_string().into_bytes());
            let answer = Response::builder().status(code).header("content-type", "application/json").body(body);
            async move { Ok::<_, Infallible>(answer.unwrap()) }
        });
        told_by(kube::Client::new(service, "ns")).await
    }

    async fn told_by(client: kube::Client) -> Unusable {
        let kinds = Manifests::new(client, Scope::Cluster, CancellationToken::new());
        let kind = ManifestRef { api_version: "example.org/v1".into(), kind: "Thing".into() };
        kinds.discover(&kind).await.unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_tells_nothing_keeps_nobody() {
        let hangs = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let told = tokio::time::timeout(Duration::from_secs(11), told_by(kube::Client::new(hangs, "ns"))).await.unwrap();
        let why = "unable to look for example.org/v1 Thing: the API server did not answer".into();
        assert_eq!(told, Unusable { why, certain: false });
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_from_what_could_not_be_asked() {
        let status = |code: u16| json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code });
        let unknown = "the API server knows no example.org/v1 Thing: check target.manifest, and that the CRD is installed";
        assert_eq!(told_of(404, status(404)).await, Unusable::certainly(unknown.into()));
        let others =
            json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "example.org/v1", "resources": [] });
        assert_eq!(told_of(200, others).await, Unusable::certainly(unknown.into()));
        for code in [403, 503] {
            let why = format!("unable to look for example.org/v1 Thing: the API server answered {code}");
            assert_eq!(told_of(code, status(code)).await, Unusable { why, certain: false });
        }
    }

    #[test]
    fn a_list_of_another_namespace_is_waited_for_by_nobody() {
        let list = |namespace: Option<&str>, fares: Fares| (namespace.map(str::to_owned), told::channel(Some(fares)).1);
        let kind = |lists: Vec<List>| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"));
            Kind { resource, stop: CancellationToken::new(), lists }
        };
        let of = |kind: &Kind, namespace: &str| -> Vec<Option<Fares>> {
            kind.lists_of(namespace).iter().map(|list| *list.borrow()).collect()
        };
        let some = kind(vec![list(Some("a"), Fares::Synced), list(Some("b"), Fares::Refused)]);
        assert_eq!(of(&some, "a"), [Some(Fares::Synced)]);
        assert_eq!(of(&some, "b"), [Some(Fares::Refused)]);
        assert_eq!(of(&kind(vec![list(None, Fares::Synced)]), "a"), [Some(Fares::Synced)]);
    }
}
