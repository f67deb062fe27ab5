//! What is known of PushSecrets: which stores they mean, and which Secrets they take values from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Index, Key, StoreId, Wakes, differs, forced, is_older};
use crate::api::{AnyStore, Condition, PushSecret, StoreKind};
use crate::plan::access;
use crate::plan::push_secret::{self as plan, Source, SourceVersion, stores};
use crate::queue::Priority;

/// PushSecrets, and the Secrets that each last took its values from.
#[derive(Default)]
pub(super) struct PushSecrets {
    all: HashMap<Key, Arc<PushSecret>>,
    sources: HashMap<Key, BTreeSet<String>>,
}

impl Index {
    /// A PushSecret appeared or changed. `None` where nothing that decides something did.
    pub fn upsert_push_secret(&mut self, new: Arc<PushSecret>) -> Option<Priority> {
        let key = Key::of(&new.metadata);
        let old = self.push_secrets.all.get(&key).cloned();
        if old.as_ref().is_some_and(|old| is_older(&new.metadata, &old.metadata)) {
            return None;
        }
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
        self.push_secrets.all.remove(key)
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
    #[must_use]
    pub fn push_users(&self, store: &AnyStore) -> Vec<Arc<PushSecret>> {
        let namespace = (store.kind == StoreKind::SecretStore).then(|| store.namespace().unwrap_or_default());
        let near = self.push_secrets.all.iter().filter(|(key, _)| namespace.is_none_or(|n| &*key.namespace == n));
        near.filter(|(_, ps)| stores::uses(ps, store)).map(|(_, ps)| ps.clone()).collect()
    }

    /// The PushSecrets that are to be looked at because a store changed: from what it was, or to what it is.
    #[must_use]
    pub fn push_wakes(&self, store: &AnyStore) -> Wakes {
        self.push_users(store).iter().map(|ps| (Key::of(&ps.metadata), Priority::Changed)).collect()
    }

    /// The PushSecrets that a store concerns and that are not in line.
    #[must_use]
    pub fn push_waiting(&self, id: &StoreId) -> Wakes {
        let Some(store) = self.store(id) else { return Wakes::new() };
        let waiting = self.push_users(&store).into_iter().filter(|ps| !ps.ready().is_some_and(Condition::is_ready));
        waiting.map(|ps| (Key::of(&ps.metadata), initial(&ps).min(Priority::Changed))).collect()
    }

    /// The stores among those that a PushSecret concerns that must get or lose our finalizer.
    #[must_use]
    pub fn stores_to_hold(&self, ps: &PushSecret) -> Vec<StoreId> {
        let near =
            self.stores.iter().filter(|(_, s)| s.namespace().is_none() || s.namespace() == ps.metadata.namespace.as_deref());
        let due = near.filter(|(_, store)| self.store_finalizer(store).is_some());
        due.map(|(id, _)| id.clone()).collect()
    }

    /// Whether our finalizer is to be put on a store, or taken off.
    #[must_use]
    pub fn store_finalizer(&self, store: &AnyStore) -> Option<bool> {
        stores::finalizer(store, self.push_users(store).iter().map(AsRef::as_ref))
    }

    /// Notes which Secrets a PushSecret takes its values from.
    pub fn set_push_sources(&mut self, key: &Key, names: BTreeSet<String>) {
        self.push_secrets.sources.insert(key.clone(), names);
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
