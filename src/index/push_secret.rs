//! What is known of PushSecrets: which stores they mean, and which Secrets they take values from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{GeneratorId, Index, Key, StoreId, Wakes, differs, forced, is_older, pushed_generator};
use crate::api::{AnyStore, Condition, PushSecret, StoreKind};
use crate::plan::access;
use crate::plan::push_secret::{self as plan, Source, SourceVersion, stores};
use crate::providers::ReferenceKind;
use crate::queue::Priority;
use crate::render::target::{Source as TemplateSource, sources as template_sources};

/// PushSecrets, and the Secrets that each last took its values from.
#[derive(Default)]
pub(super) struct PushSecrets {
    all: HashMap<Key, Arc<PushSecret>>,
    sources: HashMap<Key, BTreeSet<String>>,
    /// The namespaces of which all are known, without a name the cluster.
    known: BTreeSet<Option<Arc<str>>>,
    /// How many pushes are under way to each store.
    under_way: HashMap<StoreId, usize>,
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

    /// The PushSecrets that a store concerns and that are not in line. Unless the store is `mended`, those of a generator wait out their
    /// pause: each of their tries makes a value.
    #[must_use]
    pub fn push_waiting(&self, id: &StoreId, mended: bool) -> Wakes {
        let Some(store) = self.store(id) else { return Wakes::new() };
        let priority = |ps: &PushSecret| match plan::source(ps) {
            Source::Generated(_) if !mended => Priority::Periodic,
            _ => initial(ps).min(Priority::Changed),
        };
        let waiting = self.push_users(&store).filter(|ps| !is_in_line(ps));
        waiting.map(|ps| (Key::of(&ps.metadata), priority(ps))).collect()
    }

    /// The PushSecrets on a generator that is `wanted`, which is also told whether they are in line.
    pub(super) fn push_generator_users(&self, wanted: impl Fn(&GeneratorId, bool) -> bool) -> Wakes {
        let users = self.push_secrets.all.iter();
        let users = users.filter(|(_, ps)| pushed_generator(ps).is_some_and(|id| wanted(&id, is_in_line(ps))));
        users
            .map(|(key, ps)| (key.clone(), if is_in_line(ps) { initial(ps) } else { initial(ps).min(Priority::Changed) }))
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
    /// it, and those who need a ClusterSecretStore are only known to who watches the cluster: others leave it as it is. Nor while a push to
    /// the store is under way.
    #[must_use]
    pub fn store_finalizer(&self, store: &AnyStore) -> Option<bool> {
        let wanted = stores::finalizer(store, self.push_users(store).map(AsRef::as_ref))?;
        if !wanted && self.push_secrets.under_way.contains_key(&StoreId::of(store)) {
            return None;
        }
        let is_certain = (wanted && store.kind == StoreKind::SecretStore) || self.push_secrets.are_known_of(store);
        is_certain.then_some(wanted)
    }

    /// A push to these stores begins: until its end none of them is let go. Not where one of them goes already, or is gone.
    pub fn begin_push(&mut self, stores: &[StoreId]) -> bool {
        let stays = |id: &StoreId| self.stores.get(id).is_some_and(|store| store.metadata.deletion_timestamp.is_none());
        let begins = stores.iter().all(stays);
        for id in stores.iter().filter(|_| begins) {
            *self.push_secrets.under_way.entry(id.clone()).or_default() += 1;
        }
        begins
    }

    /// It ended, and what it did is told: which stores must lose our finalizer now.
    pub fn end_push(&mut self, stores: &[StoreId]) -> Vec<StoreId> {
        for id in stores {
            if let Some(count) = self.push_secrets.under_way.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    self.push_secrets.under_way.remove(id);
                }
            }
        }
        let is_free = |id: &&StoreId| self.stores.get(*id).and_then(|store| self.store_finalizer(store)) == Some(false);
        stores.iter().filter(is_free).cloned().collect()
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
    pub(super) fn push_secrets_of(&self, namespace: &str) -> Wakes {
        self.waiting_pushes(namespace, |_| true)
    }

    /// Those of them whose template is made of a ConfigMap.
    pub(super) fn push_waiting_for_template(&self, config_map: &Key) -> Wakes {
        let names = |source: TemplateSource| source.kind == ReferenceKind::ConfigMap && *source.name == *config_map.name;
        let takes = |ps: &PushSecret| ps.spec.template.as_ref().is_some_and(|t| template_sources(t).into_iter().any(names));
        self.waiting_pushes(&config_map.namespace, takes)
    }

    fn waiting_pushes(&self, namespace: &str, which: impl Fn(&PushSecret) -> bool) -> Wakes {
        let inside = self.push_secrets.all.iter().filter(|(key, _)| &*key.namespace == namespace);
        let waiting = inside.filter(|(_, ps)| !is_in_line(ps) && which(ps));
        waiting.map(|(key, ps)| (key.clone(), initial(ps).min(Priority::Changed))).collect()
    }
}

