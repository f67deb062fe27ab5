//! What is known of PushSecrets: which stores they mean, and which Secrets they take values from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{GeneratorId, Index, Key, StoreId, Wakes, differs, forced, is_older, pushed_generator};
use crate::api::{AnyStore, Condition, PushSecret, StoreKind};
use crate::plan::access;
use crate::plan::push_secret::{self as plan, Source, SourceVersion, stores};
use crate::queue::Priority;

/// PushSecrets, and the Secrets that each last took its values from.
#[derive(Default)]
pub(super) struct PushSecrets {
    all: HashMap<Key, Arc<PushSecret>>,
    sources: HashMap<Key, BTreeSet<String>>,
    /// The namespaces of which all are known, without a name the cluster.
    known: BTreeSet<Option<Arc<str>>>,
}

impl PushSecrets {
    /// Whether all are known that may mean a store.
    fn are_known_of(&self, store: &AnyStore) -> bool {
        let known = |namespace: Option<&str>| self.known.contains(&namespace.map(Arc::<str>::from));
        known(None) || store.namespace().is_some_and(|own| known(Some(own)))
    }
}

impl Index {
    /// As [`Index::upsert_push_secret`], for an object as our own write left it: one that went meanwhile does not come back.
    pub fn renew_push_secret(&mut self, new: Arc<PushSecret>) -> Option<Priority> {
        let held =
            self.push_secrets.all.get(&Key::of(&new.metadata)).is_some_and(|old| old.metadata.uid == new.metadata.uid);
        if held { self.upsert_push_secret(new) } else { None }
    }

    /// A PushSecret appeared or changed. `None` where nothing that decides something did.
    pub fn upsert_push_secret(&mut self, new: Arc<PushSecret>) -> Option<Priority> {
        let key = Key::of(&new.metadata);
        let old = self.push_secrets.all.get(&key).cloned();
        if old.as_ref().is_some_and(|old| is_older(&new.metadata, &old.metadata)) {
            return None;
        }
        if let Some(old) = &old {
            self.fan_out.unlink(&key, &old.metadata);
        }
        self.fan_out.link(&key, &new.metadata);
        self.push_secrets.all.insert(key, new.clone());
        match old {
            None => Some(initial(&new)),
            Some(old) if forced(&old.metadata, &new.metadata) => Some(Priority::Forced),
            Some(old) if differs(&old.metadata, &new.metadata) => Some(Priority::Changed),
            Some(_) => None,
        }
    }

    /// A PushSecret is gone.
    pub fn remove_push_secret(&mut self, key: &Key) -> Option<Arc<PushSecret>> {
        self.push_secrets.sources.remove(key);
        let old = self.push_secrets.all.remove(key)?;
        self.fan_out.unlink(key, &old.metadata);
        Some(old)
    }

    /// The PushSecret of a key.
    #[must_use]
    pub fn push_secret(&self, key: &Key) -> Option<Arc<PushSecret>> {
        self.push_secrets.all.get(key).cloned()
    }

    /// The stores that a PushSecret's spec or status may mean: those of its namespace and the cluster's.
    #[must_use]
    pub fn push_stores(&self, ps: &PushSecret) -> BTreeMap<StoreId, Arc<AnyStore>> {
        let used = self.stores.iter().filter(|(_, store)| stores::uses(ps, store));
        used.map(|(id, store)| (id.clone(), store.clone())).collect()
    }

    /// The PushSecrets that a store concerns.
    fn push_users<'i>(&'i self, store: &'i AnyStore) -> impl Iterator<Item = &'i Arc<PushSecret>> {
        let namespace = (store.kind == StoreKind::SecretStore).then(|| store.namespace().unwrap_or_default());
        let near = self.push_secrets.all.iter().filter(move |(key, _)| namespace.is_none_or(|n| &*key.namespace == n));
        near.filter(move |(_, ps)| stores::uses(ps, store)).map(|(_, ps)| ps)
    }

    /// The PushSecrets that are to be looked at because a store changed: from what it was, or to what it is.
    #[must_use]
    pub fn push_wakes(&self, store: &AnyStore) -> Wakes {
        self.push_users(store).map(|ps| (Key::of(&ps.metadata), Priority::Changed)).collect()
    }

    /// The PushSecrets that a store concerns and that are not in line.
    #[must_use]
    pub fn push_waiting(&self, id: &StoreId) -> Wakes {
        let Some(store) = self.store(id) else { return Wakes::new() };
        let waiting = self.push_users(&store).filter(|ps| !ps.ready().is_some_and(Condition::is_ready));
        waiting.map(|ps| (Key::of(&ps.metadata), initial(ps).min(Priority::Changed))).collect()
    }

