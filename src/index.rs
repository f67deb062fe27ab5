//! What is known of the cluster, and who depends on what. Pure: watches feed it, reconciles ask it.
//!
//! Secrets are held as the few metadata fields that decide something, never as data.

mod fan_out;
mod generators;
mod logins;
mod manifests;
mod push_secret;
mod renew;
#[cfg(test)]
mod tests;

pub use fan_out::{NamespaceView, ParentId};
pub use logins::Touched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::external_secret::{ManifestRef, SecretStoreRef};
use crate::api::{
    ANNOTATION_FORCE_SYNC, ANNOTATION_FORCE_SYNC_SHORT, AnyStore, ExternalSecret, LABEL_CREATED_BY, LABEL_MANAGED,
    LABEL_MANAGED_VALUE, StoreKind,
};
use crate::plan::failover;
use crate::plan::template::{Versions, follows_sources};
use crate::providers::{Reference, ReferenceKind};
use crate::queue::Priority;
use crate::render::target::{Source, sources};

pub use generators::{AnyGenerator, GeneratorFacts, GeneratorId, GeneratorWakes, generator_ids, pushed_generator};

/// Namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its two parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A store: its kind, and its key (without namespace for a ClusterSecretStore).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId {
    /// Kind of the store.
    pub kind: StoreKind,
    /// Namespace and name.
    pub key: Key,
}

impl StoreId {
    /// The store that a reference means, seen from a namespace.
    #[must_use]
    pub fn resolve(reference: &SecretStoreRef, namespace: &str) -> Self {
        let kind = reference.kind.unwrap_or_default();
        let name = reference.name.as_deref().unwrap_or_default();
        let namespace = if kind == StoreKind::ClusterSecretStore { "" } else { namespace };
        Self { kind, key: Key::new(namespace, name) }
    }

    /// The id of a store.
    #[must_use]
    pub fn of(store: &AnyStore) -> Self {
        Self { kind: store.kind, key: Key::of(&store.metadata) }
    }
}

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// What a Secret's metadata says that decides something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetView {
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// Whether it carries the managed label.
    pub managed: bool,
    /// Value of the created-by label.
    pub created_by: Option<String>,
    /// Uid of the owner that is controller.
    pub controller: Option<String>,
    /// Name of that owner, if it is an ExternalSecret: the uid may be of one that was deleted and made again.
    pub owner: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl TargetView {
    /// Takes what decides something out of a Secret's metadata.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        let label = |name: &str| meta.labels.as_ref().and_then(|l| l.get(name));
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            managed: label(LABEL_MANAGED).is_some_and(|v| v == LABEL_MANAGED_VALUE),
            created_by: label(LABEL_CREATED_BY).cloned(),
            controller: controller_of(meta).map(|o| o.uid.clone()),
            owner: controller_of(meta).filter(|o| is_external_secret(o)).map(|o| o.name.clone()),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }
}

/// The owner of an object that is its controller.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|o| o.controller == Some(true))
}

/// Whether an owner is an ExternalSecret.
#[must_use]
pub fn is_external_secret(owner: &OwnerReference) -> bool {
    owner.kind == "ExternalSecret" && owner.api_version.starts_with("external-secrets.io/")
}

/// What the last check of a store came to, as long as this process lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Uid of the store that was checked: one that comes back under the same name is another.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Version of the objects that it logs in with.
    pub credentials: u64,
    /// Whether it may be used.
    pub ready: bool,
    /// Whether that is because the provider is.
    pub unavailable: bool,
    /// Why not.
    pub cause: String,
}

impl StoreHealth {
    /// Whether both checks saw the same revision of the same store.
    fn is_of_revision_of(&self, other: &Self) -> bool {
        let revision = |health: &Self| (health.uid.clone(), health.generation, health.credentials);
        revision(self) == revision(other)
    }
}

/// Objects that are to be looked at, and why.
pub type Wakes = Vec<(Key, Priority)>;

