//! What the watches bring: into the index, and into the queues of those whom it concerns. What cannot be understood any more is as
//! good as gone, so that nobody works on by what it said before; but where that would have others forget what they pushed, or let go of
//! it, the last that was understood holds.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use crate::api::fan_out::{Parent, ParentKind};
use crate::api::{AnyStore, ExternalSecret, PushSecret, StoreKind};
use crate::controllers::watch::Change;
use crate::controllers::{self, Ctx, fan_out, generators, push_secret, store};
use crate::index::{Key, ParentId, StoreId};
use crate::providers::ReferenceKind;
use crate::queue::Priority;
use crate::report::metrics::ObjectKind;

/// What becomes of an object that cannot be understood.
const LEFT_ALONE: &str = "is left alone";
const AS_BEFORE: &str = "is taken as it was when that was last possible";

/// An ExternalSecret appeared, changed or went.
pub(super) fn on_external_secret(ctx: &Ctx, change: Change<ExternalSecret>) {
    match change {
        Change::Upsert(es) => {
            let key = Key::of(&es.metadata);
            generators::want(ctx, &es);
            let es = Arc::new(es);
            let before = ctx.index().external_secret(&key);
            let wake = ctx.forced.take_in(ctx.index_mut(), &key, |index| index.upsert_external_secret(es.clone()));
            let before = before.as_ref().map(|es| &es.metadata);
            fan_out::child_changed(ctx, ParentKind::ClusterExternalSecret, before, &es.metadata, wake.is_some());
            // it may have had a target of another kind
            ctx.manifests.drop_unused(ctx);
            if let Some(priority) = wake {
                ctx.external_secrets.wake(key, priority);
            }
        }
        Change::Invalid(meta, why) => {
            controllers::tell_invalid(ctx, "ExternalSecret", &meta, &why, LEFT_ALONE);
            lose_external_secret(ctx, Key::of(&meta));
        }
        Change::Gone(key) => {
            let gone = lose_external_secret(ctx, key);
            disown_states(ctx, gone.as_ref().map(|es| &es.metadata));
        }
    }
}

/// An ExternalSecret is gone, or as good as that. Gives what was known of it.
fn lose_external_secret(ctx: &Ctx, key: Key) -> Option<Arc<ExternalSecret>> {
    let gone = ctx.index_mut().remove_external_secret(&key);
    let known = gone.as_ref().map(|es| &es.metadata);
    fan_out::wake_parents_of(ctx, ParentKind::ClusterExternalSecret, [&*last_known(&key, known)]);
    ctx.manifests.drop_unused(ctx);
    ctx.metrics.deleted(ObjectKind::ExternalSecret, &key.namespace, &key.name);
    ctx.forced.done(&key, Instant::now());
    ctx.external_secrets.gone(key, Priority::Periodic);
    gone
}

/// What was generated for an object goes with it.
fn disown_states(ctx: &Ctx, gone: Option<&ObjectMeta>) {
    if let Some(uid) = gone.and_then(|meta| meta.uid.as_deref()) {
        ctx.states.disown(uid);
    }
}

/// What was known of an object that is gone. Of one that nobody could understand that is its name, which took a child's place.
fn last_known<'a>(key: &Key, meta: Option<&'a ObjectMeta>) -> Cow<'a, ObjectMeta> {
    meta.map_or_else(|| Cow::Owned(ObjectMeta { name: Some(key.name.to_string()), ..ObjectMeta::default() }), Cow::Borrowed)
}

/// A PushSecret did.
pub(super) fn on_push_secret(ctx: &Ctx, change: Change<PushSecret>) {
    match change {
        Change::Upsert(ps) => {
            let (key, ps) = (Key::of(&ps.metadata), Arc::new(ps));
            generators::want_pushed(ctx, &ps);
            let before = ctx.index().push_secret(&key);
            let wake = ctx.index_mut().upsert_push_secret(ps.clone());
            let before = before.as_ref().map(|ps| &ps.metadata);
            fan_out::child_changed(ctx, ParentKind::ClusterPushSecret, before, &ps.metadata, wake.is_some());
            push_secret::hold_stores(ctx, &ps);
            if let Some(priority) = wake {
                ctx.push_secrets.wake(key, priority);
            }
        }
        Change::Invalid(meta, why) => controllers::tell_invalid(ctx, "PushSecret", &meta, &why, AS_BEFORE),
        Change::Gone(key) => {
            let gone = ctx.index_mut().remove_push_secret(&key);
            let meta = last_known(&key, gone.as_ref().map(|ps| &ps.metadata));
            fan_out::wake_parents_of(ctx, ParentKind::ClusterPushSecret, [&*meta]);
            if let Some(gone) = &gone {
                push_secret::hold_stores(ctx, gone);
            }
            disown_states(ctx, gone.as_ref().map(|ps| &ps.metadata));
            ctx.metrics.deleted(ObjectKind::PushSecret, &key.namespace, &key.name);
            ctx.push_secrets.gone(key, Priority::Periodic);
        }
    }
}