    /// The PushSecrets on a generator that is `wanted`, which is also told whether they are in line.
    pub(super) fn push_generator_users(&self, wanted: impl Fn(&GeneratorId, bool) -> bool) -> Wakes {
        let is_ready = |ps: &PushSecret| ps.ready().is_some_and(Condition::is_ready);
        let users = self.push_secrets.all.iter();
        let users = users.filter(|(_, ps)| pushed_generator(ps).is_some_and(|id| wanted(&id, is_ready(ps))));
        users
            .map(|(key, ps)| (key.clone(), if is_ready(ps) { initial(ps) } else { initial(ps).min(Priority::Changed) }))
            .collect()
    }

    /// The stores that must get or lose our finalizer because of what a PushSecret says, or said. One that deletes nothing
    /// concerns only stores that are held already.
    #[must_use]
    pub fn stores_to_hold(&self, ps: &PushSecret) -> Vec<StoreId> {
        let namespace = ps.metadata.namespace.as_deref();
        let near = self.stores.iter().filter(|(_, s)| s.namespace().is_none() || s.namespace() == namespace);
        let touched = near.filter(|(_, store)| stores::is_held(store) || (ps.deletes() && stores::uses(ps, store)));
        touched.filter(|(_, store)| self.store_finalizer(store).is_some()).map(|(id, _)| id.clone()).collect()
    }

    /// Whether our finalizer is to be put on a store, or taken off. It is not taken off before all PushSecrets are known that may need
    /// it, and those who need a ClusterSecretStore are only known to who watches the cluster: others leave it as it is.
    #[must_use]
    pub fn store_finalizer(&self, store: &AnyStore) -> Option<bool> {
        let wanted = stores::finalizer(store, self.push_users(store).map(AsRef::as_ref))?;
        let is_certain = (wanted && store.kind == StoreKind::SecretStore) || self.push_secrets.are_known_of(store);
        is_certain.then_some(wanted)
    }

    /// All PushSecrets of a namespace, or of the cluster, are known: which stores must get or lose our finalizer now.
    pub fn know_push_secrets(&mut self, namespace: Option<&str>) -> Vec<StoreId> {
        if !self.push_secrets.known.insert(namespace.map(Arc::<str>::from)) {
            return Vec::new();
        }
        let near = self.stores.iter().filter(|(_, s)| namespace.is_none() || s.namespace() == namespace);
        near.filter(|(_, store)| self.store_finalizer(store).is_some()).map(|(id, _)| id.clone()).collect()
    }

    /// Notes which Secrets a PushSecret takes its values from. One that went meanwhile takes none.
    pub fn set_push_sources(&mut self, key: &Key, names: BTreeSet<String>) {
        if self.push_secrets.all.contains_key(key) {
            self.push_secrets.sources.insert(key.clone(), names);
        }
    }

    /// The Secrets, as far as they are there, that a PushSecret names: its source, and those with templates.
    #[must_use]
    pub fn push_named_sources(&self, ps: &PushSecret) -> Vec<SourceVersion> {
        let namespace = ps.metadata.namespace.as_deref().unwrap_or_default();
        let named = match plan::source(ps) {
            Source::Named(name) => Some(name),
            _ => None,
        };
        let names: BTreeSet<&str> = named.into_iter().chain(plan::template_secrets(ps)).collect();
        let known = names.into_iter().filter_map(|name| {
            let view = self.secrets.get(&Key::new(namespace, name))?;
            Some(SourceVersion {
                name: name.to_owned(),
                uid: view.uid.clone(),
                resource_version: view.resource_version.clone(),
            })
        });
        known.collect()
    }

    /// The PushSecrets that take values from a Secret, by its name, its labels, or because they did before. Without labels the
    /// Secret is gone.
    #[must_use]
    pub fn push_takers(&self, secret: &Key, meta: Option<&ObjectMeta>) -> Vec<Key> {
        let empty = BTreeMap::new();
        let labels = meta.map(|m| m.labels.as_ref().unwrap_or(&empty));
        let takes = |key: &Key, ps: &PushSecret| {
            let by_source = match plan::source(ps) {
                Source::Named(name) => *name == *secret.name,
                Source::Selected(selector) => labels.is_some_and(|labels| access::selects(selector, labels)),
                Source::Generated(_) | Source::Nowhere => false,
            };
            by_source
                || plan::template_secrets(ps).any(|name| *name == *secret.name)
                || self.push_secrets.sources.get(key).is_some_and(|names| names.contains(&*secret.name))
        };
        let near = self.push_secrets.all.iter().filter(|(key, _)| key.namespace == secret.namespace);
        near.filter(|(key, ps)| takes(key, ps)).map(|(key, _)| key.clone()).collect()
    }