/// The index. Not shared by itself: the controllers keep it behind a lock.
#[derive(Default)]
pub struct Index {
    external_secrets: HashMap<Key, Arc<ExternalSecret>>,
    stores: HashMap<StoreId, Arc<AnyStore>>,
    health: HashMap<StoreId, StoreHealth>,
    namespaces: HashMap<Arc<str>, Arc<BTreeMap<String, String>>>,
    secrets: HashMap<Key, TargetView>,
    store_users: HashMap<StoreId, BTreeSet<Key>>,
    stood_in_for: HashMap<StoreId, BTreeSet<StoreId>>,
    target_users: HashMap<Key, BTreeSet<Key>>,
    owned: HashMap<Key, BTreeSet<Key>>,
    reference_users: HashMap<(ReferenceKind, String), BTreeSet<StoreId>>,
    credentials: HashMap<StoreId, u64>,
    reference_versions: HashMap<(ReferenceKind, Key), String>,
    generators: generators::Generators,
    push_secrets: push_secret::PushSecrets,
    source_users: HashMap<(ReferenceKind, Key), BTreeSet<Key>>,
    manifest_users: HashMap<ManifestRef, HashMap<Key, BTreeSet<Key>>>,
    manifests: HashMap<ManifestRef, HashMap<Key, TargetView>>,
    config_maps: HashMap<Key, String>,
    fan_out: fan_out::FanOut,
}

impl Index {
    /// An ExternalSecret appeared or changed. `None` where nothing that decides something did.
    pub fn upsert_external_secret(&mut self, new: Arc<ExternalSecret>) -> Option<Priority> {
        let key = Key::of(&new.metadata);
        let old = self.external_secrets.get(&key).cloned();
        if old.as_ref().is_some_and(|old| is_older(&new.metadata, &old.metadata)) {
            return None;
        }
        if let Some(old) = &old {
            self.unlink(&key, old);
        }
        self.link(&key, &new);
        self.external_secrets.insert(key, new.clone());
        match old {
            None => Some(initial_priority(&new)),
            Some(old) if forced(&old.metadata, &new.metadata) => Some(Priority::Forced),
            Some(old) if differs(&old.metadata, &new.metadata) => Some(Priority::Changed),
            Some(_) => None,
        }
    }

    /// An ExternalSecret is gone.
    pub fn remove_external_secret(&mut self, key: &Key) -> Option<Arc<ExternalSecret>> {
        let old = self.external_secrets.remove(key)?;
        self.unlink(key, &old);
        Some(old)
    }

    /// The ExternalSecret of a key.
    #[must_use]
    pub fn external_secret(&self, key: &Key) -> Option<Arc<ExternalSecret>> {
        self.external_secrets.get(key).cloned()
    }

    /// A store appeared or changed: whether it is to be checked.
    pub fn upsert_store(&mut self, new: Arc<AnyStore>) -> bool {
        let id = StoreId::of(&new);
        let old = self.stores.get(&id);
        if old.is_some_and(|old| is_older(&new.metadata, &old.metadata)) {
            return false;
        }
        let changed = old.is_none_or(|old| old.metadata.uid != new.metadata.uid || differs(&old.metadata, &new.metadata));
        if let Some(old) = old.cloned() {
            self.unlink_store(&id, &old);
        }
        for reference in references(&new) {
            self.reference_users.entry((reference.kind, reference.name)).or_default().insert(id.clone());
        }
        for stand_in in stand_ins(&new) {
            self.stood_in_for.entry(stand_in).or_default().insert(id.clone());
        }
        self.stores.insert(id, new);
        changed
    }

    /// A store is gone.
    pub fn remove_store(&mut self, id: &StoreId) {
        if let Some(old) = self.stores.remove(id) {
            self.unlink_store(id, &old);
        }
        self.health.remove(id);
        self.credentials.remove(id);
    }

    /// The store of an id.
    #[must_use]
    pub fn store(&self, id: &StoreId) -> Option<Arc<AnyStore>> {
        self.stores.get(id).cloned()
    }

    /// Counts the changes of the objects that a store logs in with.
    #[must_use]
    pub fn credentials(&self, id: &StoreId) -> u64 {
        self.credentials.get(id).copied().unwrap_or_default()
    }