/// All PushSecrets of a namespace, or of the cluster, were told of: stores that were kept until then may be let go.
pub(super) fn on_push_secrets_listed(ctx: &Ctx, namespace: Option<&str>) {
    let stores = ctx.index_mut().know_push_secrets(namespace);
    for id in stores {
        ctx.stores.wake(id, Priority::Changed);
    }
}

/// A cluster-wide parent did.
pub(super) fn on_parent<K>(ctx: &Ctx, kind: ParentKind, change: Change<K>)
where
    Parent: From<K>,
{
    match change {
        Change::Upsert(parent) => {
            let parent = Arc::new(Parent::from(parent));
            let id = ParentId::of(&parent);
            let wake = ctx.index_mut().upsert_parent(parent);
            if let Some(priority) = wake {
                ctx.parents.wake(id, priority);
            }
        }
        Change::Invalid(meta, why) => {
            controllers::tell_invalid(ctx, kind.as_str(), &meta, &why, LEFT_ALONE);
            on_parent::<K>(ctx, kind, Change::Gone(Key::of(&meta)));
        }
        Change::Gone(key) => {
            let id = ParentId::new(kind, &key.name);
            ctx.index_mut().remove_parent(&id);
            ctx.metrics.deleted(ObjectKind::of_parent(kind), "", &key.name);
            // in any case: what ESO left for it in namespaces is taken off
            ctx.parents.wake(id, Priority::Changed);
        }
    }
}

/// A store did.
pub(super) fn on_store<K>(ctx: &Ctx, kind: StoreKind, change: Change<K>)
where
    AnyStore: From<K>,
{
    match change {
        Change::Upsert(store) => {
            let store = AnyStore::from(store);
            let (id, store) = (StoreId::of(&store), Arc::new(store));
            let before = ctx.index().store(&id);
            if ctx.index_mut().upsert_store(store.clone()) {
                store::changed(ctx, before.as_deref(), &store);
            }
        }
        Change::Invalid(meta, why) => controllers::tell_invalid(ctx, kind.as_str(), &meta, &why, AS_BEFORE),
        Change::Gone(key) => {
            let id = StoreId { kind, key };
            let before = ctx.index().store(&id);
            ctx.index_mut().remove_store(&id);
            before.iter().for_each(|before| store::wake_pushers(ctx, before));
            before.iter().for_each(|store| ctx.fetcher.deleted(store));
            ctx.metrics.deleted(ObjectKind::of_store(kind), &id.key.namespace, &id.key.name);
            ctx.stores.gone(id, Priority::Changed);
        }
    }
}

/// A Secret did: a target, a source, or what a store logs in with.
pub(super) fn on_secret(ctx: &Ctx, change: Change<ObjectMeta>) {
    let users = match &change {
        Change::Upsert(meta) => ctx.index_mut().upsert_secret(meta),
        Change::Gone(key) => ctx.index_mut().remove_secret(key),
        Change::Invalid(..) => return,
    };
    for key in users {
        ctx.external_secrets.wake(key, Priority::Changed);
    }
    let takers = match &change {
        Change::Upsert(meta) => ctx.index().push_takers(&Key::of(meta), Some(meta)),
        Change::Gone(key) => ctx.index().push_takers(key, None),
        Change::Invalid(..) => return,
    };
    for key in takers {
        ctx.push_secrets.wake(key, Priority::Changed);
    }
    on_reference(ctx, ReferenceKind::Secret, change);
}

