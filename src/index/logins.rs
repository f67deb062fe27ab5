//! The objects that stores log in with.

use super::{Index, Key, StoreId, references};
use crate::api::{AnyStore, StoreKind};
use crate::providers::ReferenceKind;

/// Stands for the version of an object that is gone: whoever has read it read another.
const GONE: &str = "gone";

/// Who logs in anew because an object changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// These stores, which are to be checked.
    pub stores: Vec<StoreId>,
    /// These stores, and only as consumers in the object's namespace.
    pub as_consumers: Vec<StoreId>,
}

/// What a store reads an object for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// To log in as consumers in the object's namespace.
    Consumers,
    /// To log in for all.
    All,
}

impl Index {
    /// An object that stores may log in with appeared or changed, or is gone (without a version): who logs in anew.
    /// `has_used` tells which have logged in with that very version, or have not read the object at all.
    pub fn touch_reference(
        &mut self,
        kind: ReferenceKind,
        key: &Key,
        version: Option<&str>,
        has_used: impl Fn(&StoreId, &str) -> bool,
    ) -> Touched {
        let (namespace, name) = (&*key.namespace, &*key.name);
        let mut users: Vec<(StoreId, Use)> = self
            .reference_users
            .get(&(kind, name.to_owned()))
            .into_iter()
            .flatten()
            .filter_map(|id| Some((id.clone(), self.refers(id, kind, namespace, name)?)))
            .collect();
        let slot = (kind, key.clone());
        let old = match version {
            Some(version) if !users.is_empty() => self.reference_versions.insert(slot, version.to_owned()),
            // also where the stores went first
            _ => self.reference_versions.remove(&slot),
        };
        if version.is_some() && old.as_deref() == version {
            return Touched::default();
        }
        users.retain(|(id, _)| !has_used(id, version.unwrap_or(GONE)));
        let mut touched = Touched::default();
        for (id, used) in users {
            if used == Use::Consumers {
                touched.as_consumers.push(id);
                continue;
            }
            let next = self.credentials(&id) + 1;
            self.credentials.insert(id.clone(), next);
            touched.stores.push(id);
        }
        touched
    }

    /// What a store reads the object for, if it does.
    fn refers(&self, id: &StoreId, kind: ReferenceKind, namespace: &str, name: &str) -> Option<Use> {
        let store = self.stores.get(id)?;
        let of_object = references(store).into_iter().filter(|r| r.kind == kind && r.name == name);
        let uses = of_object.filter_map(|r| match (store.kind, r.namespace.as_deref()) {
            (StoreKind::SecretStore, _) => (store.namespace() == Some(namespace)).then_some(Use::All),
            (StoreKind::ClusterSecretStore, Some(named)) => (named == namespace).then_some(Use::All),
            // referent authentication: whichever namespace the consumer is in
            (StoreKind::ClusterSecretStore, None) => Some(of_consumers(store)),
        });
        uses.max()
    }
}

/// What a ClusterSecretStore reads an object for that its reference names without a namespace. Changes of values are counted by store,
/// so that all look at theirs.
fn of_consumers(store: &AnyStore) -> Use {
    let provider = store.spec.provider.served();
    if provider.is_some_and(|p| p.is_referent() && !p.holds_values()) { Use::Consumers } else { Use::All }
}