    /// The PushSecrets of a namespace that are not in line.
    #[must_use]
    pub fn push_secrets_of(&self, namespace: &str) -> Wakes {
        let inside = self.push_secrets.all.iter().filter(|(key, _)| &*key.namespace == namespace);
        let waiting = inside.filter(|(_, ps)| !ps.ready().is_some_and(Condition::is_ready));
        waiting.map(|(key, ps)| (key.clone(), initial(ps).min(Priority::Changed))).collect()
    }
}

/// In which line a PushSecret starts.
fn initial(ps: &PushSecret) -> Priority {
    let synced = ps.status.as_ref().is_some_and(|s| s.synced_resource_version.is_some());
    if synced { Priority::Periodic } else { Priority::New }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{ClusterSecretStore, FINALIZER_STORE, SecretStore};

    fn push_secret(namespace: &str, name: &str, spec: &Value) -> Arc<PushSecret> {
        let metadata =
            json!({ "name": name, "namespace": namespace, "uid": format!("{namespace}/{name}"), "generation": 1 });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
    }

    fn spec(source: Value, policy: &str) -> Value {
        json!({ "secretStoreRefs": [{ "name": "s" }], "selector": { "secret": source }, "deletionPolicy": policy })
    }

    fn store(namespace: &str, finalizers: &[&str]) -> Arc<AnyStore> {
        let metadata = json!({ "name": "s", "namespace": namespace, "finalizers": finalizers });
        let store: SecretStore =
            serde_json::from_value(json!({ "metadata": metadata, "spec": { "provider": { "fake": { "data": [] } } } }))
                .unwrap();
        Arc::new(store.into())
    }

    fn secret(namespace: &str, name: &str, label: &str) -> ObjectMeta {
        let labels = json!({ "pick": label });
        serde_json::from_value(
            json!({ "name": name, "namespace": namespace, "labels": labels, "uid": "u", "resourceVersion": "1" }),
        )
        .unwrap()
    }

    fn takers(index: &Index, namespace: &str, name: &str, label: Option<&str>) -> Vec<String> {
        let meta = label.map(|label| secret(namespace, name, label));
        let mut found: Vec<String> =
            index.push_takers(&Key::new(namespace, name), meta.as_ref()).iter().map(ToString::to_string).collect();
        found.sort();
        found
    }

    #[test]
    fn a_secret_wakes_those_who_take_it() {
        let mut index = Index::default();
        let by_label = json!({ "selector": { "matchLabels": { "pick": "me" } } });
        let mut template = spec(json!({ "name": "x" }), "None");
        template["template"] = json!({ "templateFrom": [{ "secret": { "name": "shape", "items": [{ "key": "k" }] } }] });
        for ps in [
            push_secret("a", "named", &spec(json!({ "name": "src" }), "None")),
            push_secret("a", "labelled", &spec(by_label, "None")),
            push_secret("a", "shaped", &template),
            push_secret("b", "named", &spec(json!({ "name": "src" }), "None")),
        ] {
            assert_eq!(index.upsert_push_secret(ps), Some(Priority::New));
        }
        assert_eq!(takers(&index, "a", "src", Some("no")), ["a/named"]);
        assert_eq!(takers(&index, "a", "src", Some("me")), ["a/labelled", "a/named"]);
        assert_eq!(takers(&index, "a", "other", Some("me")), ["a/labelled"]);
        assert_eq!(takers(&index, "a", "shape", Some("no")), ["a/shaped"]);
        assert_eq!(takers(&index, "a", "other", None), Vec::<String>::new());
        // one that lost the label, or is gone, is told to who took it before
        index.set_push_sources(&Key::new("a", "labelled"), BTreeSet::from(["other".to_owned()]));
        assert_eq!(takers(&index, "a", "other", Some("no")), ["a/labelled"]);
        assert_eq!(takers(&index, "a", "other", None), ["a/labelled"]);
        index.remove_push_secret(&Key::new("a", "labelled"));
        // it was under way when it went
        index.set_push_sources(&Key::new("a", "labelled"), BTreeSet::from(["other".to_owned()]));
        assert!(index.push_secrets.sources.is_empty());
        assert_eq!(takers(&index, "a", "other", None), Vec::<String>::new());
    }

    #[test]
    fn the_named_sources_are_known_by_version() {
        let mut index = Index::default();
        index.upsert_secret(&secret("a", "src", "x"));
        index.upsert_secret(&secret("b", "src", "x"));
        let ps = push_secret("a", "named", &spec(json!({ "name": "src" }), "None"));
        let known = index.push_named_sources(&ps);
        assert_eq!(known, [SourceVersion { name: "src".into(), uid: "u".into(), resource_version: "1".into() }]);
    }

    #[test]
    fn stores_are_held_for_those_who_delete() {
        let mut index = Index::default();
        index.know_push_secrets(None);
        index.upsert_store(store("a", &[]));
        index.upsert_store(store("b", &[FINALIZER_STORE]));
        let keeps = push_secret("a", "keeps", &spec(json!({ "name": "src" }), "None"));
        let deletes = push_secret("a", "deletes", &spec(json!({ "name": "src" }), "Delete"));
        let elsewhere = push_secret("b", "keeps", &spec(json!({ "name": "src" }), "None"));
        let held =
            |index: &Index, ps: &PushSecret| index.stores_to_hold(ps).iter().map(ToString::to_string).collect::<Vec<_>>();
        index.upsert_push_secret(keeps.clone());
        assert_eq!(held(&index, &keeps), Vec::<String>::new());
        index.upsert_push_secret(deletes.clone());
        assert_eq!(held(&index, &deletes), ["SecretStore a/s"]);
        assert_eq!(held(&index, &elsewhere), ["SecretStore b/s"], "nobody needs the finalizer that it has");
        assert_eq!(index.push_wakes(&store("a", &[])).len(), 2);
        index.remove_push_secret(&Key::of(&deletes.metadata));
        assert_eq!(held(&index, &deletes), Vec::<String>::new());
    }

    /// Else one in deletion would be let go with what was pushed to it, where the PushSecrets come later than the stores.
    #[test]
    fn no_store_is_let_go_before_all_are_known_who_may_need_it() {
        let mut index = Index::default();
        let (a, b, c) = (store("a", &[FINALIZER_STORE]), store("b", &[FINALIZER_STORE]), store("c", &[]));
        for store in [&a, &b, &c] {
            index.upsert_store(store.clone());
        }
        assert_eq!([&a, &b].map(|store| index.store_finalizer(store)), [None, None]);
        index.upsert_push_secret(push_secret("a", "deletes", &spec(json!({ "name": "src" }), "Delete")));
        index.upsert_push_secret(push_secret("c", "deletes", &spec(json!({ "name": "src" }), "Delete")));
        assert_eq!(index.store_finalizer(&c), Some(true), "one that needs it is enough");
        assert!(index.know_push_secrets(Some("a")).is_empty());
        assert_eq!([&a, &b].map(|store| index.store_finalizer(store)), [None, None], "a: needed, b: not known yet");
        assert_eq!(index.know_push_secrets(Some("b")), [StoreId::of(&b)]);
        assert_eq!(index.store_finalizer(&b), Some(false));
        assert!(index.know_push_secrets(Some("b")).is_empty(), "listed once more");
    }

    /// Two that serve a namespace each would put it on and take it off without end.
    #[test]
    fn who_does_not_see_all_leaves_the_finalizer_of_a_cluster_wide_store_alone() {
        let cluster_store = |finalizers: &[&str]| -> Arc<AnyStore> {
            let metadata = json!({ "name": "s", "finalizers": finalizers });
            let object = json!({ "metadata": metadata, "spec": { "provider": { "fake": { "data": [] } } } });
            Arc::new(serde_json::from_value::<ClusterSecretStore>(object).unwrap().into())
        };
        let mut needs = spec(json!({ "name": "src" }), "Delete");
        needs["secretStoreRefs"][0]["kind"] = json!("ClusterSecretStore");
        let (free, held) = (cluster_store(&[]), cluster_store(&[FINALIZER_STORE]));
        let mut index = Index::default();
        index.know_push_secrets(Some("a"));
        assert_eq!(index.store_finalizer(&held), None);
        index.upsert_push_secret(push_secret("a", "deletes", &needs));
        assert_eq!(index.store_finalizer(&free), None);

        let mut index = Index::default();
        index.upsert_store(held.clone());
        assert_eq!(index.know_push_secrets(None), [StoreId::of(&held)]);
        assert_eq!(index.store_finalizer(&held), Some(false));
        index.upsert_push_secret(push_secret("a", "deletes", &needs));
        assert_eq!([&free, &held].map(|store| index.store_finalizer(store)), [Some(true), None]);
    }

    #[test]
    fn an_older_object_changes_nothing() {
        let with = |version: &str, generation: i64| {
            let mut ps = (*push_secret("a", "ps", &spec(json!({ "name": "src" }), "None"))).clone();
            ps.metadata.resource_version = Some(version.to_owned());
            ps.metadata.generation = Some(generation);
            Arc::new(ps)
        };
        let mut index = Index::default();
        assert_eq!(index.upsert_push_secret(with("5", 2)), Some(Priority::New));
        assert_eq!(index.upsert_push_secret(with("4", 1)), None);
        assert_eq!(index.upsert_push_secret(with("6", 2)), None, "its status only");
        assert_eq!(index.upsert_push_secret(with("7", 3)), Some(Priority::Changed));
        assert_eq!(index.push_secret(&Key::new("a", "ps")).unwrap().metadata.generation, Some(3));
    }
}
