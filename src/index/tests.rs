//! The index against a plain scan of everything that there is.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{ClusterSecretStore, SecretStore};

/// Something that a watch brings.
#[derive(Clone, Debug)]
enum Event {
    ExternalSecret { name: &'static str, target: &'static str, stores: Vec<&'static str>, ready: bool },
    NoExternalSecret(&'static str),
    Store { name: &'static str, auth: &'static str },
    ClusterStore { name: &'static str, auth: &'static str, namespace: Option<&'static str> },
    NoStore(&'static str, StoreKind),
    Secret { namespace: &'static str, name: &'static str, owner: Option<&'static str> },
    NoSecret { namespace: &'static str, name: &'static str },
    Namespace { name: &'static str, team: &'static str },
    NoNamespace(&'static str),
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const NAMESPACES: [&str; 2] = ["ns", "other"];

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.to_vec())
}

fn namespace() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMESPACES.to_vec())
}

fn kind() -> impl Strategy<Value = StoreKind> {
    prop::sample::select(vec![StoreKind::SecretStore, StoreKind::ClusterSecretStore])
}

fn an_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (name(), name(), prop::collection::vec(name(), 0..3), any::<bool>())
            .prop_map(|(name, target, stores, ready)| Event::ExternalSecret { name, target, stores, ready }),
        name().prop_map(Event::NoExternalSecret),
        (name(), name()).prop_map(|(name, auth)| Event::Store { name, auth }),
        (name(), name(), prop::option::of(namespace())).prop_map(|(name, auth, namespace)| Event::ClusterStore {
            name,
            auth,
            namespace
        }),
        (name(), kind()).prop_map(|(name, kind)| Event::NoStore(name, kind)),
        (namespace(), name(), prop::option::of(name())).prop_map(|(namespace, name, owner)| Event::Secret {
            namespace,
            name,
            owner
        }),
        (namespace(), name()).prop_map(|(namespace, name)| Event::NoSecret { namespace, name }),
        (namespace(), name()).prop_map(|(name, team)| Event::Namespace { name, team }),
        namespace().prop_map(Event::NoNamespace),
    ]
}

fn external_secret(name: &str, target: &str, stores: &[&str], ready: bool, version: usize) -> ExternalSecret {
    let data: Vec<_> = stores
        .iter()
        .map(|store| json!({ "secretKey": store, "remoteRef": { "key": "k" }, "sourceRef": { "storeRef": { "name": store } } }))
        .collect();
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": name, "generation": version, "resourceVersion": version.to_string(),
        },
        "spec": { "secretStoreRef": { "name": "a", "kind": "ClusterSecretStore" }, "target": { "name": target }, "data": data },
        "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
    }))
    .unwrap()
}

fn store(name: &str, auth: &str, version: usize) -> AnyStore {
    let store: SecretStore = serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": name, "generation": version, "resourceVersion": version.to_string(),
        },
        "spec": { "provider": { "aws": { "service": "SecretsManager", "region": "eu-west-1", "auth": { "secretRef": {
            "accessKeyIDSecretRef": { "name": auth, "key": "id" },
            "secretAccessKeySecretRef": { "name": auth, "key": "key" },
        } } } } },
    }))
    .unwrap();
    store.into()
}

fn cluster_store(name: &str, auth: &str, namespace: Option<&str>, version: usize) -> AnyStore {
    let store: ClusterSecretStore = serde_json::from_value(json!({
        "metadata": { "name": name, "uid": name, "generation": version, "resourceVersion": version.to_string() },
        "spec": { "provider": { "aws": { "service": "SecretsManager", "region": "eu-west-1", "auth": { "secretRef": {
            "accessKeyIDSecretRef": { "name": auth, "namespace": namespace, "key": "id" },
            "secretAccessKeySecretRef": { "name": auth, "namespace": namespace, "key": "key" },
        } } } } },
    }))
    .unwrap();
    store.into()
}

fn secret(namespace: &str, name: &str, owner: Option<&str>, version: usize) -> ObjectMeta {
    let owners = owner.map(|uid| {
        json!([{ "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": uid, "uid": uid, "controller": true }])
    });
    serde_json::from_value(json!({
        "namespace": namespace, "name": name, "uid": name, "resourceVersion": version.to_string(), "ownerReferences": owners,
    }))
    .unwrap()
}

