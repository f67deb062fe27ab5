//! The objects that stores log in with.

use super::{Index, Key, StoreId, references};
use crate::api::StoreKind;
use crate::providers::ReferenceKind;

/// Stands for the version of an object that is gone: whoever has read it read another.
const GONE: &str = "gone";

impl Index {
    /// An object that stores may log in with appeared or changed, or is gone (without a version): which stores are to be checked.
    /// `has_used` tells which have logged in with that very version, or have not read the object at all.
    pub fn touch_reference(
        &mut self,
        kind: ReferenceKind,
        key: &Key,
        version: Option<&str>,
        has_used: impl Fn(&StoreId, &str) -> bool,
    ) -> Vec<StoreId> {
        let (namespace, name) = (&*key.namespace, &*key.name);
        let mut users: Vec<StoreId> = self
            .reference_users
            .get(&(kind, name.to_owned()))
            .into_iter()
            .flatten()
            .filter(|id| self.refers(id, kind, namespace, name))
            .cloned()
            .collect();
        let slot = (kind, key.clone());
        let old = match version {
            Some(version) if !users.is_empty() => self.reference_versions.insert(slot, version.to_owned()),
            // also where the stores went first
            _ => self.reference_versions.remove(&slot),
        };
        if version.is_some() && old.as_deref() == version {
            return Vec::new();
        }
        users.retain(|id| !has_used(id, version.unwrap_or(GONE)));
        for id in &users {
            let next = self.credentials(id) + 1;
            self.credentials.insert(id.clone(), next);
        }
        users
    }

    /// Whether some store logs in with the object.
    fn refers(&self, id: &StoreId, kind: ReferenceKind, namespace: &str, name: &str) -> bool {
        let Some(store) = self.stores.get(id) else { return false };
        references(store).iter().any(|r| {
            r.kind == kind
                && r.name == name
                && match (store.kind, r.namespace.as_deref()) {
                    (StoreKind::SecretStore, _) => store.namespace() == Some(namespace),
                    (StoreKind::ClusterSecretStore, Some(named)) => named == namespace,
                    // referent authentication: whichever namespace the consumer is in
                    (StoreKind::ClusterSecretStore, None) => true,
                }
        })
    }
}