    /// What the last check of a store came to.
    #[must_use]
    pub fn health(&self, id: &StoreId) -> Option<&StoreHealth> {
        self.health.get(id)
    }

    /// Notes what a check of a store came to, and says who waited for it: its users that are not synced, and after the first
    /// check of a revision all of them, as also one that is synced may have become due meanwhile. Where it can be used again, also those
    /// that wait for a store in whose place it stands. A store that went during the check has none to note. Gives ExternalSecrets, and
    /// PushSecrets.
    pub fn set_health(&mut self, id: &StoreId, health: StoreHealth) -> (Wakes, Wakes) {
        if !self.stores.contains_key(id) {
            return Default::default();
        }
        let old = self.health.get(id).filter(|old| old.is_of_revision_of(&health));
        let (first, recovered) = (old.is_none(), health.ready && old.is_none_or(|old| !old.ready));
        self.health.insert(id.clone(), health);
        let own = self.users(id).filter(|(_, es)| first || !is_synced(es));
        let stood_in = self.stood_in_users(id).filter(|(_, es)| recovered && !is_synced(es));
        let waiting = own.chain(stood_in).map(|(key, es)| (key.clone(), urgency(es))).collect();
        (waiting, self.push_waiting(id, recovered))
    }

    /// The ExternalSecrets of a namespace that wait for a store, or for one in whose place it stands.
    #[must_use]
    pub fn waiting_for_store(&self, id: &StoreId, namespace: &str) -> Wakes {
        let users = self.users(id).chain(self.stood_in_users(id));
        let waiting = users.filter(|(key, es)| *key.namespace == *namespace && !is_synced(es));
        waiting.map(|(key, es)| (key.clone(), urgency(es))).collect()
    }

    fn users(&self, id: &StoreId) -> impl Iterator<Item = (&Key, &ExternalSecret)> {
        let users = self.store_users.get(id).into_iter().flatten();
        users.filter_map(|key| Some((key, self.external_secrets.get(key)?.as_ref())))
    }

    /// The users of those stores in whose place a store stands while they are unavailable.
    fn stood_in_users(&self, id: &StoreId) -> impl Iterator<Item = (&Key, &ExternalSecret)> {
        self.stood_in_for.get(id).into_iter().flatten().flat_map(move |store| self.users(store))
    }

    /// A Secret appeared or changed: which ExternalSecrets write it, or wrote it.
    pub fn upsert_secret(&mut self, meta: &ObjectMeta) -> BTreeSet<Key> {
        let key = Key::of(meta);
        let new = TargetView::of(meta);
        let old = self.secrets.get(&key).cloned();
        if old.as_ref() == Some(&new) {
            return BTreeSet::new();
        }
        self.unlink_secret(&key, old.as_ref());
        if let Some(owner) = &new.owner {
            self.owned.entry(Key::new(&key.namespace, owner)).or_default().insert(key.clone());
        }
        self.secrets.insert(key.clone(), new);
        self.target_users.get(&key).cloned().unwrap_or_default()
    }

    /// A Secret is gone: which ExternalSecrets write it.
    pub fn remove_secret(&mut self, key: &Key) -> BTreeSet<Key> {
        let old = self.secrets.remove(key);
        self.unlink_secret(key, old.as_ref());
        self.target_users.get(key).cloned().unwrap_or_default()
    }

    /// What is known of a Secret.
    #[must_use]
    pub fn secret(&self, key: &Key) -> Option<&TargetView> {
        self.secrets.get(key)
    }

    /// Secrets whose controller is this ExternalSecret, or was one of its name.
    #[must_use]
    pub fn owned_by(&self, external_secret: &Key) -> Vec<(Key, TargetView)> {
        let keys = self.owned.get(external_secret).into_iter().flatten();
        keys.filter_map(|key| Some((key.clone(), self.secrets.get(key)?.clone()))).collect()
    }

    /// What is known of the target of an ExternalSecret.
    #[must_use]
    pub fn target(&self, key: &Key, es: &ExternalSecret) -> Option<&TargetView> {
        let target = target_key(key, es);
        match manifest_of(es) {
            Some(kind) => self.manifests.get(kind)?.get(&target),
            None => self.secrets.get(&target),
        }
    }

