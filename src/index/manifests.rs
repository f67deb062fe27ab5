//! Targets of other kinds than Secret: which objects of theirs are there, and who writes them.

use std::collections::BTreeSet;

use super::{Index, Key, TargetView};
use crate::api::external_secret::ManifestRef;

impl Index {
    /// An object of a kind that targets have appeared or changed, or is gone (without a view): which ExternalSecrets write it.
    pub fn note_manifest(&mut self, kind: &ManifestRef, key: &Key, view: Option<TargetView>) -> BTreeSet<Key> {
        let known = self.manifests.entry(kind.clone()).or_default();
        let old = match view.clone() {
            Some(view) => known.insert(key.clone(), view),
            None => known.remove(key),
        };
        if old == view {
            return BTreeSet::new();
        }
        self.manifest_users.get(kind).and_then(|users| users.get(key)).cloned().unwrap_or_default()
    }

    /// Forgets all objects of a kind, as nobody watches it any more.
    pub fn forget_manifests(&mut self, kind: &ManifestRef) {
        self.manifests.remove(kind);
    }

    /// Whether an ExternalSecret has a target of this kind.
    #[must_use]
    pub fn is_manifest_used(&self, kind: &ManifestRef) -> bool {
        self.manifest_users.contains_key(kind)
    }

    /// The ExternalSecrets that have a target of this kind.
    #[must_use]
    pub fn users_of_kind(&self, kind: &ManifestRef) -> Vec<Key> {
        let targets = self.manifest_users.get(kind).into_iter().flatten();
        targets.flat_map(|(_, users)| users.iter().cloned()).collect()
    }

    /// Those of them, in a namespace or in all, that failed: they may have waited for what is known of the kind now.
    #[must_use]
    pub fn waiting_for_kind(&self, kind: &ManifestRef, namespace: Option<&str>) -> Vec<Key> {
        let failed = |key: &Key| {
            let es = self.external_secrets.get(key);
            es.and_then(|es| es.ready()).is_some_and(|ready| ready.status == "False")
        };
        let mut users = self.users_of_kind(kind);
        users.retain(|key| namespace.is_none_or(|name| name == &*key.namespace) && failed(key));
        users
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::ExternalSecret;

    #[test]
    fn who_waits_for_a_kind_has_failed() {
        let kind = |kind: &str| ManifestRef { api_version: "example.org/v1".into(), kind: kind.into() };
        let mut index = Index::default();
        for (namespace, name, of, ready) in [
            ("a", "failed", "Thing", "False"),
            ("a", "synced", "Thing", "True"),
            ("b", "failed", "Thing", "False"),
            ("a", "other", "Other", "False"),
        ] {
            let object = json!({
                "metadata": { "namespace": namespace, "name": name }, "spec": { "target": { "manifest": kind(of) } },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            });
            let es: ExternalSecret = serde_json::from_value(object).unwrap();
            index.upsert_external_secret(Arc::new(es));
        }
        let keys = |found: Vec<Key>| found.iter().map(Key::to_string).collect::<BTreeSet<_>>();
        let of = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(keys(index.users_of_kind(&kind("Thing"))), of(&["a/failed", "a/synced", "b/failed"]));
        assert_eq!(keys(index.waiting_for_kind(&kind("Thing"), None)), of(&["a/failed", "b/failed"]));
        assert_eq!(keys(index.waiting_for_kind(&kind("Thing"), Some("b"))), of(&["b/failed"]));
        assert!(index.users_of_kind(&kind("Nothing")).is_empty());
    }
}
