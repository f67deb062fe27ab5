//! Objects as our own writes left them: the answer may come after the watch has told that the object is gone.

use std::sync::Arc;

use super::{Index, Key, StoreId};
use crate::api::{AnyStore, ExternalSecret};
use crate::queue::Priority;

impl Index {
    /// As [`Index::upsert_external_secret`], for an object as our own write left it: one that went meanwhile does not come back.
    pub fn renew_external_secret(&mut self, new: Arc<ExternalSecret>) -> Option<Priority> {
        let held =
            self.external_secrets.get(&Key::of(&new.metadata)).is_some_and(|old| old.metadata.uid == new.metadata.uid);
        if held { self.upsert_external_secret(new) } else { None }
    }

    /// Whether several ExternalSecrets write a Secret: one that is not known here may be there by now, as another wrote it.
    #[must_use]
    pub fn is_shared(&self, target: &Key) -> bool {
        self.target_users.get(target).is_some_and(|users| users.len() > 1)
    }

    /// As [`Index::upsert_store`], for a store as our own write left it: one that went meanwhile does not come back. The
    /// answer may bring an edit before the watch does.
    pub fn renew_store(&mut self, new: Arc<AnyStore>) -> bool {
        let held = self.stores.get(&StoreId::of(&new)).is_some_and(|old| old.metadata.uid == new.metadata.uid);
        held && self.upsert_store(new)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::fan_out::Parent;
    use crate::api::{ClusterExternalSecret, SecretStore};

    /// What the answer to a write brings, the watch does not tell any more.
    #[test]
    fn an_edit_that_our_own_write_brings_is_told() {
        let mut index = Index::default();
        let object = |version: &str, generation: i64, spec: Value| {
            let meta = json!({ "name": "a", "uid": "u", "resourceVersion": version, "generation": generation });
            json!({ "metadata": meta, "spec": spec })
        };
        let store = |version, generation| -> Arc<AnyStore> {
            let object = object(version, generation, json!({ "provider": {} }));
            Arc::new(serde_json::from_value::<SecretStore>(object).unwrap().into())
        };
        assert!(!index.renew_store(store("1", 1)), "it is gone");
        assert!(index.upsert_store(store("1", 1)));
        assert!(!index.renew_store(store("2", 1)), "our status alone");
        assert!(index.renew_store(store("4", 2)));
        assert!(!index.upsert_store(store("3", 2)), "the watch comes after");
        let parent = |version, generation| -> Arc<Parent> {
            let object = object(version, generation, json!({ "externalSecretSpec": {} }));
            Arc::new(serde_json::from_value::<ClusterExternalSecret>(object).unwrap().into())
        };
        assert_eq!(index.renew_parent(parent("1", 1)), None, "it is gone");
        assert_eq!(index.upsert_parent(parent("1", 1)), Some(Priority::New));
        assert_eq!(index.renew_parent(parent("2", 1)), None, "our status alone");
        assert_eq!(index.renew_parent(parent("4", 2)), Some(Priority::Changed));
        assert_eq!(index.upsert_parent(parent("3", 2)), None, "the watch comes after");
    }

    #[test]
    fn a_secret_is_shared_by_those_that_write_it_now() {
        let mut index = Index::default();
        let es = |name: &str, target: &str| -> Arc<ExternalSecret> {
            let meta = json!({ "namespace": "ns", "name": name });
            let object = json!({ "metadata": meta, "spec": { "target": { "name": target } } });
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let shared = Key::new("ns", "t");
        index.upsert_external_secret(es("one", "t"));
        assert!(!index.is_shared(&shared));
        index.upsert_external_secret(es("two", "t"));
        assert!(index.is_shared(&shared));
        index.upsert_external_secret(es("two", "other"));
        assert!(!index.is_shared(&shared));
    }
}