/// Everything that there is, as plain lists.
#[derive(Default)]
struct Cluster {
    external_secrets: BTreeMap<Key, ExternalSecret>,
    stores: BTreeMap<StoreId, AnyStore>,
    secrets: BTreeMap<Key, ObjectMeta>,
    namespaces: BTreeMap<&'static str, &'static str>,
}

impl Cluster {
    fn writers(&self, secret: &Key) -> BTreeSet<Key> {
        let writes =
            |(key, es): &(&Key, &ExternalSecret)| key.namespace == secret.namespace && *es.target_name() == *secret.name;
        self.external_secrets.iter().filter(writes).map(|(key, _)| key.clone()).collect()
    }

    fn unsynced(&self, uses: impl Fn(&Key, &ExternalSecret) -> bool) -> BTreeSet<Key> {
        let waits = |(key, es): &(&Key, &ExternalSecret)| {
            es.ready().is_some_and(|condition| condition.status != "True") && uses(key, es)
        };
        self.external_secrets.iter().filter(waits).map(|(key, _)| key.clone()).collect()
    }

    /// Stores that log in with a Secret.
    fn log_in_with(&self, secret: &Key) -> BTreeSet<StoreId> {
        let uses = |store: &AnyStore| {
            let references = store.spec.provider.served().unwrap().references();
            references.iter().any(|reference| {
                let namespace = match store.kind {
                    StoreKind::SecretStore => Some("ns"),
                    StoreKind::ClusterSecretStore => reference.namespace.as_deref(),
                };
                *reference.name == *secret.name && namespace.is_none_or(|n| *n == *secret.namespace)
            })
        };
        self.stores.iter().filter(|(_, store)| uses(store)).map(|(id, _)| id.clone()).collect()
    }

    /// Those of stores that log in for all, and those that log in as each of their consumers.
    fn split(&self, ids: &BTreeSet<StoreId>) -> [BTreeSet<StoreId>; 2] {
        let as_consumers = |id: &&StoreId| self.stores.get(*id).is_some_and(crate::fetch::is_referent);
        let (as_consumers, for_all) = ids.iter().partition::<Vec<_>, _>(as_consumers);
        [for_all, as_consumers].map(|ids| ids.into_iter().cloned().collect())
    }

    fn owned_by(&self, es: &Key) -> BTreeSet<Key> {
        let owned = |key: &Key, meta: &ObjectMeta| {
            key.namespace == es.namespace && controller_of(meta).is_some_and(|o| *o.name == *es.name)
        };
        self.secrets.iter().filter(|(key, meta)| owned(key, meta)).map(|(key, _)| key.clone()).collect()
    }
}

fn sorted(touched: &Touched) -> [BTreeSet<StoreId>; 2] {
    [&touched.stores, &touched.as_consumers].map(|ids| ids.iter().cloned().collect())
}

fn keys(wakes: Wakes) -> BTreeSet<Key> {
    wakes.into_iter().map(|(key, _)| key).collect()
}