    /// A ConfigMap appeared or changed, or is gone (without a version): which PushSecrets with a template from it are not in line.
    pub fn note_config_map(&mut self, key: &Key, version: Option<&str>) -> Wakes {
        let old = match version {
            Some(version) => self.config_maps.insert(key.clone(), version.to_owned()),
            None => self.config_maps.remove(key),
        };
        if old.as_deref() == version { Wakes::new() } else { self.push_waiting_for_template(key) }
    }

    /// An object that templates may come from appeared or changed, or is gone: which ExternalSecrets are to be looked at. Those that
    /// are synced take it at their next refresh, as under ESO, unless they ask for more.
    #[must_use]
    pub fn waiting_for_source(&self, kind: ReferenceKind, key: &Key) -> Wakes {
        let users = self.source_users.get(&(kind, key.clone())).into_iter().flatten();
        let users = users.filter_map(|user| Some((user, self.external_secrets.get(user)?)));
        let waiting = users.filter(|(_, es)| !is_synced(es) || follows_sources(es));
        waiting.map(|(user, es)| (user.clone(), initial_priority(es).min(Priority::Changed))).collect()
    }

    /// resourceVersions of the ConfigMaps and Secrets that the template of an ExternalSecret names.
    #[must_use]
    pub fn sources(&self, key: &Key, es: &ExternalSecret) -> Versions {
        let version = |source: Source| {
            let object = Key::new(&key.namespace, &source.name);
            let version = match source.kind {
                ReferenceKind::Secret => self.secrets.get(&object).map(|view| view.resource_version.clone()),
                _ => self.config_maps.get(&object).cloned(),
            };
            (source, version)
        };
        sources_of(es).into_iter().map(version).collect()
    }

    /// A namespace appeared or changed: which ExternalSecrets in it are not synced, and which PushSecrets.
    pub fn upsert_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) -> (Wakes, Wakes) {
        if self.namespaces.get(name).is_some_and(|old| **old == labels) {
            return Default::default();
        }
        self.namespaces.insert(name.into(), Arc::new(labels));
        let inside = self.external_secrets.iter().filter(|(key, _)| &*key.namespace == name);
        let waiting = inside.filter(|(_, es)| !is_synced(es));
        let waiting = waiting.map(|(key, es)| (key.clone(), initial_priority(es).min(Priority::Changed))).collect();
        (waiting, self.push_secrets_of(name))
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Labels of a namespace.
    #[must_use]
    pub fn namespace_labels(&self, name: &str) -> Option<Arc<BTreeMap<String, String>>> {
        self.namespaces.get(name).cloned()
    }

    fn link(&mut self, key: &Key, es: &ExternalSecret) {
        for id in store_ids(es) {
            self.store_users.entry(id).or_default().insert(key.clone());
        }
        for source in sources_of(es) {
            self.source_users.entry(source_slot(key, &source)).or_default().insert(key.clone());
        }
        let users = match manifest_of(es) {
            Some(kind) => self.manifest_users.entry(kind.clone()).or_default(),
            None => &mut self.target_users,
        };
        users.entry(target_key(key, es)).or_default().insert(key.clone());
        self.fan_out.link(key, &es.metadata);
        self.generators.link(key, es);
    }

    fn unlink(&mut self, key: &Key, es: &ExternalSecret) {
        for id in store_ids(es) {
            remove_user(&mut self.store_users, &id, key);
        }
        self.generators.unlink(key, es);
        self.fan_out.unlink(key, &es.metadata);
        for source in sources_of(es) {
            remove_user(&mut self.source_users, &source_slot(key, &source), key);
        }
        let Some(kind) = manifest_of(es) else {
            return remove_user(&mut self.target_users, &target_key(key, es), key);
        };
        if let Some(users) = self.manifest_users.get_mut(kind) {
            remove_user(users, &target_key(key, es), key);
            if users.is_empty() {
                self.manifest_users.remove(kind);
            }
        }
    }

    fn unlink_store(&mut self, id: &StoreId, store: &AnyStore) {
        for reference in references(store) {
            remove_user(&mut self.reference_users, &(reference.kind, reference.name), id);
        }
        for stand_in in stand_ins(store) {
            remove_user(&mut self.stood_in_for, &stand_in, id);
        }
    }

    fn unlink_secret(&mut self, key: &Key, view: Option<&TargetView>) {
        if let Some(owner) = view.and_then(|v| v.owner.as_ref()) {
            remove_user(&mut self.owned, &Key::new(&key.namespace, owner), key);
        }
    }
}