/// A ConfigMap did: a source, or what a store logs in with.
pub(super) fn on_config_map(ctx: &Ctx, change: Change<ObjectMeta>) {
    let pushing = match &change {
        Change::Upsert(meta) => {
            let version = meta.resource_version.as_deref().unwrap_or_default();
            ctx.index_mut().note_config_map(&Key::of(meta), Some(version))
        }
        Change::Gone(key) => ctx.index_mut().note_config_map(key, None),
        Change::Invalid(..) => return,
    };
    for (key, priority) in pushing {
        ctx.push_secrets.wake(key, priority);
    }
    on_reference(ctx, ReferenceKind::ConfigMap, change);
}

/// An object that stores log in with did.
pub(super) fn on_reference(ctx: &Ctx, kind: ReferenceKind, change: Change<ObjectMeta>) {
    let (key, version) = match change {
        Change::Upsert(meta) => (Key::of(&meta), Some(meta.resource_version.unwrap_or_default())),
        Change::Gone(key) => (key, None),
        Change::Invalid(..) => return,
    };
    let waiting = ctx.index().waiting_for_source(kind, &key);
    for (key, priority) in waiting {
        ctx.external_secrets.wake(key, priority);
    }
    let has_used = |id: &StoreId, version: &str| ctx.fetcher.has_used(id, kind, &key, version);
    let touched = ctx.index_mut().touch_reference(kind, &key, version.as_deref(), has_used);
    for id in touched.stores {
        ctx.stores.wake(id, Priority::Changed);
    }
    for id in touched.as_consumers {
        log_in_anew(ctx, &id, &key.namespace);
    }
}

/// What a store is logged in with for a namespace changed: nobody else need notice.
fn log_in_anew(ctx: &Ctx, id: &StoreId, namespace: &str) {
    ctx.fetcher.forget_login(id, namespace);
    let (waiting, pushing) = {
        let index = ctx.index();
        (index.waiting_for_store(id, namespace), index.push_waiting(id, true))
    };
    for (key, priority) in waiting {
        ctx.external_secrets.wake(key, priority);
    }
    for (key, priority) in pushing.into_iter().filter(|(key, _)| *key.namespace == *namespace) {
        ctx.push_secrets.wake(key, priority);
    }
}

/// A namespace did.
pub(super) fn on_namespace(ctx: &Ctx, change: Change<ObjectMeta>) {
    match change {
        Change::Upsert(meta) => {
            let parents = ctx.index_mut().see_namespace(&meta);
            fan_out::wake_parents(ctx, parents);
            let name = meta.name.unwrap_or_default();
            let (waiting, pushing) = ctx.index_mut().upsert_namespace(&name, meta.labels.unwrap_or_default());
            for (key, priority) in waiting {
                ctx.external_secrets.wake(key, priority);
            }
            for (key, priority) in pushing {
                ctx.push_secrets.wake(key, priority);
            }
        }
        Change::Gone(key) => {
            let parents = ctx.index_mut().lose_namespace(&key.name);
            fan_out::wake_parents(ctx, parents);
            ctx.index_mut().remove_namespace(&key.name);
            ctx.fetcher.forget_consumer(&key.name);
        }
        Change::Invalid(..) => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ClusterExternalSecret;
    use crate::index::Index;

    /// Else its place would stay empty until the parent's next look.
    #[test]
    fn the_end_of_what_nobody_could_understand_concerns_the_parents_whose_childs_place_it_took() {
        let object =
            json!({"metadata": {"name": "parent"}, "spec": {"externalSecretName": "child", "externalSecretSpec": {}}});
        let parent = Parent::from(serde_json::from_value::<ClusterExternalSecret>(object).unwrap());
        let (mut index, id) = (Index::default(), ParentId::of(&parent));
        index.upsert_parent(Arc::new(parent));
        let kind = ParentKind::ClusterExternalSecret;
        let woken = |name: &str| index.parents_of(kind, &last_known(&Key::new("ns", name), None));
        assert_eq!(woken("child"), [id].into());
        assert!(woken("another").is_empty());
        // and one that was understood is told of as it was
        let known = ObjectMeta { name: Some("child".into()), uid: Some("uid".into()), ..ObjectMeta::default() };
        assert_eq!(*last_known(&Key::new("ns", "child"), Some(&known)), known);
    }
}