/// Tells both of an event; whatever the index says of it must be what a scan says.
fn tell(index: &mut Index, cluster: &mut Cluster, event: &Event, version: usize) -> Result<(), TestCaseError> {
    match event {
        Event::ExternalSecret { name, target, stores, ready } => {
            let es = external_secret(name, target, stores, *ready, version);
            let new = !cluster.external_secrets.contains_key(&Key::new("ns", name));
            let wake = index.upsert_external_secret(Arc::new(es.clone()));
            prop_assert_eq!(wake, Some(if new { Priority::New } else { Priority::Changed }));
            prop_assert_eq!(index.upsert_external_secret(Arc::new(es.clone())), None, "the same again is no news");
            cluster.external_secrets.insert(Key::new("ns", name), es);
        }
        Event::NoExternalSecret(name) => {
            let key = Key::new("ns", name);
            prop_assert_eq!(index.remove_external_secret(&key).is_some(), cluster.external_secrets.remove(&key).is_some());
        }
        Event::Store { name, auth } => {
            let store = store(name, auth, version);
            prop_assert!(index.upsert_store(Arc::new(store.clone())));
            prop_assert!(!index.upsert_store(Arc::new(store.clone())));
            cluster.stores.insert(StoreId::of(&store), store);
        }
        Event::ClusterStore { name, auth, namespace } => {
            let store = cluster_store(name, auth, *namespace, version);
            prop_assert!(index.upsert_store(Arc::new(store.clone())));
            cluster.stores.insert(StoreId::of(&store), store);
        }
        Event::NoStore(name, kind) => {
            let namespace = if *kind == StoreKind::SecretStore { "ns" } else { "" };
            let id = StoreId { kind: *kind, key: Key::new(namespace, name) };
            index.remove_store(&id);
            cluster.stores.remove(&id);
        }
        Event::Secret { namespace, name, owner } => {
            let (key, meta) = (Key::new(namespace, name), secret(namespace, name, *owner, version));
            prop_assert_eq!(index.upsert_secret(&meta), cluster.writers(&key));
            prop_assert!(index.upsert_secret(&meta).is_empty(), "the same again is no news");
            let users = cluster.log_in_with(&key);
            let before: Vec<u64> = users.iter().map(|id| index.credentials(id)).collect();
            let touched = index.touch_reference(ReferenceKind::Secret, &key, Some(&version.to_string()), |_, _| false);
            prop_assert_eq!(sorted(&touched), cluster.split(&users));
            let bumped = |id: &StoreId, old: u64| index.credentials(id) > old;
            prop_assert!(users.iter().zip(before).all(|(id, old)| bumped(id, old) == touched.stores.contains(id)));
            let again = index.touch_reference(ReferenceKind::Secret, &key, Some(&version.to_string()), |_, _| false);
            prop_assert_eq!(again, Touched::default());
            cluster.secrets.insert(key, meta);
        }
        Event::NoSecret { namespace, name } => {
            let key = Key::new(namespace, name);
            prop_assert_eq!(index.remove_secret(&key), cluster.writers(&key));
            let touched = index.touch_reference(ReferenceKind::Secret, &key, None, |_, _| false);
            prop_assert_eq!(sorted(&touched), cluster.split(&cluster.log_in_with(&key)));
            cluster.secrets.remove(&key);
        }
        Event::Namespace { name, team } => {
            let labels = BTreeMap::from([("team".to_owned(), (*team).to_owned())]);
            let wakes = keys(index.upsert_namespace(name, labels).0);
            let news = cluster.namespaces.insert(name, team) != Some(team);
            let expected = if news { cluster.unsynced(|key, _| *key.namespace == **name) } else { BTreeSet::new() };
            prop_assert_eq!(wakes, expected);
        }
        Event::NoNamespace(name) => {
            index.remove_namespace(name);
            cluster.namespaces.remove(name);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_index_says_what_a_scan_would_say(events in prop::collection::vec(an_event(), 1..60)) {
        let (mut index, mut cluster) = (Index::default(), Cluster::default());
        for (version, event) in events.iter().enumerate() {
            tell(&mut index, &mut cluster, event, version + 1)?;
            for name in NAMES {
                for kind in [StoreKind::SecretStore, StoreKind::ClusterSecretStore] {
                    let id = StoreId::resolve(&SecretStoreRef { name: Some(name.into()), kind: Some(kind) }, "ns");
                    prop_assert_eq!(index.store(&id).is_some(), cluster.stores.contains_key(&id));
                    let health = || StoreHealth { generation: i64::try_from(version).unwrap(), ..StoreHealth::default() };
                    let held = cluster.stores.contains_key(&id);
                    let of_store = |es: &ExternalSecret| held && store_ids(es).contains(&id);
                    let all = cluster.external_secrets.iter().filter(|(_, es)| of_store(es)).map(|(key, _)| key.clone()).collect();
                    prop_assert_eq!(keys(index.set_health(&id, health()).0), all, "the first check of a revision");
                    let unsynced = cluster.unsynced(|_, es| of_store(es));
                    prop_assert_eq!(keys(index.set_health(&id, health()).0), unsynced, "a further one");
                }
                let es = Key::new("ns", name);
                let owned: BTreeSet<Key> = index.owned_by(&es).into_iter().map(|(key, _)| key).collect();
                prop_assert_eq!(owned, cluster.owned_by(&es));
                for namespace in NAMESPACES {
                    let key = Key::new(namespace, name);
                    let view = cluster.secrets.get(&key).map(TargetView::of);
                    prop_assert_eq!(index.secret(&key), view.as_ref());
                }
            }
            for namespace in NAMESPACES {
                let team = index.namespace_labels(namespace).and_then(|l| l.get("team").cloned());
                prop_assert_eq!(team.as_deref(), cluster.namespaces.get(namespace).copied());
            }
        }
        for key in cluster.external_secrets.keys() {
            index.remove_external_secret(key);
        }
        for key in cluster.secrets.keys() {
            index.remove_secret(key);
        }
        for id in cluster.stores.keys() {
            index.remove_store(id);
        }
        // the stores went before what they log in with
        for key in cluster.secrets.keys() {
            let touched = index.touch_reference(ReferenceKind::Secret, key, None, |_, _| false);
            prop_assert_eq!(touched, Touched::default());
        }
        let left = (index.store_users.len(), index.target_users.len(), index.owned.len(), index.reference_users.len());
        prop_assert_eq!(left, (0, 0, 0, 0), "nothing is left of what is gone");
        let left = (index.health.len(), index.credentials.len(), index.reference_versions.len());
        prop_assert_eq!(left, (0, 0, 0), "nor of its checks");
        prop_assert!(index.stood_in_for.is_empty());
    }
}

fn cluster_store_id(name: &str) -> StoreId {
    StoreId::resolve(&SecretStoreRef { name: Some(name.into()), kind: Some(StoreKind::ClusterSecretStore) }, "ns")
}

/// Else a Secret of one namespace would have a store log in anew for all the others.
#[test]
fn the_end_of_an_object_concerns_those_who_read_it() {
    let mut index = Index::default();
    for (name, namespace) in [("a", None), ("b", Some("ns")), ("c", None)] {
        index.upsert_store(Arc::new(cluster_store(name, "auth", namespace, 1)));
    }
    // as the logins tell: that of "c" has read nothing, the others the first version
    let has_used = |id: &StoreId, version: &str| *id.key.name == *"c" || version == "1";
    let touched = |index: &mut Index, version: Option<&str>| {
        index.touch_reference(ReferenceKind::Secret, &Key::new("ns", "auth"), version, has_used)
    };
    assert_eq!(touched(&mut index, Some("1")), Touched::default());
    let expected = Touched { stores: vec![cluster_store_id("b")], as_consumers: vec![cluster_store_id("a")] };
    assert_eq!(touched(&mut index, None), expected);
    let credentials = |name: &str| index.credentials(&cluster_store_id(name));
    assert_eq!(["a", "b", "c"].map(credentials), [0, 1, 0], "\"a\" is another login for one namespace only");
}

/// Values that are in such objects are news for those who follow them, also if they are synced: that is told by the counter.
#[test]
fn a_change_of_values_that_are_in_the_cluster_is_counted() {
    let mut index = Index::default();
    let store: ClusterSecretStore = serde_json::from_value(json!({
        "metadata": { "name": "a", "uid": "a", "generation": 1, "resourceVersion": "1" },
        "spec": { "provider": { "sops": { "source": { "configMap": { "name": "file", "key": "k" } } } } },
    }))
    .unwrap();
    index.upsert_store(Arc::new(store.into()));
    let touched = index.touch_reference(ReferenceKind::ConfigMap, &Key::new("ns", "file"), Some("1"), |_, _| false);
    assert_eq!(touched, Touched { stores: vec![cluster_store_id("a")], as_consumers: Vec::new() });
    assert_eq!(index.credentials(&cluster_store_id("a")), 1);
}

/// An ExternalSecret on the ClusterSecretStore "a".
fn user_of_a(index: &mut Index, namespace: &str, ready: bool) -> Key {
    let mut es = external_secret("es", "es", &[], ready, 1);
    es.metadata.namespace = Some(namespace.into());
    let key = Key::of(&es.metadata);
    index.upsert_external_secret(Arc::new(es));
    key
}

#[test]
fn those_of_one_namespace_wait_for_what_the_store_logs_in_with_there() {
    let mut index = Index::default();
    index.upsert_store(Arc::new(cluster_store("a", "auth", None, 1)));
    let waiting = user_of_a(&mut index, "ns", false);
    user_of_a(&mut index, "other", true);
    user_of_a(&mut index, "third", false);
    let waits = |namespace| keys(index.waiting_for_store(&cluster_store_id("a"), namespace));
    assert_eq!(waits("ns"), [waiting].into());
    assert_eq!(waits("other"), BTreeSet::new(), "it is synced");
}

#[test]
fn who_waits_for_a_store_is_woken_when_one_that_stands_in_for_it_is_back() {
    let mut index = Index::default();
    let main = |stand_in: &str, version| {
        let mut store = cluster_store("a", "auth", Some("ns"), version);
        let annotation = (crate::api::ANNOTATION_FAILOVER.to_owned(), stand_in.to_owned());
        store.metadata.annotations = Some([annotation].into());
        Arc::new(store)
    };
    index.upsert_store(main("dr", 1));
    index.upsert_store(Arc::new(cluster_store("dr", "auth", Some("ns"), 1)));
    let waiting = user_of_a(&mut index, "ns", false);
    user_of_a(&mut index, "other", true);
    let dr = cluster_store_id("dr");
    let check = |index: &mut Index, ready| {
        keys(index.set_health(&dr, StoreHealth { uid: "dr".into(), generation: 1, ready, ..StoreHealth::default() }).0)
    };
    assert_eq!(check(&mut index, false), BTreeSet::new(), "it cannot be used either");
    assert_eq!(check(&mut index, true), [waiting.clone()].into());
    assert_eq!(check(&mut index, true), BTreeSet::new(), "nothing changed");
    assert_eq!(keys(index.waiting_for_store(&dr, "ns")), [waiting].into());
    check(&mut index, false);
    index.upsert_store(main("elsewhere", 2));
    assert_eq!(check(&mut index, true), BTreeSet::new(), "it stands in for nobody any more");
}

#[test]
fn an_older_object_than_the_one_held_is_not_taken() {
    let mut index = Index::default();
    let es = |version| Arc::new(external_secret("a", "a", &[], true, version));
    assert_eq!(index.upsert_external_secret(es(10)), Some(Priority::New));
    assert_eq!(index.upsert_external_secret(es(9)), None);
    assert_eq!(index.external_secret(&Key::new("ns", "a")).unwrap().metadata.generation, Some(10));
    // made anew, it starts from the beginning
    let mut anew = external_secret("a", "a", &[], true, 9);
    anew.metadata.uid = Some("another".into());
    assert_eq!(index.upsert_external_secret(Arc::new(anew)), Some(Priority::Changed));
}

#[test]
fn how_urgent_a_change_is() {
    let mut index = Index::default();
    let mut es = external_secret("a", "a", &[], true, 1);
    es.status.as_mut().unwrap().synced_resource_version = Some("1-x".into());
    assert_eq!(index.upsert_external_secret(Arc::new(es.clone())), Some(Priority::Periodic), "it was synced before");
    es.status.as_mut().unwrap().conditions.clear();
    assert_eq!(index.upsert_external_secret(Arc::new(es.clone())), None, "status only");
    for name in [ANNOTATION_FORCE_SYNC, ANNOTATION_FORCE_SYNC_SHORT] {
        es.metadata.annotations.get_or_insert_default().insert(name.into(), "now".into());
        assert_eq!(index.upsert_external_secret(Arc::new(es.clone())), Some(Priority::Forced), "{name}");
    }
    es.metadata.annotations = None;
    assert_eq!(index.upsert_external_secret(Arc::new(es)), Some(Priority::Changed), "taken off: an edit like another");
}

/// An ExternalSecret of namespace `ns` that takes its template from a ConfigMap.
fn templated(ready: &str, follow: bool) -> ExternalSecret {
    let annotations = if follow { json!({ "keyferry.io/follow-templates": "true" }) } else { json!({}) };
    serde_json::from_value(json!({
        "metadata": { "name": "es", "namespace": "ns", "uid": "u", "resourceVersion": "1", "annotations": annotations },
        "spec": { "target": { "template": { "templateFrom": [{ "configMap": { "name": "cm", "items": [] } }] } } },
        "status": { "syncedResourceVersion": "1-x", "conditions": [{ "type": "Ready", "status": ready }] },
    }))
    .unwrap()
}

#[test]
fn a_source_of_templates_wakes_those_that_wait_for_it_or_follow_it() {
    let cm = |namespace: &str| Key::new(namespace, "cm");
    for (ready, follow, wakes) in [("True", false, false), ("True", true, true), ("False", false, true)] {
        let mut index = Index::default();
        let es = templated(ready, follow);
        index.upsert_external_secret(Arc::new(es.clone()));
        let woken = |index: &Index, kind, key| !index.waiting_for_source(kind, &key).is_empty();
        assert_eq!(woken(&index, ReferenceKind::ConfigMap, cm("ns")), wakes, "{ready} {follow}");
        assert!(!woken(&index, ReferenceKind::ConfigMap, cm("other")), "another namespace's");
        assert!(!woken(&index, ReferenceKind::Secret, cm("ns")), "another kind's");

        let key = Key::new("ns", "es");
        let version = |index: &Index| index.sources(&key, &es).into_values().next().unwrap();
        assert_eq!(version(&index), None);
        index.note_config_map(&cm("other"), Some("3"));
        assert_eq!(version(&index), None);
        index.note_config_map(&cm("ns"), Some("4"));
        assert_eq!(version(&index).as_deref(), Some("4"));
        index.note_config_map(&cm("ns"), None);
        assert_eq!(version(&index), None);
        index.remove_external_secret(&key);
        assert!(index.source_users.is_empty());
    }
}

#[test]
fn targets_of_other_kinds_are_told_apart() {
    let kind = ManifestRef { api_version: "example.org/v1".into(), kind: "Thing".into() };
    let es: ExternalSecret = serde_json::from_value(json!({
        "metadata": { "name": "es", "namespace": "ns", "uid": "u" }, "spec": { "target": { "name": "t", "manifest": kind } },
    }))
    .unwrap();
    let (key, target) = (Key::new("ns", "es"), Key::new("ns", "t"));
    let mut index = Index::default();
    index.upsert_external_secret(Arc::new(es.clone()));
    assert!(index.is_manifest_used(&kind));
    let secret = ObjectMeta { name: Some("t".into()), namespace: Some("ns".into()), ..ObjectMeta::default() };
    assert!(index.upsert_secret(&secret).is_empty(), "a Secret of that name is nothing to it");
    assert_eq!(index.target(&key, &es), None);
    let view = TargetView { resource_version: "5".into(), ..TargetView::default() };
    assert_eq!(index.note_manifest(&kind, &target, Some(view.clone())), [key.clone()].into());
    assert!(index.note_manifest(&kind, &target, Some(view.clone())).is_empty(), "nothing changed");
    assert_eq!(index.target(&key, &es), Some(&view));
    assert_eq!(index.note_manifest(&kind, &target, None), [key.clone()].into());
    index.remove_external_secret(&key);
    assert!(!index.is_manifest_used(&kind));
    assert!(index.manifest_users.is_empty());
}

/// The answer to our own write may come after the watch has told that the object is gone.
#[test]
fn what_went_does_not_come_back_by_our_own_write() {
    let mut index = Index::default();
    let es = |uid: &str, version: &str| -> Arc<ExternalSecret> {
        let meta = json!({ "namespace": "ns", "name": "es", "uid": uid, "resourceVersion": version });
        Arc::new(serde_json::from_value(json!({ "metadata": meta, "spec": {} })).unwrap())
    };
    let key = Key::new("ns", "es");
    index.renew_external_secret(es("one", "1"));
    assert!(index.external_secret(&key).is_none(), "it was never told of");
    index.upsert_external_secret(es("one", "1"));
    index.renew_external_secret(es("one", "2"));
    assert_eq!(index.external_secret(&key).unwrap().metadata.resource_version.as_deref(), Some("2"));
    index.remove_external_secret(&key);
    index.renew_external_secret(es("one", "3"));
    assert!(index.external_secret(&key).is_none(), "it is gone");
    index.upsert_external_secret(es("two", "4"));
    index.renew_external_secret(es("one", "5"));
    assert_eq!(index.external_secret(&key).unwrap().metadata.uid.as_deref(), Some("two"), "another took its place");
}

/// Somebody's edit may come with the answer to our own write, before the watch brings it: that is the only time it is told.
#[test]
fn a_refresh_that_is_asked_for_as_we_write_is_told_once() {
    let mut index = Index::default();
    let mut es = external_secret("a", "a", &[], true, 1);
    index.upsert_external_secret(Arc::new(es.clone()));
    es.metadata.resource_version = Some("2".into());
    assert_eq!(index.renew_external_secret(Arc::new(es.clone())), None, "our own status");
    es.metadata.resource_version = Some("3".into());
    es.metadata.annotations = Some([(ANNOTATION_FORCE_SYNC.to_owned(), "now".to_owned())].into());
    assert_eq!(index.renew_external_secret(Arc::new(es.clone())), Some(Priority::Forced));
    assert_eq!(index.upsert_external_secret(Arc::new(es)), None, "the watch brings the same");
}
