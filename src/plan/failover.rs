//! Which stores are read from while one is unavailable.

use crate::api::{ANNOTATION_FAILOVER, AnyStore, StoreKind};
use crate::index::{Key, StoreId};

/// Most stores that may stand in for one: each is one more wait for who reads in an outage.
const MOST: usize = 4;

/// The stores that stand in for a store, in the order in which they are asked. A stand-in's own annotation is not followed.
///
/// # Errors
/// Says what is wrong with the annotation, and what to do.
pub fn stand_ins(store: &AnyStore) -> Result<Vec<StoreId>, String> {
    let annotation = store.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION_FAILOVER));
    let names = annotation.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let ids = names.map(|name| stand_in(store, name)).collect::<Result<Vec<_>, _>>()?;
    if ids.len() > MOST {
        return Err(format!("annotation {ANNOTATION_FAILOVER} names {} stores: {MOST} may stand in for one", ids.len()));
    }
    Ok(ids)
}

fn stand_in(store: &AnyStore, text: &str) -> Result<StoreId, String> {
    let (kind, name) = match text.split_once('/') {
        Some((kind, name)) => {
            let kinds = [StoreKind::SecretStore, StoreKind::ClusterSecretStore];
            (kinds.into_iter().find(|known| known.as_str() == kind), name)
        }
        None => (Some(store.kind), text),
    };
    let wrong = |what: &str| Err(format!("annotation {ANNOTATION_FAILOVER}: {text:?} {what}"));
    match (kind, store.kind) {
        (None, _) => wrong("is neither a name nor SecretStore/NAME or ClusterSecretStore/NAME"),
        (_, _) if name.is_empty() || name.contains('/') => wrong("holds no name of a store"),
        (Some(StoreKind::SecretStore), StoreKind::ClusterSecretStore) => {
            wrong("is of a namespace: a ClusterSecretStore can only name ClusterSecretStores")
        }
        (Some(kind), own) if kind == own && name == store.name() => wrong("is the store itself"),
        (Some(kind), _) => {
            let namespace = if kind == StoreKind::SecretStore { store.namespace().unwrap_or_default() } else { "" };
            Ok(StoreId { kind, key: Key::new(namespace, name) })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ClusterSecretStore, SecretStore};

    fn store(kind: StoreKind, annotation: &str) -> AnyStore {
        let metadata = json!({"name": "main", "namespace": "team-a", "annotations": {ANNOTATION_FAILOVER: annotation}});
        let object = json!({"metadata": metadata, "spec": {"provider": {"fake": {"data": []}}}});
        match kind {
            StoreKind::SecretStore => AnyStore::from(serde_json::from_value::<SecretStore>(object).unwrap()),
            StoreKind::ClusterSecretStore => AnyStore::from(serde_json::from_value::<ClusterSecretStore>(object).unwrap()),
        }
    }

    fn names(kind: StoreKind, annotation: &str) -> Result<Vec<String>, String> {
        let ids = stand_ins(&store(kind, annotation))?;
        Ok(ids.iter().map(|id| format!("{} {}", id.kind, id.key)).collect())
    }

    #[test]
    fn names_are_of_the_stores_own_kind_unless_they_say_so() {
        let found = names(StoreKind::SecretStore, "dr, ClusterSecretStore/shared,,SecretStore/old").unwrap();
        assert_eq!(found, ["SecretStore team-a/dr", "ClusterSecretStore shared", "SecretStore team-a/old"]);
        assert_eq!(names(StoreKind::ClusterSecretStore, "dr").unwrap(), ["ClusterSecretStore dr"]);
        assert_eq!(names(StoreKind::SecretStore, " ").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (kind, annotation, part) in [
            (StoreKind::SecretStore, "main", "is the store itself"),
            (StoreKind::SecretStore, "Store/x", "is neither"),
            (StoreKind::SecretStore, "SecretStore/", "holds no name"),
            (StoreKind::SecretStore, "SecretStore/team-b/x", "holds no name"),
            (StoreKind::ClusterSecretStore, "SecretStore/x", "can only name ClusterSecretStores"),
            (StoreKind::SecretStore, "a,b,c,d,e", "names 5 stores"),
        ] {
            let error = names(kind, annotation).unwrap_err();
            assert!(error.contains(part) && error.contains(ANNOTATION_FAILOVER), "{error}");
        }
        assert_eq!(names(StoreKind::SecretStore, "ClusterSecretStore/main").unwrap(), ["ClusterSecretStore main"]);
    }
}