fn is_in_line(ps: &PushSecret) -> bool {
    ps.ready().is_some_and(Condition::is_ready)
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
    use crate::index::StoreHealth;

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

    /// With a condition that says `ready`; one that was pushed before.
    fn told(name: &str, spec: &Value, ready: &str) -> Arc<PushSecret> {
        let mut ps = (*push_secret("a", name, spec)).clone();
        let status = json!({ "syncedResourceVersion": "1-x", "conditions": [{ "type": "Ready", "status": ready }] });
        ps.status = Some(serde_json::from_value(status).unwrap());
        Arc::new(ps)
    }

    fn names(wakes: Wakes) -> Vec<(String, Priority)> {
        let mut names: Vec<_> = wakes.into_iter().map(|(key, priority)| (key.name.to_string(), priority)).collect();
        names.sort();
        names
    }

    fn generated() -> Value {
        let mut spec = spec(json!({}), "None");
        spec["selector"] = json!({ "generatorRef": { "kind": "Password", "name": "g" } });
        spec
    }

    /// Else a store that is checked often has credentials made and taken back with each check.
    #[test]
    fn a_check_ends_no_pause_of_what_is_generated_unless_the_store_is_mended() {
        let mut index = Index::default();
        let (id, store) = (StoreId::of(&store("a", &[])), store("a", &[]));
        index.upsert_store(store);
        index.upsert_push_secret(told("in-line", &generated(), "True"));
        index.upsert_push_secret(told("made", &generated(), "False"));
        index.upsert_push_secret(told("read", &spec(json!({ "name": "src" }), "None"), "False"));
        let mut check = |ready| names(index.set_health(&id, StoreHealth { ready, ..StoreHealth::default() }).1);
        let both = |made| [("made".to_owned(), made), ("read".to_owned(), Priority::Changed)];
        assert_eq!(check(true), both(Priority::Changed), "the first check");
        assert_eq!(check(true), both(Priority::Periodic), "as before");
        assert_eq!(check(false), both(Priority::Periodic));
        assert_eq!(check(true), both(Priority::Changed), "it is back");
    }

    #[test]
    fn a_namespace_wakes_those_that_wait_when_its_labels_change() {
        let mut index = Index::default();
        index.upsert_push_secret(told("waits", &generated(), "False"));
        index.upsert_push_secret(told("in-line", &generated(), "True"));
        let mut see = |team: &str| names(index.upsert_namespace("a", [("team".to_owned(), team.to_owned())].into()).1);
        let woken = [("waits".to_owned(), Priority::Changed)];
        assert_eq!(see("one"), woken);
        assert!(see("one").is_empty(), "listed again, or annotated");
        assert_eq!(see("two"), woken);
    }

    /// A missing one would else be found at the next try, minutes later.
    #[test]
    fn a_config_map_wakes_those_whose_template_waits_for_it() {
        let from = |from: Value| {
            let mut spec = spec(json!({ "name": "src" }), "None");
            spec["template"] = json!({ "templateFrom": [from] });
            spec
        };
        let shape = from(json!({ "configMap": { "name": "shape", "items": [{ "key": "k" }] } }));
        let secret = from(json!({ "secret": { "name": "shape", "items": [{ "key": "k" }] } }));
        let mut index = Index::default();
        index.upsert_push_secret(told("waits", &shape, "False"));
        index.upsert_push_secret(told("in-line", &shape, "True"));
        index.upsert_push_secret(told("secret", &secret, "False"));
        let mut note =
            |namespace: &str, name: &str, version| names(index.note_config_map(&Key::new(namespace, name), version));
        let woken = [("waits".to_owned(), Priority::Changed)];
        assert!(note("b", "shape", Some("1")).is_empty());
        assert!(note("a", "other", Some("1")).is_empty());
        assert_eq!(note("a", "shape", Some("1")), woken);
        assert!(note("a", "shape", Some("1")).is_empty(), "listed again");
        assert_eq!(note("a", "shape", Some("2")), woken);
        assert_eq!(note("a", "shape", None), woken);
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

    /// Else it is let go before anybody knows that something was pushed there, and that stays for ever.
    #[test]
    fn no_store_is_let_go_while_something_is_pushed_to_it() {
        let mut index = Index::default();
        index.know_push_secrets(None);
        let leaving = || {
            let mut store = (*store("a", &[FINALIZER_STORE])).clone();
            store.metadata.deletion_timestamp = serde_json::from_value(json!("2026-06-01T12:00:00Z")).unwrap();
            Arc::new(store)
        };
        let id = StoreId::of(&leaving());
        let to = std::slice::from_ref(&id);
        index.upsert_store(store("a", &[FINALIZER_STORE]));
        index.upsert_push_secret(push_secret("a", "deletes", &spec(json!({ "name": "src" }), "Delete")));
        assert!(index.begin_push(to) && index.begin_push(to), "two objects push there");
        index.upsert_store(leaving());
        assert_eq!(index.store_finalizer(&leaving()), None);
        assert!(index.end_push(to).is_empty());
        assert_eq!(index.store_finalizer(&leaving()), None, "one is still under way");
        assert!(!index.begin_push(to), "no other begins");
        assert_eq!(index.end_push(to), to);
        assert_eq!(index.store_finalizer(&leaving()), Some(false), "nothing was pushed");

        index.upsert_store(store("a", &[FINALIZER_STORE]));
        assert!(index.begin_push(to));
        index.upsert_store(leaving());
        let mut pushed = (*push_secret("a", "deletes", &spec(json!({ "name": "src" }), "Delete"))).clone();
        let place = json!({ "r": { "match": { "remoteRef": { "remoteKey": "r" } } } });
        let status = json!({ "syncedPushSecrets": { "SecretStore/s": place } });
        pushed.status = Some(serde_json::from_value(status).unwrap());
        index.upsert_push_secret(Arc::new(pushed));
        assert!(index.end_push(to).is_empty(), "it is emptied first");
        assert!(index.push_secrets.under_way.is_empty());
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