/// The Secret that an ExternalSecret writes.
#[must_use]
pub fn target_key(key: &Key, es: &ExternalSecret) -> Key {
    Key { namespace: key.namespace.clone(), name: es.target_name().into() }
}

/// All stores that an ExternalSecret names.
#[must_use]
pub fn store_ids(es: &ExternalSecret) -> BTreeSet<StoreId> {
    let namespace = es.metadata.namespace.as_deref().unwrap_or_default();
    let own = es.spec.secret_store_ref.iter();
    let data = es.spec.data.iter().filter_map(|d| d.source_ref.as_ref()?.store_ref.as_ref());
    let from = es.spec.data_from.iter().filter_map(|d| d.source_ref.as_ref()?.store_ref.as_ref());
    own.chain(data).chain(from).map(|r| StoreId::resolve(r, namespace)).collect()
}

fn manifest_of(es: &ExternalSecret) -> Option<&ManifestRef> {
    es.spec.target.as_ref()?.manifest.as_ref()
}

fn sources_of(es: &ExternalSecret) -> BTreeSet<Source> {
    es.spec.target.as_ref().and_then(|t| t.template.as_ref()).map(sources).unwrap_or_default()
}

fn source_slot(user: &Key, source: &Source) -> (ReferenceKind, Key) {
    (source.kind, Key::new(&user.namespace, &source.name))
}

fn references(store: &AnyStore) -> Vec<Reference> {
    store.spec.provider.served().map(|p| p.references()).unwrap_or_default()
}

fn stand_ins(store: &AnyStore) -> Vec<StoreId> {
    failover::stand_ins(store).unwrap_or_default()
}

fn remove_user<K: Eq + std::hash::Hash, U: Ord>(map: &mut HashMap<K, BTreeSet<U>>, key: &K, user: &U) {
    if let Some(users) = map.get_mut(key) {
        users.remove(user);
        if users.is_empty() {
            map.remove(key);
        }
    }
}

/// In which line an ExternalSecret starts.
fn initial_priority(es: &ExternalSecret) -> Priority {
    let synced = es.status.as_ref().is_some_and(|s| s.synced_resource_version.is_some());
    if synced { Priority::Periodic } else { Priority::New }
}

fn is_synced(es: &ExternalSecret) -> bool {
    es.ready().is_some_and(crate::api::Condition::is_ready)
}

/// How urgent an object is that may go on now.
fn urgency(es: &ExternalSecret) -> Priority {
    let initial = initial_priority(es);
    if is_synced(es) { initial } else { initial.min(Priority::Changed) }
}

/// Whether a watch brings an object that is older than the one that we hold (say, from the answer to our own write).
fn is_older(new: &ObjectMeta, held: &ObjectMeta) -> bool {
    if new.uid != held.uid {
        return false;
    }
    match (version(new), version(held)) {
        (Some(new), Some(held)) => new < held,
        _ => false,
    }
}

/// A resourceVersion as a number: they are comparable as such since Kubernetes 1.35 (KEP-5504), and were so in practice.
fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

/// Whether more than the status changed.
fn differs(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.uid != new.uid
        || old.generation != new.generation
        || old.labels != new.labels
        || old.annotations != new.annotations
        || old.finalizers != new.finalizers
        || old.deletion_timestamp != new.deletion_timestamp
}

/// Whether the force-sync annotation was set anew.
fn forced(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    [ANNOTATION_FORCE_SYNC, ANNOTATION_FORCE_SYNC_SHORT].iter().any(|name| {
        let of = |meta: &ObjectMeta| meta.annotations.as_ref().and_then(|a| a.get(*name)).cloned();
        let value = of(new);
        value.is_some() && value != of(old)
    })
}
